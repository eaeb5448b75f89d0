//! `cargo xtask bench`.

use std::env;
use std::process::Command;

use crate::run::{Done, run, target};

/// One program of `benches/`, optimised, with these options.
pub(crate) fn one(name: &str, options: &[&str]) -> Done {
    // A workspace of its own, built beside ours.
    let target = target()?.join("benches");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--quiet", "--manifest-path", "benches/Cargo.toml", "--bin", name, "--"]);
    run(cargo.args(options).env("CARGO_TARGET_DIR", target).env_remove("REDIS_URL"))
}
