//! What it costs to compile: a user's program from nothing, and 200 decorated functions.
//!
//! ```text
//! cargo xtask bench build_time [--rounds N] [--only programs|functions]
//! ```
//!
//! Programs are made in a temporary folder, with the versions of `benches/Cargo.lock`, and built by the
//! cargo that runs this, two jobs at a time, as a developer would: unoptimised. Times are of the clock.

mod program;
mod way;

use benches::{Better, Cell, Column, Options, Report, Row, Table};
use clap::{Parser, ValueEnum};
use program::{Program, Task};
use tempfile::TempDir;
use way::Way;

/// Decorated functions of the larger program, and how many of them share a file.
const FUNCTIONS: usize = 200;
const IN_A_FILE: usize = 10;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Options,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Programs,
    Functions,
}

fn main() {
    let args = Args::parse();
    let rounds = args.common.rounds(3);
    let is_asked = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report::new("Compiling").peers(&["cached", "redis"]);
    if is_asked(Part::Programs) {
        report.add(programs(rounds));
    }
    if is_asked(Part::Functions) {
        report.add(functions(rounds));
    }
    report.finish(&args.common);
}

/// All that stands between nothing and a program with one cached function.
fn programs(rounds: usize) -> Table {
    let folder = TempDir::new().expect("a temporary folder");
    let ways = [Way::Ours, Way::Cached, Way::ByHand, Way::Bare];
    let programs = ways.map(|way| Program::write(folder.path(), way, 1, 1));
    let mut times = ways.map(|_| Vec::new());
    for _ in 0..rounds {
        for (program, times) in programs.iter().zip(&mut times) {
            program.forget_all();
            times.push(program.time(Task::Build));
        }
    }
    let columns = [Column::new("clean build", "s", Better::Lower), Column::new("crates", "", Better::Lower)];
    let rows = ways.iter().zip(&programs).zip(&times).map(|((way, program), own)| {
        let crates = Cell::beside(&[programs[0].crates() as f64], &[program.crates() as f64]);
        Row::new(way.name(), vec![Cell::beside(&times[0], own), crates])
    });
    Table::new("a program with one cached function", columns.into(), rows.collect())
}

/// What the functions alone cost: all that they depend on is there already.
fn functions(rounds: usize) -> Table {
    let folder = TempDir::new().expect("a temporary folder");
    let ways = [Way::Ours, Way::Cached, Way::Bare];
    let programs = ways.map(|way| Program::write(folder.path(), way, FUNCTIONS, IN_A_FILE));
    let tasks = [Task::Check, Task::Build];
    for program in &programs {
        for task in tasks {
            program.time(task);
        }
    }
    // For each task the time of all, and that after a change.
    let mut times = ways.map(|_| vec![Vec::new(); 2 * tasks.len()]);
    for _ in 0..rounds {
        for (at, task) in tasks.into_iter().enumerate() {
            for (program, times) in programs.iter().zip(&mut times) {
                program.forget_own();
                times[2 * at].push(program.time(task));
                program.touch();
                times[2 * at + 1].push(program.time(task));
            }
        }
    }
    let names = ["check", "check, one changed", "build", "build, one changed"];
    let columns = names.map(|name| Column::new(name, "s", Better::Lower));
    let rows = ways.iter().zip(&times).map(|(way, own)| {
        let cells = own.iter().zip(&times[0]).map(|(own, first)| Cell::beside(first, own));
        Row::new(way.name(), cells.collect())
    });
    Table::new(format!("{FUNCTIONS} functions"), columns.into(), rows.collect())
}
