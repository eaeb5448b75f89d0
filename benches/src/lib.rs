//! Comparing ways to do one thing: side by side, in one process, in interleaved rounds.
//!
//! Machines drift. So each round runs every candidate once, numbers are medians over rounds, and what
//! counts are ratios to the first candidate, taken within a round.
//!
//! `threads` takes the CPU time of calls that wait for nobody, `tasks` the time of the clock of those that wait
//! for a server. `Report` shows what came out, and writes what the `Options` ask for.

pub mod allocations;
mod chart;
mod machine;
mod options;
mod report;
pub mod server;
pub mod stats;
pub mod tasks;
mod threads;

pub use machine::version;
pub use options::Options;
pub use report::{Better, Cell, Chart, Column, Report, Row, Table};
pub use threads::{Candidate, Load, compare};
use tokio::runtime::Runtime;

/// Each thread has its own, as if tasks stayed where they are.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
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
