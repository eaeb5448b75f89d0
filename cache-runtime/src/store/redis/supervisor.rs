//! The task that makes connections, and carries out what was kept before it publishes one.
//!
//! It lives on the runtime of whoever asked first. When that runtime ends, or is no longer polled, the
//! next caller puts another in its place; the old one, should it wake, sees that it is out of office.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult, cmd};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::abilities;
use super::address::Address;
use super::fault::{self, Reaction};
use super::link::{Link, Part, State};
use super::scan::{query, unlink_matching, within};
use super::script;
use super::sentinel::{Sentinel, listen, unless};
use super::tracker::{greeting, is_primary};
use crate::error::StoreError;
use crate::recovery::Target;
use crate::store::Reach;

/// How long a step of making a connection may take: opening it, greeting, one kept invalidation.
pub(super) const SETUP: Duration = Duration::from_secs(1);
/// How often a sign of life is given.
const BEAT: Duration = Duration::from_millis(500);
/// The pauses before a server that serves nothing yet is asked again: the shortest, and the longest; between
/// them a part of the time that it has lasted, so nobody finds out later by more than that.
const SERVED: (Duration, Duration) = (Duration::from_millis(10), BEAT);
const PART: u32 = 32;
/// How long kept invalidations are tried after the last handle of the cache is gone.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Makes connections for as long as its runtime lives and nobody else took over.
pub(super) struct Supervisor {
    link: Arc<Link>,
    number: u64,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.set(State::Idle);
    }
}

impl Supervisor {
    pub(super) fn new(link: Arc<Link>, number: u64) -> Self {
        Self { link, number }
    }

    pub(super) async fn run(self) {
        let link = &self.link;
        let (first, longest) = link.options.reconnect;
        let (mut pause, mut was_down) = (first, false);
        // Ends with this task.
        let mut listener = JoinSet::new();
        if let Some(sentinel) = link.sentinel() {
            listener.spawn(listen(Arc::clone(link), Arc::clone(sentinel)));
        }
        while self.is_in_office() {
            match self.establish(&mut was_down).await {
                Ok(()) => {
                    if std::mem::replace(&mut was_down, true) {
                        info!(target: "cache_aside", server = link.address().shown(), "connected again");
                    }
                    let begun = Instant::now();
                    if link.closing().is_some() {
                        // What was kept is carried out, and nobody is left to ask for more.
                        link.close();
                    }
                    self.watch().await;
                    // A connection that held is made anew at once; one that breaks again and again isn't.
                    if begun.elapsed() > SETUP {
                        pause = first;
                    }
                }
                Err(problem) => self.down(&problem, &mut was_down),
            }
            if !self.is_in_office() {
                return;
            }
            self.rest(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn is_in_office(&self) -> bool {
        self.link.is_in_office(self.number)
    }

    fn set(&self, state: State) {
        self.link.set(self.number, state);
    }

    /// Waits until somebody finds that something is wrong, and shows that it is alive meanwhile.
    async fn watch(&self) {
        loop {
            self.link.beat();
            if tokio::time::timeout(BEAT, self.link.attention.notified()).await.is_ok() {
                return;
            }
        }
    }

    /// Pauses for half of this time to all of it, or until sentinels name another primary.
    async fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        while Instant::now() < end {
            self.link.beat();
            let beat = tokio::time::sleep_until(end.min(Instant::now() + BEAT));
            match self.link.sentinel() {
                None => beat.await,
                Some(sentinel) if unless(sentinel.news.notified(), beat).await.is_none() => return,
                Some(_) => {}
            }
        }
    }

    fn down(&self, problem: &StoreError, was_down: &mut bool) {
        let link = &self.link;
        self.set(State::Down(problem.to_string()));
        if !std::mem::replace(was_down, true) {
            warn!(target: "cache_aside", server = link.address().shown(), %problem, "the server can't be reached: functions run uncached until it is back");
        }
        if link.closing().is_some_and(|since| since >= LAST_WORDS) {
            error!(target: "cache_aside", server = link.address().shown(), lost = link.kept.len(), "kept invalidations are given up with their cache");
            link.close();
        }
    }

    /// Connects, carries out what was kept, publishes.
    async fn establish(&self, was_down: &mut bool) -> Result<(), StoreError> {
        let link = &self.link;
        link.beat();
        let (mut connection, epoch) = match link.sentinel() {
            None => {
                let epoch = link.next_epoch();
                (self.connect(link.address(), epoch).await?, epoch)
            }
            Some(sentinel) => self.follow(sentinel).await?,
        };
        self.until_served(&mut connection, was_down).await?;
        loop {
            for (target, kept) in link.kept.all() {
                carry_out(&mut connection, &target).await.inspect_err(|problem| {
                    if let StoreError::Refused(_) = problem {
                        link.shout(problem);
                    }
                    warn!(target: "cache_aside", server = link.address().shown(), %problem, "kept invalidations can't be carried out yet");
                })?;
                link.kept.done(&target, kept);
                link.beat();
            }
            if link.publish(self.number, connection.clone(), epoch) {
                if let Some(sentinel) = link.sentinel() {
                    // Told of another one in between.
                    sentinel.check(link);
                }
                return Ok(());
            }
        }
    }

    /// A server that loads its data, or whose cluster is down, greets and then refuses everything else. It is asked
    /// until it doesn't; meanwhile there is no connection, so no caller waits.
    async fn until_served(
        &self,
        connection: &mut MultiplexedConnection,
        was_down: &mut bool,
    ) -> Result<(), StoreError> {
        let (link, begun) = (&self.link, Instant::now());
        loop {
            link.beat();
            let Err((problem, reaction)) = self.probe(connection).await else { return Ok(()) };
            // Sentinels may name another one meanwhile, and are asked.
            if reaction != Reaction::Again || link.sentinel().is_some() || !self.is_in_office() {
                return Err(problem);
            }
            self.down(&problem, was_down);
            let pause = (begun.elapsed() / PART).clamp(SERVED.0, SERVED.1);
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Whether it does what it is there for. A node of a cluster that is down answers `PING`: it is asked for a key
    /// that it has.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<(), (StoreError, Reaction)> {
        let question = match self.link.tracking.probed() {
            Some(key) => cmd("GET").arg(&*key).to_owned(),
            None => cmd("PING"),
        };
        let met = abilities::meet(&self.link, connection, &question, self.protocol(), SETUP).await;
        match met.map_err(|error| fault::read(&error)) {
            // What it says no to it has understood.
            Ok(()) | Err((StoreError::Refused(_) | StoreError::WrongType(_), _)) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Connects to where the sentinels say, and begins anew if they say something else meanwhile.
    async fn follow(&self, sentinel: &Arc<Sentinel>) -> Result<(MultiplexedConnection, u64), StoreError> {
        let link = &self.link;
        loop {
            link.beat();
            if !self.is_in_office() {
                return Err(StoreError::Unavailable("it was closed".to_owned()));
            }
            if let Some(left) = sentinel.promotion() {
                let _ = tokio::time::timeout(left.min(BEAT), sentinel.news.notified()).await;
                continue;
            }
            let epoch = link.next_epoch();
            let attempt = async {
                let server = sentinel.locate().await.inspect_err(|problem| {
                    if let StoreError::Refused(_) = problem {
                        link.shout(problem);
                    }
                })?;
                link.beat();
                if sentinel.promotion().is_some() {
                    return Err(StoreError::Unavailable("its sentinels put another in its place".to_owned()));
                }
                sentinel.lead(epoch, &server);
                let mut connection = self.connect(&server, epoch).await?;
                self.check_role(&mut connection).await?;
                Ok((connection, epoch))
            };
            if let Some(done) = unless(sentinel.news.notified(), attempt).await {
                return done;
            }
        }
    }

    /// Who the sentinels name was a primary when they looked, and may be none any more, or not yet.
    async fn check_role(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let reply = query(connection, &greeting(self.protocol()), SETUP).await;
        let reply = reply.map_err(|error| fault::read(&error).0)?;
        is_primary(&reply).map_err(|why| StoreError::Unavailable(why.to_owned()))
    }

    /// The version of RESP that is spoken.
    fn protocol(&self) -> u8 {
        if self.link.address().resp3(!self.link.resp2.load(Relaxed)) { 3 } else { 2 }
    }

    async fn connect(&self, server: &Address, epoch: u64) -> Result<MultiplexedConnection, StoreError> {
        let link = &self.link;
        let open = |resp3: bool| open(server, resp3.then(|| on_push(link, epoch)));
        let resp3 = link.address().resp3(true);
        let mut opened = open(resp3).await;
        let may_fall_back = resp3 && !link.address().resp3(false);
        let mut is_resp2 = false;
        if may_fall_back && opened.as_ref().is_err_and(fault::lacks_resp3) {
            // Without a password that says nothing of RESP3, and the password may be mended on the server.
            let is_stranger =
                !server.has_password() && opened.as_ref().is_err_and(|error| error.code() == Some("NOAUTH"));
            opened = open(false).await;
            is_resp2 = opened.is_ok() && !is_stranger;
        }
        if opened.is_ok() {
            link.resp2.store(is_resp2, Relaxed);
        }
        if is_resp2 {
            abilities::lacks_resp3(link);
        }
        opened.map_err(|error| {
            let (problem, reaction) = fault::read(&error);
            if reaction == Reaction::Shout {
                link.shout(&problem);
            }
            problem
        })
    }
}

/// Opens a connection; with `push`, that is what hears of pushes, and RESP3 is spoken.
pub(super) async fn open(
    address: &Address,
    push: Option<impl AsyncPushSender>,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(SETUP))
        // Callers have a budget of their own; a timer per command costs a tenth of the throughput.
        .set_response_timeout(None);
    let info = address.info(push.is_some());
    let config = match push {
        Some(push) => config.set_push_sender(push),
        None => config,
    };
    within(SETUP, async { Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await })
        .await
}

/// Notices a connection that ends while nobody uses it; RESP3 only.
fn on_push(link: &Arc<Link>, epoch: u64) -> impl Fn(PushInfo) -> Result<(), Infallible> + use<> {
    let link = Arc::downgrade(link);
    move |push| {
        if let (PushKind::Disconnection, Some(link)) = (push.kind, link.upgrade()) {
            link.lose(Some(epoch), "the server closed it");
        }
        Ok(())
    }
}

/// Carries out one kept invalidation.
async fn carry_out(connection: &mut MultiplexedConnection, target: &Target) -> Result<(), StoreError> {
    let part = Part::Whole;
    let done = match target {
        Target::Fenced(key, token) => query(connection, &script::unfence(key, token), SETUP).await.map(drop),
        Target::Glob(glob) => unlink_matching(connection, glob, Reach::Any, SETUP, part).await.map(drop),
        Target::Made(glob) => unlink_matching(connection, glob, Reach::Value, SETUP, part).await.map(drop),
        Target::Epoch(key) | Target::Key(key) => {
            query(connection, cmd("UNLINK").arg(key), SETUP).await.map(drop)
        }
    };
    done.map_err(|error| fault::read(&error).0)
}
