//! What becomes of speed and memory as tasks, threads and entries grow in number.
//!
//! ```text
//! cargo xtask bench growth [--rounds N] [--keys 1000,10000] [--only tasks|threads|entries]
//! ```

mod entries;
mod near;
mod rows;
mod tasks;
mod threads;

use benches::{Better, Column, Options, Report};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Options,
    /// Numbers of entries, growing.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    keys: Vec<u64>,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Tasks,
    Threads,
    Entries,
}

fn main() {
    let args = Args::parse();
    let rounds = args.common.rounds(5);
    let is_asked = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report::new("Growth: tasks, threads, entries").peers(&["cached"]);
    if is_asked(Part::Tasks) {
        report = tasks::measure(report, rounds);
    }
    if is_asked(Part::Threads) {
        threads::measure(&mut report, rounds);
    }
    if is_asked(Part::Entries) {
        report = entries::measure(report, &args.keys, rounds);
    }
    report.finish(&args.common);
}

/// A column for each of these numbers.
fn columns(numbers: &[u64], unit: &'static str, better: Better) -> Vec<Column> {
    numbers.iter().map(|number| Column::new(number.to_string(), unit, better)).collect()
}
