//! What the environment says.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::CacheError;

/// The time to live where nothing else is said.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// Everything but what RFC 3986 calls unreserved.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the store is and how long values live, from variables.
///
/// | variable | default | |
/// |---|---|---|
/// | `REDIS_URL` | - | wins over the parts below; its forms are those of [`Builder::redis`](crate::Builder::redis) |
/// | `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD`, `REDIS_DB` | localhost, 6379, -, -, 0 | |
/// | `REDIS_TLS_CA` | the system's | PEM file with the CAs that may have signed the server's certificate (`rediss://`) |
/// | `REDIS_TLS_CERT`, `REDIS_TLS_KEY` | - | PEM files with the certificate and the private key of this client |
/// | `REDIS_CACHE_TTL` | 300 | seconds |
/// | `CACHE_NAMESPACE` | - | first part of every key |
///
/// With neither `REDIS_URL` nor `REDIS_HOST` set, the embedded store is used. A variable that is
/// set to nothing counts as not set.
///
/// ```
/// use cache_runtime::Settings;
///
/// let settings = Settings::from_vars([("REDIS_HOST", "db"), ("REDIS_PASSWORD", "p@ss")])?;
/// assert_eq!(settings.redis_url().as_deref(), Some("redis://:p%40ss@db:6379/0"));
/// assert!(!format!("{settings:?}").contains("p@ss"));
/// # Ok::<(), cache_runtime::CacheError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    url: Option<String>,
    tls: TlsFiles,
    default_ttl: Duration,
    namespace: Option<String>,
}

/// The PEM files that secure a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The CAs that may have signed the server's certificate; none: the system's.
    pub(crate) ca: Option<PathBuf>,
    /// This client's certificate and its private key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Settings {
    /// From the process' environment, over a `.env` file in the working directory if there is one.
    ///
    /// # Errors
    /// [`CacheError::Settings`] names the variable, or the file, and what it should look like.
    pub fn load() -> Result<Self, CacheError> {
        let mut vars = dot_env(Path::new(".env"))?;
        for (name, value) in std::env::vars_os() {
            if let Some(name) = name.to_str().filter(|name| VARIABLES.contains(name)) {
                let value = value.into_string().map_err(|_| bad(name, "is not UTF-8", "text"))?;
                vars.insert(name.to_owned(), value);
            }
        }
        Self::from_vars(vars)
    }

    /// From these variables and no others.
    ///
    /// # Errors
    /// [`CacheError::Settings`] names the variable and what it should look like.
    pub fn from_vars<N: Into<String>, V: Into<String>>(
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, CacheError> {
        let vars: HashMap<String, String> =
            vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let var = |name: &str| vars.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let url = match (var("REDIS_URL"), var("REDIS_HOST")) {
            (Some(url), _) => {
                check_url(url)?;
                Some(url.to_owned())
            }
            (None, Some(host)) => Some(compose(host, var)?),
            (None, None) => None,
        };
        let identity = match (var("REDIS_TLS_CERT"), var("REDIS_TLS_KEY")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (Some(_), None) => {
                return Err(bad("REDIS_TLS_KEY", "is not set, and REDIS_TLS_CERT is", PRIVATE_KEY));
            }
            (None, Some(_)) => {
                return Err(bad("REDIS_TLS_CERT", "is not set, and REDIS_TLS_KEY is", CERTIFICATE));
            }
        };
        let tls = TlsFiles { ca: var("REDIS_TLS_CA").map(PathBuf::from), identity };
        let default_ttl = match var("REDIS_CACHE_TTL") {
            None => DEFAULT_TTL,
            Some(text) => match text.parse() {
                Ok(seconds @ 1..) => Duration::from_secs(seconds),
                _ => {
                    return Err(bad(
                        "REDIS_CACHE_TTL",
                        &format!("is `{text}`"),
                        "a whole number of seconds above 0, such as 300",
                    ));
                }
            },
        };
        let namespace = match var("CACHE_NAMESPACE") {
            None => None,
            Some(name) => Some(
                check_namespace(name).map_err(|problem| bad("CACHE_NAMESPACE", &problem, NAMESPACE_FORM))?,
            ),
        };
        Ok(Self { url, tls, default_ttl, namespace })
    }

    /// The URL of the server, credentials included; none: the embedded store.
    pub fn redis_url(&self) -> Option<String> {
        self.url.clone()
    }

    pub(crate) fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    /// How long values live where nothing else is said.
    pub fn default_ttl(&self) -> Duration {
        self.default_ttl
    }

    /// The first part of every key.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_deref().map(redacted))
            .field("tls", &self.tls)
            .field("default_ttl", &self.default_ttl)
            .field("namespace", &self.namespace)
            .finish()
    }
}

const VARIABLES: [&str; 11] = [
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDIS_DB",
    "REDIS_TLS_CA",
    "REDIS_TLS_CERT",
    "REDIS_TLS_KEY",
    "REDIS_CACHE_TTL",
    "CACHE_NAMESPACE",
];

const URL_FORM: &str = "redis://[user:password@]host[:port][/db], rediss://, redis+unix:///path, redis+sentinel://host1,host2/service-name or redis+cluster://host1,host2";
const CERTIFICATE: &str = "the path of a PEM file with the certificate of this client";
const PRIVATE_KEY: &str = "the path of a PEM file with the private key of REDIS_TLS_CERT";

/// What a namespace looks like.
pub(crate) const NAMESPACE_FORM: &str =
    "letters, digits and punctuation other than : * ? [ ] { } \\ %, such as `shop-eu`";

/// The namespace, if no key of another namespace can begin like it.
pub(crate) fn check_namespace(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    match name.chars().find(|c| c.is_whitespace() || c.is_control() || ":*?[]{}\\%".contains(*c)) {
        Some(char) => Err(format!("holds {char:?}")),
        None => Ok(name.to_owned()),
    }
}

fn dot_env(path: &Path) -> Result<HashMap<String, String>, CacheError> {
    let lines = match dotenvy::from_path_iter(path) {
        Ok(lines) => lines,
        Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(HashMap::new());
        }
        Err(error) => {
            return Err(CacheError::Settings(format!("`.env` can't be read: {}", without_value(&error))));
        }
    };
    let mut vars = HashMap::new();
    for line in lines {
        let (name, value) = line.map_err(|error| {
            CacheError::Settings(format!("`.env` can't be read: {}", without_value(&error)))
        })?;
        if VARIABLES.contains(&name.as_str()) {
            vars.insert(name, value);
        }
    }
    Ok(vars)
}

/// A parse error of `.env` quotes the line, which may hold a password.
fn without_value(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(line, _) => {
            match VARIABLES.iter().find(|name| line.trim_start().starts_with(*name)) {
                Some(name) => format!("the line of `{name}` is not `NAME=value`"),
                None => "a line is not `NAME=value`".to_owned(),
            }
        }
        other => other.to_string(),
    }
}

fn compose<'a>(host: &str, var: impl Fn(&str) -> Option<&'a str>) -> Result<String, CacheError> {
    if host.contains(['/', '@', ' ', '?', '#']) {
        return Err(bad(
            "REDIS_HOST",
            "is not a host name",
            "a name or an address such as `localhost`; a URL goes into REDIS_URL",
        ));
    }
    let port: u16 = number(&var, "REDIS_PORT", 6379, "a port such as 6379")?;
    let db: u32 = number(&var, "REDIS_DB", 0, "a database number such as 0")?;
    let escaped = |name: &str| var(name).map(|text| utf8_percent_encode(text, UNSAFE).to_string());
    let login = match (escaped("REDIS_USERNAME"), escaped("REDIS_PASSWORD")) {
        (None, None) => String::new(),
        (user, Some(password)) => format!("{}:{password}@", user.unwrap_or_default()),
        (Some(user), None) => format!("{user}@"),
    };
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    Ok(format!("redis://{login}{host}:{port}/{db}"))
}

fn number<'a, T: std::str::FromStr>(
    var: &impl Fn(&str) -> Option<&'a str>,
    name: &str,
    default: T,
    form: &str,
) -> Result<T, CacheError> {
    match var(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| bad(name, &format!("is `{text}`"), form)),
    }
}

fn check_url(url: &str) -> Result<(), CacheError> {
    let known = [
        "redis://",
        "rediss://",
        "redis+unix://",
        "unix://",
        "redis+cluster://",
        "rediss+cluster://",
        "redis+sentinel://",
        "rediss+sentinel://",
    ];
    if known.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
        return Ok(());
    }
    // The text may hold a password, so it isn't quoted.
    Err(bad("REDIS_URL", "is not the URL of a server", URL_FORM))
}

fn bad(name: &str, problem: &str, form: &str) -> CacheError {
    CacheError::Settings(format!("{name} {problem}; write {form}"))
}

/// The URL without what lets in: neither what stands before an `@`, wherever that is, nor a query
/// that may name a user or a password, nor what is no port where one should be: its host was forgotten.
pub(crate) fn redacted(url: &str) -> String {
    let shown = match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://***{}", &url[at..]),
        (None, Some(at)) => format!("***{}", &url[at..]),
        (Some((scheme, rest)), None) if has_odd_port(rest) => format!("{scheme}://***"),
        (_, None) => url.to_owned(),
    };
    match shown.split_once('?') {
        Some((before, query)) if query.contains("pass") || query.contains("user") => format!("{before}?***"),
        _ => shown,
    }
}

fn has_odd_port(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = |host: &str| match host.rsplit_once(':') {
        Some((before, port)) if !before.contains('[') || before.ends_with(']') => {
            before.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    };
    authority.split(',').any(port)
}
