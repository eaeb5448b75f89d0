//! What forms send. Each changes something and leads on to a page, so that going back sends nothing again.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde::Deserialize;

use crate::App;
use crate::error::{Error, Result};
use crate::posts::Draft;
use crate::sessions::{Member, Visitor};
use crate::{authors, comments, limits, pages, posts};

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/join", post(join))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/logout/everywhere", post(log_out_everywhere))
        .route("/write", post(write))
        .route("/@{author}/{id}/edit", post(edit))
        .route("/@{author}/{id}/delete", post(delete))
        .route("/@{author}/{id}/comments", post(comment))
        .route("/account/about", post(describe))
        .route("/account/leave", post(leave))
}

#[derive(Debug, Deserialize)]
struct Account {
    name: String,
    password: String,
}

async fn join(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(Account { name, password }): Form<Account>,
) -> Result<Response> {
    limits::passwords(&app, peer).await?;
    match authors::join(&app.db, &name, &password).await {
        Ok(()) => {
            // Somebody may have had this name before: their sessions aren't for whoever has it now.
            app.sessions.destroy_all(&name).await?;
            visitor.log_in(&app, &name, &headers).await
        }
        Err(error @ Error::Invalid(_)) => {
            Ok(pages::again(&error, pages::forms::join(&visitor, Some(&error))))
        }
        Err(error) => Err(error),
    }
}

async fn login(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(Account { name, password }): Form<Account>,
) -> Result<Response> {
    limits::passwords(&app, peer).await?;
    if authors::verify(&app.db, &name, &password).await? {
        return visitor.log_in(&app, &name, &headers).await;
    }
    let error = Error::WrongPassword;
    Ok(pages::again(&error, pages::forms::login(&visitor, Some(&error))))
}

async fn logout(State(app): State<App>, visitor: Visitor) -> Result<Response> {
    visitor.log_out(&app).await
}

async fn log_out_everywhere(State(app): State<App>, member: Member) -> Result<Response> {
    member.log_out_everywhere(&app).await
}

async fn write(State(app): State<App>, member: Member, Form(draft): Form<Draft>) -> Result<Response> {
    match posts::publish(&app.db, &member.name, &draft).await {
        Ok(id) => Ok(Redirect::to(&format!("/@{}/{id}", member.name)).into_response()),
        Err(error @ Error::Invalid(_)) => {
            let page = pages::forms::write(&member.into(), &draft, Some(&error));
            Ok(pages::again(&error, page))
        }
        Err(error) => Err(error),
    }
}

async fn edit(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
    Form(draft): Form<Draft>,
) -> Result<Redirect> {
    member.owns(&author)?;
    posts::edit(&app.db, &author, id, &draft).await?;
    Ok(Redirect::to(&format!("/@{author}/{id}")))
}

async fn delete(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
) -> Result<Redirect> {
    member.owns(&author)?;
    posts::delete(&app.db, &author, id).await?;
    app.views.board().remove(&author, &[id]).await;
    Ok(Redirect::to(&format!("/@{author}")))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Remark {
    pub(crate) text: String,
}

async fn comment(
    State(app): State<App>,
    member: Member,
    Path((author, id)): Path<(String, i64)>,
    Form(Remark { text }): Form<Remark>,
) -> Result<Redirect> {
    comments::comment(&app.db, &author, id, &member.name, &text).await?;
    Ok(Redirect::to(&format!("/@{author}/{id}#comments")))
}

#[derive(Debug, Deserialize)]
struct About {
    about: String,
}

async fn describe(
    State(app): State<App>,
    member: Member,
    Form(About { about }): Form<About>,
) -> Result<Redirect> {
    authors::describe(&app.db, &member.name, &about).await?;
    Ok(Redirect::to(&format!("/@{}", member.name)))
}

/// The password once more: a browser that was left open is no proof.
#[derive(Debug, Deserialize)]
struct Leave {
    password: String,
}

async fn leave(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    member: Member,
    Form(Leave { password }): Form<Leave>,
) -> Result<Response> {
    limits::passwords(&app, peer).await?;
    if !authors::verify(&app.db, &member.name, &password).await? {
        return Err(Error::WrongPassword);
    }
    let posts = authors::leave(&app.db, &member.name).await?;
    app.views.board().remove(&member.name, &posts).await;
    member.log_out_everywhere(&app).await
}
