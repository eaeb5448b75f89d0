//! Where the server is.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use crate::error::CacheError;
use crate::settings::redacted;

/// The address of one server, with what is needed to enter.
#[derive(Clone)]
pub(crate) struct Address {
    info: ConnectionInfo,
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
    /// Reads a URL.
    ///
    /// # Errors
    /// [`CacheError::Settings`] says which form is right; it never quotes the password.
    pub(crate) fn parse(url: &str) -> Result<Self, CacheError> {
        let shown = redacted(url);
        for later in ["rediss://", "redis+sentinel://"] {
            if url.starts_with(later) {
                return Err(CacheError::Settings(format!(
                    "REDIS_URL begins with `{later}`, which this version doesn't support yet; write redis://host:port or redis+unix:///path"
                )));
            }
        }
        let info = url.into_connection_info().map_err(|_| {
            CacheError::Settings(format!(
                "REDIS_URL is not the URL of a server ({shown}); write redis://[user:password@]host[:port][/db] or redis+unix:///path[?db=N]"
            ))
        })?;
        let fixed =
            url.contains("protocol=").then(|| info.redis_settings().protocol() != ProtocolVersion::RESP2);
        // Off in redis-rs 1; on a LAN it costs more than half of the throughput (redis-rs #2195).
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self { info, shown, fixed })
    }

    /// The seeds of a cluster, if it is the URL of one.
    pub(crate) fn seeds(url: &str) -> Result<Option<Vec<Self>>, CacheError> {
        let Some(rest) = url.strip_prefix("redis+cluster://") else { return Ok(None) };
        let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
        let at = if login.is_empty() { "" } else { "@" };
        hosts
            .split(',')
            .map(|host| Self::parse(&format!("redis://{login}{at}{host}")))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// For people: without the password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Another server that is entered in the same way.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        let host = host.to_owned();
        let shown = if host.contains(':') {
            format!("redis://[{host}]:{port}")
        } else {
            format!("redis://{host}:{port}")
        };
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Self { info: self.info.clone().set_addr(addr), shown, fixed: self.fixed }
    }

    /// Its host and port, if it is reached by these.
    pub(super) fn node(&self) -> Option<(&str, u16)> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some((host, *port))
            }
            _ => None,
        }
    }

    /// Whether to speak RESP3: as the URL says, else as the caller likes.
    pub(super) fn resp3(&self, likes: bool) -> bool {
        self.fixed.unwrap_or(likes)
    }

    /// What to connect with.
    pub(super) fn info(&self, resp3: bool) -> ConnectionInfo {
        let protocol = if resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.info.clone().set_redis_settings(settings)
    }
}
