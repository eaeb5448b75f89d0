//! What kind of place `REDIS_URL` names: a server, some sentinels, a cluster.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use super::address::{Address, Words, split_query, wrong};
use crate::error::CacheError;
use crate::settings::{TlsFiles, redacted};

const CLUSTER_FORM: &str =
    "redis+cluster://[user:password@]host1[:port],host2[:port],..., or rediss+cluster:// for TLS";
const SENTINEL_FORM: &str = "redis+sentinel://[user:password@]host1[:port],host2[:port],.../service-name[/db], or rediss+sentinel:// for TLS";

/// Where the store is.
#[derive(Debug)]
pub(crate) enum Deployment {
    Server(Address),
    Sentinel(Sentinels),
    /// The nodes that are asked for the others.
    Cluster(Vec<Address>),
}

/// Who is asked where the primary is.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(super) seeds: Vec<Address>,
    /// What they call it.
    pub(super) service: String,
    /// How it is entered, wherever it is.
    pub(super) primary: Address,
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.primary.shown())
    }
}

/// A URL of several hosts, taken apart.
struct Many<'a> {
    tls: bool,
    /// With its `@`.
    login: &'a str,
    hosts: Vec<(&'a str, u16)>,
    path: &'a str,
    words: Words<'a>,
    form: &'static str,
}

impl Deployment {
    /// Reads `REDIS_URL`.
    ///
    /// # Errors
    /// [`CacheError::Settings`] says which form is right; it never quotes the password.
    pub(crate) fn parse(url: &str, files: &TlsFiles) -> Result<Self, CacheError> {
        match url.split_once("://").map_or("", |(scheme, _)| scheme) {
            "redis+cluster" | "rediss+cluster" => cluster(url, files).map(Self::Cluster),
            "redis+sentinel" | "rediss+sentinel" => sentinels(url, files).map(Self::Sentinel),
            _ => Address::parse(url, files).map(Self::Server),
        }
    }
}

fn cluster(url: &str, files: &TlsFiles) -> Result<Vec<Address>, CacheError> {
    let many = Many::of(url, 6379, CLUSTER_FORM)?;
    if !matches!(many.path, "" | "0") {
        return Err(wrong("names a database, and a cluster has no other than 0", CLUSTER_FORM));
    }
    many.only(&["protocol"])?;
    let first = many.address("0", files)?;
    Ok(many.hosts.iter().map(|(host, port)| first.at(host, *port)).collect())
}

fn sentinels(url: &str, files: &TlsFiles) -> Result<Sentinels, CacheError> {
    let many = Many::of(url, 26379, SENTINEL_FORM)?;
    let (service, db) = many.path.split_once('/').unwrap_or((many.path, "0"));
    if service.is_empty() {
        return Err(wrong("doesn't say what the sentinels call the primary", SENTINEL_FORM));
    }
    many.only(&["protocol", "sentinel_username", "sentinel_password"])?;
    let service = many.decoded(service)?;
    let word = |name| many.words.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    let decoded = |name| word(name).map(|value| many.decoded(value)).transpose();
    let (user, password) = (decoded("sentinel_username")?, decoded("sentinel_password")?);
    let primary = many.address(db, files)?;
    let seed =
        |(host, port): &(&str, u16)| primary.at(host, *port).entered_as(user.as_deref(), password.as_deref());
    let seeds = many.hosts.iter().map(seed).collect();
    Ok(Sentinels { seeds, service, primary: primary.shown_as(redacted(url)) })
}

impl<'a> Many<'a> {
    fn of(url: &'a str, port: u16, form: &'static str) -> Result<Self, CacheError> {
        let (place, words) = split_query(url, form)?;
        let (scheme, rest) = place.split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts_at = authority.rfind('@').map_or(0, |at| at + 1);
        let (login, hosts) = authority.split_at(hosts_at);
        if path.contains('@') || login.contains('/') {
            return Err(wrong("has an `@` behind a `/`, which is written `%2F` in a password", form));
        }
        let hosts = hosts.split(',').map(|host| host_and_port(host, port, form)).collect::<Result<_, _>>()?;
        let path = path.strip_suffix('/').unwrap_or(path);
        Ok(Self { tls: scheme.starts_with("rediss"), login, hosts, path, words, form })
    }

    fn only(&self, known: &[&str]) -> Result<(), CacheError> {
        match self.words.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => {
                Err(wrong(&format!("has the parameter `{name}`, which means nothing there"), self.form))
            }
            None => Ok(()),
        }
    }

    fn decoded(&self, text: &str) -> Result<String, CacheError> {
        let text = percent_decode_str(text).decode_utf8();
        text.map(Cow::into_owned).map_err(|_| wrong("holds what is no UTF-8", self.form))
    }

    /// The first host, as the one server it would be.
    fn address(&self, db: &str, files: &TlsFiles) -> Result<Address, CacheError> {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let (host, port) = self.hosts[0];
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let protocol = self.words.iter().find(|(name, _)| *name == "protocol");
        let query = protocol.map_or_else(String::new, |(_, value)| format!("?protocol={value}"));
        Address::of_form(&format!("{scheme}://{}{host}:{port}/{db}{query}", self.login), files, self.form)
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn host_and_port<'a>(text: &'a str, port: u16, form: &str) -> Result<(&'a str, u16), CacheError> {
    let (host, after) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or(("", "")),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match after.strip_prefix(':') {
        Some(number) => number.parse().ok().filter(|port| *port != 0),
        None => after.is_empty().then_some(port),
    };
    match port {
        Some(port) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok((host, port)),
        Some(_) => Err(wrong("names a host that is none", form)),
        None => Err(wrong("names a port that is no number from 1 to 65535", form)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Deployment {
        Deployment::parse(url, &TlsFiles::default()).unwrap()
    }

    fn refused(url: &str) -> String {
        Deployment::parse(url, &TlsFiles::default()).unwrap_err().to_string()
    }

    fn places(addresses: &[Address]) -> Vec<String> {
        addresses.iter().map(|address| format!("{address:?}")).collect()
    }

    #[test]
    fn sentinels_have_their_own_login_and_the_primary_has_its_own() {
        let Deployment::Sentinel(all) = of(
            "redis+sentinel://me:p%40ss@one,two:1,[::1]:2/my%20name/3?sentinel_username=s&sentinel_password=q%26r",
        ) else {
            panic!("of another kind")
        };
        assert_eq!(
            places(&all.seeds),
            ["redis://***@one:26379/0", "redis://***@two:1/0", "redis://***@[::1]:2/0"]
        );
        let login = |address: &Address| {
            let settings = address.info(false).redis_settings().clone();
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            (text(settings.username()), text(settings.password()), settings.db())
        };
        assert_eq!(login(&all.seeds[2]), ("s".to_owned(), "q&r".to_owned(), 0));
        assert_eq!(login(&all.primary), ("me".to_owned(), "p@ss".to_owned(), 3));
        assert_eq!(all.service, "my name");
        assert_eq!(format!("{all:?}"), "redis+sentinel://***@one,two:1,[::1]:2/my%20name/3?***");

        let Deployment::Sentinel(all) = of("rediss+sentinel://:pw@one/name/") else {
            panic!("of another kind")
        };
        assert_eq!(places(&all.seeds), ["rediss://one:26379/0"], "nobody's login is given to sentinels");
    }

    #[test]
    fn a_cluster_is_some_of_its_nodes() {
        for url in ["redis+cluster://:pw@one,two:1", "redis+cluster://:pw@one,two:1/0"] {
            let Deployment::Cluster(seeds) = of(url) else { panic!("of another kind") };
            assert_eq!(places(&seeds), ["redis://***@one:6379/0", "redis://***@two:1/0"]);
        }
        let Deployment::Cluster(seeds) = of("rediss+cluster://one?protocol=2") else {
            panic!("of another kind")
        };
        assert_eq!((places(&seeds), seeds[0].resp3(true)), (vec!["rediss://one:6379/0".to_owned()], false));
    }

    #[test]
    fn what_is_of_no_form_is_told_the_right_one() {
        let wrong = [
            ("redis+sentinel://hunter2@one", "what the sentinels call", SENTINEL_FORM),
            ("redis+sentinel://one/", "what the sentinels call", SENTINEL_FORM),
            ("redis+sentinel://one:x/name", "port", SENTINEL_FORM),
            ("redis+sentinel://one:0/name", "port", SENTINEL_FORM),
            ("redis+sentinel://one,,two/name", "host", SENTINEL_FORM),
            ("redis+sentinel:///name", "host", SENTINEL_FORM),
            ("redis+sentinel://[::1/name", "host", SENTINEL_FORM),
            ("redis+sentinel://one/name/x", "is not the URL", SENTINEL_FORM),
            ("redis+sentinel://one/name/-1", "database", SENTINEL_FORM),
            ("redis+sentinel://one/name/1/2", "is not the URL", SENTINEL_FORM),
            ("redis+sentinel://one/name?db=2", "`db`", SENTINEL_FORM),
            ("redis+sentinel://me:hunter2/x@one/name", "%2F", SENTINEL_FORM),
            ("redis+sentinel://me:hunter2?x@one/name", "%3F", SENTINEL_FORM),
            ("redis+sentinel://me:hunter2#x@one/name", "%23", SENTINEL_FORM),
            ("redis+sentinel://one/name?sentinel_password=%FFhunter2", "UTF-8", SENTINEL_FORM),
            ("redis+sentinel://one/name?protocol=hunter2", "is not the URL", SENTINEL_FORM),
            ("redis+cluster://:hunter2@one/1", "database", CLUSTER_FORM),
            ("redis+cluster://:hunter2", "port", CLUSTER_FORM),
            ("redis+cluster://", "host", CLUSTER_FORM),
            ("redis+cluster://one?db=1", "`db`", CLUSTER_FORM),
            ("redis://one?db=1", "`db`", super::super::address::FORM),
            ("redis://:hunter2", "is not the URL", super::super::address::FORM),
            ("redis://one/-1", "database", super::super::address::FORM),
            ("redis+unix://", "is not the URL", super::super::address::FORM),
            ("redis+unix:///run/redis.sock?database=1", "`database`", super::super::address::FORM),
            ("http://:hunter2@one", "is not the URL", super::super::address::FORM),
        ];
        for (url, says, form) in wrong {
            let text = refused(url);
            assert!(text.starts_with("REDIS_URL ") && text.contains(says), "{url}: {text}");
            assert!(text.ends_with(&format!("write {form}")), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
