//! What can go wrong with a request, and its status.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use cache_aside::CacheError;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("There is nothing here.")]
    NotFound,
    #[error("That isn't yours.")]
    Forbidden,
    #[error("Log in first.")]
    LogIn,
    #[error("Wrong name or password.")]
    WrongPassword,
    #[error("{0}")]
    Invalid(&'static str),
    #[error("Too many requests: come back in {} s.", seconds(*.0))]
    TooMany(Duration),
    #[error("Something went wrong here. It is in the log.")]
    Database(#[from] sqlx::Error),
    #[error("Sessions can't be reached right now.")]
    Store(#[from] CacheError),
    #[error("Something went wrong here. It is in the log.")]
    Password(#[from] argon2::password_hash::Error),
}

impl Error {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::LogIn | Self::WrongPassword => StatusCode::UNAUTHORIZED,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Password(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// `Retry-After` has whole seconds: rounded up, or the client comes too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// What an error says to people. The site makes a page of it, the API an object.
#[derive(Debug, Clone)]
pub(crate) struct Problem(pub(crate) String);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.status().is_server_error() {
            tracing::error!(error = ?self, "a request failed");
        }
        let mut response = self.status().into_response();
        if let Self::TooMany(wait) = self {
            response.headers_mut().insert(RETRY_AFTER, seconds(wait).into());
        }
        response.extensions_mut().insert(Problem(self.to_string()));
        response
    }
}

/// The answer as it is, but for what it says: `Retry-After`, `Allow` and the like stay.
pub(crate) fn replace_body(response: Response, with: impl IntoResponse) -> Response {
    let (mut old, _) = response.into_parts();
    let (new, body) = with.into_response().into_parts();
    old.headers.remove(CONTENT_LENGTH);
    old.headers.extend(new.headers);
    Response::from_parts(old, body)
}
