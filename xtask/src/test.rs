//! `cargo xtask test`.

use std::env;
use std::process::Command;

use crate::compat;
use crate::run::{Done, run, say};
use crate::servers;

/// Everything there is; examples are run by a test of their own. Nothing is skipped: what can't run is an error,
/// but for the oldest Redis, which there isn't for every machine. Then the last line says so.
pub(crate) fn all() -> Done {
    let servers = servers::environment()?;
    for words in [["test", "--workspace", "--all-targets"], ["test", "--workspace", "--doc"]] {
        run(cargo(&words).envs(servers.clone()))?;
    }
    let is_all = compat::oldest()?;
    say(if is_all {
        "All tests passed."
    } else {
        "All tests passed, but none was run on the oldest Redis (6.2): it isn't here."
    });
    Ok(())
}

/// Without the `REDIS_URL` of whoever calls: tests must not write into a server that isn't theirs.
fn cargo(words: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(words).env_remove("REDIS_URL");
    cargo
}
