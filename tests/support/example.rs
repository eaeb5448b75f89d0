//! Examples, as programs that a test runs.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// Builds them as the test itself was built, and gives the folder where they are. `cargo test --test ..`
/// alone doesn't build examples.
pub fn built(which: &[&str]) -> PathBuf {
    let this = env::current_exe().unwrap(); // in <target>/<profile>/deps
    let folder = this.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(other) => other,
        None => unreachable!("{}", this.display()),
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--profile", profile]).args(which).arg("--target-dir");
    cargo.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "{which:?} doesn't compile");
    folder.join("examples")
}
