//! Running other programs, and saying so.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What went wrong, in a sentence.
pub(crate) type Done<T = ()> = Result<T, String>;

#[allow(clippy::print_stderr)] // it is a command
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A program with these arguments.
pub(crate) fn command(program: impl AsRef<OsStr>, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

/// Runs it before everybody's eyes; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Done {
    let shown = shown(command);
    say(&format!("> {}{shown}", told(command)));
    let status = command.status().map_err(|error| format!("`{shown}` doesn't start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}")) }
}

/// What it prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program as a shell would find it.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Where cargo builds: this program is in `<target>/debug`.
pub(crate) fn target() -> Done<PathBuf> {
    let this = env::current_exe().map_err(|error| format!("no target directory: {error}"))?;
    let target = this.parent().and_then(Path::parent).map(Path::to_path_buf);
    target.ok_or_else(|| format!("{} is in no target directory", this.display()))
}

/// About as one would type it: cargo is cargo, wherever it is.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = command.get_args().map(|word| format!(" {}", word.display()));
    format!("{}{}", program.display(), words.collect::<String>())
}

/// What it is told by the environment, as a shell would be given it.
fn told(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| format!("{}={} ", name.display(), value.display())).collect::<Vec<_>>().concat()
}
