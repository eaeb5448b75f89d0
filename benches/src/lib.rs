//! Comparing ways to do one thing: side by side, in one process, in interleaved rounds.
//!
//! Machines drift. So each round runs every candidate once, times are medians over rounds, and what
//! counts are ratios to the first candidate, taken within a round. Times are CPU time of the threads
//! that run: others on the machine don't count.

pub mod allocations;
mod report;
pub mod server;

use std::sync::{Arc, Barrier};
use std::thread;

pub use report::{Cell, Row, Table};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// One way to do it: goes through the work given, and does one thing for each number.
#[derive(Clone)]
pub struct Candidate {
    pub name: &'static str,
    run: Arc<dyn Fn(&Runtime, &[usize]) + Send + Sync>,
}

impl Candidate {
    pub fn new(name: &'static str, run: impl Fn(&Runtime, &[usize]) + Send + Sync + 'static) -> Self {
        Self { name, run: Arc::new(run) }
    }

    pub fn run(&self, runtime: &Runtime, numbers: &[usize]) {
        (self.run)(runtime, numbers);
    }
}

/// What threads are to do: one list of numbers for each.
pub struct Load {
    pub name: &'static str,
    pub work: Vec<Vec<usize>>,
}

/// Every candidate under every load, for so many rounds.
pub fn compare(title: &str, candidates: &[Candidate], loads: &[Load], rounds: usize) -> Table {
    let mut times = vec![vec![Vec::new(); loads.len()]; candidates.len()];
    for round in 0..=rounds {
        for (at, load) in loads.iter().enumerate() {
            for (candidate, times) in candidates.iter().zip(&mut times) {
                let time = time(candidate, load);
                // The first round only warms up.
                if round > 0 {
                    times[at].push(time);
                }
            }
        }
    }
    let rows = candidates.iter().zip(&times).map(|(candidate, own)| Row {
        name: candidate.name,
        cells: own.iter().zip(&times[0]).map(|(own, first)| Cell::new(own, first)).collect(),
        allocations: allocations(candidate, &loads[0].work[0]),
    });
    let rows = rows.collect();
    Table { title: title.to_owned(), loads: loads.iter().map(|load| load.name).collect(), rows }
}

/// Nanoseconds per number, on average over the threads.
fn time(candidate: &Candidate, load: &Load) -> f64 {
    let threads = load.work.len();
    let start = Barrier::new(threads);
    let one = |work: &Vec<usize>| {
        let runtime = runtime();
        candidate.run(&runtime, &work[..work.len() / 4]);
        start.wait();
        let begun = cpu_nanos();
        candidate.run(&runtime, work);
        (cpu_nanos() - begun) / work.len() as f64
    };
    thread::scope(|scope| {
        let threads: Vec<_> = load.work.iter().map(|work| scope.spawn(|| one(work))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it ran")).sum::<f64>()
    }) / threads as f64
}

fn allocations(candidate: &Candidate, work: &[usize]) -> f64 {
    let runtime = runtime();
    let work = &work[..work.len().min(1000)];
    candidate.run(&runtime, work);
    // The runtime's own are the same for no work at all.
    let idle = allocations::of(|| candidate.run(&runtime, &[]));
    let all = allocations::of(|| candidate.run(&runtime, work));
    (all - idle) as f64 / work.len() as f64
}

/// Each thread has its own, as if tasks stayed where they are.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Numbers below `below`, as often as Zipf's law says (exponent 0.99), the frequent ones scattered.
pub fn zipf(seed: u64, below: usize, many: usize) -> Vec<usize> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=below)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut draw = || {
        let drawn = random.f64() * sum;
        let rank = sums.partition_point(|sum| *sum < drawn);
        rank * 7919 % below
    };
    (0..many).map(|_| draw()).collect()
}
