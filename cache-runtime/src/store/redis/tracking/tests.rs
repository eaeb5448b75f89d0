//! What real servers do to a tracked connection, and what its keeper hears of it, in which order.

mod beside;
mod keys;
mod life;

use std::time::Instant;

use super::*;
use crate::error::StoreError;
use crate::recovery::Kept;
use crate::settings::TlsFiles;
use crate::store::redis::support::server::{Kind, Server};
use crate::store::redis::support::{log, proxy};
use crate::store::redis::{Address, Part, RedisStore};
use crate::store::{Store, Tracked};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];
/// For tests of signs of life: shorter than by default, so that tests are.
const DELTA: Duration = Duration::from_millis(900);
/// For all others: nothing ends for want of a sign of life, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Forget(String),
    ForgetAll,
    Connected(u64),
    Alive(u64),
    Disconnected,
    Without,
}
use Heard::{Alive, Connected, Disconnected, Forget, ForgetAll, Without};

/// A keeper that writes down what it hears.
#[derive(Debug, Default)]
struct Book(Mutex<Vec<Heard>>);

impl Book {
    fn note(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }

    fn all(&self) -> Vec<Heard> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, of: impl Fn(&Heard) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|heard| of(heard)).count()
    }

    fn forgets(&self, key: &str) -> usize {
        self.count(|heard| matches!(heard, Forget(forgotten) if forgotten == key))
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// What was said of connections, without signs of life.
    fn ways(&self) -> Vec<Heard> {
        let of_keys = |heard: &Heard| matches!(heard, Forget(_) | ForgetAll | Alive(_));
        self.all().into_iter().filter(|heard| !of_keys(heard)).collect()
    }
}

impl Keeper for Book {
    fn forget(&self, key: &[u8]) {
        self.note(Forget(String::from_utf8_lossy(key).into_owned()));
    }

    fn forget_all(&self) {
        self.note(ForgetAll);
    }

    fn forget_those(&self, _: &dyn Fn(&[u8]) -> bool) {
        unreachable!("one server tells of all keys");
    }

    fn connected(&self, sent: u64) {
        self.note(Connected(sent));
    }

    fn alive(&self, sent: u64) {
        self.note(Alive(sent));
    }

    fn disconnected(&self) {
        self.note(Disconnected);
    }

    fn without_tracking(&self) {
        self.note(Without);
    }
}

fn options(delta: Duration) -> LinkOptions {
    LinkOptions {
        budget: Duration::from_millis(500),
        breaker: 50,
        reconnect: (Duration::from_millis(20), Duration::from_millis(200)),
        delta,
        part: Part::Whole,
    }
}

struct World {
    store: RedisStore,
    book: Arc<Book>,
    kept: Arc<Kept>,
}

impl World {
    fn new(url: &str) -> Self {
        Self::with(url, PATIENT)
    }

    fn with(url: &str, delta: Duration) -> Self {
        let (kept, book) = (Arc::new(Kept::new(100, "*".to_owned())), Arc::<Book>::default());
        let store = RedisStore::new(
            Address::parse(url, &TlsFiles::default()).unwrap(),
            options(delta),
            Arc::clone(&kept),
        );
        store.track(Arc::<Book>::clone(&book));
        Self { store, book, kept }
    }

    /// One that is connected.
    async fn tracked(url: &str) -> Self {
        Self::tracked_with(url, PATIENT).await
    }

    async fn tracked_with(url: &str, delta: Duration) -> Self {
        let world = Self::with(url, delta);
        world.until_tracked().await;
        world
    }

    /// As a caller of the cache would: within a budget, which no answer needs.
    async fn read(&self, key: &str) -> Result<Tracked, StoreError> {
        tokio::time::timeout(Duration::from_secs(10), self.store.get_tracked(key))
            .await
            .unwrap_or_else(|_| Err(StoreError::Timeout("in the test".to_owned())))
    }

    /// Reads what will be watched.
    async fn watch(&self, key: &str) -> Option<String> {
        let read = self.read(key).await.unwrap();
        assert!(read.may_keep, "{:?}", self.book.all());
        read.found.map(|(value, _)| String::from_utf8(value.to_vec()).unwrap())
    }

    async fn until_tracked(&self) {
        until("tracked", async || self.read("until").await.is_ok_and(|read| read.may_keep)).await;
    }

    /// Asserts that each connection which was there has ended, and that another one followed it.
    #[track_caller]
    fn assert_replaced(&self) {
        let ways = self.book.ways();
        let is_pair = |pair: &[Heard]| matches!(pair, [Disconnected, Connected(_)]);
        assert!(!ways.is_empty() && ways.chunks(2).all(is_pair), "{ways:?}");
    }

    async fn until_heard(&self, heard: &Heard) {
        until(heard, async || self.book.all().contains(heard)).await;
    }
}

async fn until(what: impl std::fmt::Debug, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "not in half a minute: {what:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The ids of the server's clients that track.
fn trackers(server: &Server) -> Vec<String> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let list = server.command(&["CLIENT", "LIST"]);
    list.lines().filter(|line| field(line, "flags=").contains('t')).map(|line| field(line, "id=")).collect()
}
