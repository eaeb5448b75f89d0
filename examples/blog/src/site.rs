//! The pages' addresses.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::Markup;
use serde::Deserialize;

use crate::App;
use crate::authors::get_author;
use crate::board::{most_read, views_of};
use crate::comments::comments_on;
use crate::error::{Error, Result};
use crate::pages;
use crate::posts::{Draft, get_post, posts_by, recent};
use crate::sessions::{Member, Visitor};

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(home))
        .route("/@{author}", get(author))
        .route("/@{author}/{id}", get(post))
        .route("/@{author}/{id}/edit", get(edit))
        .route("/write", get(write))
        .route("/login", get(login))
        .route("/join", get(join))
        .route("/account", get(account))
        .route("/stats", get(stats))
        .route("/style.css", get(style))
        .fallback(async || Error::NotFound)
}

#[derive(Debug, Deserialize)]
pub(crate) struct At {
    #[serde(default)]
    pub(crate) page: u32,
}

async fn home(State(app): State<App>, visitor: Visitor, Query(At { page }): Query<At>) -> Result<Markup> {
    let posts = recent(&app.db, page).await?;
    let mut most = Vec::new();
    for place in most_read(&app.views).await? {
        // One that was deleted may still stand there for two seconds.
        if let Some(post) = get_post(&app.db, &place.author, place.id).await? {
            most.push((post, place.views));
        }
    }
    Ok(pages::posts::home(&visitor, &posts, &most, page))
}

async fn author(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(At { page }): Query<At>,
) -> Result<Markup> {
    let author = get_author(&app.db, &name).await?.ok_or(Error::NotFound)?;
    let posts = posts_by(&app.db, &name, page).await?;
    Ok(pages::posts::of_author(&visitor, &author, &posts, page))
}

async fn post(
    State(app): State<App>,
    visitor: Visitor,
    Path((author, id)): Path<(String, i64)>,
) -> Result<Markup> {
    let post = get_post(&app.db, &author, id).await?.ok_or(Error::NotFound)?;
    app.views.seen(&author, id);
    let comments = comments_on(&app.db, id).await?;
    let views = views_of(&app.views, &author, id).await?;
    Ok(pages::posts::one(&visitor, &post, &comments, views))
}

async fn edit(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
) -> Result<Markup> {
    member.owns(&author)?;
    let post = get_post(&app.db, &author, id).await?.ok_or(Error::NotFound)?;
    Ok(pages::forms::edit(&member.into(), &post))
}

async fn write(member: Member) -> Markup {
    pages::forms::write(&member.into(), &Draft::default(), None)
}

async fn login(visitor: Visitor) -> Markup {
    pages::forms::login(&visitor, None)
}

async fn join(visitor: Visitor) -> Markup {
    pages::forms::join(&visitor, None)
}

async fn account(State(app): State<App>, member: Member) -> Result<Markup> {
    let author = get_author(&app.db, &member.name).await?.ok_or(Error::NotFound)?;
    let sessions = app.sessions.sessions_of(&member.name).await?;
    Ok(pages::forms::account(&member.into(), &author, &sessions))
}

async fn stats(State(app): State<App>, visitor: Visitor) -> Markup {
    pages::stats::page(&visitor, &app)
}

async fn style() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("style.css"))
}

/// What browsers are to know of each answer: nothing runs scripts, nobody frames it, shared caches keep none
/// of it.
pub(crate) async fn headers(_: Uri, mut response: Response) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
                          frame-ancestors 'none'; base-uri 'none'";
    let headers = response.headers_mut();
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    response
}
