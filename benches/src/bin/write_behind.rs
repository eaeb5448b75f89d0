//! A write into the queue, beside a bare `XADD`; a worker whose handler does nothing, beside a bare loop of
//! `XREADGROUP`, `XACK` and `XDEL`.
//!
//! ```text
//! cargo xtask bench write_behind [--rounds N] [--writes 20000]
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use benches::server::Server;
use benches::{Better, Cell, Column, Options, Report, Row, Table};
use cache_aside::redis::aio::MultiplexedConnection;
use cache_aside::redis::io::tcp::TcpSettings;
use cache_aside::redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, cmd, pipe};
use cache_aside::{Cache, Job, WriteBehind};
use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const STREAM: &str = "bare";
const GROUP: &str = "workers";
/// So many order keys, one after the other.
const KEYS: u64 = 1000;
/// What a batch is.
const BATCH: usize = 100;
const LIFE: Duration = Duration::from_secs(600);

/// Some hundred bytes as JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Change {
    id: u64,
    name: String,
    bio: String,
}

impl Change {
    fn number(id: u64) -> Self {
        Self { id, name: format!("user {id}"), bio: "twenty bytes of text".repeat(3) }
    }
}

/// The server, and two ways to it.
#[derive(Clone)]
struct Place {
    writes: WriteBehind,
    bare: MultiplexedConnection,
}

impl Place {
    async fn at(server: &Server) -> Self {
        let cache = Cache::builder().redis(server.url()).build().expect("a cache");
        let writes = WriteBehind::queue("bench").cache(&cache).capacity(10_000_000).build().expect("a queue");
        // As ours: no delay, and no timer per command.
        let info = server.url().into_connection_info().expect("a URL");
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = Client::open(info).expect("a client");
        let bare = client.get_multiplexed_async_connection_with_config(&config).await.expect("it answers");
        Self { writes, bare }
    }

    /// An empty server, with all that is made once.
    async fn reset(&mut self) {
        let _: () = cmd("FLUSHALL").query_async(&mut self.bare).await.expect("it answers");
        let mut group = cmd("XGROUP");
        group.arg("CREATE").arg(STREAM).arg(GROUP).arg("0").arg("MKSTREAM");
        let _: () = group.query_async(&mut self.bare).await.expect("a group");
        self.writes.send("set", 0, &Change::number(0)).await.expect("it is sent");
        run(&self.writes, 1).await;
    }

    /// One write, so.
    async fn write(&mut self, way: Send, id: u64) {
        let (change, key) = (Change::number(id), id % KEYS);
        match way {
            Send::Bare | Send::BareAndSet => {
                let json = serde_json::to_string(&change).expect("JSON");
                let mut pipe = pipe();
                pipe.cmd("XADD").arg(STREAM).arg("*").arg("kind").arg("set");
                pipe.arg("key").arg(key).arg("payload").arg(&json).ignore();
                if let Send::BareAndSet = way {
                    pipe.cmd("SET").arg(format!("entry:{key}")).arg(json);
                    pipe.arg("PX").arg(LIFE.as_millis() as u64).ignore();
                }
                let _: () = pipe.query_async(&mut self.bare).await.expect("it answers");
            }
            Send::Ours => drop(self.writes.send("set", key, &change).await.expect("it is sent")),
            Send::OursAndPut => {
                let draft = self.writes.put_json(&format!("entry:{key}"), &change, LIFE);
                draft.send("set", key, &change).await.expect("it is sent");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Send {
    Bare,
    Ours,
    BareAndSet,
    OursAndPut,
}

impl Send {
    const ALL: [Self; 4] = [Self::Bare, Self::Ours, Self::BareAndSet, Self::OursAndPut];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "XADD",
            Self::Ours => "send",
            Self::BareAndSet => "XADD and SET, in one flush",
            Self::OursAndPut => "put_json(..).send",
        }
    }

    /// Which row it is beside.
    fn bare(self) -> usize {
        match self {
            Self::Bare | Self::Ours => 0,
            Self::BareAndSet | Self::OursAndPut => 2,
        }
    }

    /// Nanoseconds per write, by so many tasks.
    async fn time(self, place: &mut Place, tasks: u64, writes: u64) -> f64 {
        place.reset().await;
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for task in 0..tasks {
            let mut place = place.clone();
            running.spawn(async move {
                for number in 0..writes / tasks {
                    place.write(self, number * tasks + task).await;
                }
            });
        }
        running.join_all().await;
        begun.elapsed().as_nanos() as f64 / (writes / tasks * tasks) as f64
    }
}

#[derive(Clone, Copy)]
enum Work {
    OneByOne,
    InBatches,
    Ours,
}

impl Work {
    const ALL: [Self; 3] = [Self::OneByOne, Self::InBatches, Self::Ours];

    fn name(self) -> &'static str {
        match self {
            Self::OneByOne => "XREADGROUP COUNT 1, XACK + XDEL",
            Self::InBatches => "XREADGROUP COUNT 100, XACK + XDEL",
            Self::Ours => "run_until",
        }
    }

    /// Nanoseconds per write, of one worker.
    async fn time(self, place: &mut Place, writes: u64) -> f64 {
        place.reset().await;
        let way = if let Self::Ours = self { Send::Ours } else { Send::Bare };
        let mut running = JoinSet::new();
        for task in 0..64 {
            let mut place = place.clone();
            running.spawn(async move {
                for id in (task..writes).step_by(64) {
                    place.write(way, id).await;
                }
            });
        }
        running.join_all().await;
        let begun = Instant::now();
        match self {
            Self::OneByOne => drain(&mut place.bare, 1, writes).await,
            Self::InBatches => drain(&mut place.bare, BATCH, writes).await,
            Self::Ours => run(&place.writes, writes).await,
        }
        begun.elapsed().as_nanos() as f64 / writes as f64
    }
}

/// Of a stream: its id; kind, key and payload.
type Entry = (String, [(String, String); 3]);

/// The least worker there is.
async fn drain(bare: &mut MultiplexedConnection, batch: usize, writes: u64) {
    let mut done = 0;
    while done < writes {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("one").arg("COUNT").arg(batch).arg("STREAMS").arg(STREAM).arg(">");
        let reply: Vec<(String, Vec<Entry>)> = read.query_async(bare).await.expect("it answers");
        let mut ids = Vec::new();
        for (id, [_, _, (_, payload)]) in &reply[0].1 {
            let change: Change = serde_json::from_str(payload).expect("JSON");
            done += u64::from(change.id < u64::MAX);
            ids.push(id);
        }
        let mut settle = pipe();
        settle.cmd("XACK").arg(STREAM).arg(GROUP).arg(&ids).ignore();
        settle.cmd("XDEL").arg(STREAM).arg(&ids).ignore();
        let _: () = settle.query_async(bare).await.expect("it answers");
    }
}

/// Our worker, until it has done so many and they have left the queue.
async fn run(writes: &WriteBehind, count: u64) {
    let (done, last) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let state = (Arc::clone(&done), Arc::clone(&last));
    let workers = writes.workers(state).handle(
        "set",
        move |job: Job<Change>, (done, last): (Arc<AtomicU64>, Arc<Notify>)| async move {
            let one = u64::from(job.payload.id < u64::MAX);
            if done.fetch_add(one, Relaxed) + 1 == count {
                last.notify_one();
            }
            Ok::<_, std::convert::Infallible>(())
        },
    );
    let left = workers.run_until(last.notified()).await.expect("it runs");
    assert_eq!((left, done.load(Relaxed)), (0, count));
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Options,
    /// How many writes are in each measurement.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    writes: u64,
}

fn main() {
    let Args { common, writes } = Args::parse();
    let rounds = common.rounds(9);
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut place = runtime.block_on(Place::at(&server));
    let loads = [1, 64];
    let mut sends = Send::ALL.map(|_| loads.map(|_| Vec::new()));
    let mut works = Work::ALL.map(|_| Vec::new());
    // The first round only warms up.
    for round in 0..=rounds {
        for (way, rates) in Send::ALL.into_iter().zip(&mut sends) {
            for (tasks, rates) in loads.into_iter().zip(rates) {
                // One task waits for each reply.
                let time = runtime.block_on(way.time(&mut place, tasks, writes.min(writes * tasks / 4)));
                rates.extend((round > 0).then_some(1e6 / time));
            }
        }
        for (way, rates) in Work::ALL.into_iter().zip(&mut works) {
            let time = runtime.block_on(way.time(&mut place, writes));
            rates.extend((round > 0).then_some(1e6 / time));
        }
    }
    let mut report = Report::new("Write-behind").peers(&["redis"]).server(&server);
    let column = |name| Column::new(name, "kop/s", Better::Higher);
    let rows = Send::ALL.into_iter().zip(&sends).map(|(way, rates)| {
        let cells = rates.iter().zip(&sends[way.bare()]).map(|(rates, bare)| Cell::beside(bare, rates));
        Row::new(way.name(), cells.collect())
    });
    let columns = vec![column("1 task"), column("64 tasks")];
    report.add(Table::new("writes into the queue", columns, rows.collect()));
    let rows = Work::ALL.into_iter().zip(&works);
    let rows = rows.map(|(way, rates)| Row::new(way.name(), vec![Cell::beside(&works[0], rates)]));
    report.add(Table::new("writes out of the queue", vec![column("one worker")], rows.collect()));
    report.note("times as many: as the bare way's in the same round");
    report.finish(&common);
}
