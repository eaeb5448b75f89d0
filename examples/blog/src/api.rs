//! The same as JSON. It takes the cookie of [`forms`](crate::forms), and its errors are
//! `{"error": ".."}`.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::App;
use crate::authors::get_author;
use crate::board::{most_read, views_of};
use crate::comments::{self, comments_on};
use crate::error::{Error, Problem, Result, replace_body};
use crate::forms::Remark;
use crate::posts::{self, Draft, get_post, posts_by, recent};
use crate::sessions::Member;
use crate::site::At;
use crate::{limits, stats};

pub(crate) fn router(app: App) -> Router<App> {
    Router::new()
        .route("/posts", get(list).post(publish))
        .route("/authors/{author}", get(author))
        .route("/authors/{author}/posts", get(list_by))
        .route("/authors/{author}/posts/{id}", get(one).put(edit).delete(delete))
        .route("/authors/{author}/posts/{id}/comments", post(comment))
        .route("/most-read", get(most))
        .route("/stats", get(numbers))
        .fallback(async || Error::NotFound)
        .layer(from_fn_with_state(app, limits::requests))
        .layer(map_response(problem))
}

async fn list(State(app): State<App>, Query(At { page }): Query<At>) -> Result<Response> {
    Ok(Json(recent(&app.db, page).await?).into_response())
}

async fn list_by(
    State(app): State<App>,
    Path(author): Path<String>,
    Query(At { page }): Query<At>,
) -> Result<Response> {
    Ok(Json(posts_by(&app.db, &author, page).await?).into_response())
}

async fn author(State(app): State<App>, Path(name): Path<String>) -> Result<Response> {
    let author = get_author(&app.db, &name).await?.ok_or(Error::NotFound)?;
    Ok(Json(author).into_response())
}

async fn one(State(app): State<App>, Path((author, id)): Path<(String, i64)>) -> Result<Json<Value>> {
    let post = get_post(&app.db, &author, id).await?.ok_or(Error::NotFound)?;
    let comments = comments_on(&app.db, id).await?;
    let views = views_of(&app.views, &author, id).await?;
    Ok(Json(json!({ "post": post, "comments": comments, "views": views })))
}

async fn publish(State(app): State<App>, member: Member, Json(draft): Json<Draft>) -> Result<Response> {
    let id = posts::publish(&app.db, &member.name, &draft).await?;
    let location = format!("/api/authors/{}/posts/{id}", member.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(json!({ "id": id }))).into_response())
}

async fn edit(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
    Json(draft): Json<Draft>,
) -> Result<StatusCode> {
    member.owns(&author)?;
    posts::edit(&app.db, &author, id, &draft).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
) -> Result<StatusCode> {
    member.owns(&author)?;
    posts::delete(&app.db, &author, id).await?;
    app.views.board().remove(&author, &[id]).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn comment(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
    Json(Remark { text }): Json<Remark>,
) -> Result<StatusCode> {
    comments::comment(&app.db, &author, id, &member.name, &text).await?;
    Ok(StatusCode::CREATED)
}

async fn most(State(app): State<App>) -> Result<Response> {
    Ok(Json(most_read(&app.views).await?).into_response())
}

async fn numbers(State(app): State<App>) -> Json<Value> {
    Json(stats::as_json(&app))
}

/// Errors as objects; also those of axum itself, whose text it keeps to itself.
async fn problem(mut response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = response.extensions_mut().remove::<Problem>();
    let text = problem.map_or_else(|| status.to_string(), |problem| problem.0);
    replace_body(response, Json(json!({ "error": text })))
}
