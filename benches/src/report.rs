//! What was measured, as a table and as JSON.

use std::fmt::{self, Display};

use serde::Serialize;

#[derive(Serialize)]
pub struct Table {
    pub title: String,
    pub loads: Vec<&'static str>,
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    pub name: &'static str,
    pub cells: Vec<Cell>,
    pub allocations: f64,
}

/// Nanoseconds, and how many times those of the first row.
#[derive(Serialize)]
pub struct Cell {
    pub nanos: f64,
    pub ratio: f64,
}

impl Cell {
    /// From the times of each round, and those of the first row.
    pub fn new(own: &[f64], first: &[f64]) -> Self {
        let ratios = own.iter().zip(first).map(|(own, first)| own / first);
        Self { nanos: median(own.to_vec()), ratio: median(ratios.collect()) }
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:34}", self.title)?;
        self.loads.iter().try_for_each(|load| write!(f, "{load:>16}"))?;
        writeln!(f, "{:>12}", "allocations")?;
        for row in &self.rows {
            write!(f, "{:34}", row.name)?;
            row.cells.iter().try_for_each(|cell| write!(f, "{:>8.1} ({:5.2})", cell.nanos, cell.ratio))?;
            writeln!(f, "{:>12.2}", row.allocations)?;
        }
        Ok(())
    }
}
