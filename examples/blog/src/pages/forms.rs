//! Pages to write something into.

use std::time::Duration;

use cache_aside::Session;
use maud::{Markup, html};

use super::layout;
use crate::authors::Author;
use crate::error::Error;
use crate::posts::{Draft, Post};
use crate::sessions::{Login, Visitor};

pub(crate) fn login(visitor: &Visitor, wrong: Option<&Error>) -> Markup {
    let main = html! {
        h1 { "Log in" }
        (refused(wrong))
        form method="post" action="/login" {
            (name_field())
            label for="password" { "Password" }
            input #password name="password" type="password" required autocomplete="current-password";
            button { "Log in" }
        }
        p { "New here? " a href="/join" { "Join" } "." }
    };
    layout("Log in", visitor, &main)
}

pub(crate) fn join(visitor: &Visitor, wrong: Option<&Error>) -> Markup {
    let main = html! {
        h1 { "Join" }
        (refused(wrong))
        form method="post" action="/join" {
            (name_field())
            label for="password" { "Password" }
            input #password name="password" type="password" required minlength="8" maxlength="200"
                autocomplete="new-password" aria-describedby="password-hint";
            p.fine #password-hint { "At least 8 characters." }
            button { "Join" }
        }
    };
    layout("Join", visitor, &main)
}

pub(crate) fn write(visitor: &Visitor, draft: &Draft, wrong: Option<&Error>) -> Markup {
    let main = html! {
        h1 { "Write" }
        (refused(wrong))
        form method="post" action="/write" {
            (draft_fields(&draft.title, &draft.body))
            button { "Publish" }
        }
    };
    layout("Write", visitor, &main)
}

pub(crate) fn edit(visitor: &Visitor, post: &Post) -> Markup {
    let here = format!("/@{}/{}", post.author, post.id);
    let main = html! {
        h1 { "Edit" }
        form method="post" action={ (here) "/edit" } {
            (draft_fields(&post.title, &post.body))
            button { "Save" }
        }
        details {
            summary { "Delete this post" }
            form method="post" action={ (here) "/delete" } {
                p { "Its comments go with it." }
                button.danger { "Delete" }
            }
        }
    };
    layout("Edit", visitor, &main)
}

pub(crate) fn account(visitor: &Visitor, author: &Author, sessions: &[Session<Login>]) -> Markup {
    let main = html! {
        h1 { "Account" }
        form method="post" action="/account/about" {
            label for="about" { "About you" }
            textarea #about name="about" rows="4" maxlength="500" { (author.about) }
            button { "Save" }
        }
        h2 { "Where you are logged in" }
        ul {
            @for session in sessions {
                li { (session.data.browser) " " small { "seen " (ago(session.idle)) " ago" } }
            }
        }
        form method="post" action="/logout/everywhere" { button.link { "Log out everywhere" } }
        details {
            summary { "Leave" }
            form method="post" action="/account/leave" {
                p { "All that you have written goes: posts with the comments under them, and your comments elsewhere." }
                label for="password" { "Your password" }
                input #password name="password" type="password" required autocomplete="current-password";
                button.danger { "Leave" }
            }
        }
    };
    layout("Account", visitor, &main)
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ ..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn name_field() -> Markup {
    html! {
        label for="name" { "Name" }
        input #name name="name" required minlength="2" maxlength="30" pattern="[a-z0-9\\-]+" autocomplete="username"
            autocapitalize="none" spellcheck="false" title="a to z, 0 to 9 and -";
    }
}

fn draft_fields(title: &str, body: &str) -> Markup {
    html! {
        label for="title" { "Title" }
        input #title name="title" required maxlength="200" value=(title);
        label for="body" { "Text" }
        textarea #body name="body" rows="16" required maxlength="50000" aria-describedby="body-hint" { (body) }
        p.fine #body-hint { "An empty line begins a new paragraph." }
    }
}

fn refused(wrong: Option<&Error>) -> Markup {
    html! { @if let Some(error) = wrong { p.wrong role="alert" { (error) } } }
}
