//! To forget ten entries among many other keys: by their tag, by their keys, by a glob; and how long another
//! client's `GET` takes meanwhile. Beside it what people write by hand.
//!
//! ```text
//! cargo xtask bench invalidation [--rounds N] [--keys 1000,100000,1000000]
//! ```

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use benches::server::{Link, Server};
use benches::stats::quantile;
use benches::{Better, Cell, Chart, Column, Options, Report, Row, Table};
use cache_aside::{Cache, cache};
use clap::Parser;
use redis::aio::MultiplexedConnection;
use redis::{Client, cmd};
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
    Scan,
    Every,
}

impl Way {
    const ALL: [Self; 7] =
        [Self::Nothing, Self::Tag, Self::Key, Self::Keys, Self::Glob, Self::Scan, Self::Every];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Tag => "invalidate_tags, 10 entries",
            Self::Key => "clear_cache, 1 entry",
            Self::Keys => "clear_cache, 10 entries in turn",
            Self::Glob => "delete_pattern, 10 entries",
            Self::Scan => "by hand: SCAN COUNT 1000, UNLINK",
            Self::Every => "by hand: KEYS, UNLINK",
        }
    }

    /// How often in each round: what is short is measured more often.
    fn times(self) -> usize {
        match self {
            Self::Nothing | Self::Tag | Self::Key | Self::Keys => 20,
            Self::Glob | Self::Scan | Self::Every => 1,
        }
    }

    /// Whether or not there is anything to forget: how many entries it found, if it says so.
    async fn go(self, place: &Place) -> Option<u64> {
        let cache = &place.cache;
        match self {
            Self::Nothing => None,
            Self::Tag => {
                cache.invalidate_tags(&["hot"]).await.expect("the server is there");
                None
            }
            Self::Key => Some(u64::from(entry::clear_cache(cache, 0).await.expect("the server is there"))),
            Self::Keys => {
                let mut found = 0;
                for id in 0..ENTRIES {
                    found += u64::from(entry::clear_cache(cache, id).await.expect("the server is there"));
                }
                Some(found)
            }
            Self::Glob => Some(cache.delete_pattern("hot:*").await.expect("the server is there")),
            Self::Scan => Some(scan(&mut place.bare.clone()).await),
            Self::Every => {
                let mut bare = place.bare.clone();
                let keys = cmd("KEYS").arg("hot:*").query_async(&mut bare).await.expect("it answers");
                Some(unlink(&mut bare, keys).await)
            }
        }
    }

    /// How many entries are left.
    fn left(self) -> u64 {
        match self {
            Self::Nothing => ENTRIES,
            Self::Key => ENTRIES - 1,
            Self::Tag | Self::Keys | Self::Glob | Self::Scan | Self::Every => 0,
        }
    }
}

/// What people write.
async fn scan(bare: &mut MultiplexedConnection) -> u64 {
    let (mut cursor, mut found) = (0_u64, 0);
    loop {
        let mut step = cmd("SCAN");
        step.arg(cursor).arg("MATCH").arg("hot:*").arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<String>) = step.query_async(bare).await.expect("it answers");
        found += unlink(bare, keys).await;
        cursor = next;
        if cursor == 0 {
            return found;
        }
    }
}

async fn unlink(bare: &mut MultiplexedConnection, keys: Vec<String>) -> u64 {
    if keys.is_empty() {
        return 0;
    }
    cmd("UNLINK").arg(keys).query_async(bare).await.expect("it answers")
}

/// One server, with so many keys beside the entries.
struct Place {
    server: Server,
    cache: Cache,
    bare: MultiplexedConnection,
    keys: u64,
}

/// What was measured of one way at one place.
#[derive(Default)]
struct Measured {
    times: Vec<f64>,
    commands: u64,
    /// The median of another client's reads in each round,
    halves: Vec<f64>,
    /// what all but a hundredth of them took at most,
    mosts: Vec<f64>,
    /// and the longest.
    longest: Vec<f64>,
}

impl Place {
    fn with(runtime: &Runtime, keys: u64) -> Self {
        let server = Server::start();
        let mut link = server.link();
        let numbers: Vec<u64> = (0..keys).collect();
        for numbers in numbers.chunks(10_000) {
            let set = |number: &u64| {
                ["SET", &other(*number), "twenty bytes of value", "PX", TTL].map(str::to_owned)
            };
            link.pipeline(numbers.iter().map(|number| set(number).to_vec())).expect("there is room");
        }
        // On a busy machine a step may take longer than a caller would wait.
        let builder = Cache::builder().redis(server.url()).store_budget(Duration::from_secs(10));
        let cache = builder.build().expect("a cache");
        let client = Client::open(server.url()).expect("a URL");
        // `KEYS` takes longer than the half second for which it waits otherwise.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let bare = client.get_multiplexed_async_connection_with_config(&config);
        let bare = runtime.block_on(bare).expect("it answers");
        Self { server, cache, bare, keys }
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
        runtime.block_on(self.fill());
        let before = self.server.work();
        runtime.block_on(way.go(self));
        self.server.work().since(before).commands
    }

    /// How long it takes, on a quiet server.
    fn time(&self, runtime: &Runtime, way: Way) -> Vec<f64> {
        if let Way::Nothing = way {
            return Vec::new();
        }
        let one = async || {
            self.fill().await;
            let begun = Instant::now();
            let found = way.go(self).await;
            let time = begun.elapsed();
            assert_eq!(self.there().await, way.left());
            assert!(found.is_none_or(|found| found == ENTRIES - way.left()));
            millis(time)
        };
        // What goes through all keys finds them in the processor's cache, or not, whoever was there before.
        runtime.block_on(way.go(self));
        (0..way.times()).map(|_| runtime.block_on(one())).collect()
    }

    /// How long another client's reads take while it is done once each [`PAUSE`], or as often as it can be.
    fn disturb(&self, runtime: &Runtime, way: Way) -> Vec<f64> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| reads(self.server.link(), self.keys, &stop));
            let (begun, mut next) = (Instant::now(), Duration::ZERO);
            while begun.elapsed() < SPELL {
                runtime.block_on(way.go(self));
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
fn reads(mut link: Link, keys: u64, stop: &AtomicBool) -> Vec<f64> {
    let mut gets = Vec::new();
    while !stop.load(Relaxed) {
        let key = other(fastrand::u64(..keys));
        let begun = Instant::now();
        link.ask(&["GET", &key]).expect("it answers");
        gets.push(millis(begun.elapsed()));
        sleep(Duration::from_micros(20));
    }
    gets
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Options,
    /// Among how many other keys.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1000,100000,1000000",
          value_parser = clap::value_parser!(u64).range(1..))]
    keys: Vec<u64>,
}

fn main() {
    let Args { common, keys } = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let places: Vec<Place> = keys.iter().map(|keys| Place::with(&runtime, *keys)).collect();
    let mut report = Report::new("Forgetting ten entries among other keys").peers(&["redis"]);
    report = report.server(&places[0].server);
    let mut measured: Vec<Vec<Measured>> =
        places.iter().map(|_| Way::ALL.map(|_| Measured::default()).into()).collect();
    // The first round only warms up.
    for round in 0..=common.rounds(5) {
        for (place, measured) in places.iter().zip(&mut measured) {
            for (way, measured) in Way::ALL.into_iter().zip(measured) {
                if round == 0 {
                    measured.commands = place.count(&runtime, way);
                } else {
                    measured.times.extend(place.time(&runtime, way));
                    let gets = place.disturb(&runtime, way);
                    measured.halves.push(quantile(&gets, 0.5));
                    measured.mosts.push(quantile(&gets, 0.99));
                    measured.longest.push(quantile(&gets, 1.0));
                }
            }
        }
    }
    for (place, measured) in places.iter().zip(&measured) {
        report.add(table(place.keys, measured));
    }
    report
        .note("GET: another client's, while this is done a hundred times a second, or as often as it can be");
    report.finish(&common);
}

fn table(keys: u64, measured: &[Measured]) -> Table {
    let rows = Way::ALL.into_iter().zip(measured).map(|(way, measured)| {
        let Measured { times, commands, halves, mosts, longest } = measured;
        let [time, half, most, longest] = [times, halves, mosts, longest].map(|each| Cell::median(each));
        Row::new(way.name(), vec![time, Cell::just(*commands as f64), half, most, longest])
    });
    let millis = |name| Column::new(name, "ms", Better::Lower);
    let columns = vec![
        millis("time"),
        Column::new("commands", "", Better::Lower),
        millis("GET p50"),
        millis("GET p99"),
        millis("GET max"),
    ];
    let bars = Chart::Bars(vec![0, 3]);
    Table::new(format!("among {keys} other keys"), columns, rows.collect()).chart(bars)
}
