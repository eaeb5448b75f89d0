//! A blog over SQLite, with everything that `cache-aside` has: see its `README.md`.
//!
//! `main.rs` runs it until it is told to stop; `bin/load.rs` runs it against itself, with and without the
//! cache.

mod api;
mod authors;
mod board;
mod comments;
mod config;
mod db;
mod error;
mod forms;
mod limits;
mod pages;
mod passwords;
mod posts;
mod seed;
mod sessions;
mod site;
mod stats;
mod views;

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::middleware::{from_fn, from_fn_with_state, map_response};
use cache_aside::{RateLimiter, SessionStore, Settings};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use config::Config;

use crate::board::Board;
use crate::db::Db;
use crate::sessions::Login;
use crate::views::{Views, Writer};

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    db: Db,
    views: Views,
    sessions: SessionStore<Login>,
    requests: RateLimiter,
    passwords: RateLimiter,
    https: bool,
}

/// A blog that answers requests.
#[derive(Debug)]
pub struct Blog {
    address: SocketAddr,
    db: Db,
    views: Writer,
    server: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// How long requests that are under way may take at the end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Blog {
    /// Opens the database and listens. The global cache is there by now.
    ///
    /// # Errors
    /// If the file or the port can't be used.
    pub async fn start(config: &Config, settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let db = Db::open(&config.database, config.cached).await?;
        seed::if_empty(&db).await?;
        let board = Board::open(settings, &db).await?;
        let (views, writer) = Views::start(db.clone(), board, config.views);
        let app = App {
            db: db.clone(),
            views,
            sessions: sessions::store(),
            requests: RateLimiter::new(config.requests, config.window).name("blog requests"),
            passwords: RateLimiter::new(config.tries, Duration::from_mins(5)).name("blog passwords"),
            https: config.https,
        };
        let service = site::router()
            .merge(forms::router())
            .layer(from_fn_with_state(app.clone(), pages::problem))
            .nest("/api", api::router(app.clone()))
            .layer(from_fn(limits::own_origin))
            .layer(map_response(site::headers))
            .with_state(app);

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let service = service.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        Ok(Self { address, db, views: writer, server: tokio::spawn(server.into_future()), stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many queries and transactions the database has had from this instance.
    pub fn queries(&self) -> u64 {
        self.db.queries()
    }

    /// Takes no more requests, answers those that are under way, and writes the views that were only counted.
    ///
    /// # Errors
    /// If views couldn't be written, or what the listener ended with.
    pub async fn stop(mut self) -> Result<(), Box<dyn Error>> {
        drop(self.stop);
        let ended = timeout(PATIENCE, &mut self.server).await;
        self.server.abort(); // who hasn't got an answer by now gets none
        let written = self.views.stop().await;
        self.db.close().await;
        if let Ok(ended) = ended {
            ended??;
        }
        Ok(written?)
    }
}
