//! A Redis server on a free loopback port, without persistence, that ends with this program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::run::{Done, say};
use crate::servers;

/// Starts the server and kills it when its input ends. That is when this program ends, however it
/// ends: also by Ctrl-C or a kill, which it couldn't answer without a crate for signals. The output
/// is the server's alone, so that its end can be seen.
const KEEPER: &str = r#"
trap "" INT HUP TERM
"$@" 2>&1 &
exec >/dev/null
read -r stop
kill -KILL $! 2>/dev/null
wait"#;

/// `cargo xtask redis`.
#[allow(clippy::print_stdout)] // so that a shell can take it up
pub(crate) fn until_stopped() -> Done {
    let mut server = Throwaway::start(&servers::redis()?)?;
    println!("REDIS_URL={}", server.url());
    say("Nothing in it is kept. Ctrl-C ends it.");
    let mut last_words = String::new();
    if let Some(output) = &mut server.keeper.stdout {
        let _ = output.read_to_string(&mut last_words);
    }
    Err(format!("{last_words}The server has ended."))
}

/// A server; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Throwaway {
    keeper: Child,
    port: u16,
}

impl Throwaway {
    pub(crate) fn start(program: &Path) -> Done<Self> {
        // Between our look at the port and the server's, somebody may take it.
        for _ in 0..5 {
            let port = free_port().map_err(|error| format!("127.0.0.1 has no free port: {error}"))?;
            let keeper = Command::new("sh")
                .args(["-c", KEEPER, "keeper"])
                .arg(program)
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--logfile", "/dev/null"])
                .current_dir(std::env::temp_dir())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("`sh` doesn't start: {error}"))?;
            let server = Self { keeper, port };
            if server.answers() {
                return Ok(server);
            }
        }
        Err(format!("{} doesn't answer", program.display()))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits for it, five seconds at most.
    fn answers(&self) -> bool {
        (0..500).any(|_| {
            let ping = || {
                let mut link = TcpStream::connect(("127.0.0.1", self.port))?;
                link.set_read_timeout(Some(Duration::from_secs(1)))?;
                link.write_all(b"PING\r\n")?;
                let mut answer = String::new();
                BufReader::new(link).read_line(&mut answer)?;
                Ok::<_, std::io::Error>(answer == "+PONG\r\n")
            };
            let up = ping().unwrap_or(false);
            if !up {
                sleep(Duration::from_millis(10));
            }
            up
        })
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
