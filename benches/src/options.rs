//! What every bench understands.

use std::path::PathBuf;

use clap::Parser;

/// Measures one thing beside its peers.
///
/// A bench with options of its own flattens this one into them.
#[derive(Parser)]
pub struct Options {
    /// How often everything is measured; one round more warms up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Writes what was measured, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws it.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl Options {
    pub fn rounds(&self, default: usize) -> usize {
        self.rounds.map_or(default, usize::from)
    }
}
