//! A thousand callers at once for a key that nobody has cached, in one process and spread over four: how often
//! the loader runs, and how long callers wait.
//!
//! ```text
//! cargo xtask bench stampede [--rounds N] [--callers 1000]
//! ```

use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use benches::server::Server;
use benches::stats::quantile;
use benches::{Better, Cell, Chart, Column, Options, Report, Row, Table, tasks};
use cache_aside::{Settings, cache};
use cached::AsyncRedisCache;
use cached::macros::{cached, concurrent_cached};
use clap::Parser;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// What the database takes.
const LOADER: Duration = Duration::from_millis(20);
const TTL: u64 = 600;
const PROCESSES: usize = 4;
/// From the order to the start: enough for every process to have its callers ready.
const AHEAD: Duration = Duration::from_millis(50);

static URL: OnceLock<String> = OnceLock::new();
/// How often the loader ran in this process.
static LOADS: AtomicU64 = AtomicU64::new(0);

async fn load(id: u64) -> String {
    LOADS.fetch_add(1, Relaxed);
    tokio::time::sleep(LOADER).await;
    format!("a hundred bytes or so of what the database knows about number {id}, all of it text, no numbers")
}

#[cache(ttl = 600)]
async fn ours(id: u64) -> String {
    load(id).await
}

#[cache(ttl = 600, near = true)]
async fn ours_near(id: u64) -> String {
    load(id).await
}

#[concurrent_cached(
    map_error = |error| format!("{error:?}"),
    ty = "AsyncRedisCache<u64, String>",
    create = r##"{
        let redis = AsyncRedisCache::builder("text").ttl(Duration::from_secs(TTL));
        redis.connection_string(URL.get().expect("a child")).build().await.expect("it answers")
    }"##
)]
async fn cached_redis(id: u64) -> Result<String, String> {
    Ok(load(id).await)
}

#[cached(ttl_secs = 600, sync_writes = "by_key")]
async fn cached_memory(id: u64) -> String {
    load(id).await
}

/// What most people write.
async fn by_hand(redis: &mut MultiplexedConnection, id: u64) -> String {
    let key = format!("by-hand:{id}");
    let stored: Option<String> = redis.get(&key).await.expect("it answers");
    if let Some(stored) = stored {
        return serde_json::from_str(&stored).expect("JSON");
    }
    let text = load(id).await;
    let json = serde_json::to_string(&text).expect("JSON");
    let _: () = redis.set_ex(&key, json, TTL).await.expect("it answers");
    text
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Way {
    ByHand,
    CachedRedis,
    CachedMemory,
    Ours,
    Near,
}

impl Way {
    const ALL: [Self; 5] = [Self::ByHand, Self::CachedRedis, Self::CachedMemory, Self::Ours, Self::Near];

    fn name(self) -> &'static str {
        match self {
            Self::ByHand => "by hand: GET, load, SET EX",
            Self::CachedRedis => "cached on Redis",
            Self::CachedMemory => "cached in process, sync_writes = \"by_key\"",
            Self::Ours => "#[cache]",
            Self::Near => "#[cache(near = true)]",
        }
    }

    async fn call(self, redis: &mut MultiplexedConnection, id: u64) -> String {
        match self {
            Self::ByHand => by_hand(redis, id).await,
            Self::CachedRedis => cached_redis(id).await.expect("it answers"),
            Self::CachedMemory => cached_memory(id).await,
            Self::Ours => ours(id).await,
            Self::Near => ours_near(id).await,
        }
    }
}

/// What a process is to do: so many calls for this key at this time of the clock that all of them share.
#[derive(Serialize, Deserialize)]
struct Order {
    way: Way,
    id: u64,
    callers: usize,
    at: Duration,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
struct Outcome {
    loads: u64,
    /// Milliseconds that each caller's call took.
    times: Vec<f64>,
}

/// Since some moment that is the same for all processes.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Carries out one order for each line of its input.
fn child(url: String) {
    let runtime = tasks::runtime(2);
    let client = redis::Client::open(url.as_str()).expect("a URL");
    let redis = runtime.block_on(client.get_multiplexed_async_connection()).expect("it answers");
    let settings = Settings::from_vars([("REDIS_URL", url.as_str())]).expect("a URL");
    runtime.block_on(cache_aside::init(settings)).expect("it answers");
    URL.set(url).expect("it is set once");
    for line in stdin().lines() {
        let order: Order = serde_json::from_str(&line.expect("text")).expect("an order");
        LOADS.store(0, Relaxed);
        let times = runtime.block_on(carry_out(&order, &redis));
        let outcome = Outcome { loads: LOADS.load(Relaxed), times };
        println!("{}", serde_json::to_string(&outcome).expect("numbers"));
    }
}

async fn carry_out(order: &Order, redis: &MultiplexedConnection) -> Vec<f64> {
    let Order { way, id, callers, at } = *order;
    let start = Arc::new(Barrier::new(callers + 1));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (start, mut redis) = (Arc::clone(&start), redis.clone());
        tasks.spawn(async move {
            start.wait().await;
            let begun = Instant::now();
            let text = way.call(&mut redis, id).await;
            assert!(text.contains("a hundred bytes"));
            begun.elapsed().as_secs_f64() * 1e3
        });
    }
    tokio::time::sleep(at.saturating_sub(now())).await;
    start.wait().await;
    tasks.join_all().await
}

/// A process of this program. Its end of input ends it.
struct Process {
    child: Child,
    orders: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

impl Process {
    fn start(url: &str) -> Self {
        let this = env::current_exe().expect("a path");
        let mut command = Command::new(this);
        let mut child = command
            .args(["--child", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts once more");
        let orders = child.stdin.take().expect("it is piped");
        let outcomes = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, orders, outcomes }
    }

    fn order(&mut self, order: &Order) {
        let line = serde_json::to_string(order).expect("numbers");
        writeln!(self.orders, "{line}").expect("it listens");
    }

    fn outcome(&mut self) -> Outcome {
        let mut line = String::new();
        self.outcomes.read_line(&mut line).expect("it says");
        serde_json::from_str(&line).expect("an outcome")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was measured of one way, once in each round.
#[derive(Default)]
struct Measured {
    loads: Vec<f64>,
    halves: Vec<f64>,
    most: Vec<f64>,
    longest: Vec<f64>,
}

/// One cold key, and all callers at once.
fn stampede(processes: &mut [Process], way: Way, id: u64, callers: usize) -> (u64, Vec<f64>) {
    let order = Order { way, id, callers: callers / processes.len(), at: now() + AHEAD };
    processes.iter_mut().for_each(|process| process.order(&order));
    let outcomes: Vec<Outcome> = processes.iter_mut().map(Process::outcome).collect();
    let loads = outcomes.iter().map(|outcome| outcome.loads).sum();
    (loads, outcomes.into_iter().flat_map(|outcome| outcome.times).collect())
}

fn table(title: &str, measured: &[Measured]) -> Table {
    let rows = Way::ALL.into_iter().zip(measured).map(|(way, measured)| {
        let Measured { loads, halves, most, longest } = measured;
        Row::new(way.name(), [loads, halves, most, longest].map(|each| Cell::median(each)).into())
    });
    let millis = |name| Column::new(name, "ms", Better::Lower);
    let columns =
        vec![Column::new("loads", "", Better::Lower), millis("p50"), millis("p99"), millis("longest")];
    Table::new(title, columns, rows.collect()).chart(Chart::Bars(vec![0, 2]))
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Options,
    /// How many there are altogether.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    callers: usize,
    /// One of the processes that call.
    #[arg(long, value_name = "URL", hide = true)]
    child: Option<String>,
}

fn main() {
    let Args { common, callers, child: url } = Args::parse();
    if let Some(url) = url {
        return child(url);
    }
    let server = Server::start();
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::start(&server.url())).collect();
    let fleets = [1, PROCESSES];
    let mut measured = fleets.map(|_| Way::ALL.map(|_| Measured::default()));
    let mut id = 0;
    // The first round only warms up: connections, scripts.
    for round in 0..=common.rounds(21) {
        for (fleet, measured) in fleets.iter().zip(&mut measured) {
            for (way, measured) in Way::ALL.into_iter().zip(measured) {
                id += 1;
                let (loads, times) = stampede(&mut processes[..*fleet], way, id, callers);
                if round > 0 {
                    measured.loads.push(loads as f64);
                    measured.halves.push(quantile(&times, 0.5));
                    measured.most.push(quantile(&times, 0.99));
                    measured.longest.push(quantile(&times, 1.0));
                }
            }
        }
    }
    let mut report = Report::new("A thousand callers at once for a cold key").peers(&["cached", "redis"]);
    report = report.server(&server);
    for (fleet, measured) in fleets.iter().zip(&measured) {
        let processes = if *fleet == 1 { "1 process".to_owned() } else { format!("{fleet} processes") };
        report.add(table(&format!("{callers} callers in {processes}"), measured));
    }
    report.note(format!("the loader takes {} ms", LOADER.as_millis()));
    report.finish(&common);
}
