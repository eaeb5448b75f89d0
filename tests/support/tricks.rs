//! One connection through a proxy, and what is done to it on the way.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::proxy::{Garble, Half};
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
    tokio::select! {
        end = requests(from_client, to_server, seen, tricks) => end,
        // If the server ends it, what it said before still goes out.
        end = async { tokio::try_join!(receive(from_server, queue, tricks), pass_on(arrived, to_client, tricks)) }
            => end.map(drop),
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    seen: &Seen,
    tricks: &Tricks,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    while client.read_buf(&mut bytes).await? > 0 {
        while let Some(command) = take(&mut bytes)? {
            seen.record(&resp::words(&command));
            if tricks.now().black_hole != Some(Half::Requests) {
                server.write_all(&command).await?;
            }
        }
    }
    Ok(())
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
) -> io::Result<()> {
    let mut kept: Option<Arrived> = None;
    while let Some(mut next) = arrived.recv().await {
        let delay = tricks.now().delay;
        sleep_until(next.at + delay).await;
        if !resp::is_push(&next.frame) {
            tricks.pass().await;
            if kept.is_none() && std::mem::take(&mut tricks.now().swap) {
                kept = Some(next);
                continue;
            }
            garble(&mut next.frame, &mut tricks.now());
        }
        deliver(&mut client, &next.frame, tricks).await?;
        if !resp::is_push(&next.frame)
            && let Some(mut first) = kept.take()
        {
            tricks.now().swapped += 1;
            garble(&mut first.frame, &mut tricks.now());
            deliver(&mut client, &first.frame, tricks).await?;
        }
    }
    Ok(())
}

async fn deliver(client: &mut OwnedWriteHalf, frame: &[u8], tricks: &Tricks) -> io::Result<()> {
    if tricks.now().black_hole == Some(Half::Replies) {
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
