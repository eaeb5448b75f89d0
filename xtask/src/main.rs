//! The project's own commands.
//!
//! `cargo xtask test` runs every test there is: unit, integration, UI and documentation tests, and
//! the examples. It needs nothing but Rust and a C compiler (for the SQLite that examples use).

use std::env;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  test    run every test: unit, integration, UI, documentation tests, and the examples";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["test"] => test(),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&problem);
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), String> {
    cargo(&["test", "--workspace", "--all-targets"])?;
    cargo(&["test", "--workspace", "--doc"])?;
    for example in ["quickstart", "user_service", "hot_posts"] {
        cargo(&["run", "--quiet", "--example", example])?;
    }
    Ok(())
}

fn cargo(words: &[&str]) -> Result<(), String> {
    say(&format!("> cargo {}", words.join(" ")));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        Command::new(cargo).args(words).status().map_err(|error| format!("cargo doesn't start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {}` failed", words.join(" "))) }
}

#[allow(clippy::print_stderr)] // it is a command
fn say(text: &str) {
    eprintln!("{text}");
}
