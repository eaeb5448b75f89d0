//! Free loopback ports, and URLs that lead through them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Listens on the next free loopback port.
///
/// Not on one of the kernel's choice: its range is also that of outgoing connections, so a client
/// that knocks at a killed server's port could take it, or even connect to itself. And with room for
/// the bus port of a cluster node, 10,000 above.
pub fn listen() -> TcpListener {
    const FIRST: u16 = 11_000;
    const SPAN: u16 = 11_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes side by side begin far from each other.
    let begin = u16::try_from(std::process::id() % 110).expect("below 110") * 100;
    (0..SPAN)
        .map(|_| FIRST + (begin + NEXT.fetch_add(1, Relaxed) % SPAN) % SPAN)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .expect("there is a free port on 127.0.0.1")
}

/// `host:port` of a `redis://` URL.
pub fn address(url: &str) -> &str {
    let rest = url.split_once("://").expect("a URL").1;
    let authority = rest.split(['/', '?']).next().expect("split gives one");
    authority.rsplit_once('@').map_or(authority, |(_, address)| address)
}

/// The same URL, credentials and all, at another port of this machine.
pub fn moved(url: &str, port: u16) -> String {
    url.replacen(address(url), &format!("127.0.0.1:{port}"), 1)
}

/// As a part of a URL.
pub fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
