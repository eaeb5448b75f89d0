//! A proxy that understands RESP: it counts commands and plays tricks on replies.
//!
//! ```ignore
//! let proxy = Proxy::start(&server.url());
//! let client = redis::Client::open(proxy.url());
//! proxy.seen.reset();
//! // ...
//! assert_eq!(proxy.seen.commands(), ["GET"]);
//! ```
//!
//! Each trick is about replies as frames, in the order of their connection. Pushes are no replies:
//! they are never swapped or garbled, and are held only by standing behind a reply that is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::net;
use super::seen::Seen;
use super::tricks::{Tricks, carry};

/// What a black hole takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Commands don't reach the server.
    Requests,
    /// The server obeys, and its replies and pushes don't reach the client.
    Replies,
    /// Nobody hears of the other any more, and the connection stays.
    Both,
}

/// Whom a fault is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Aim {
    #[default]
    All,
    /// The connections on which `CLIENT TRACKING` was asked for.
    Tracking,
}

/// What to do to the payload of a bulk string; the frame stays well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garble {
    /// Flips all bits of the byte at this place (counted round, so any number will do).
    Flip(usize),
    /// Leaves so many bytes.
    Truncate(usize),
    /// Puts these in its place.
    Replace(Vec<u8>),
}

/// Between clients and a server, on the runtime that it was started on, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// What the clients sent, also what didn't get through.
    pub seen: Arc<Seen>,
    url: String,
    /// Where new connections lead.
    upstream: Arc<Mutex<String>>,
    tricks: Arc<Tricks>,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to the server that this URL names; credentials are the client's business.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(upstream: &str) -> Self {
        let listener = net::listen();
        let url = net::moved(upstream, listener.local_addr().expect("it is bound").port());
        listener.set_nonblocking(true).expect("it is a socket");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let (seen, tricks) = (Arc::<Seen>::default(), Arc::<Tricks>::default());
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let upstream = Arc::new(Mutex::new(net::address(upstream).to_owned()));
        let accepting = tokio::spawn({
            let (upstream, seen) = (Arc::clone(&upstream), Arc::clone(&seen));
            let (tricks, connections) = (Arc::clone(&tricks), Arc::clone(&connections));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if tricks.now().refusing {
                        continue;
                    }
                    let upstream = upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let seen = Arc::clone(&seen);
                    let tricks = Arc::clone(&tricks);
                    let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                    while connections.try_join_next().is_some() {} // those that are over
                    connections.spawn(async move {
                        // However it ends, both sides see it end.
                        let _ = carry(client, &upstream, &seen, &tricks).await;
                    });
                }
            }
        });
        Self { seen, url, upstream, tricks, connections, accepting }
    }

    /// The upstream URL at this proxy's port.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// New connections lead to this server; those that there are stay.
    pub fn lead_to(&self, upstream: &str) {
        let address = net::address(upstream).to_owned();
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Whom `delay` and `black_hole` are for.
    pub fn aim(&self, aim: Aim) {
        self.tricks.set(|now| now.aim = aim);
    }

    /// How many connections have begun to track.
    pub fn tracking(&self) -> u64 {
        self.tricks.now().tracking
    }

    /// Cuts those that track, in a moment.
    pub fn cut_tracking(&self) {
        self.tricks.set(|now| now.cuts += 1);
    }

    /// Each reply and push comes this much later.
    pub fn delay(&self, delay: Duration) {
        self.tricks.set(|now| now.delay = delay);
    }

    /// Cuts all connections. New ones may come.
    pub async fn cut(&self) {
        let mut all = std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner));
        all.shutdown().await;
    }

    /// Swallows one direction of all connections, also of new ones, or both. Who lost something is out of
    /// step: `cut` before it ends, or what would come next ends the connection.
    pub fn black_hole(&self, half: impl Into<Option<Half>>) {
        let half = half.into();
        self.tricks.set(|now| now.black_hole = half);
    }

    /// Closes new connections at once. (To see one refused, kill the server and go without a proxy.)
    pub fn refuse(&self, refusing: bool) {
        self.tricks.set(|now| now.refusing = refusing);
    }

    /// Keeps replies until they are released. Commands go on to the server.
    pub fn hold(&self) {
        self.tricks.set(|now| (now.holding, now.passes) = (true, 0));
    }

    /// Lets the next reply pass, or one that is held, and holds on: a way to walk through an
    /// operation step by step.
    pub fn release_one(&self) {
        self.tricks.set(|now| now.passes += 1);
    }

    /// Lets all pass again.
    pub fn release(&self) {
        self.tricks.set(|now| (now.holding, now.passes) = (false, 0));
    }

    /// How many replies the server gave that the clients haven't got: held, delayed or to be swapped.
    pub fn pending(&self) -> usize {
        self.tricks.now().pending
    }

    /// Waits until at least so many are pending.
    ///
    /// # Panics
    ///
    /// If that takes more than ten seconds.
    pub async fn wait_pending(&self, replies: usize) {
        for _ in 0..10_000 {
            if self.pending() >= replies {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("only {} of {replies} replies came; seen: {:?}", self.pending(), self.seen.counts());
    }

    /// The next reply, on whichever connection, changes places with the one after it on the same.
    pub fn swap_next(&self) {
        self.tricks.set(|now| now.swap = true);
    }

    /// How often replies have changed places.
    pub fn swapped(&self) -> u64 {
        self.tricks.now().swapped
    }

    /// Garbles the first bulk string, in an array or alone, that comes next and isn't empty.
    pub fn garble_next(&self, how: Garble) {
        self.tricks.set(|now| now.garble = Some(how));
    }

    /// How many have been garbled.
    pub fn garbled(&self) -> u64 {
        self.tricks.now().garbled
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
