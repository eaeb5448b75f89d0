//! Rounds of every way under every load, by the clock: a round trip is mostly waiting.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use benches::allocations;
use benches::server::Server;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
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

#[derive(Serialize)]
pub struct Results {
    pub title: &'static str,
    pub loads: Vec<&'static str>,
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    pub name: &'static str,
    pub cells: Vec<Cell>,
    /// For each call, of one task.
    pub allocations: f64,
}

/// Of the rounds: the median, and the median of the ratios to the second row.
#[derive(Serialize)]
pub struct Cell {
    /// Thousands of calls a second; with one task, microseconds for one call.
    pub value: f64,
    pub ratio: f64,
    /// That the server carried out for each call.
    pub commands: f64,
    /// Microseconds of this process for each call, and their ratio.
    pub cpu: f64,
    pub cpu_ratio: f64,
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

    pub fn run(self, server: &Server, loads: &[Load], rounds: usize, millis: usize) -> Results {
        let time = Duration::from_millis(millis as u64);
        let mut values = vec![vec![Vec::new(); loads.len()]; self.candidates.len()];
        let (mut commands, mut cpus) = (values.clone(), values.clone());
        for round in 0..=rounds {
            for (at, load) in loads.iter().enumerate() {
                for (number, candidate) in self.candidates.iter().enumerate() {
                    let (before, cpu) = (carried_out(server), cpu_micros());
                    let workers = load.workers - 1;
                    let measured = (candidate.runs[workers])(&self.runtimes[workers], load, time);
                    let cpu = (cpu_micros() - cpu) / measured.calls as f64;
                    // The first round only warms up.
                    if round > 0 {
                        values[number][at].push(measured.value);
                        cpus[number][at].push(cpu);
                        commands[number][at]
                            .push((carried_out(server) - before) as f64 / measured.calls as f64);
                    }
                }
            }
        }
        let second = |of: &[Vec<Vec<f64>>]| of.get(1).or(of.first()).cloned().unwrap_or_default();
        let (by_hand, cpu_by_hand) = (second(&values), second(&cpus));
        let rows = self.candidates.iter().enumerate().map(|(number, candidate)| Row {
            name: candidate.name,
            allocations: candidate.allocations,
            cells: (0..loads.len())
                .map(|at| Cell {
                    value: median(values[number][at].iter().copied()),
                    ratio: ratio(&values[number][at], &by_hand[at]),
                    commands: median(commands[number][at].iter().copied()),
                    cpu: median(cpus[number][at].iter().copied()),
                    cpu_ratio: ratio(&cpus[number][at], &cpu_by_hand[at]),
                })
                .collect(),
        });
        let rows = rows.collect();
        Results { title: self.title, loads: loads.iter().map(|load| load.name).collect(), rows }
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
    Measured { value: median(nanos.into_iter()) / 1e3, calls }
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

/// How many commands the server has carried out, those that are asked for here left out.
fn carried_out(server: &Server) -> u64 {
    let stats = server.link().ask(&["INFO", "commandstats"]).expect("it answers");
    let calls = stats.lines().filter(|line| !line.starts_with("cmdstat_info")).filter_map(|line| {
        let (_, calls) = line.split_once("calls=")?;
        calls.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}

/// That the threads of this process have used: the same however busy the machine is.
fn cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// The median of the ratios within a round.
fn ratio(own: &[f64], other: &[f64]) -> f64 {
    median(own.iter().zip(other).map(|(own, other)| own / other))
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:30}", self.title)?;
        self.loads.iter().try_for_each(|load| write!(f, "{load:>15}"))?;
        writeln!(f, "  allocations  commands, hot")?;
        for row in &self.rows {
            write!(f, "{:30}", row.name)?;
            row.cells.iter().try_for_each(|cell| write!(f, "{:>8.1} ({:4.2})", cell.value, cell.ratio))?;
            let commands = |cell: Option<&Cell>| cell.map_or(f64::NAN, |cell| cell.commands);
            let (distinct, hot) = (commands(row.cells.get(1)), commands(row.cells.last()));
            writeln!(f, "{:>13.2}  {distinct:>6.2}, {hot:5.3}", row.allocations)?;
        }
        writeln!(f, "\n{:30}", "of which this process's CPU, us a hit")?;
        for row in &self.rows {
            write!(f, "{:30}", row.name)?;
            row.cells.iter().try_for_each(|cell| write!(f, "{:>8.2} ({:4.2})", cell.cpu, cell.cpu_ratio))?;
            writeln!(f)?;
        }
        Ok(())
    }
}
