//! A primary, its replica and three sentinels, that a test starts for itself.
//!
//! ```ignore
//! let trio = Trio::start(Kind::Redis);
//! let cache = Cache::builder().redis(trio.url());
//! trio.failover();                        // by command
//! trio.primary().kill();                  // or without one
//! trio.wait_for_another(&old);
//! ```
#![allow(dead_code, unreachable_pub)] // each test binary takes what it needs

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::link::{BENCH, Door, Link};
use super::net;
use super::process::Process;
use super::server::{Builder, Kind, Server};

/// What the sentinels call the primary.
pub const NAME: &str = "cache";
/// After so many milliseconds without a word a server is taken for dead.
const DOWN_AFTER: &str = "500";
/// Longer than any failover takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sentinel that is killed when this is dropped.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    door: Door,
    dir: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Sentinel {
    /// One that is told this. `tls`: it speaks nothing else.
    ///
    /// # Panics
    ///
    /// If it doesn't answer in time.
    pub fn start(kind: Kind, config: &str, tls: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cache-aside-sentinel-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir); // of a killed process that had our id
        fs::create_dir_all(&dir).expect("the temporary directory takes files");
        let port = net::listen().local_addr().expect("it is bound").port();
        let path = dir.join("sentinel.conf");
        let (shown, log) = (dir.display(), dir.join("sentinel.log"));
        let socket = dir.join("s");
        let (listens, door) = if tls {
            let lines = format!("port 0\ntls-port {port}\nunixsocket \"{}\"", socket.display());
            (lines, Door::Socket(socket))
        } else {
            (format!("port {port}"), Door::Port(port))
        };
        let config = format!(
            "{listens}\nbind 127.0.0.1\ndir \"{shown}\"\nlogfile \"{}\"\n\
             user {BENCH} on >{BENCH} ~* &* +@all\n{config}",
            log.display()
        );
        fs::write(&path, config).expect("the temporary directory takes files");
        let process = Process::start(&kind.program(), &path, &["--sentinel"]);
        let begun = Instant::now();
        while Link::open(&door).and_then(|mut link| link.ask(&["PING"])).is_err() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "no sentinel answers at {port}:\n{}", said());
            sleep(Duration::from_millis(5));
        }
        Self { port, door, dir, process: Mutex::new(Some(process)) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub fn kill(&self) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_mut().expect("it runs").signal(name);
    }

    /// Sends one command as an administrator.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        let reply = Link::open(&self.door).and_then(|mut link| link.ask(words));
        reply.unwrap_or_else(|error| panic!("no answer to {words:?}: {error}"))
    }

    /// What it wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("sentinel.log")).unwrap_or_default()
    }

    /// The place that it names, as lines.
    fn named(&self) -> String {
        self.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[derive(Debug)]
pub struct Trio {
    servers: [Server; 2],
    pub sentinels: Vec<Sentinel>,
    /// The name of all of them, if they speak TLS.
    tls: Option<&'static str>,
    /// As it stands in the URL.
    login: String,
    /// What the sentinels themselves want.
    words: String,
}

impl Trio {
    /// Ready for a failover.
    pub fn start(kind: Kind) -> Self {
        Self::with(kind, None, None)
    }

    /// The same, with a password of the servers and one of the sentinels.
    ///
    /// # Panics
    ///
    /// If they don't find each other in time.
    pub fn with(kind: Kind, password: Option<&str>, sentinel_password: Option<&str>) -> Self {
        let secured = || match password {
            Some(word) => Server::of(kind).password(word).config("masterauth", word),
            None => Server::of(kind),
        };
        let primary = secured().start();
        let replica = secured().replica_of(&primary).start();
        let auth = password.map_or_else(String::new, |word| format!("sentinel auth-pass {NAME} {word}\n"));
        let own = sentinel_password
            .map_or_else(String::new, |word| format!("requirepass {word}\nsentinel sentinel-pass {word}\n"));
        let trio = Self::watched([primary, replica], None, "", &format!("{auth}{own}"));
        let login = password.map_or_else(String::new, |word| format!(":{word}@"));
        let words = sentinel_password.map_or_else(String::new, |word| format!("?sentinel_password={word}"));
        Self { login, words, ..trio }
    }

    /// All of it speaks TLS only, and is known by this name. `like` makes servers so; sentinels begin with `config`.
    pub fn tls(kind: Kind, host: &'static str, config: &str, like: impl Fn(Builder) -> Builder) -> Self {
        let node = || like(Server::of(kind)).config("replica-announce-ip", host);
        let primary = node().start();
        let replica = node().replica_of(&primary).start();
        Self::watched([primary, replica], Some(host), config, "")
    }

    /// These servers and their sentinels, ready for a failover.
    fn watched(servers: [Server; 2], tls: Option<&'static str>, first: &str, last: &str) -> Self {
        let host = tls.unwrap_or("127.0.0.1");
        let config = format!(
            "{first}sentinel monitor {NAME} {host} {} 2\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\n\
             sentinel failover-timeout {NAME} 3000\n{last}",
            servers[0].port()
        );
        let kind = servers[0].kind();
        let sentinels = (0..3).map(|_| Sentinel::start(kind, &config, tls.is_some())).collect();
        let (login, words) = (String::new(), String::new());
        let trio = Self { servers, sentinels, tls, login, words };
        trio.wait_until_ready();
        trio
    }

    /// `redis+sentinel://...`, or `rediss+sentinel://...`
    pub fn url(&self) -> String {
        let host = self.tls.unwrap_or("127.0.0.1");
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let places: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("{host}:{}", sentinel.port())).collect();
        format!("{scheme}+sentinel://{}{}/{NAME}{}", self.login, places.join(","), self.words)
    }

    /// All sentinels know the replica, and each other.
    pub fn wait_until_ready(&self) {
        let begun = Instant::now();
        let is_ready = |sentinel: &Sentinel| {
            let info = sentinel.command(&["INFO", "sentinel"]);
            info.contains("status=ok") && info.contains("slaves=1,sentinels=3")
        };
        while !self.sentinels.iter().all(is_ready) {
            assert!(begun.elapsed() < PATIENCE, "{}", self.sentinels[0].command(&["INFO", "sentinel"]));
            sleep(Duration::from_millis(10));
        }
    }

    /// Whom all sentinels name; none while they don't agree.
    pub fn named(&self) -> Option<&Server> {
        let named: Vec<String> = self.sentinels.iter().map(Sentinel::named).collect();
        let is_it = |server: &&Server| named.iter().all(|place| place.ends_with(&server.port().to_string()));
        self.servers.iter().find(is_it)
    }

    pub fn primary(&self) -> &Server {
        self.named().expect("they agree")
    }

    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter()
    }

    /// The one that isn't this.
    pub fn other(&self, server: &Server) -> &Server {
        let [one, two] = &self.servers;
        if one.port() == server.port() { two } else { one }
    }

    /// Has the sentinels put the replica in the place of the primary, and doesn't wait. `words` go behind the
    /// command.
    pub fn failover(&self, words: &[&str]) {
        let begun = Instant::now();
        // For a moment after an earlier one there may be none that is good enough.
        let command = [&["SENTINEL", "FAILOVER", NAME], words].concat();
        loop {
            let reply = self.sentinels[0].command(&command);
            if reply == "OK" {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no failover is begun: {reply}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all sentinels name another primary than this, and it says that it is one.
    pub fn wait_for_another(&self, old: &Server) -> &Server {
        let begun = Instant::now();
        let new = self.other(old);
        while self.named().is_none_or(|named| named.port() != new.port())
            || !new.command(&["ROLE"]).starts_with("master")
        {
            assert!(begun.elapsed() < PATIENCE, "no failover");
            sleep(Duration::from_millis(5));
        }
        new
    }
}
