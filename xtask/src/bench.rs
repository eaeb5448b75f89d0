//! `cargo xtask bench`.

use std::env;
use std::fs;
use std::process::Command;

use crate::run::{Done, run, target};

/// Each program is one bench.
const PROGRAMS: &str = "benches/src/bin";
/// Where the results are kept that README.md and docs/performance.md show.
const KEPT: &str = "docs/benches";

/// One bench, or with no name all of them, one after the other; options go to the bench, but for `--save`.
pub(crate) fn some(words: &[&str]) -> Done {
    let all = names()?;
    let (asked, options) = match words {
        [name, options @ ..] if !name.starts_with('-') => (Some(*name), options),
        options => (None, options),
    };
    let benches = match asked {
        None => all,
        Some(name) if all.iter().any(|known| known == name) => vec![name.to_owned()],
        Some(name) => return Err(format!("there is no bench `{name}`; there are: {}", all.join(", "))),
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = options.iter().partition(|word| **word == "--save");
    benches.iter().try_for_each(|name| one(name, &theirs, !ours.is_empty()))
}

/// Optimised, with all peers, also those that are slow to build.
fn one(name: &str, options: &[&str], save: bool) -> Done {
    // A workspace of its own, built beside ours.
    let target = target()?.join("benches");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--quiet", "--all-features", "--manifest-path", "benches/Cargo.toml"]);
    cargo.args(["--bin", name, "--"]).args(options);
    if save {
        fs::create_dir_all(KEPT).map_err(|error| format!("{KEPT}: {error}"))?;
        for kind in ["json", "svg"] {
            cargo.args([format!("--{kind}"), format!("{KEPT}/{name}.{kind}")]);
        }
    }
    run(cargo.env("CARGO_TARGET_DIR", target).env_remove("REDIS_URL"))
}

/// Of all benches, sorted: files, and folders with a `main.rs`.
fn names() -> Done<Vec<String>> {
    let entries = fs::read_dir(PROGRAMS).map_err(|error| format!("{PROGRAMS}: {error}"))?;
    let names = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let is_program = path.extension().is_some_and(|kind| kind == "rs") || path.join("main.rs").is_file();
        is_program.then(|| path.file_stem().map(|name| name.to_string_lossy().into_owned()))?
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}
