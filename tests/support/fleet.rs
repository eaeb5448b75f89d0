//! Processes of one test: it runs itself again, in other roles.
//!
//! A member reads orders from its standard input, a line each, and writes lines into a file of its
//! own, which outlives it when it is killed. When its input ends, it is to stop; so nobody outlives
//! a test that was itself killed.
#![allow(dead_code, unreachable_pub)] // each test binary takes what it needs

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

const GIVEN: &str = "CACHE_ASIDE_FLEET_";

/// What the parent gave under this name; nothing in the parent itself.
pub fn given(name: &str) -> Option<String> {
    std::env::var(format!("{GIVEN}{name}")).ok()
}

/// Whether this process is a member.
pub fn is_member() -> bool {
    given("FILE").is_some()
}

/// What the parent gave under this name.
#[track_caller]
pub fn number(name: &str) -> u64 {
    given(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("the parent gives {name}"))
}

/// A directory that goes with this value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cache-aside-fleet-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path); // of a killed process that had our id
        fs::create_dir_all(&path).expect("the temporary directory takes files");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One process. Dropped, it is killed.
#[derive(Debug)]
pub struct Member {
    child: Child,
    orders: Option<ChildStdin>,
    file: PathBuf,
}

impl Member {
    /// Runs this test in another process, which finds these words by [`given`].
    pub fn start(test: &str, file: PathBuf, words: &[(&str, &dyn Display)]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a test has a file"));
        child.args(["--exact", test, "--nocapture", "--include-ignored"]).env(format!("{GIVEN}FILE"), &file);
        for (name, value) in words {
            child.env(format!("{GIVEN}{name}"), value.to_string());
        }
        // What goes wrong in it is said on the error output, which stays ours.
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a test can be run again");
        let orders = child.stdin.take();
        Self { child, orders, file }
    }

    /// The whole lines that it wrote so far.
    pub fn said(&self) -> Vec<String> {
        said(&self.file)
    }

    /// Waits until this is the last line that it wrote.
    ///
    /// # Panics
    ///
    /// After twenty seconds.
    pub async fn until_says(&self, line: &str) {
        let begun = Instant::now();
        while self.said().last().is_none_or(|last| last != line) {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {line}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn tell(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it wasn't told to stop");
        writeln!(orders, "{order}").expect("it listens");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// SIGSTOP, and SIGCONT after this time. The shell does both, so nobody stays frozen when this
    /// process is killed; it has ended when this returns.
    pub fn freeze_for(&self, time: Duration) {
        let done = self.freeze(time).thawed();
        assert!(done.success(), "the process to freeze is there");
    }

    /// The same, and this returns as it begins.
    pub fn freeze(&self, time: Duration) -> Frozen {
        let script = format!("exec 2>/dev/null; kill -STOP $0; sleep {}; kill -CONT $0", time.as_secs_f64());
        let shell = Command::new("sh").args(["-c", &script, &self.child.id().to_string()]).spawn();
        Frozen(shell.expect("there is a shell"))
    }

    /// Tells it to stop.
    pub fn stop(&mut self) {
        self.orders = None;
    }

    /// How it ended; nothing if it didn't in this time.
    pub fn end_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return Some(status);
            }
            if begun.elapsed() > patience {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process that stands still for a while.
#[derive(Debug)]
#[must_use]
pub struct Frozen(Child);

impl Frozen {
    /// Waits until it goes on; no success if it was killed meanwhile.
    pub fn thawed(mut self) -> ExitStatus {
        self.0.wait().expect("it is ours")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole lines of a member's file: the last one of a killed process may be torn.
pub fn said(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// A file of lines that are there when `say` returns.
#[derive(Debug)]
pub struct Lines(Mutex<File>);

impl Lines {
    pub fn to(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(Mutex::new(file.expect("the directory is there")))
    }

    /// The file of this member.
    pub fn of_member() -> Self {
        Self::to(Path::new(&given("FILE").expect("a member has a file")))
    }

    pub fn say(&self, line: impl Display) {
        let line = format!("{line}\n");
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).expect("the disk takes it");
    }
}

/// The orders of the parent; they end when this member is to stop.
pub fn orders() -> mpsc::UnboundedReceiver<String> {
    let (sender, orders) = mpsc::unbounded_channel();
    // A thread: a blocking read would keep a runtime from ending.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    orders
}

/// Says something that isn't captured: numbers are read when all is well, too.
pub fn report(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
