//! What each error means: for the caller, and for the connection.

use redis::{ErrorKind, RedisError};

use crate::error::StoreError;

/// What the connection does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing: the server is well and refused this command.
    Keep,
    /// The same command may work in a moment: ask again within the budget.
    Again,
    /// The connection is of no more use: make another.
    Replace,
    /// An operator must act: say it loudly, once.
    Shout,
}

/// What `error` means. Texts are the server's own words, which name commands and keys at most.
pub(super) fn read(error: &RedisError) -> (StoreError, Reaction) {
    let text = text(error);
    match error.code() {
        Some("WRONGTYPE") => (StoreError::WrongType(text), Reaction::Keep),
        Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN") => {
            (StoreError::Unavailable(text), Reaction::Again)
        }
        // The server became a replica: what it was asked is another's business now.
        Some("READONLY") => (StoreError::Unavailable(text), Reaction::Replace),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => (StoreError::Refused(text), Reaction::Shout),
        Some(_) => (StoreError::Refused(text), Reaction::Keep),
        None if error.is_timeout() => (StoreError::Timeout(text), Reaction::Replace),
        None if error.kind() == ErrorKind::AuthenticationFailed => {
            (StoreError::Refused(text), Reaction::Shout)
        }
        None => (StoreError::Unavailable(text), Reaction::Replace),
    }
}

/// Where a node of a cluster says that a key is, because it isn't there. Nothing was done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) slot: u16,
    /// Empty: the host of who says it.
    pub(super) host: String,
    pub(super) port: u16,
    /// This once: the slot is on its way there.
    pub(super) ask: bool,
}

pub(super) fn redirect(error: &StoreError) -> Option<Redirect> {
    let StoreError::Refused(text) = error else { return None };
    let mut words = text.split_whitespace();
    let ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Redirect { slot, host: host.to_owned(), port: port.parse().ok()?, ask })
}

/// Whether the server doesn't know the script that was named by its digest.
pub(super) fn is_unknown_script(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(text) if text.starts_with("NOSCRIPT"))
}

/// Whether the server is too old for RESP3, or may not be greeted with it.
pub(super) fn lacks_resp3(error: &RedisError) -> bool {
    let unknown_greeting = || {
        let text = whole_text(error).to_lowercase();
        text.contains("unknown command") && text.contains("hello")
    };
    // NOAUTH: a server that knew the greeting would have read the credentials in it.
    let refused = matches!(error.code(), Some("NOPROTO" | "NOAUTH"));
    error.kind() == ErrorKind::RESP3NotSupported || refused || unknown_greeting()
}

/// Whether the server doesn't know `CLIENT TRACKING`, or doesn't allow it; not whether it can't right now.
pub(super) fn lacks_tracking(error: &RedisError) -> bool {
    matches!(error.code(), Some("ERR" | "NOPERM"))
}

fn text(error: &RedisError) -> String {
    let text = whole_text(error);
    // "unknown command" quotes the arguments, values among them.
    match text.find(", with args") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn whole_text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => match error.to_string() {
            // By rustls' own word for it.
            text if text.contains("UnknownIssuer") || text.contains("BadSignature") => {
                format!("{text} (REDIS_TLS_CA names a file with the CAs that may have signed it)")
            }
            text => text,
        },
    }
}
