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
    let mut text = text(error);
    if error.code().is_some() {
        text = from_script(text);
    }
    match error.code().map(|_| text.split(' ').next().unwrap_or_default()) {
        Some("WRONGTYPE") => (StoreError::WrongType(text), Reaction::Keep),
        Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN") => {
            (StoreError::Unavailable(text), Reaction::Again)
        }
        // The server became a replica: what it was asked is another's business now.
        Some("READONLY") => (StoreError::Unavailable(text), Reaction::Replace),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => (StoreError::Refused(text), Reaction::Shout),
        Some("ERR") if text.starts_with("ERR unknown command") => {
            (StoreError::Refused(text), Reaction::Shout)
        }
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

/// Whether the server doesn't have this command, or nobody may use it. Before Redis 7 quotes are backticks.
pub(super) fn lacks_command(error: &StoreError, name: &str) -> bool {
    let StoreError::Refused(text) = error else { return false };
    let text = text.to_lowercase().replace('`', "'");
    let lacks = ["noperm", "err unknown command", "err unsupported command", "err command is not available"];
    let is_quoted = || text.contains(&format!("'{name}'"));
    // Tair, once ApsaraDB: `ERR command eval not support for normal user`.
    let is_not_for_us = || text.starts_with(&format!("err command {name} not support"));
    lacks.iter().any(|start| text.starts_with(start)) && is_quoted() || is_not_for_us()
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

/// What a command within a script was told, as it would have been told outside of one. Before Redis 7 what it
/// says is wrapped (`ERR Error running script (call to f_..): @user_script:1: WRONGTYPE ..`), and what the user
/// may not do has no code of its own in any version.
fn from_script(text: String) -> String {
    const SOURCE: &str = "@user_script:";
    let wrapped = text.strip_prefix("ERR Error running script (call to ");
    let mut inner = wrapped.and_then(|rest| Some(rest.split_once("): ")?.1)).unwrap_or(&text);
    // Once for each who passes it on, with the line.
    while let Some((line, rest)) = inner.strip_prefix(SOURCE).and_then(|rest| rest.split_once(": ")) {
        if line.trim_start().parse::<u32>().is_err() {
            break;
        }
        inner = rest;
    }
    let is_from_script = inner.len() < text.len();
    let inner = if is_from_script { inner.strip_prefix('-').unwrap_or(inner) } else { inner };
    let bare = inner.strip_prefix("ERR ").unwrap_or(inner);
    if bare.starts_with("The user executing the script can't") || bare.starts_with("ACL failure in script") {
        return format!("NOPERM {bare}");
    }
    if !is_from_script {
        return text;
    }
    let code = inner.split(' ').next().unwrap_or_default();
    let has_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if has_code { inner.to_owned() } else { format!("ERR {inner}") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_a_script_means_what_it_means_outside() {
        let (wrongtype, perm) = ("WRONGTYPE Operation against a key", "can't run this command or subcommand");
        let call = "ERR Error running script (call to f_d3c21d): @user_script:12: ";
        let of_script = [
            // Redis 6.2: of `redis.call`, of `redis.pcall` that is handed on, of a check before the command.
            (format!("{call}{wrongtype}"), wrongtype.to_owned()),
            (format!("{call}@user_script: 12: -OOM command not allowed."), "OOM command not allowed.".into()),
            ("@user_script: 1: -READONLY You can't write.".into(), "READONLY You can't write.".into()),
            (format!("{call}@user_script: 12: Unknown Redis command"), "ERR Unknown Redis command".into()),
            (
                format!("{call}@user_script: 1: The user executing the script {perm}"),
                format!("NOPERM The user executing the script {perm}"),
            ),
            // Redis 7.0, and later ones.
            (
                format!("ERR The user executing the script {perm} script: d3c2, on @user_script:1."),
                format!("NOPERM The user executing the script {perm} script: d3c2, on @user_script:1."),
            ),
            (
                "ERR ACL failure in script: No permissions to access a key".into(),
                "NOPERM ACL failure in script: No permissions to access a key".into(),
            ),
        ];
        for (said, meant) in of_script {
            assert_eq!(from_script(said), meant);
        }
        let script = "ERR Error compiling script (new function): user_script:1: '=' expected";
        for own in
            [wrongtype, "ERR value is not an integer or out of range", script, "NOSCRIPT No matching script."]
        {
            assert_eq!(from_script(own.to_owned()), own);
        }
    }
}
