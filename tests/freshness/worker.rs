//! One process: readers, a writer, and what they do all day.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::history::Log;
use crate::support::{fleet, ms};
use crate::truth::Truth;

const READERS: u64 = 8;

/// What a read gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) version: u64,
    /// It may not be older than what was invalidated by then: when it was asked for, or, if it answers
    /// to a load that failed, when that failed.
    pub(crate) since: u64,
}

/// What is checked.
pub(crate) trait Subject: Send + Sync + 'static {
    /// How many there are. Few, so that everybody meets at them.
    const KEYS: usize;

    /// The longest pause between two writes of a process, in microseconds.
    fn pace(&self) -> u64;

    /// What it gives for this key; nothing if it gives nothing.
    fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> impl Future<Output = Option<Read>> + Send;

    /// Makes a new version and invalidates the old one; the version if that returned Ok.
    fn write(&self, key: usize, truth: &Truth, rng: &mut Rng) -> impl Future<Output = Option<u64>> + Send;

    /// Loads, refused fills and the like, so far.
    fn counted(&self) -> Vec<(&'static str, u64)>;
}

/// What the tasks of one process share.
struct Worker<S> {
    subject: S,
    log: Log,
    stop: AtomicBool,
    truth_url: String,
    seed: u64,
}

/// The life of one process.
pub(crate) async fn run<S: Subject>(subject: S) {
    let worker = Arc::new(Worker {
        subject,
        log: Log(fleet::Lines::of_member()),
        stop: AtomicBool::new(false),
        truth_url: fleet::given("TRUTH").expect("the parent says where"),
        seed: fleet::number("SEED"),
    });
    let mut tasks = JoinSet::new();
    for number in 0..READERS {
        tasks.spawn(Arc::clone(&worker).readers_day(number));
    }
    tasks.spawn(Arc::clone(&worker).writers_day());
    let mut orders = fleet::orders();
    let mut often = tokio::time::interval(ms(100));
    loop {
        tokio::select! {
            order = orders.recv() => if order.is_none() { break },
            // A process that is killed has said most of it.
            _ = often.tick() => worker.log.counted(&worker.subject.counted()),
        }
    }
    worker.stop.store(true, Relaxed);
    tasks.join_all().await; // with the panic of a task that failed
    worker.log.counted(&worker.subject.counted());
}

impl<S: Subject> Worker<S> {
    async fn readers_day(self: Arc<Self>, number: u64) {
        let (truth, mut rng) = (Truth::at(&self.truth_url), Rng::with_seed(self.seed ^ (number << 32)));
        while !self.stop.load(Relaxed) {
            let key = rng.usize(..S::KEYS);
            self.read(key, &truth, &mut rng).await;
            pause(&mut rng, 3000).await;
        }
    }

    async fn writers_day(self: Arc<Self>) {
        let (truth, mut rng) = (Truth::at(&self.truth_url), Rng::with_seed(self.seed));
        while !self.stop.load(Relaxed) {
            pause(&mut rng, self.subject.pace()).await;
            let key = rng.usize(..S::KEYS);
            let version = self.subject.write(key, &truth, &mut rng).await;
            if let Some(version) = version {
                self.log.invalidated(key, version);
            }
            // What it waited for, it sees at once.
            self.read(key, &truth, &mut rng).await;
        }
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) {
        if let Some(Read { version, since }) = self.subject.read(key, truth, rng).await {
            self.log.read(key, version, since);
        }
    }
}

/// A load: the truth at some moment of a time that it takes, twice so many microseconds at most. Some
/// are slower than the lease, and some block their thread, so that nothing renews it.
pub(crate) async fn load(key: usize, truth: &Truth, mut rng: Rng, most: u64) -> u64 {
    pause(&mut rng, most).await;
    let version = truth.version(key).await;
    pause(&mut rng, most).await;
    if rng.u8(..50) == 0 {
        std::thread::sleep(ms(rng.u64(..150)));
    }
    version
}

/// For between nothing and so many microseconds.
pub(crate) async fn pause(rng: &mut Rng, most: u64) {
    tokio::time::sleep(Duration::from_micros(rng.u64(..=most))).await;
}
