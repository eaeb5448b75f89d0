//! A near hit: the whole decorated call, beside what peers take.
//!
//! ```text
//! cargo xtask bench near_hit [--rounds N]
//! ```

use std::hash::Hash;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use benches::{Candidate, Chart, Load, Options, Report, compare, runtime, zipf};
use cache_aside::{Settings, cache};
use cached::macros::{cached, concurrent_cached};
use cachelito_async::cache_async;
use clap::Parser;
use serde::{Deserialize, Serialize};

const KEYS: usize = 10_000;
const CALLS: usize = 200_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A row: its clone allocates twice.
#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
}

impl User {
    fn new(id: u64) -> Self {
        Self { id, name: format!("user number {id:04}"), email: format!("user{id:08}@example.com") }
    }
}

/// A kilobyte, cloned or shared.
#[derive(Clone, Serialize, Deserialize)]
struct Page {
    words: [[u64; 32]; 4],
}

impl Page {
    fn new(id: u64) -> Self {
        Self { words: [[id; 32]; 4] }
    }
}

mod ours {
    use super::*;

    #[cache(ttl = 3600, near = true)]
    pub async fn user(id: u64) -> User {
        User::new(id)
    }

    #[cache(ttl = 3600, near = true)]
    pub async fn page(id: u64) -> Arc<Page> {
        Arc::new(Page::new(id))
    }

    #[cache(ttl = 3600, near = true)]
    pub async fn whole_page(id: u64) -> Page {
        Page::new(id)
    }

    #[cache(ttl = 3600, near = true)]
    pub async fn user_named(name: &str) -> User {
        User::new(name.len() as u64)
    }

    #[cache(ttl = 3600, near = true)]
    pub async fn page_named(name: &str) -> Arc<Page> {
        Arc::new(Page::new(name.len() as u64))
    }

    #[cache(ttl = 3600, near = true)]
    pub async fn user_of(tenant: &str, id: u64, deleted: bool) -> User {
        User::new(id + u64::from(deleted) + tenant.len() as u64)
    }
}

/// `cached`, with a lock for each shard.
mod sharded {
    use super::*;

    #[concurrent_cached(ttl_secs = 3600)]
    pub async fn user(id: u64) -> User {
        User::new(id)
    }

    #[concurrent_cached(ttl_secs = 3600)]
    pub async fn page(id: u64) -> Arc<Page> {
        Arc::new(Page::new(id))
    }

    #[concurrent_cached(ttl_secs = 3600)]
    pub async fn whole_page(id: u64) -> Page {
        Page::new(id)
    }

    #[concurrent_cached(ttl_secs = 3600)]
    pub async fn user_named(name: String) -> User {
        User::new(name.len() as u64)
    }

    #[concurrent_cached(ttl_secs = 3600)]
    pub async fn page_named(name: String) -> Arc<Page> {
        Arc::new(Page::new(name.len() as u64))
    }

    #[concurrent_cached(ttl_secs = 3600)]
    pub async fn user_of(tenant: String, id: u64, deleted: bool) -> User {
        User::new(id + u64::from(deleted) + tenant.len() as u64)
    }
}

/// `cached`, with one lock.
mod locked {
    use super::*;

    #[cached(ttl_secs = 3600)]
    pub async fn user(id: u64) -> User {
        User::new(id)
    }

    #[cached(ttl_secs = 3600)]
    pub async fn page(id: u64) -> Arc<Page> {
        Arc::new(Page::new(id))
    }

    #[cached(ttl_secs = 3600)]
    pub async fn whole_page(id: u64) -> Page {
        Page::new(id)
    }

    #[cached(ttl_secs = 3600)]
    pub async fn user_named(name: String) -> User {
        User::new(name.len() as u64)
    }

    #[cached(ttl_secs = 3600)]
    pub async fn page_named(name: String) -> Arc<Page> {
        Arc::new(Page::new(name.len() as u64))
    }

    #[cached(ttl_secs = 3600)]
    pub async fn user_of(tenant: String, id: u64, deleted: bool) -> User {
        User::new(id + u64::from(deleted) + tenant.len() as u64)
    }
}

/// `cachelito`: a map of many locks.
mod lito {
    use super::*;

    #[cache_async(ttl = 3600)]
    pub async fn user(id: u64) -> User {
        User::new(id)
    }

    #[cache_async(ttl = 3600)]
    pub async fn page(id: u64) -> Arc<Page> {
        Arc::new(Page::new(id))
    }

    #[cache_async(ttl = 3600)]
    pub async fn whole_page(id: u64) -> Page {
        Page::new(id)
    }

    #[cache_async(ttl = 3600)]
    pub async fn user_named(name: String) -> User {
        User::new(name.len() as u64)
    }

    #[cache_async(ttl = 3600)]
    pub async fn page_named(name: String) -> Arc<Page> {
        Arc::new(Page::new(name.len() as u64))
    }

    #[cache_async(ttl = 3600)]
    pub async fn user_of(tenant: String, id: u64, deleted: bool) -> User {
        User::new(id + u64::from(deleted) + tenant.len() as u64)
    }
}

/// A function, called for every number.
macro_rules! calls {
    ($name:expr, |$n:ident| $call:expr) => {
        Candidate::new($name, move |runtime, numbers| {
            runtime.block_on(async {
                for $n in numbers {
                    let $n = black_box(*$n);
                    black_box($call.await);
                }
            });
        })
    };
}

/// A bare map, asked for every number.
macro_rules! gets {
    ($name:expr, |$n:ident| $get:expr) => {
        Candidate::new($name, move |_, numbers| {
            for $n in numbers {
                let $n = black_box(*$n);
                black_box($get.expect("it is there"));
            }
        })
    };
}

/// The bare maps, which have the same values under keys that are made before.
fn filled<K, V>(
    keys: impl Iterator<Item = K>,
    value: impl Fn(u64) -> V,
) -> (quick_cache::sync::Cache<K, V>, moka::sync::Cache<K, V>)
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let quick = quick_cache::sync::Cache::new(2 * KEYS);
    let moka = moka::sync::Cache::builder().max_capacity(2 * KEYS as u64).time_to_live(HOUR).build();
    for (key, n) in keys.zip(0..) {
        quick.insert(key.clone(), value(n));
        moka.insert(key, value(n));
    }
    (quick, moka)
}

type Group = (&'static str, Vec<Candidate>);

const OURS: &str = "#[cache(near = true)]";
const SHARDED: &str = "cached: #[concurrent_cached]";
const LOCKED: &str = "cached: #[cached]";
const LITO: &str = "cachelito: #[cache_async]";
const QUICK: &str = "quick_cache, no TTL, bare get";
const MOKA: &str = "moka::sync, bare get";
const FLOOR: &str = "the clone alone";

/// The values in a row, found by their number.
fn floor<V: Clone + Send + Sync + 'static>(value: impl Fn(u64) -> V) -> Candidate {
    let values: Vec<V> = (0..KEYS as u64).map(value).collect();
    gets!(FLOOR, |n| values.get(n).cloned())
}

fn by_id() -> [Group; 3] {
    let (quick, moka) = filled(0..KEYS as u64, User::new);
    let users = vec![
        calls!(OURS, |n| ours::user(n as u64)),
        calls!(SHARDED, |n| sharded::user(n as u64)),
        calls!(LOCKED, |n| locked::user(n as u64)),
        calls!(LITO, |n| lito::user(n as u64)),
        gets!(QUICK, |n| quick.get(&(n as u64))),
        gets!(MOKA, |n| moka.get(&(n as u64))),
        floor(User::new),
    ];
    let (quick, moka) = filled(0..KEYS as u64, |n| Arc::new(Page::new(n)));
    let pages = vec![
        calls!(OURS, |n| ours::page(n as u64)),
        calls!(SHARDED, |n| sharded::page(n as u64)),
        calls!(LOCKED, |n| locked::page(n as u64)),
        calls!(LITO, |n| lito::page(n as u64)),
        gets!(QUICK, |n| quick.get(&(n as u64))),
        gets!(MOKA, |n| moka.get(&(n as u64))),
        floor(|n| Arc::new(Page::new(n))),
    ];
    let (quick, moka) = filled(0..KEYS as u64, Page::new);
    let whole_pages = vec![
        calls!(OURS, |n| ours::whole_page(n as u64)),
        calls!(SHARDED, |n| sharded::whole_page(n as u64)),
        calls!(LOCKED, |n| locked::whole_page(n as u64)),
        calls!(LITO, |n| lito::whole_page(n as u64)),
        gets!(QUICK, |n| quick.get(&(n as u64))),
        gets!(MOKA, |n| moka.get(&(n as u64))),
        floor(Page::new),
    ];
    [("u64 -> User", users), ("u64 -> Arc<Page>", pages), ("u64 -> Page", whole_pages)]
}

/// Who has a `&str` makes a `String` of it for `cached`.
fn by_name() -> [Group; 3] {
    let names: &'static [String] =
        (0..KEYS).map(|n| format!("name-of-user-{n:04}")).collect::<Vec<_>>().leak();
    let (quick, moka) = filled(names.iter().cloned(), User::new);
    let users = vec![
        calls!(OURS, |n| ours::user_named(&names[n])),
        calls!(SHARDED, |n| sharded::user_named(names[n].clone())),
        calls!(LOCKED, |n| locked::user_named(names[n].clone())),
        calls!(LITO, |n| lito::user_named(names[n].clone())),
        gets!(QUICK, |n| quick.get(&names[n])),
        gets!(MOKA, |n| moka.get(&names[n])),
        floor(User::new),
    ];
    let (quick, moka) = filled(names.iter().cloned(), |n| Arc::new(Page::new(n)));
    let pages = vec![
        calls!(OURS, |n| ours::page_named(&names[n])),
        calls!(SHARDED, |n| sharded::page_named(names[n].clone())),
        calls!(LOCKED, |n| locked::page_named(names[n].clone())),
        calls!(LITO, |n| lito::page_named(names[n].clone())),
        gets!(QUICK, |n| quick.get(&names[n])),
        gets!(MOKA, |n| moka.get(&names[n])),
        floor(|n| Arc::new(Page::new(n))),
    ];
    let (tenant, keys) = ("acme", (0..KEYS as u64).map(|n| ("acme".to_owned(), n, false)));
    let (quick, moka) = filled(keys, User::new);
    let of_tenant = vec![
        calls!(OURS, |n| ours::user_of(tenant, n as u64, false)),
        calls!(SHARDED, |n| sharded::user_of(tenant.to_owned(), n as u64, false)),
        calls!(LOCKED, |n| locked::user_of(tenant.to_owned(), n as u64, false)),
        calls!(LITO, |n| lito::user_of(tenant.to_owned(), n as u64, false)),
        gets!(QUICK, |n| quick.get(&(tenant.to_owned(), n as u64, false))),
        gets!(MOKA, |n| moka.get(&(tenant.to_owned(), n as u64, false))),
        floor(User::new),
    ];
    [("&str -> User", users), ("&str -> Arc<Page>", pages), ("&str, u64, bool -> User", of_tenant)]
}

/// One key and ten thousand, on one thread and on two.
fn loads() -> Vec<Load> {
    let hot = || vec![77; CALLS];
    let zipf = |seed| zipf(seed, KEYS, CALLS);
    vec![
        Load { name: "zipf 1t", work: vec![zipf(1)] },
        Load { name: "zipf 2t", work: vec![zipf(1), zipf(2)] },
        Load { name: "hot 1t", work: vec![hot()] },
        Load { name: "hot 2t", work: vec![hot(), hot()] },
    ]
}

fn main() {
    let options = Options::parse();
    let rounds = options.rounds(21);
    // The embedded store: what is behind a near hit makes no difference to it.
    runtime().block_on(cache_aside::init(Settings::from_vars([("", ""); 0]).unwrap())).unwrap();
    let loads = loads();
    let mut report = Report::new("A near hit: the whole call").peers(&[
        "cached",
        "cachelito-async",
        "moka",
        "quick_cache",
    ]);
    for (title, candidates) in by_id().into_iter().chain(by_name()) {
        let all: Vec<usize> = (0..KEYS).collect();
        for candidate in &candidates {
            // Loaded, then read, then near.
            (0..2).for_each(|_| candidate.run(&runtime(), &all));
        }
        let mut table = compare(title, &candidates, &loads, rounds);
        // Two are enough for a picture: a number and a text as the argument.
        if !["u64 -> User", "&str -> User"].contains(&title) {
            table = table.chart(Chart::None);
        }
        report.add(table);
    }
    report.note("ns per call and thread (times those of the first row); allocations per call");
    report.finish(&options);
}
