//! Posts, and lists of them.

use std::sync::Arc;

use maud::{Markup, html};

use super::{NAME, by, day, layout, many};
use crate::authors::Author;
use crate::comments::Comment;
use crate::posts::{Page, Post, Summary};
use crate::sessions::Visitor;

pub(crate) fn home(visitor: &Visitor, page: &Page, most_read: &[(Arc<Post>, i64)], number: u32) -> Markup {
    let main = html! {
        h1.hidden { "Latest posts" }
        (list(page))
        (turn("/", page, number))
        @if !most_read.is_empty() {
            aside {
                h2 { "Most read" }
                ol.board {
                    @for (post, views) in most_read {
                        li { a href={ "/@" (post.author) "/" (post.id) } { (post.title) } " " small { (many(*views, "view")) } }
                    }
                }
            }
        }
    };
    layout(NAME, visitor, &main)
}

pub(crate) fn of_author(visitor: &Visitor, author: &Author, page: &Page, number: u32) -> Markup {
    let main = html! {
        h1 { (author.name) }
        @if !author.about.is_empty() { (paragraphs(&author.about)) }
        p.fine { "Here since " (day(&author.joined)) }
        @if page.posts.is_empty() { p { "Nothing written yet." } }
        (list(page))
        (turn(&format!("/@{}", author.name), page, number))
    };
    layout(&author.name, visitor, &main)
}

pub(crate) fn one(visitor: &Visitor, post: &Post, comments: &[Comment], views: i64) -> Markup {
    let here = format!("/@{}/{}", post.author, post.id);
    let main = html! {
        article {
            h1 { (post.title) }
            p.fine {
                (by(&post.author)) " · " (day(&post.written))
                @if let Some(edited) = &post.edited { " · edited " (day(edited)) }
                @if views > 0 { " · " (many(views, "view")) }
                @if visitor.name() == Some(&post.author) { " · " a href={ (here) "/edit" } { "Edit" } }
            }
            (paragraphs(&post.body))
        }
        section #comments {
            h2 { @if comments.is_empty() { "No comments yet" } @else { (many(comments.len(), "comment")) } }
            @for comment in comments {
                div.comment #{ "c" (comment.id) } {
                    p.fine { (by(&comment.author)) " · " (day(&comment.written)) }
                    (paragraphs(&comment.text))
                }
            }
            @if visitor.name().is_some() {
                form method="post" action={ (here) "/comments" } {
                    label for="text" { "Your comment" }
                    textarea #text name="text" rows="4" required maxlength="2000" {}
                    button { "Comment" }
                }
            } @else {
                p { a href="/login" { "Log in" } " to comment." }
            }
        }
    };
    layout(&post.title, visitor, &main)
}

fn list(page: &Page) -> Markup {
    html! {
        @for Summary { id, author, title, excerpt, written, comments } in &page.posts {
            article.summary {
                h2 { a href={ "/@" (author) "/" (id) } { (title) } }
                p.fine {
                    (by(author)) " · " (day(written))
                    @if *comments > 0 { " · " a href={ "/@" (author) "/" (id) "#comments" } { (many(*comments, "comment")) } }
                }
                p { (shortened(excerpt)) }
            }
        }
    }
}

fn turn(path: &str, page: &Page, number: u32) -> Markup {
    html! {
        @if number > 0 || page.more {
            nav.turn aria-label="Pages" {
                @if number > 0 { a rel="prev" href={ (path) "?page=" (number - 1) } { "Newer" } }
                @if page.more { a rel="next" href={ (path) "?page=" (number + 1) } { "Older" } }
            }
        }
    }
}

/// An empty line between two paragraphs; line breaks stay (see `style.css`).
fn paragraphs(text: &str) -> Markup {
    let text = text.replace("\r\n", "\n");
    html! {
        @for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
            p.text { (paragraph) }
        }
    }
}

/// The first paragraph, up to a word's end.
fn shortened(excerpt: &str) -> String {
    let text = excerpt.replace("\r\n", "\n");
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    if rest.is_empty() && first.chars().count() >= 280 {
        return format!("{} …", first.rsplit_once(' ').map_or(first, |(words, _)| words));
    }
    first.to_owned()
}
