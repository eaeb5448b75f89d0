//! To forget ten entries among many other keys: by their tag, by their keys, by a glob; and how long another
//! client's `GET` takes meanwhile.
//!
//! ```text
//! cargo xtask bench invalidation [--rounds N] [--keys 1000,100000,1000000]
//! ```

use std::env;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use benches::server::{Link, Server};
use cache_aside::{Cache, cache};
use tokio::runtime::Runtime;

const ENTRIES: u64 = 10;
const TTL: &str = "3600000";
/// For so long another client's reads are timed,
const SPELL: Duration = Duration::from_millis(300);
/// while entries are forgotten this often, if that can be done so fast.
const PAUSE: Duration = Duration::from_millis(10);

#[cache(key = "hot:{id}", ttl = 3600, tags = ["hot"], cache = cache)]
async fn entry(cache: &Cache, id: u64) -> u64 {
    let _ = cache;
    id
}

#[derive(Clone, Copy)]
enum Way {
    Nothing,
    Tag,
    Key,
    Keys,
    Glob,
}

impl Way {
    const ALL: [Self; 5] = [Self::Nothing, Self::Tag, Self::Key, Self::Keys, Self::Glob];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Tag => "invalidate_tags, 10 entries",
            Self::Key => "clear_cache, 1 entry",
            Self::Keys => "clear_cache, 10 entries in turn",
            Self::Glob => "delete_pattern, 10 entries",
        }
    }

    /// How often in each round: what is short is measured more often.
    fn times(self) -> usize {
        if let Self::Glob = self { 1 } else { 20 }
    }

    async fn go(self, cache: &Cache) {
        match self {
            Self::Nothing => {}
            Self::Tag => cache.invalidate_tags(&["hot"]).await.expect("the server is there"),
            Self::Key => assert!(entry::clear_cache(cache, 0).await.expect("the server is there")),
            Self::Keys => {
                for id in 0..ENTRIES {
                    assert!(entry::clear_cache(cache, id).await.expect("the server is there"));
                }
            }
            Self::Glob => {
                assert_eq!(cache.delete_pattern("hot:*").await.expect("the server is there"), ENTRIES);
            }
        }
    }

    /// The same, whether or not there is anything to forget.
    async fn again(self, cache: &Cache) {
        match self {
            Self::Key => drop(entry::clear_cache(cache, 0).await.expect("the server is there")),
            Self::Keys => {
                for id in 0..ENTRIES {
                    entry::clear_cache(cache, id).await.expect("the server is there");
                }
            }
            Self::Glob => drop(cache.delete_pattern("hot:*").await.expect("the server is there")),
            Self::Nothing | Self::Tag => self.go(cache).await,
        }
    }

    /// How many entries are left.
    fn left(self) -> u64 {
        match self {
            Self::Nothing => ENTRIES,
            Self::Key => ENTRIES - 1,
            Self::Tag | Self::Keys | Self::Glob => 0,
        }
    }
}

/// One server, with so many keys beside the entries.
struct Place {
    server: Server,
    cache: Cache,
    keys: u64,
}

/// What was measured of one way at one place.
#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    commands: u64,
    /// The median of another client's reads in each round,
    halves: Vec<Duration>,
    /// and what all but a hundredth of them took at most.
    mosts: Vec<Duration>,
}

impl Place {
    fn with(keys: u64) -> Self {
        let server = Server::start();
        let mut link = server.link();
        let numbers: Vec<u64> = (0..keys).collect();
        for numbers in numbers.chunks(10_000) {
            let set = |number: &u64| {
                ["SET", &other(*number), "twenty bytes of value", "PX", TTL].map(str::to_owned)
            };
            link.pipeline(numbers.iter().map(|number| set(number).to_vec())).expect("there is room");
        }
        let cache = Cache::builder().redis(server.url()).build().expect("a cache");
        Self { server, cache, keys }
    }

    async fn fill(&self) {
        for id in 0..ENTRIES {
            entry(&self.cache, id).await;
        }
        assert_eq!(self.there().await, ENTRIES);
    }

    async fn there(&self) -> u64 {
        let mut there = 0;
        for id in 0..ENTRIES {
            there += u64::from(entry::cached(&self.cache, id).await.expect("the server is there").is_some());
        }
        there
    }

    /// What the server is asked, with nobody else there.
    fn count(&self, runtime: &Runtime, way: Way) -> u64 {
        let mut link = self.server.link();
        runtime.block_on(self.fill());
        link.ask(&["CONFIG", "RESETSTAT"]).expect("it answers");
        runtime.block_on(way.go(&self.cache));
        let stats = link.ask(&["INFO", "commandstats"]).expect("it answers");
        let calls = stats.lines().filter(|line| !line.starts_with("cmdstat_config")).filter_map(|line| {
            let (_, calls) = line.split_once("calls=")?;
            calls.split(',').next()?.parse::<u64>().ok()
        });
        calls.sum()
    }

    /// How long it takes, on a quiet server.
    fn time(&self, runtime: &Runtime, way: Way) -> Vec<Duration> {
        let one = async || {
            self.fill().await;
            let begun = Instant::now();
            way.go(&self.cache).await;
            let time = begun.elapsed();
            assert_eq!(self.there().await, way.left());
            time
        };
        (0..way.times()).map(|_| runtime.block_on(one())).collect()
    }

    /// How long another client's reads take while it is done once each [`PAUSE`], or as often as it can be.
    fn disturb(&self, runtime: &Runtime, way: Way) -> Vec<Duration> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| reads(self.server.link(), self.keys, &stop));
            let (begun, mut next) = (Instant::now(), Duration::ZERO);
            while begun.elapsed() < SPELL {
                runtime.block_on(way.again(&self.cache));
                next += PAUSE;
                sleep(next.saturating_sub(begun.elapsed()));
            }
            stop.store(true, Relaxed);
            reader.join().expect("it read")
        })
    }
}

fn other(number: u64) -> String {
    format!("other:{number}")
}

/// Another client, which reads any of the other keys until it is told to stop: how long each took.
fn reads(mut link: Link, keys: u64, stop: &AtomicBool) -> Vec<Duration> {
    let mut gets = Vec::new();
    while !stop.load(Relaxed) {
        let key = other(fastrand::u64(..keys));
        let begun = Instant::now();
        link.ask(&["GET", &key]).expect("it answers");
        gets.push(begun.elapsed());
        sleep(Duration::from_micros(20));
    }
    gets
}

/// The duration below which this share of them is.
fn quantile(durations: &mut [Duration], share: f64) -> Duration {
    durations.sort_unstable();
    durations[(durations.len() as f64 * share) as usize]
}

fn main() {
    let words: Vec<String> = env::args().collect();
    let option = |name| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let rounds = option("--rounds").map_or(21, |rounds| rounds.parse().expect("--rounds N"));
    let keys = option("--keys").map_or("1000,100000,1000000", String::as_str).split(',');
    let places: Vec<Place> = keys.map(|keys| Place::with(keys.parse().expect("--keys N,N"))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut measured: Vec<Vec<Measured>> =
        Way::ALL.map(|_| places.iter().map(|_| Measured::default()).collect()).into();
    // The first round only warms up.
    for round in 0..=rounds {
        for (at, place) in places.iter().enumerate() {
            for (way, measured) in Way::ALL.into_iter().zip(&mut measured) {
                if round == 0 {
                    measured[at].commands = place.count(&runtime, way);
                } else {
                    measured[at].times.extend(place.time(&runtime, way));
                    let mut gets = place.disturb(&runtime, way);
                    measured[at].halves.push(quantile(&mut gets, 0.5));
                    measured[at].mosts.push(quantile(&mut gets, 0.99));
                }
            }
        }
    }
    for (at, place) in places.iter().enumerate() {
        let title = format!("among {} other keys", place.keys);
        println!("{title:34}{:>12}{:>12}{:>12}{:>12}", "median", "commands", "GET p50", "GET p99");
        for (way, measured) in Way::ALL.into_iter().zip(&mut measured) {
            let Measured { times, commands, halves, mosts } = &mut measured[at];
            let [time, half, most] =
                [times, halves, mosts].map(|each| quantile(each, 0.5).as_secs_f64() * 1e3);
            println!("{:34}{time:>9.3} ms{commands:>12}{half:>9.3} ms{most:>9.3} ms", way.name());
        }
        println!();
    }
    println!("GET: another client's, while this is done a hundred times a second, or as often as it can be");
}
