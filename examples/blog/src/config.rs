//! What the environment says. `REDIS_URL` and the like are read by `cache_aside::Settings`.

use std::env::{self, VarError};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Settings of the blog itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// `PORT`: where it listens, on the loopback. 0: on any free one.
    pub port: u16,
    /// `BLOG_DB`: the SQLite file. Instances may share it.
    pub database: PathBuf,
    /// `BLOG_CACHE=off`: every read asks the database, to compare with.
    pub cached: bool,
    /// `BLOG_REQUESTS` in `BLOG_WINDOW` seconds: how much a client may ask of the API.
    pub requests: u32,
    /// See `requests`.
    pub window: Duration,
    /// `BLOG_TRIES`: how often a client may try a password in five minutes.
    pub tries: u32,
    /// `BLOG_VIEWS`: how many views of a post are written together.
    pub views: u32,
    /// `BLOG_HTTPS=on`: it stands behind a proxy that speaks TLS, so the cookie is for TLS only.
    pub https: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 3000,
            database: "blog.db".into(),
            cached: true,
            requests: 100,
            window: Duration::from_mins(1),
            tries: 10,
            views: 100,
            https: false,
        }
    }
}

impl Config {
    /// From the environment.
    ///
    /// # Errors
    /// Names the variable that can't be used.
    pub fn load() -> Result<Self, String> {
        let or = Self::default();
        Ok(Self {
            port: number("PORT", or.port)?,
            database: env::var_os("BLOG_DB").map_or(or.database, PathBuf::from),
            cached: switch("BLOG_CACHE", or.cached)?,
            requests: number("BLOG_REQUESTS", or.requests)?,
            window: Duration::from_secs(number("BLOG_WINDOW", or.window.as_secs())?),
            tries: number("BLOG_TRIES", or.tries)?,
            views: number("BLOG_VIEWS", or.views)?.max(1),
            https: switch("BLOG_HTTPS", or.https)?,
        })
    }
}

fn number<N: FromStr>(name: &str, default: N) -> Result<N, String> {
    let Some(text) = variable(name)? else { return Ok(default) };
    text.parse().map_err(|_| format!("{name} is `{text}`; write a whole number"))
}

fn switch(name: &str, default: bool) -> Result<bool, String> {
    match variable(name)?.as_deref() {
        None => Ok(default),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(text) => Err(format!("{name} is `{text}`; write `on` or `off`")),
    }
}

fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is no text")),
    }
}
