//! Rounds of every way under every load, by the clock: a round trip is mostly waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use benches::server::Server;
use benches::{Better, Cell, Chart, Column, Row, Table, allocations, stats};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// One way to read a value.
pub trait Way: Clone + Send + Sync + 'static {
    /// Reads the value with this number, and checks that it is the one.
    fn get(&self, id: u64) -> impl Future<Output = ()> + Send;
}

/// So many tasks, each of which asks for one key after the other.
pub struct Load {
    pub name: &'static str,
    pub workers: usize,
    pub tasks: u64,
    pub keys: u64,
}

/// What one way did in one round.
struct Measured {
    value: f64,
    calls: u64,
}

type Run = Box<dyn Fn(&Runtime, &Load, Duration) -> Measured>;

struct Candidate {
    name: &'static str,
    /// On one worker and on two: a connection belongs to its runtime.
    runs: Vec<Run>,
    allocations: f64,
}

pub struct Bench<'a> {
    title: &'static str,
    runtimes: [Runtime; 2],
    only: &'a str,
    candidates: Vec<Candidate>,
}

impl<'a> Bench<'a> {
    pub fn new(title: &'static str, runtimes: [Runtime; 2], only: &'a str) -> Self {
        Self { title, runtimes, only, candidates: Vec::new() }
    }

    /// Connects on each runtime, whose number `connect` is told, and reads every key once.
    pub fn add<W: Way, C: Future<Output = W>>(&mut self, name: &'static str, connect: impl Fn(usize) -> C) {
        if !name.contains(self.only) {
            return;
        }
        let ready = |at: usize, runtime: &Runtime| {
            runtime.block_on(async {
                let way = connect(at).await;
                for id in 0..super::KEYS {
                    way.get(id).await;
                }
                way
            })
        };
        let runs = self.runtimes.iter().enumerate().map(|(at, runtime)| {
            let way = ready(at, runtime);
            Box::new(move |runtime: &Runtime, load: &Load, time| match load.tasks {
                1 => latency(runtime, &way, load, time),
                _ => throughput(runtime, &way, load, time),
            }) as Run
        });
        let runs = runs.collect();
        let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let way = ready(2, &alone);
        let calls = 1000;
        let counted = allocations::of(|| {
            alone.block_on(async {
                for id in 0..calls {
                    way.get(id).await;
                }
            });
        });
        let allocations = counted as f64 / calls as f64;
        self.candidates.push(Candidate { name, runs, allocations });
    }

    /// Two tables: by the clock, and the CPU time of this process.
    pub fn run(self, server: &Server, loads: &[Load], rounds: usize, millis: u64) -> [Table; 2] {
        let time = Duration::from_millis(millis);
        let mut values = vec![vec![Vec::new(); loads.len()]; self.candidates.len()];
        let (mut commands, mut cpus) = (values.clone(), values.clone());
        for round in 0..=rounds {
            for (at, load) in loads.iter().enumerate() {
                for (number, candidate) in self.candidates.iter().enumerate() {
                    let (before, cpu) = (server.work(), cpu_micros());
                    let workers = load.workers - 1;
                    let measured = (candidate.runs[workers])(&self.runtimes[workers], load, time);
                    let cpu = (cpu_micros() - cpu) / measured.calls as f64;
                    // The first round only warms up.
                    if round > 0 {
                        values[number][at].push(measured.value);
                        cpus[number][at].push(cpu);
                        let carried_out = server.work().since(before).commands;
                        commands[number][at].push(carried_out as f64 / measured.calls as f64);
                    }
                }
            }
        }
        let table = |title: String, columns: Vec<Column>, of: &[Vec<Vec<f64>>]| {
            let row = |(candidate, own): (&Candidate, &Vec<Vec<f64>>)| {
                let cells = own.iter().zip(&of[0]).map(|(own, first)| Cell::beside(first, own));
                Row::new(candidate.name, cells.collect())
            };
            Table::new(title, columns, self.candidates.iter().zip(of).map(row).collect())
        };
        let columns = loads.iter().map(|load| match load.tasks {
            1 => Column::new(load.name, "us", Better::Lower),
            _ => Column::new(load.name, "kop/s", Better::Higher),
        });
        let mut clock = table(format!("{}, by the clock", self.title), columns.collect(), &values);
        // Thousands a second and microseconds aren't for one axis.
        let drawn = (0..loads.len()).filter(|at| loads[*at].tasks > 1).collect();
        clock = clock.chart(Chart::Bars(drawn));
        let allocations = self.candidates.iter().map(|candidate| Cell::just(candidate.allocations));
        clock.extend(Column::new("allocations", "", Better::Lower), allocations);
        for (at, load) in loads.iter().enumerate().filter(|(_, load)| load.tasks > 1) {
            let each = commands.iter().map(|commands| Cell::just(stats::median(&commands[at])));
            clock.extend(Column::new(format!("commands, {}", load.name), "", Better::Lower), each);
        }
        let columns = loads.iter().map(|load| Column::new(load.name, "us", Better::Lower));
        let cpu = table(format!("{}, this process's CPU", self.title), columns.collect(), &cpus);
        [clock, cpu.chart(Chart::None)]
    }
}

/// Calls in turn; the median in microseconds.
fn latency(runtime: &Runtime, way: &impl Way, load: &Load, time: Duration) -> Measured {
    let (way, keys) = (way.clone(), load.keys);
    let task = runtime.spawn(async move {
        let (begun, mut nanos, mut id) = (Instant::now(), Vec::new(), 0);
        while begun.elapsed() < time {
            id = (id + 7919) % keys;
            let one = Instant::now();
            way.get(id).await;
            nanos.push(one.elapsed().as_nanos() as f64);
        }
        nanos
    });
    let nanos = runtime.block_on(task).expect("it ran");
    let calls = nanos.len() as u64;
    Measured { value: stats::median(&nanos) / 1e3, calls }
}

/// Calls of many tasks at once; thousands a second.
fn throughput(runtime: &Runtime, way: &impl Way, load: &Load, time: Duration) -> Measured {
    let (stop, keys) = (Arc::new(AtomicBool::new(false)), load.keys);
    let begun = Instant::now();
    let calls = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..load.tasks {
            let (way, stop) = (way.clone(), Arc::clone(&stop));
            tasks.spawn(async move {
                let (mut calls, mut id) = (0, task * 157 % keys);
                while !stop.load(Relaxed) {
                    id = (id + 7919) % keys;
                    way.get(id).await;
                    calls += 1;
                }
                calls
            });
        }
        tokio::time::sleep(time).await;
        stop.store(true, Relaxed);
        tasks.join_all().await.into_iter().sum::<u64>()
    });
    Measured { value: calls as f64 / begun.elapsed().as_secs_f64() / 1e3, calls }
}

/// That the threads of this process have used: the same however busy the machine is.
fn cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
