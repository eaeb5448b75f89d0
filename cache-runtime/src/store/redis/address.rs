//! Where the server is.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

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
        for later in ["rediss://", "redis+cluster://", "redis+sentinel://"] {
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

    /// For people: without the password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
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
