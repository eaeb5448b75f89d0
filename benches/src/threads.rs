//! CPU time per call, of threads that do nothing else. What others on the machine do counts less then.

use std::sync::{Arc, Barrier};
use std::thread;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::report::{Better, Cell, Chart, Column, Row, Table};
use crate::{allocations, runtime};

/// One way to do it: goes through the work given, and does one thing for each number.
#[derive(Clone)]
pub struct Candidate {
    pub name: &'static str,
    run: Arc<Run>,
}

type Run = dyn Fn(&Runtime, &[usize]) + Send + Sync;

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

/// Every candidate under every load, for so many rounds; and how often each asks for memory.
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
    let rows = candidates.iter().zip(&times).map(|(candidate, own)| {
        let mut cells: Vec<Cell> =
            own.iter().zip(&times[0]).map(|(own, first)| Cell::beside(first, own)).collect();
        cells.push(Cell::just(allocations_of(candidate, &loads[0].work[0])));
        Row::new(candidate.name, cells)
    });
    let mut columns: Vec<Column> =
        loads.iter().map(|load| Column::new(load.name, "ns", Better::Lower)).collect();
    let bars = Chart::Bars((0..columns.len()).collect());
    columns.push(Column::new("allocations", "", Better::Lower));
    Table::new(title, columns, rows.collect()).chart(bars)
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

fn allocations_of(candidate: &Candidate, work: &[usize]) -> f64 {
    let runtime = runtime();
    let work = &work[..work.len().min(1000)];
    candidate.run(&runtime, work);
    // The runtime's own are the same for no work at all.
    let idle = allocations::of(|| candidate.run(&runtime, &[]));
    let all = allocations::of(|| candidate.run(&runtime, work));
    (all - idle) as f64 / work.len() as f64
}

fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
