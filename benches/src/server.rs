//! A server of a bench's own: on a free loopback port, without persistence, and gone with its handle.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A `redis-server` of the `PATH`. Dropped, it is killed.
pub struct Server {
    process: Child,
    port: u16,
    /// For questions of the benches' own. It stays, because a connection that ends is a read, too.
    own: OnceLock<Mutex<Link>>,
}

impl Server {
    /// Starts one, and waits until it answers.
    pub fn start() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("there is a free port").port();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the PATH");
        let server = Self { process, port, own: OnceLock::new() };
        let begun = Instant::now();
        let ours = format!("process_id:{}", server.process.id());
        while !Link::to(port)
            .and_then(|mut link| link.ask(&["INFO", "server"]))
            .is_ok_and(|info| info.contains(&ours))
        {
            assert!(begun.elapsed() < Duration::from_secs(10), "redis-server doesn't answer on port {port}");
            sleep(Duration::from_millis(5));
        }
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it is called, and its version.
    pub fn version(&self) -> (String, String) {
        let info = self.link().ask(&["INFO", "server"]).expect("it answers");
        let found = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("_version:"));
            line.map(|version| (name.to_owned(), version.to_owned()))
        };
        // Valkey has both lines.
        found("valkey").or_else(|| found("redis")).expect("a server says its version")
    }

    /// What it has done so far.
    pub fn work(&self) -> Work {
        let own = self.own.get_or_init(|| Mutex::new(self.link()));
        let info = own.lock().expect("nobody panics").ask(&["INFO", "all"]).expect("it answers");
        let number = |text: &str| text.split(',').next()?.parse::<u64>().ok();
        let own = ["cmdstat_info", "cmdstat_config"];
        let calls = info.lines().filter(|line| line.starts_with("cmdstat_"));
        let calls = calls.filter(|line| !own.iter().any(|own| line.starts_with(own)));
        let reads = info.lines().find_map(|line| number(line.strip_prefix("total_reads_processed:")?));
        Work {
            commands: calls.filter_map(|line| number(line.split_once("calls=")?.1)).sum(),
            reads: reads.expect("a server counts what it reads"),
        }
    }

    /// A number that `INFO` says in this section.
    pub fn info(&self, section: &str, name: &str) -> f64 {
        let info = self.link().ask(&["INFO", section]).expect("it answers");
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
        found.unwrap_or_else(|| panic!("INFO {section} doesn't say `{name}`"))
    }

    /// A connection that blocks.
    pub fn link(&self) -> Link {
        Link::to(self.port).expect("it answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a server counts.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Also those that scripts give, but for those that ask for this.
    pub commands: u64,
    /// How often it read from a connection. What a client sends in one flush, and waits for, is one.
    pub reads: u64,
}

impl Work {
    /// The reads of the later question are left out.
    pub fn since(self, before: Self) -> Self {
        Self { commands: self.commands - before.commands, reads: self.reads - before.reads - 1 }
    }
}

/// A connection by hand.
pub struct Link(BufReader<TcpStream>);

impl Link {
    fn to(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One command; the reply, if it is no array, as text.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let mut bytes = Vec::new();
        encode(words, &mut bytes);
        self.0.get_mut().write_all(&bytes)?;
        self.reply()
    }

    /// Many commands in one pipeline, whose replies say nothing new.
    pub fn pipeline(&mut self, commands: impl Iterator<Item = Vec<String>>) -> io::Result<()> {
        let (mut bytes, mut sent) = (Vec::new(), 0);
        for words in commands {
            encode(&words.iter().map(String::as_str).collect::<Vec<_>>(), &mut bytes);
            sent += 1;
        }
        self.0.get_mut().write_all(&bytes)?;
        (0..sent).try_for_each(|_| self.reply().map(drop))
    }

    fn reply(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        match (kind, rest.parse()) {
            ("$", Ok(length)) => {
                let length: usize = length;
                let mut bytes = vec![0; length + 2];
                io::Read::read_exact(&mut self.0, &mut bytes)?;
                bytes.truncate(length);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            ("-" | "*", _) => Err(io::Error::other(line.to_owned())),
            _ => Ok(rest.to_owned()),
        }
    }
}

fn encode(words: &[&str], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}
