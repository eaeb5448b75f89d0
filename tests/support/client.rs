//! A client by hand, for what no library would say or tell.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ms, net, resp, secs};

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    /// A connection to where this URL leads; no greeting, no login.
    pub async fn to(url: &str) -> Self {
        Self { stream: TcpStream::connect(net::address(url)).await.unwrap(), bytes: Vec::new() }
    }

    /// A command of words between spaces.
    pub async fn send(&mut self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        self.stream.write_all(&resp::command(&words)).await.unwrap();
    }

    /// The next reply or push as text; or `closed`, or `silence` after ten seconds.
    pub async fn reply(&mut self) -> String {
        loop {
            if let Some(frame) = resp::take(&mut self.bytes).expect("RESP") {
                return resp::text(&frame);
            }
            match timeout(secs(10), self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return "closed".into(),
                Err(_) => return "silence".into(),
            }
        }
    }

    pub async fn ask(&mut self, command: &str) -> String {
        self.send(command).await;
        self.reply().await
    }

    /// Nothing comes for a tenth of a second.
    pub async fn says_nothing(&mut self) -> bool {
        timeout(ms(100), self.reply()).await.is_err()
    }
}
