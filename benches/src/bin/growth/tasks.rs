//! Hits on Redis: how many a second, and what each costs the server, by the number of tasks that ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use benches::server::Server;
use benches::tasks::runtime;
use benches::{Better, Cell, Chart, Report, Row, Table};
use cache_aside::Cache;
use cache_aside::redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::rows::{self, BY_HAND, CACHED, OURS, User, cached_by_one, cached_by_two};

const TASKS: [u64; 6] = [1, 4, 16, 64, 256, 1024];
const KEYS: u64 = 10_000;
/// For so long each way works in each round.
const SPELL: Duration = Duration::from_millis(200);

#[derive(Clone)]
enum Way {
    Ours(Cache),
    ByHand(MultiplexedConnection),
    CachedByOne,
    CachedByTwo,
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => OURS,
            Self::ByHand(_) => BY_HAND,
            Self::CachedByOne | Self::CachedByTwo => CACHED,
        }
    }

    async fn hit(&self, id: u64) -> User {
        match self {
            Self::Ours(cache) => rows::user(cache, id).await,
            Self::ByHand(redis) => rows::user_by_hand(redis.clone(), id).await,
            Self::CachedByOne => cached_by_one::user(id).await.expect("it answers"),
            Self::CachedByTwo => cached_by_two::user(id).await.expect("it answers"),
        }
    }
}

/// Of one way and one number of tasks in one round: hits a second, and per hit the server's CPU time and commands.
struct Spell {
    rate: f64,
    cpu: f64,
    commands: f64,
}

pub fn measure(report: Report, rounds: usize) -> Report {
    let server = Server::start();
    let mut report = report.server(&server);
    cached_by_one::on(&server);
    cached_by_two::on(&server);
    // Its connection's task and its caller's are on one worker, else its latency is drawn by lot.
    let one = Bed::new(&server, 1, Way::CachedByOne);
    let two = Bed::new(&server, 2, Way::CachedByTwo);
    let mut spells: Vec<Vec<Vec<Spell>>> =
        one.ways.iter().map(|_| TASKS.iter().map(|_| Vec::new()).collect()).collect();
    for round in 0..=rounds {
        for (at, tasks) in TASKS.into_iter().enumerate() {
            let bed = if tasks == 1 { &one } else { &two };
            for (way, spells) in bed.ways.iter().zip(&mut spells) {
                let spell = bed.spell(&server, way, tasks);
                // The first round only warms up.
                spells[at].extend((round > 0).then_some(spell));
            }
        }
    }
    let table = |title, unit, better, take: fn(&Spell) -> f64| {
        let rows = one.ways.iter().zip(&spells).map(|(way, own)| {
            let cells = own.iter().zip(&spells[0]).map(|(own, first)| {
                let take = |spells: &[Spell]| spells.iter().map(take).collect::<Vec<_>>();
                Cell::beside(&take(first), &take(own))
            });
            Row::new(way.name(), cells.collect())
        });
        let lines = Chart::Lines { axis: "tasks", at: TASKS.map(|tasks| tasks as f64).into() };
        Table::new(title, crate::columns(&TASKS, unit, better), rows.collect()).chart(lines)
    };
    report.add(table("hits on Redis, by tasks", "kop/s", Better::Higher, |spell| spell.rate / 1e3));
    report.add(table("CPU time of Redis per hit, by tasks", "us", Better::Lower, |spell| spell.cpu * 1e6));
    report.add(
        table("commands per hit, by tasks", "", Better::Lower, |spell| spell.commands).chart(Chart::None),
    );
    report
}

/// A runtime, and what lives on it.
struct Bed {
    runtime: Runtime,
    ways: [Way; 3],
}

impl Bed {
    fn new(server: &Server, workers: usize, cached: Way) -> Self {
        let runtime = runtime(workers);
        let cache = Cache::builder().redis(server.url()).build().expect("a cache");
        let connection = runtime.block_on(rows::connect(server));
        let ways = [Way::Ours(cache), Way::ByHand(connection), cached];
        for way in ways.clone() {
            let fill = async move {
                for id in 0..KEYS {
                    way.hit(id).await;
                }
            };
            runtime.block_on(runtime.spawn(fill)).expect("it runs");
        }
        Self { runtime, ways }
    }

    fn spell(&self, server: &Server, way: &Way, tasks: u64) -> Spell {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        let (work, cpu, begun) = (server.work(), cpu_of(server), Instant::now());
        for task in 0..tasks {
            let (way, stop) = (way.clone(), Arc::clone(&stop));
            let task = async move {
                let mut random = fastrand::Rng::with_seed(task);
                let mut hits = 0_u64;
                while !stop.load(Relaxed) {
                    way.hit(random.u64(..KEYS)).await;
                    hits += 1;
                }
                hits
            };
            running.spawn_on(task, self.runtime.handle());
        }
        // No timer of the runtime: calls that never wait leave no worker to look at it.
        thread::sleep(SPELL);
        stop.store(true, Relaxed);
        let hits: u64 = self.runtime.block_on(running.join_all()).into_iter().sum();
        let (time, cpu) = (begun.elapsed(), cpu_of(server) - cpu);
        let hits = hits as f64;
        Spell {
            rate: hits / time.as_secs_f64(),
            cpu: cpu / hits,
            commands: server.work().since(work).commands as f64 / hits,
        }
    }
}

/// Seconds that it has worked.
fn cpu_of(server: &Server) -> f64 {
    ["used_cpu_user", "used_cpu_sys"].into_iter().map(|name| server.info("cpu", name)).sum()
}
