//! Where one server is.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::tls::{self, Certificates};
use crate::error::CacheError;
use crate::settings::{TlsFiles, redacted};

/// The right form of a server's URL.
pub(super) const FORM: &str = "redis://[user:password@]host[:port][/db], rediss://[user:password@]host[:port][/db] for TLS, or redis+unix:///path[?db=N]";
/// What may stand behind the `?`.
const TCP_WORDS: &[&str] = &["protocol"];
const UNIX_WORDS: &[&str] = &["db", "user", "pass", "protocol"];

/// The address of one server, with what is needed to enter.
#[derive(Clone)]
pub(crate) struct Address {
    info: ConnectionInfo,
    /// What secures it, if it is to be.
    certificates: Option<Certificates>,
    shown: String,
    /// The URL says whether to speak RESP3.
    fixed: Option<bool>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// Reads the URL of one server, and the files that its certificate is checked with.
    ///
    /// # Errors
    /// [`CacheError::Settings`] says which form is right; it never quotes the password.
    pub(crate) fn parse(url: &str, files: &TlsFiles) -> Result<Self, CacheError> {
        Self::of_form(url, files, FORM)
    }

    /// As [`parse`](Self::parse), for a URL that stands for one of another form.
    pub(super) fn of_form(url: &str, files: &TlsFiles, form: &str) -> Result<Self, CacheError> {
        let (place, words) = split_query(url, form)?;
        let is_tls = ["rediss:", "valkeys:"].iter().any(|scheme| place.starts_with(scheme));
        let known = if place.contains("unix:") { UNIX_WORDS } else { TCP_WORDS };
        if let Some((name, _)) = words.iter().find(|(name, _)| !known.contains(name)) {
            return Err(wrong(&format!("has the parameter `{name}`, which means nothing there"), form));
        }
        if is_tls {
            tls::can()?;
        } else {
            tls::unused(files)?;
        }
        let info = url.into_connection_info().map_err(|_| wrong("is not the URL of a server", form))?;
        if info.redis_settings().db() < 0 {
            return Err(wrong("names a database below 0", form));
        }
        let has_protocol = words.iter().any(|(name, _)| *name == "protocol");
        let fixed = has_protocol.then(|| info.redis_settings().protocol() != ProtocolVersion::RESP2);
        let (info, certificates) = if is_tls {
            let (info, certificates) = tls::secured(info, files)?;
            (info, Some(certificates))
        } else {
            (info, None)
        };
        // Off in redis-rs 1; on a LAN it costs more than half of the throughput (redis-rs #2195).
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { info, certificates, shown: redacted(url), fixed })
    }

    /// Another server with the same user, password, certificates, database and protocol.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        let host = host.to_owned();
        let settings = self.info.redis_settings();
        let user = settings.username().or(settings.password()).map_or("", |_| "***@");
        let shown_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let (scheme, addr) = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ("rediss", ConnectionAddr::TcpTls { host, port, insecure, tls_params })
            }
            _ => ("redis", ConnectionAddr::Tcp(host, port)),
        };
        let shown = format!("{scheme}://{user}{shown_host}:{port}/{}", settings.db());
        Self { info: self.info.clone().set_addr(addr), shown, ..self.clone() }
    }

    /// The same server, entered as this user, or as nobody, with no database chosen.
    pub(super) fn entered_as(&self, user: Option<&str>, password: Option<&str>) -> Self {
        let mut settings = redis::RedisConnectionInfo::default();
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let as_is = Self { info: self.info.clone().set_redis_settings(settings), ..self.clone() };
        match self.node() {
            Some((host, port)) => as_is.at(host, port),
            None => as_is,
        }
    }

    /// The same server, called this.
    pub(super) fn shown_as(self, shown: String) -> Self {
        Self { shown, ..self }
    }

    /// Host and port; none: a Unix socket.
    pub(crate) fn node(&self) -> Option<(&str, u16)> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some((host, *port))
            }
            _ => None,
        }
    }

    /// For people: without the password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether to speak RESP3: as the URL says, else as the caller likes.
    pub(super) fn resp3(&self, likes: bool) -> bool {
        self.fixed.unwrap_or(likes)
    }

    /// What to connect with, now.
    pub(super) fn info(&self, resp3: bool) -> ConnectionInfo {
        self.prepare();
        self.settings(resp3)
    }

    /// The same, without being about to.
    pub(super) fn settings(&self, resp3: bool) -> ConnectionInfo {
        let protocol = if resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.info.clone().set_redis_settings(settings)
    }

    /// A connection is about to be made.
    pub(super) fn prepare(&self) {
        if self.certificates.is_some() {
            tls::prepare();
        }
    }

    pub(super) fn has_password(&self) -> bool {
        self.info.redis_settings().password().is_some()
    }

    pub(super) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }
}

/// The error of a URL that is of no use. The URL itself isn't quoted: anything in it may be a password.
pub(super) fn wrong(problem: &str, form: &str) -> CacheError {
    CacheError::Settings(format!("REDIS_URL {problem}; write {form}"))
}

/// The parameters of a URL: names and values.
pub(super) type Words<'a> = Vec<(&'a str, &'a str)>;

/// What stands before the `?`, and the parameters behind it.
pub(super) fn split_query<'a>(url: &'a str, form: &str) -> Result<(&'a str, Words<'a>), CacheError> {
    if url.contains('#') {
        return Err(wrong("has a part behind a `#`, which is written `%23` in a password", form));
    }
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    if query.contains('@') {
        return Err(wrong("has an `@` behind a `?`, which is written `%3F` in a password", form));
    }
    let words = query.split('&').filter(|word| !word.is_empty());
    Ok((place, words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Address {
        Address::parse(url, &TlsFiles::default()).unwrap()
    }

    #[test]
    fn another_node_is_entered_like_the_first() {
        let first = of("redis://me:hunter2@one:1/3?protocol=resp2");
        let other = first.at("::1", 2);
        assert_eq!((other.node(), other.resp3(true)), (Some(("::1", 2)), false));
        assert_eq!(format!("{other:?}"), "redis://***@[::1]:2/3");
        let info = other.info(false);
        let settings = info.redis_settings();
        assert_eq!(
            (settings.username(), settings.password(), settings.db()),
            (Some("me"), Some("hunter2"), 3)
        );
        let nobody = other.entered_as(None, None);
        let info = nobody.info(false);
        assert_eq!((info.redis_settings().password(), info.redis_settings().db()), (None, 0));
        assert_eq!(format!("{nobody:?}"), "redis://[::1]:2/0");
        assert_eq!(of("redis+unix:///run/redis.sock?db=2").node(), None);
    }

    #[test]
    fn a_secured_node_is_secured_like_the_first() {
        let other = of("rediss://:hunter2@one").at("two", 2);
        assert!(matches!(other.info(true).addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        assert_eq!(format!("{other:?}"), "rediss://***@two:2/0");
    }
}
