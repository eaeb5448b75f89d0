//! A server of a bench's own: on a free loopback port, without persistence, and gone with its handle.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A `redis-server` of the `PATH`. Dropped, it is killed.
pub struct Server {
    process: Child,
    port: u16,
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
        let server = Self { process, port };
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
