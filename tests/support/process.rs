//! A server's process: found, started, signalled, and never left behind.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

/// Hands on signals, one a line, and kills the server when the pipe ends: so it doesn't outlive a
/// test process that was itself killed. Signals by shell, because `kill(2)` isn't in std.
const KEEPER: &str = r#"
trap "" INT HUP TERM
while read -r signal; do kill -"$signal" "$1"; echo; done
kill -KILL "$1""#;

/// Two servers that speak the same language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Valkey,
}

impl Kind {
    /// The program, by environment (`cargo xtask test` sets it), then where xtask puts it, then `PATH`.
    pub fn program(self) -> PathBuf {
        let (variable, name) = match self {
            Self::Redis => ("CACHE_ASIDE_REDIS_SERVER", "redis-server"),
            Self::Valkey => ("CACHE_ASIDE_VALKEY_SERVER", "valkey-server"),
        };
        if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
            assert!(path.is_file(), "{variable} is {}, and there is no such file", path.display());
            return path;
        }
        let venv = Path::new("valkey-venv/bin").join(name);
        let test = std::env::current_exe().unwrap_or_default(); // in target/debug/deps
        let venvs = test.ancestors().map(|target| target.join(&venv));
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = venvs
            .chain(std::env::split_paths(&paths).map(|folder| folder.join(name)))
            .find(|program| program.is_file());
        found.unwrap_or_else(|| panic!("{name} isn't installed: `cargo xtask test` installs it"))
    }

    /// Whether its program is Redis before 7.0, which knows fewer directives, rules and words.
    pub fn is_old(self) -> bool {
        static OLD: [OnceLock<bool>; 2] = [OnceLock::new(), OnceLock::new()];
        let ask = || {
            let output = Command::new(self.program()).arg("--version").output().expect("it runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = text.split_once("v=").and_then(|(_, version)| version.split('.').next());
            let major = version.and_then(|major| major.parse::<u32>().ok());
            major.unwrap_or_else(|| panic!("no version: {text}")) < 7
        };
        *OLD[self as usize].get_or_init(ask)
    }
}

/// A running server. Dropped, it is killed, also when frozen.
#[derive(Debug)]
pub(super) struct Process {
    server: Child,
    keeper: Child,
    signals: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn start(program: &Path, config: &Path, words: &[&str]) -> Self {
        let quiet = || Stdio::null();
        let server = Command::new(program)
            .arg(config)
            .args(words)
            .stdin(quiet())
            .stdout(quiet())
            .stderr(quiet())
            .spawn()
            .unwrap_or_else(|error| panic!("{} doesn't start: {error}", program.display()));
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &server.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(quiet())
            .spawn()
            .expect("there is a shell");
        let (signals, done) = (keeper.stdin.take(), keeper.stdout.take());
        let (signals, done) = signals.zip(done).expect("both are piped");
        Self { server, keeper, signals, done: BufReader::new(done) }
    }

    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.server.try_wait().expect("it is our child")
    }

    /// Sends `STOP`, `CONT`, ...; returns when it is sent.
    pub(super) fn signal(&mut self, name: &str) {
        // Reaped, its id may be somebody else's.
        assert!(self.ended().is_none(), "the server isn't running");
        writeln!(self.signals, "{name}").expect("the keeper listens");
        self.done.read_line(&mut String::new()).expect("the keeper answers");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The server first: the keeper does nothing as long as we hold its pipe.
        for child in [&mut self.server, &mut self.keeper] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
