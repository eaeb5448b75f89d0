//! Who is logged in: an id in a cookie, everything else in the store.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use cache_aside::{CacheError, SessionId, SessionStore};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::error::{Error, Result};

/// A session ends after a day without a request, and after thirty in any case.
const IDLE: Duration = Duration::from_hours(24);
const ABSOLUTE: Duration = Duration::from_hours(30 * 24);

/// What the store keeps of a session, beside whose it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Login {
    /// What the browser calls itself, so that people recognise their sessions.
    pub(crate) browser: String,
}

pub(crate) fn store() -> SessionStore<Login> {
    SessionStore::new(IDLE, ABSOLUTE).name("blog")
}

/// Whoever asks, logged in or not.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// What the cookie says, if it can be a session's.
    id: Option<SessionId>,
    name: Option<String>,
}

/// Who is logged in. Others get a 401.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    /// While the store is away nobody is known, but pages are there all the same.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let id = cookie(&parts.headers, app.https);
        let name = known(app, id.as_ref()).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "sessions can't be read");
            None
        });
        Ok(Self { id, name })
    }
}

impl FromRequestParts<App> for Member {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let id = cookie(&parts.headers, app.https);
        let name = known(app, id.as_ref()).await?.ok_or(Error::LogIn)?;
        Ok(Self { name })
    }
}

async fn known(app: &App, id: Option<&SessionId>) -> Result<Option<String>, CacheError> {
    let Some(id) = id else { return Ok(None) };
    Ok(app.sessions.get(id).await?.map(|session| session.user))
}

impl Visitor {
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// With a new id, whatever the browser came with; the old one is dead.
    pub(crate) async fn log_in(self, app: &App, name: &str, headers: &HeaderMap) -> Result<Response> {
        if let Some(old) = self.id {
            app.sessions.destroy(&old).await?;
        }
        let browser = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("?");
        let login = Login { browser: browser.chars().take(200).collect() };
        let id = app.sessions.create(name, &login).await?;
        Ok(with_cookie(app, Some(&id), Redirect::to("/")))
    }

    pub(crate) async fn log_out(self, app: &App) -> Result<Response> {
        if let Some(id) = self.id {
            app.sessions.destroy(&id).await?;
        }
        Ok(with_cookie(app, None, Redirect::to("/")))
    }
}

impl Member {
    /// What others wrote isn't theirs to change.
    pub(crate) fn owns(&self, author: &str) -> Result<()> {
        if self.name == author { Ok(()) } else { Err(Error::Forbidden) }
    }

    pub(crate) async fn log_out_everywhere(self, app: &App) -> Result<Response> {
        app.sessions.destroy_all(&self.name).await?;
        Ok(with_cookie(app, None, Redirect::to("/")))
    }
}

impl From<Member> for Visitor {
    fn from(Member { name }: Member) -> Self {
        Self { id: None, name: Some(name) }
    }
}

/// With `__Host-` in front browsers take it from nobody but this host, over TLS.
fn cookie_name(https: bool) -> &'static str {
    if https { "__Host-session" } else { "session" }
}

fn cookie(headers: &HeaderMap, https: bool) -> Option<SessionId> {
    let name = cookie_name(https);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|pair| pair.0 == name).and_then(|pair| SessionId::parse(pair.1))
}

/// No script reads it, and other sites' forms don't bring it along. Without an id it is taken away.
fn with_cookie(app: &App, id: Option<&SessionId>, response: impl IntoResponse) -> Response {
    let (id, life) = id.map_or((String::new(), 0), |id| (id.expose(), ABSOLUTE.as_secs()));
    let (name, secure) = (cookie_name(app.https), if app.https { "; Secure" } else { "" });
    let cookie = format!("{name}={id}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax{secure}");
    ([(header::SET_COOKIE, cookie)], response).into_response()
}
