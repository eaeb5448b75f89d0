//! 64 tasks read and write while their server is killed, frozen and cut at random times: no call fails,
//! no row is wrong or older than the last write that returned, and the hits come back by themselves
//! (I1, I3, I5, I11). Prints what the faults added to the calls. `CACHE_ASIDE_SOAK_SECONDS` (20) and
//! `CACHE_ASIDE_SOAK_SEED` (random) are for longer runs and for those that failed.

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cache_aside::Cache;
use sample::{World, read, write};
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::task::JoinSet;

const TASKS: u64 = 64;
const ROWS: u64 = 300;
/// How long a load takes.
const LOAD: Duration = ms(2);
/// After a fault is over, calls are counted as `after` it for so long.
const AFTER: Duration = secs(1);
/// How long the hits may take to come back, on a machine that has other things to do.
const PATIENCE: Duration = secs(3);

/// Numbers that look random, from a seed: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        for shift in [13, -7, 17] {
            self.0 ^= if shift < 0 { self.0 >> 7 } else { self.0 << shift };
        }
        (self.0 >> 11) % below
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        ms(from + self.roll(to - from))
    }
}

/// When a call was made.
const PHASES: [&str; 5] = ["calm", "killed", "frozen", "cut", "after"];
const CALM: usize = 0;
const KILLED: usize = 1;
const FROZEN: usize = 2;
const CUT: usize = 3;
const LATER: usize = 4;

struct Soak {
    world: World,
    /// The last version of each row whose write returned.
    written: Vec<AtomicU64>,
    phase: AtomicUsize,
    over: AtomicBool,
}

impl Soak {
    /// One task: mostly reads, some writes. The times of its reads, by phase.
    async fn task(self: Arc<Self>, mut dice: Dice) -> [Vec<Duration>; PHASES.len()] {
        let mut times: [Vec<Duration>; PHASES.len()] = Default::default();
        while !self.over.load(SeqCst) {
            // Some rows are asked for more often.
            let id = dice.roll(ROWS).min(dice.roll(ROWS));
            let row = usize::try_from(id).unwrap();
            if dice.roll(50) == 0 {
                let version = write(&self.world, id).await;
                self.written[row].fetch_max(version, SeqCst);
            } else {
                let (phase, at_least) = (self.phase.load(SeqCst), self.written[row].load(SeqCst));
                let begun = Instant::now();
                let got = read(&self.world, id).await;
                times[phase].push(begun.elapsed());
                let newest = self.world.row(id).version;
                assert!(
                    got.id == id && (at_least..=newest).contains(&got.version),
                    "{got:?} is not row {id} of version {at_least} to {newest}, {}",
                    PHASES[phase]
                );
            }
            tokio::time::sleep(dice.between(5, 25)).await;
        }
        times
    }

    fn hits(&self) -> u64 {
        self.world.cache.stats().hits
    }

    /// Faults until the time is up; how long the hits took to come back after each.
    fn faults(&self, server: &Server, dice: &mut Dice, until: Instant) -> Vec<(usize, Duration, Duration)> {
        let mut back = Vec::new();
        sleep(secs(2));
        let mut kinds = [KILLED, FROZEN, CUT].into_iter().cycle();
        while Instant::now() < until || back.len() < 3 {
            // Each of them comes, in an order that the seed turns.
            let kind = if dice.roll(3) == 0 { CUT } else { kinds.next().unwrap() };
            let lasts = dice.between(50, 1500);
            self.phase.store(kind, SeqCst);
            let fault = Instant::now();
            match kind {
                KILLED => {
                    server.kill();
                    sleep(lasts);
                    server.restart();
                }
                FROZEN => {
                    server.freeze();
                    sleep(lasts);
                    server.thaw();
                }
                _ => {
                    for _ in 0..=dice.roll(5) {
                        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                        sleep(dice.between(1, 60));
                    }
                }
            }
            let lasted = fault.elapsed();
            self.phase.store(LATER, SeqCst);
            let (begun, before) = (Instant::now(), self.hits());
            while self.hits() == before && begun.elapsed() < secs(10) {
                sleep(ms(1));
            }
            back.push((kind, lasted, begun.elapsed()));
            sleep(AFTER.saturating_sub(begun.elapsed()));
            self.phase.store(CALM, SeqCst);
            sleep(dice.between(300, 1500));
        }
        back
    }
}

/// What the calls of a phase took.
struct Times(Vec<Duration>);

impl Times {
    fn of(&self, share: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (self.0.len() as f64 * share) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8} calls", self.0.len())?;
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            write!(f, "  {name} {:>9.3} ms", self.of(share).as_secs_f64() * 1000.0)?;
        }
        Ok(())
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn soak(kind: Kind, seconds: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = number("CACHE_ASIDE_SOAK_SEED").unwrap_or(u64::from(now));
    println!("{kind:?}: CACHE_ASIDE_SOAK_SEED={seed} CACHE_ASIDE_SOAK_SECONDS={seconds}");
    let dice = |number: u64| Dice((seed ^ (number << 40)) | 1);
    let server = Server::of(kind).start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cache = Cache::builder().redis(server.url()).build().unwrap(); // the defaults
    let soak = Arc::new(Soak {
        world: World::slow(cache, LOAD),
        written: (0..ROWS).map(|_| AtomicU64::new(0)).collect(),
        phase: AtomicUsize::new(CALM),
        over: AtomicBool::new(false),
    });
    let mut tasks = JoinSet::new();
    for task in 1..=TASKS {
        tasks.spawn_on(Arc::clone(&soak).task(dice(task)), runtime.handle());
    }
    let back = soak.faults(&server, &mut dice(0), Instant::now() + secs(seconds));
    soak.over.store(true, SeqCst);
    let mut times: [Vec<Duration>; PHASES.len()] = Default::default();
    for one in runtime.block_on(tasks.join_all()) {
        for (all, more) in times.iter_mut().zip(one) {
            all.extend(more);
        }
    }
    println!("What a read took; a load takes {LOAD:?}.");
    for (name, mut times) in PHASES.iter().zip(times) {
        times.sort_unstable();
        println!("{name:>7}: {}", Times(times));
    }
    for (kind, lasts, took) in &back {
        println!("{:>7} for {:>4} ms: a hit {took:.1?} after it was over", PHASES[*kind], lasts.as_millis());
    }
    println!("{:?}", soak.world.cache.stats());
    let slowest = back.iter().map(|(_, _, took)| *took).max().unwrap();
    assert!(slowest < PATIENCE, "the hits took {slowest:?} to come back");
    assert_eq!(soak.world.cache.pending_invalidations(), 0);
    assert!(
        soak.hits() > 1000 && soak.world.cache.stats().store_errors > 0,
        "{:?}",
        soak.world.cache.stats()
    );
}

#[test]
fn no_fault_of_the_server_reaches_a_caller() {
    let seconds = number("CACHE_ASIDE_SOAK_SECONDS").unwrap_or(20);
    soak(Kind::Redis, seconds);
    soak(Kind::Valkey, seconds / 2);
}
