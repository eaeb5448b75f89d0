//! `cargo xtask test`.

use std::env;
use std::process::Command;

use crate::compat;
use crate::run::{Done, run, say};
use crate::servers;

/// Everything there is; examples are run by a test of their own. What can't run is an error, but for the oldest server:
/// where nobody has built one for this machine, the last line says so.
pub(crate) fn all() -> Done {
    let servers = servers::environment()?;
    for words in [["test", "--workspace", "--all-targets"], ["test", "--workspace", "--doc"]] {
        run(cargo(&words).envs(servers.clone()))?;
    }
    match compat::oldest()? {
        None => say("All tests passed."),
        Some(why) => say(&format!(
            "{why}\nAll tests passed, but for those on the oldest server: nothing was tested on it."
        )),
    }
    Ok(())
}

/// Without the `REDIS_URL` of whoever calls: tests must not write into a server that isn't theirs.
fn cargo(words: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(words).env_remove("REDIS_URL");
    cargo
}
