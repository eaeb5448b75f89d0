//! A server that says what a test wants it to say.
//!
//! ```ignore
//! let script = Script::start(|words| match words[0].as_str() {
//!     "SET" => Reply::Error("OOM command not allowed when used memory > 'maxmemory'."),
//!     _ => Reply::Default,
//! });
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::seen::{self, Seen};
use super::{net, resp};

/// An answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What an empty tiny server says: it knows the greetings (HELLO, AUTH, SELECT, CLIENT, PING,
    /// QUIT), GET, SET (NX, XX, GET; lives are ignored), DEL, UNLINK, EXISTS, and no script. With
    /// `Script::over`, what the real server says.
    Default,
    /// As `Default`, but the connection is closed instead of the answer: done, and nobody knows.
    Lost,
    /// An error reply, without the `-`.
    Error(&'static str),
    /// These bytes.
    Raw(Vec<u8>),
    Ok,
    /// Null, in the words of the connection's protocol.
    Null,
    /// No answer, to this and to all that follows on this connection.
    Silence,
    /// The connection is closed.
    Close,
}

type Answer = dyn Fn(&[String]) -> Reply + Send + Sync;

/// A scripted server, on the runtime that it was started on, until it is dropped.
#[derive(Debug)]
pub struct Script {
    pub seen: Arc<Seen>,
    url: String,
    accepting: JoinHandle<()>,
}

struct Play {
    answer: Box<Answer>,
    seen: Arc<Seen>,
    upstream: Option<String>,
    values: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Script {
    /// A server of its own. The function is given the words of a command, its name in capitals, and
    /// may count in what it captures.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(answer: impl Fn(&[String]) -> Reply + Send + Sync + 'static) -> Self {
        Self::play("redis://127.0.0.1:0", None, Box::new(answer))
    }

    /// Between a client and a real server, which gives the default answers. Pushes don't get through.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn over(upstream: &str, answer: impl Fn(&[String]) -> Reply + Send + Sync + 'static) -> Self {
        Self::play(upstream, Some(net::address(upstream).to_owned()), Box::new(answer))
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    fn play(url: &str, upstream: Option<String>, answer: Box<Answer>) -> Self {
        let listener = net::listen();
        let url = net::moved(url, listener.local_addr().expect("it is bound").port());
        listener.set_nonblocking(true).expect("it is a socket");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let seen = Arc::<Seen>::default();
        let play = Play { answer, seen: Arc::clone(&seen), upstream, values: Mutex::default() };
        let play = Arc::new(play);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new(); // aborted with this task
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let play = Arc::clone(&play);
                connections.spawn(async move { play.connection(client).await });
            }
        });
        Self { seen, url, accepting }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Play {
    async fn connection(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut upstream = match &self.upstream {
            Some(address) => Some(TcpStream::connect(address).await?),
            None => None,
        };
        let (mut bytes, mut resp3, mut silent) = (Vec::new(), false, false);
        while client.read_buf(&mut bytes).await? > 0 {
            while let Some(command) = take(&mut bytes)? {
                let words = resp::words(&command);
                self.seen.record(&words);
                let mut texts: Vec<String> =
                    words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                let Some(name) = texts.first_mut() else { continue };
                name.make_ascii_uppercase();
                let is_script = name == "EVAL";
                let mut texts = seen::meant(texts);
                if is_script && texts[0] == "SET" {
                    texts.push("(by script)".to_owned());
                }
                if silent {
                    continue;
                }
                let reply = (self.answer)(&texts);
                let reply = match reply {
                    Reply::Silence => {
                        silent = true;
                        continue;
                    }
                    Reply::Close => return Ok(()),
                    Reply::Raw(bytes) => bytes,
                    Reply::Error(text) => format!("-{text}\r\n").into_bytes(),
                    Reply::Ok => b"+OK\r\n".to_vec(),
                    Reply::Null => null(resp3).to_vec(),
                    Reply::Default | Reply::Lost => {
                        if texts[0] == "HELLO" && texts.len() > 1 {
                            resp3 = texts[1] == "3";
                        }
                        let done = match &mut upstream {
                            Some(server) => forward(server, &command).await?,
                            None => self.tiny(&texts, &words, resp3),
                        };
                        if reply == Reply::Lost {
                            return Ok(());
                        }
                        done
                    }
                };
                client.write_all(&reply).await?;
            }
        }
        Ok(())
    }

    /// The tiny server.
    fn tiny(&self, texts: &[String], words: &[Vec<u8>], resp3: bool) -> Vec<u8> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |option: &str| texts[1..].iter().any(|word| word.eq_ignore_ascii_case(option));
        let ok = || b"+OK\r\n".to_vec();
        let bulk =
            |value: Option<&Vec<u8>>| value.map_or_else(|| null(resp3).to_vec(), |value| resp::bulk(value));
        match (texts[0].as_str(), &words[1..]) {
            ("HELLO", _) => hello(resp3),
            ("AUTH" | "SELECT" | "CLIENT" | "QUIT", _) => ok(),
            ("PING", _) => b"+PONG\r\n".to_vec(),
            ("GET", [key]) => bulk(values.get(key)),
            ("SET", [key, value, ..]) => {
                let old = values.get(key).cloned();
                let refused = (has("NX") && old.is_some()) || (has("XX") && old.is_none());
                if !refused {
                    values.insert(key.clone(), value.clone());
                }
                match (has("GET"), refused) {
                    (true, _) => bulk(old.as_ref()),
                    (false, true) => null(resp3).to_vec(),
                    (false, false) => ok(),
                }
            }
            ("DEL" | "UNLINK", keys) => number(keys.iter().filter_map(|key| values.remove(key)).count()),
            ("EXISTS", keys) => number(keys.iter().filter(|key| values.contains_key(*key)).count()),
            ("EVAL (probe)", _) => number(1),
            ("EVALSHA" | "EVALSHA (probe)", _) => {
                b"-NOSCRIPT No matching script. Please use EVAL.\r\n".to_vec()
            }
            (name, _) => format!("-ERR unknown command '{name}'\r\n").into_bytes(),
        }
    }
}

fn number(count: usize) -> Vec<u8> {
    format!(":{count}\r\n").into_bytes()
}

fn null(resp3: bool) -> &'static [u8] {
    if resp3 { b"_\r\n" } else { b"$-1\r\n" }
}

fn hello(resp3: bool) -> Vec<u8> {
    let (open, proto) = if resp3 { ("%7", 3) } else { ("*14", 2) };
    format!(
        "{open}\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+proto\r\n:{proto}\r\n+id\r\n:1\r\n\
         +mode\r\n+standalone\r\n+role\r\n+master\r\n+modules\r\n*0\r\n"
    )
    .into_bytes()
}

/// Asks a real server. What it pushes meanwhile is dropped.
async fn forward(server: &mut TcpStream, command: &[u8]) -> io::Result<Vec<u8>> {
    server.write_all(command).await?;
    let mut bytes = Vec::new();
    loop {
        while let Some(frame) = take(&mut bytes)? {
            if !resp::is_push(&frame) {
                return Ok(frame);
            }
        }
        if server.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn take(bytes: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    resp::take(bytes).map_err(|_| io::Error::other("no RESP"))
}
