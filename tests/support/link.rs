//! How the bench itself talks to its servers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::resp;

/// Every wait for a server ends after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The bench's own user on every server, and its password: what a test does to the others, or to the
/// default user, doesn't lock the bench out.
pub(super) const BENCH: &str = "bench";

/// Where the bench finds a server.
#[derive(Debug, Clone)]
pub(super) enum Door {
    Port(u16),
    /// A server that speaks TLS only has this beside, which no client of a test is told of.
    Socket(PathBuf),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A blocking connection of the bench's own user.
pub(super) struct Link(Box<dyn Stream>);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Door {
    fn open(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }
}

impl Link {
    pub(super) fn open(door: &Door) -> io::Result<Self> {
        let mut link = Self(door.open()?);
        match link.ask(&["AUTH", BENCH, BENCH])? {
            answer if answer == "OK" => Ok(link),
            refused => Err(io::Error::other(refused)),
        }
    }

    pub(super) fn send(&mut self, words: &[&str]) -> io::Result<()> {
        self.0.write_all(&resp::command(words))
    }

    pub(super) fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        self.send(words)?;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match self.0.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&chunk[..read]),
            }
            let length = resp::frame(&bytes).map_err(|_| io::Error::other("no RESP"))?;
            if let Some(length) = length {
                return Ok(resp::text(&bytes[..length]));
            }
        }
    }
}
