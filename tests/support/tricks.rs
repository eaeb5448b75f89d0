//! One connection through a proxy, and what is done to it on the way.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::proxy::{Aim, Garble, Half};
use super::resp;
use super::seen::Seen;

#[derive(Debug, Default)]
pub(super) struct Tricks {
    now: Mutex<Now>,
    changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Now {
    pub(super) delay: Duration,
    pub(super) holding: bool,
    /// How many replies may pass although they are held.
    pub(super) passes: usize,
    pub(super) pending: usize,
    pub(super) swap: bool,
    pub(super) swapped: u64,
    pub(super) garble: Option<Garble>,
    pub(super) garbled: u64,
    pub(super) black_hole: Option<Half>,
    pub(super) refusing: bool,
    /// Whom delays and black holes are for.
    pub(super) aim: Aim,
    /// How many connections have begun to track.
    pub(super) tracking: u64,
    /// How often those that track were cut.
    pub(super) cuts: u64,
}

impl Now {
    /// Whether a connection is left alone.
    fn spares(&self, way: &Way) -> bool {
        self.aim == Aim::Tracking && !way.tracks.load(Relaxed)
    }
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Way {
    /// `CLIENT TRACKING` was asked for.
    tracks: AtomicBool,
    /// Something was swallowed: of the requests, of the replies.
    lost: [AtomicBool; 2],
}

impl Way {
    /// Whether a black hole swallows what goes in this direction.
    ///
    /// # Errors
    /// As on a real way nothing follows what was lost: that is the end.
    fn swallows(&self, direction: Half, tricks: &Tricks) -> io::Result<bool> {
        let lost = &self.lost[usize::from(direction == Half::Replies)];
        let now = tricks.now();
        let swallows = now.black_hole.is_some_and(|half| half == direction || half == Half::Both);
        if swallows && !now.spares(self) {
            lost.store(true, Relaxed);
            return Ok(true);
        }
        if lost.load(Relaxed) { Err(io::Error::other("something was lost")) } else { Ok(false) }
    }
}

impl Tricks {
    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now());
        self.changed.notify_waiters();
    }

    /// Returns when replies aren't held, or this one may pass.
    async fn pass(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let mut now = self.now();
                if !now.holding {
                    return;
                }
                if now.passes > 0 {
                    now.passes -= 1;
                    return;
                }
            }
            changed.await;
        }
    }

    /// Returns when the connection is one that tracks, and such are cut.
    async fn cut(&self, way: &Way) {
        let before = self.now().cuts;
        loop {
            let changed = self.changed.notified();
            if way.tracks.load(Relaxed) && self.now().cuts > before {
                return;
            }
            changed.await;
        }
    }
}

/// A frame on its way to the client.
struct Arrived {
    frame: Vec<u8>,
    at: Instant,
    /// Counts it as pending, if it is a reply, until this is dropped.
    _pending: Option<Pending>,
}

struct Pending(Arc<Tricks>);

impl Pending {
    fn new(tricks: &Arc<Tricks>) -> Self {
        tricks.now().pending += 1;
        Self(Arc::clone(tricks))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.now().pending -= 1;
    }
}

/// One connection, until either side ends it.
pub(super) async fn carry(
    client: TcpStream,
    upstream: &str,
    seen: &Seen,
    tricks: &Arc<Tricks>,
) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (queue, arrived) = mpsc::unbounded_channel();
    let way = Way::default();
    tokio::select! {
        end = requests(from_client, to_server, seen, tricks, &way) => end,
        // If the server ends it, what it said before still goes out.
        end = async {
            tokio::try_join!(receive(from_server, queue, tricks), pass_on(arrived, to_client, tricks, &way))
        } => end.map(drop),
        () = tricks.cut(&way) => Ok(()),
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    seen: &Seen,
    tricks: &Tricks,
    way: &Way,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    while client.read_buf(&mut bytes).await? > 0 {
        while let Some(command) = take(&mut bytes)? {
            let words = resp::words(&command);
            seen.record(&words);
            if begins_to_track(&words) && !way.tracks.swap(true, Relaxed) {
                tricks.now().tracking += 1;
            }
            if !way.swallows(Half::Requests, tricks)? {
                server.write_all(&command).await?;
            }
        }
    }
    Ok(())
}

fn begins_to_track(words: &[Vec<u8>]) -> bool {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|is| is.eq_ignore_ascii_case(word.as_bytes()));
    is(0, "CLIENT") && is(1, "TRACKING") && is(2, "ON")
}

async fn receive(
    mut server: OwnedReadHalf,
    queue: mpsc::UnboundedSender<Arrived>,
    tricks: &Arc<Tricks>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    while server.read_buf(&mut bytes).await? > 0 {
        while let Some(frame) = take(&mut bytes)? {
            let pending = (!resp::is_push(&frame)).then(|| Pending::new(tricks));
            if queue.send(Arrived { frame, at: Instant::now(), _pending: pending }).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn pass_on(
    mut arrived: mpsc::UnboundedReceiver<Arrived>,
    mut client: OwnedWriteHalf,
    tricks: &Tricks,
    way: &Way,
) -> io::Result<()> {
    let mut kept: Option<Arrived> = None;
    while let Some(mut next) = arrived.recv().await {
        let delay = {
            let now = tricks.now();
            if now.spares(way) { Duration::ZERO } else { now.delay }
        };
        sleep_until(next.at + delay).await;
        if !resp::is_push(&next.frame) {
            tricks.pass().await;
            if kept.is_none() && std::mem::take(&mut tricks.now().swap) {
                kept = Some(next);
                continue;
            }
            garble(&mut next.frame, &mut tricks.now());
        }
        deliver(&mut client, &next.frame, tricks, way).await?;
        if !resp::is_push(&next.frame)
            && let Some(mut first) = kept.take()
        {
            tricks.now().swapped += 1;
            garble(&mut first.frame, &mut tricks.now());
            deliver(&mut client, &first.frame, tricks, way).await?;
        }
    }
    Ok(())
}

async fn deliver(client: &mut OwnedWriteHalf, frame: &[u8], tricks: &Tricks, way: &Way) -> io::Result<()> {
    if way.swallows(Half::Replies, tricks)? {
        return Ok(());
    }
    client.write_all(frame).await
}

fn garble(frame: &mut Vec<u8>, now: &mut Now) {
    if now.garble.is_none() {
        return;
    }
    let Some(place) = resp::bulks(frame).into_iter().find(|place| !place.is_empty()) else { return };
    let mut payload = frame[place.clone()].to_vec();
    match now.garble.take() {
        Some(Garble::Flip(at)) => {
            let at = at % payload.len();
            payload[at] ^= 0xff;
        }
        Some(Garble::Truncate(to)) => payload.truncate(to),
        Some(Garble::Replace(bytes)) => payload = bytes,
        None => {}
    }
    now.garbled += 1;
    let begin =
        frame[..place.start - 2].iter().rposition(|&byte| byte == b'$').expect("a bulk string begins so");
    frame.splice(begin..place.end + 2, resp::bulk(&payload));
}

fn take(bytes: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    resp::take(bytes).map_err(|_| io::Error::other("no RESP"))
}
