//! A test that runs a part of itself in a process of its own, with other variables.
#![allow(dead_code)] // each test binary takes what it needs

use std::path::Path;
use std::process::Command;

/// Set in the child.
const CHILD: &str = "CACHE_ASIDE_TEST_CHILD";

/// Stands before what the child has to say.
const SAYS: &str = "the child says: ";

/// Whether this is the child's side.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// What the parent gets.
pub(crate) fn say(text: &str) {
    #[allow(clippy::print_stdout, reason = "that is how it says it")]
    {
        println!("\n{SAYS}{}", text.escape_debug());
    }
}

/// It has none of our settings: tests must not write into a server that isn't theirs.
pub(crate) fn take_settings(child: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REDIS_") || name == "CACHE_NAMESPACE" {
            child.env_remove(name);
        }
    }
}

/// Runs this one test again with no settings but these, in this directory; what it said, line by line.
pub(crate) fn run(test: &str, directory: &Path, vars: &[(&str, &str)]) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).current_dir(directory).env(CHILD, "1");
    take_settings(&mut child);
    let output = child.envs(vars.iter().copied()).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<String> =
        out.lines().filter_map(|line| line.strip_prefix(SAYS)).map(str::to_owned).collect();
    assert!(!said.is_empty(), "the child ran: {out}");
    said
}
