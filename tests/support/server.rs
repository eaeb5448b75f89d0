//! Real servers that a test starts for itself, on free loopback ports, without persistence.
//!
//! ```ignore
//! let server = Server::redis().password("secret").config("maxmemory", "4mb").start();
//! server.command(&["SET", "k", "v"]);                       // "OK"
//! let client = redis::Client::open(server.url());
//! server.freeze();                                          // and thaw, kill, restart
//! ```
//!
//! All of it blocks, for a few milliseconds as a rule.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::link::{BENCH, Door, Link, PATIENCE};
pub use super::process::Kind;
use super::{net, process::Process};

/// What a server shall be like.
#[derive(Debug, Clone)]
#[must_use = "`start` it"]
pub struct Builder {
    kind: Kind,
    /// As they stand in the URL.
    user: String,
    password: Option<String>,
    config: String,
    unix_socket: bool,
    tls: Tls,
    replica: bool,
}

/// Which of the two it listens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    Too,
    Only,
}

/// Lines of configuration that name these files, and ask clients for no certificate.
pub fn tls_lines(ca: &Path, cert: &Path, key: &Path) -> String {
    let word = |path: &Path| quoted(&path.display().to_string());
    format!(
        "tls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients no\n",
        word(ca),
        word(cert),
        word(key)
    )
}

impl Builder {
    /// The default user has this password.
    pub fn password(self, password: &str) -> Self {
        let secured = self.config("requirepass", &quoted(password));
        Self { password: Some(password.into()), ..secured }
    }

    /// Clients come as this user, with these rules (`~app:* +@read`). Nobody gets in without a name,
    /// unless there is also a `password`: give that one first, the URL takes the last.
    pub fn user(self, name: &str, password: &str, rules: &str) -> Self {
        let nobody = if self.password.is_none() { "user default off\n" } else { "" };
        let word = quoted(&format!(">{password}"));
        // Before 7.0 no part of a command can be taken away, only all of it.
        let known = |rule: &str| match rule.split_once('|') {
            Some((all, _)) if rule.starts_with('-') && self.kind.is_old() => all.to_owned(),
            _ => rule.to_owned(),
        };
        let rules = rules.split(' ').map(known).collect::<Vec<_>>().join(" ");
        let config = format!("{}{nobody}user {name} on {word} {rules}\n", self.config);
        Self { user: name.into(), password: Some(password.into()), config, ..self }
    }

    /// Listens on a Unix socket too: see `Server::unix_url`.
    pub fn unix_socket(self) -> Self {
        Self { unix_socket: true, ..self }
    }

    /// Speaks TLS too, at a port of its own: see `Server::tls_url`. Clients need no certificate, unless
    /// `config("tls-auth-clients", "yes")` says so.
    pub fn tls(mut self, ca: &Path, cert: &Path, key: &Path) -> Self {
        self.config.push_str(&tls_lines(ca, cert, key));
        Self { tls: Tls::Too, ..self }
    }

    /// Speaks nothing but TLS, and so do the connections that it makes to others of its kind. The bench comes in by a
    /// Unix socket.
    pub fn only_tls(self, ca: &Path, cert: &Path, key: &Path) -> Self {
        let with = self.tls(ca, cert, key).config("tls-cluster", "yes").config("tls-replication", "yes");
        Self { tls: Tls::Only, unix_socket: true, ..with }
    }

    /// A line of configuration: `("maxmemory", "4mb")`. The bench keeps a connection of its own, and
    /// one for each `send`: so with `maxclients` n there is room for n - 1.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.extend([name, " ", value, "\n"]);
        self
    }

    /// A replica, in sync when it is started.
    pub fn replica_of(self, primary: &Server) -> Self {
        let config = format!(
            "{}replicaof 127.0.0.1 {}\nmasteruser {BENCH}\nmasterauth {BENCH}\n",
            self.config,
            primary.port()
        );
        Self { config, replica: true, ..self }
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    ///
    /// If the program isn't there, or doesn't answer in ten seconds; with the end of its log.
    pub fn start(self) -> Server {
        let kind = self.kind;
        self.try_start().unwrap_or_else(|log| panic!("{kind:?} didn't start:\n{log}"))
    }

    /// The same; or the end of its log.
    pub fn try_start(self) -> Result<Server, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cache-aside-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir); // of a killed process that had our id
        for _ in 0..20 {
            fs::create_dir_all(&dir).expect("the temporary directory takes files");
            let port = net::listen().local_addr().expect("it is bound").port();
            let tls_port = net::listen().local_addr().expect("it is bound").port();
            let options = self.clone();
            let server = Server { options, port, tls_port, dir: dir.clone(), life: Mutex::default() };
            match server.launch() {
                Ok(()) => return Ok(server),
                // Somebody was quicker; `server` goes, and its directory with it.
                Err(log) if log.contains("ddress already in use") => {}
                Err(log) => return Err(log),
            }
        }
        Err("no free port in twenty tries".to_owned())
    }
}

/// A word for a configuration file.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A server that is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    options: Builder,
    port: u16,
    tls_port: u16,
    dir: PathBuf,
    life: Mutex<Option<Life>>,
}

#[derive(Debug)]
struct Life {
    process: Process,
    link: Option<Link>,
    /// Connections of `send`, which don't wait for their replies.
    sent: Vec<Link>,
}

impl Server {
    /// A Redis server to be.
    pub fn redis() -> Builder {
        Self::of(Kind::Redis)
    }

    /// A Valkey server to be.
    pub fn valkey() -> Builder {
        Self::of(Kind::Valkey)
    }

    pub fn of(kind: Kind) -> Builder {
        // Before 7.0 there is no such directive, nor need of it.
        let debug = if kind.is_old() { "" } else { "enable-debug-command local\n" };
        let config = format!(
            "bind 127.0.0.1\nsave \"\"\nappendonly no\n{debug}repl-diskless-sync-delay 0\n\
             user {BENCH} on >{BENCH} ~* &* +@all\n"
        );
        Builder {
            kind,
            user: String::new(),
            password: None,
            config,
            unix_socket: false,
            tls: Tls::No,
            replica: false,
        }
    }

    /// `redis://user:password@127.0.0.1:port`, with what the builder was given.
    pub fn url(&self) -> String {
        let Builder { user, password, .. } = &self.options;
        let login = password.as_ref().map(|word| format!("{}:{}@", net::escaped(user), net::escaped(word)));
        format!("redis://{}127.0.0.1:{}", login.unwrap_or_default(), self.port)
    }

    /// `redis+unix:///path?...`, for a server with a Unix socket.
    ///
    /// # Panics
    ///
    /// Without one.
    pub fn unix_url(&self) -> String {
        let Builder { user, password, unix_socket, .. } = &self.options;
        assert!(unix_socket, "build it with `unix_socket()`");
        let mut query = Vec::new();
        if let Some(password) = password {
            query.push(format!("pass={}", net::escaped(password)));
        }
        if !user.is_empty() {
            query.push(format!("user={}", net::escaped(user)));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        format!("redis+unix://{}{mark}{}", self.socket().display(), query.join("&"))
    }

    /// `rediss://user:password@host:port`, for a server with TLS. It listens on 127.0.0.1, whatever the name.
    ///
    /// # Panics
    ///
    /// Without TLS.
    pub fn tls_url(&self, host: &str) -> String {
        assert!(self.options.tls != Tls::No, "build it with `tls()`");
        let plain = format!("127.0.0.1:{}", self.port);
        self.url().replacen("redis://", "rediss://", 1).replacen(
            &plain,
            &format!("{host}:{}", self.tls_port),
            1,
        )
    }

    /// Where it is found: at its port for TLS if it has no other.
    pub fn port(&self) -> u16 {
        if self.is_plain() { self.port } else { self.tls_port }
    }

    pub fn kind(&self) -> Kind {
        self.options.kind
    }

    /// Whether it was started and not killed.
    pub fn is_running(&self) -> bool {
        self.life().is_some()
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// SIGKILL. Nothing listens when this returns.
    pub fn kill(&self) {
        *self.life() = None;
    }

    /// Kills it if it runs, and starts it anew on the same port: empty, and without loaded scripts.
    ///
    /// # Panics
    ///
    /// If it can't come back.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        self.launch().unwrap_or_else(|log| panic!("{:?} didn't come back:\n{log}", self.options.kind));
    }

    /// Sends one command as an administrator, and gives the reply as text (see `resp::text`): `OK`,
    /// `1`, `(nil)`, `-WRONGTYPE ...`.
    ///
    /// # Panics
    ///
    /// Without an answer in ten seconds, as from a frozen or killed server.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        let mut life = self.life();
        let life = life.as_mut().unwrap_or_else(|| panic!("{words:?} to a server that was killed"));
        // The kept connection may have been cut by a test (`CLIENT KILL`): then a new one.
        let kept = life.link.take().and_then(|mut link| Some((link.ask(words).ok()?, link)));
        let answer = kept.map_or_else(
            || {
                let mut link = Link::open(&self.door())?;
                Ok((link.ask(words)?, link))
            },
            Ok::<_, io::Error>,
        );
        let (reply, link) = answer.unwrap_or_else(|error| panic!("no answer to {words:?}: {error}"));
        life.link = Some(link);
        reply
    }

    /// Sends one command as an administrator and doesn't wait: for what keeps a server busy.
    #[track_caller]
    pub fn send(&self, words: &[&str]) {
        let sent = Link::open(&self.door()).and_then(|mut link| link.send(words).map(|()| link));
        let link = sent.unwrap_or_else(|error| panic!("{words:?} wasn't taken: {error}"));
        self.life().as_mut().expect("it runs").sent.push(link);
    }

    /// What it wrote into its log since it was built.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// One try. Else the end of the log.
    fn launch(&self) -> Result<(), String> {
        let Builder { kind, config, unix_socket, tls, replica, .. } = &self.options;
        let path = self.dir.join("server.conf");
        let quoted = |path: PathBuf| quoted(&path.display().to_string());
        let mut config = format!(
            "{config}port {}\ndir {}\nlogfile {}\n",
            if self.is_plain() { self.port } else { 0 },
            quoted(self.dir.clone()),
            quoted(self.dir.join("server.log"))
        );
        if *tls != Tls::No {
            config.extend(["tls-port ", &self.tls_port.to_string(), "\n"]);
        }
        if *unix_socket {
            config.extend(["unixsocket ", &quoted(self.socket()), "\n"]);
        }
        fs::write(&path, config).expect("the temporary directory takes files");
        let mut process = Process::start(&kind.program(), &path, &[]);
        let begun = Instant::now();
        let link = loop {
            if let Some(link) = self.answers(process.id(), *replica) {
                break link;
            }
            if process.ended().is_some() || begun.elapsed() > PATIENCE {
                let log = self.log();
                return Err(log.lines().rev().take(8).collect::<Vec<_>>().join("\n"));
            }
            sleep(Duration::from_millis(5));
        };
        *self.life() = Some(Life { process, link: Some(link), sent: Vec::new() });
        Ok(())
    }

    /// A connection, if a server with this process id answers at our port, and is in sync.
    fn answers(&self, id: u32, replica: bool) -> Option<Link> {
        let mut link = Link::open(&self.door()).ok()?;
        let info = (link.ask(&["PING"]).ok()? == "PONG").then(|| link.ask(&["INFO"]).ok()).flatten()?;
        let has = |line: &str| info.lines().any(|found| found == line);
        (has(&format!("process_id:{id}")) && (!replica || has("master_link_status:up"))).then_some(link)
    }

    fn signal(&self, name: &str) {
        self.life().as_mut().expect("it runs").process.signal(name);
    }

    fn is_plain(&self) -> bool {
        self.options.tls != Tls::Only
    }

    fn door(&self) -> Door {
        if self.is_plain() { Door::Port(self.port) } else { Door::Socket(self.socket()) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
