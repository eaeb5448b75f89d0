//! What was measured: as a table, as JSON, as a chart.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;

use comfy_table::{CellAlignment, presets};
use serde::Serialize;

use crate::machine::{Machine, version};
use crate::options::Options;
use crate::server::Server;
use crate::{chart, stats};

/// Everything that one bench has to say.
#[derive(Serialize)]
pub struct Report {
    pub title: &'static str,
    pub machine: Machine,
    /// What took part, by name: peers, servers.
    pub versions: BTreeMap<String, String>,
    pub tables: Vec<Table>,
    /// How to read the numbers.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(title: &'static str) -> Self {
        let versions = BTreeMap::from([("cache-aside".to_owned(), version("cache-aside").to_owned())]);
        Self { title, machine: Machine::this(), versions, tables: Vec::new(), notes: Vec::new() }
    }

    /// Crates that took part.
    pub fn peers(mut self, names: &[&str]) -> Self {
        self.versions.extend(names.iter().map(|name| ((*name).to_owned(), version(name).to_owned())));
        self
    }

    /// The server that was asked.
    pub fn server(mut self, server: &Server) -> Self {
        let (name, version) = server.version();
        self.versions.insert(name, version);
        self
    }

    /// Shows it at once: benches are long.
    pub fn add(&mut self, table: Table) {
        println!("{table}\n");
        self.tables.push(table);
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The last words, and the files that were asked for.
    ///
    /// # Panics
    ///
    /// A file can't be written.
    pub fn finish(&self, options: &Options) {
        for note in &self.notes {
            println!("{note}");
        }
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        println!("{}\n{}", self.machine, versions.join(", "));
        if let Some(file) = &options.json {
            let json = serde_json::to_string_pretty(self).expect("numbers and text");
            fs::write(file, json + "\n").expect("--json FILE can be written");
        }
        if let Some(file) = &options.svg {
            fs::write(file, chart::svg(self)).expect("--svg FILE can be written");
        }
    }
}

#[derive(Serialize)]
pub struct Table {
    pub title: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    #[serde(skip)]
    pub chart: Chart,
}

#[derive(Clone, Serialize)]
pub struct Column {
    pub name: String,
    pub unit: &'static str,
    pub better: Better,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
}

#[derive(Serialize)]
pub struct Row {
    pub name: String,
    /// One for each column.
    pub cells: Vec<Cell>,
}

/// How a table is drawn.
#[derive(Clone, PartialEq)]
pub enum Chart {
    None,
    /// A bar for each row, in a group for each of these columns.
    Bars(Vec<usize>),
    /// A line for each row, through its columns, which stand at these places of the axis.
    Lines {
        axis: &'static str,
        at: Vec<f64>,
    },
}

#[derive(Clone, Serialize)]
pub struct Cell {
    /// The median. NaN, which JSON writes as `null`: not measured.
    pub value: f64,
    /// Of the rounds: a quarter is below the first, a quarter above the second.
    pub quartiles: Option<[f64; 2]>,
    /// How many times that of the first row, taken within each round.
    pub ratio: Option<f64>,
}

impl Column {
    pub fn new(name: impl Into<String>, unit: &'static str, better: Better) -> Self {
        Self { name: name.into(), unit, better }
    }
}

impl Row {
    pub fn new(name: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self { name: name.into(), cells }
    }
}

impl Cell {
    /// From what each round gave, and what the first row gave in it.
    pub fn beside(first: &[f64], own: &[f64]) -> Self {
        let ratios: Vec<f64> = own.iter().zip(first).map(|(own, first)| own / first).collect();
        Self { ratio: Some(stats::median(&ratios)), ..Self::median(own) }
    }

    /// From what each round gave.
    pub fn median(own: &[f64]) -> Self {
        let quartiles = [0.25, 0.75].map(|share| stats::quantile(own, share));
        Self { value: stats::median(own), quartiles: Some(quartiles), ratio: None }
    }

    /// What is the same in every round.
    pub fn just(value: f64) -> Self {
        Self { value, quartiles: None, ratio: None }
    }

    pub fn nothing() -> Self {
        Self::just(f64::NAN)
    }
}

impl Table {
    /// Drawn as bars, all columns.
    pub fn new(title: impl Into<String>, columns: Vec<Column>, rows: Vec<Row>) -> Self {
        let chart = Chart::Bars((0..columns.len()).collect());
        Self { title: title.into(), columns, rows, chart }
    }

    #[must_use]
    pub fn chart(self, chart: Chart) -> Self {
        Self { chart, ..self }
    }

    /// Another column at the end, which isn't drawn.
    pub fn extend(&mut self, column: Column, cells: impl IntoIterator<Item = Cell>) {
        self.columns.push(column);
        self.rows.iter_mut().zip(cells).for_each(|(row, cell)| row.cells.push(cell));
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&stats::digits(self.value))?;
        self.ratio.map_or(Ok(()), |ratio| write!(f, " ({ratio:.2})"))
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = self.columns.iter().map(|Column { name, unit, .. }| match *unit {
            "" => name.clone(),
            unit => format!("{name}, {unit}"),
        });
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header([self.title.clone()].into_iter().chain(heads));
        for row in &self.rows {
            table.add_row([row.name.clone()].into_iter().chain(row.cells.iter().map(Cell::to_string)));
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        let lines = table.lines().map(|line| line.trim().to_owned());
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}
