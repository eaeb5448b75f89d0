//! Log-in, a second factor, two devices, a changed password, and what a thief makes of stolen ids.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use cache_aside::{Builder, CacheError, Session, SessionId, SessionStore, Settings};
use serde::{Deserialize, Serialize};

/// What is known of who is logged in, beside who it is.
#[derive(Debug, Serialize, Deserialize)]
struct Visit {
    device: String,
    /// Whether the second factor was given.
    is_trusted: bool,
    pages: u32,
}

/// Ends after three seconds without a request (half an hour in earnest), and after twelve hours in any case.
static SESSIONS: SessionStore<Visit> =
    SessionStore::new(Duration::from_secs(3), Duration::from_secs(12 * 3600));

/// What the browser keeps and sends. `HttpOnly`: scripts in the page don't see it.
fn set_cookie(id: &SessionId) -> String {
    format!("session={}; HttpOnly; Secure; SameSite=Lax; Path=/; Max-Age=43200", id.expose())
}

/// What the browser sends with each request. Nothing that a client sends is more than a text yet.
fn cookie(header: &str) -> Option<SessionId> {
    let cookies = header.split(';').filter_map(|cookie| cookie.trim().split_once('='));
    cookies.filter(|(name, _)| *name == "session").find_map(|(_, value)| SessionId::parse(value))
}

/// The user, if somebody is logged in; one more page.
async fn page(header: &str) -> Result<Option<Session<Visit>>, CacheError> {
    let Some(id) = cookie(header) else { return Ok(None) };
    let Some(mut session) = SESSIONS.get(&id).await? else { return Ok(None) };
    session.data.pages += 1;
    SESSIONS.update(&id, &session.data).await?;
    Ok(Some(session))
}

/// The password was right. A session that came with the request is ended: it may be known to others.
async fn log_in(user: &str, device: &str, header: &str) -> Result<String, CacheError> {
    if let Some(before) = cookie(header) {
        SESSIONS.destroy(&before).await?;
    }
    let visit = Visit { device: device.to_owned(), is_trusted: false, pages: 0 };
    Ok(set_cookie(&SESSIONS.create(user, &visit).await?))
}

/// The second factor was right: more rights, so another id. Who had the old one doesn't have them.
async fn trust(header: &str) -> Result<Option<String>, CacheError> {
    let Some(session) = page(header).await? else { return Ok(None) };
    let Some(id) = cookie(header) else { return Ok(None) };
    let Some(id) = SESSIONS.rotate(&id).await? else { return Ok(None) };
    SESSIONS.update(&id, &Visit { is_trusted: true, ..session.data }).await?;
    Ok(Some(set_cookie(&id)))
}

/// The password was changed: every device has to log in again, but this one.
async fn change_password(user: &str, device: &str) -> Result<String, CacheError> {
    SESSIONS.destroy_all(user).await?;
    log_in(user, device, "").await
}

async fn show(what: &str, user: &str) -> Result<usize, CacheError> {
    let mut all = SESSIONS.sessions_of(user).await?;
    all.sort_by(|one, other| one.data.device.cmp(&other.data.device));
    let devices = all.iter().map(|Session { data, .. }| {
        let trusted = if data.is_trusted { ", trusted" } else { "" };
        format!("{} ({} pages{trusted})", data.device, data.pages)
    });
    println!("{what:<26} {}: {}", all.len(), devices.collect::<Vec<_>>().join(", "));
    Ok(all.len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    SESSIONS.destroy_all("ada").await?; // a server may remember the last run

    println!("{:<26} sessions of ada", "");
    let desk = log_in("ada", "desk", "").await?;
    let phone = log_in("ada", "phone", "").await?;
    for _ in 0..3 {
        assert!(page(&desk).await?.is_some());
    }
    assert_eq!(show("two devices", "ada").await?, 2);

    let trusted = trust(&desk).await?.expect("she is logged in");
    assert!(page(&trusted).await?.is_some_and(|session| session.data.is_trusted));
    assert!(page(&desk).await?.is_none(), "the id that was stolen before is dead");
    assert_eq!(show("the second factor", "ada").await?, 2);

    let known = log_in("eve", "laptop", "").await?;
    let planted = log_in("ada", "kiosk", &known).await?;
    assert!(page(&known).await?.is_none(), "eve has put her cookie into ada's browser, and ends with it");
    assert!(page(&planted).await?.is_some_and(|session| session.user == "ada"));
    assert_eq!(show("a third one", "ada").await?, 3);

    let desk = change_password("ada", "desk").await?;
    for old in [&trusted, &phone, &planted] {
        assert!(page(old).await?.is_none());
    }
    assert_eq!(show("a new password", "ada").await?, 1);

    for nonsense in ["", "session=", "session=../../etc/passwd", "theme=dark", &"session=A".repeat(1000)] {
        assert!(page(nonsense).await?.is_none());
    }
    assert!(page(&format!("theme=dark; {desk}")).await?.is_some());

    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert!(page(&desk).await?.is_none());
    assert_eq!(show("three seconds later", "ada").await?, 0);
    println!("an id, as a log would show it: {:?}", cookie(&desk));
    Ok(())
}
