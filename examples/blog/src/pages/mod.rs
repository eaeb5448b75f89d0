//! HTML. Everything that `maud` puts into a page is escaped, and there are no scripts.

pub(crate) mod forms;
pub(crate) mod posts;
pub(crate) mod stats;

use std::fmt::Display;

use axum::Extension;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use crate::App;
use crate::error::{Error, Problem, replace_body};
use crate::sessions::Visitor;

const NAME: &str = "The Hot Path";

/// A flame, so that browsers don't ask for `/favicon.ico`.
const ICON: &str = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>\
                    <path fill='%23d9480f' d='M8 0c1 4 5 5 5 10a5 5 0 0 1-10 0c0-2 1-3 2-4 0 2 1 2 1 2 1-2 0-5 2-8z'/></svg>";

/// What every page has around it.
fn layout(title: &str, visitor: &Visitor, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { @if title == NAME { (NAME) } @else { (title) " - " (NAME) } }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href="/style.css";
            }
            body {
                header {
                    a.name href="/" { (NAME) }
                    nav {
                        @match visitor.name() {
                            Some(name) => {
                                a href="/write" { "Write" }
                                a href={ "/@" (name) } { (name) }
                                a href="/account" { "Account" }
                                form method="post" action="/logout" { button.link { "Log out" } }
                            }
                            None => {
                                a href="/login" { "Log in" }
                                a href="/join" { "Join" }
                            }
                        }
                    }
                }
                main { (main) }
                footer {
                    a href="/stats" { "What the cache does" }
                }
            }
        }
    }
}

/// Errors as pages; also those of axum itself, whose text it keeps to itself.
pub(crate) async fn problem(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut asked, body) = request.into_parts();
    let mut response = next.run(Request::from_parts(asked.clone(), body)).await;
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || response.extensions().get::<Shown>().is_some() {
        return response;
    }
    let problem = response.extensions_mut().remove::<Problem>();
    let text = problem.map_or_else(|| "That didn't work.".to_owned(), |problem| problem.0);
    let main = html! {
        h1 { (status.as_u16()) }
        p { (text) }
        p {
            a href="/" { "To the front page" }
            @if status == StatusCode::UNAUTHORIZED { " · " a href="/login" { "Log in" } }
        }
    };
    let Ok(visitor) = Visitor::from_request_parts(&mut asked, &app).await;
    let title = status.canonical_reason().unwrap_or("Error");
    replace_body(response, layout(title, &visitor, &main))
}

/// A form again, with what was wrong with it: a page of its own, though its status is an error's.
#[derive(Debug, Clone)]
struct Shown;

pub(crate) fn again(error: &Error, page: Markup) -> Response {
    (error.status(), Extension(Shown), page).into_response()
}

/// `2026-11-23T06:11:02Z` as people write it.
fn day(written: &str) -> Markup {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let mut parts = written.get(..10).unwrap_or_default().splitn(3, '-');
    let mut part = || parts.next().and_then(|part| part.parse::<usize>().ok());
    let text = match (part(), part(), part()) {
        (Some(year), Some(month @ 1..=12), Some(day)) => format!("{day} {} {year}", MONTHS[month - 1]),
        _ => written.to_owned(),
    };
    html! { time datetime=(written) { (text) } }
}

fn by(author: &str) -> Markup {
    html! { a rel="author" href={ "/@" (author) } { (author) } }
}

fn many(n: impl Display + Copy, one: &str) -> String {
    let n = n.to_string();
    format!("{n} {one}{}", if n == "1" { "" } else { "s" })
}
