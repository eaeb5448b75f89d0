//! Key and codec: key building for the argument shapes; MessagePack against JSON.

use std::hint::black_box;
use std::sync::{Arc, LazyLock};

use benches::{Better, Candidate, Cell, Chart, Column, Load, Options, Report, Row, Table, compare, runtime};
use cache_aside::{Settings, cache};
use clap::Parser;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

/// What functions return: shared, so that what is measured is the codec and not a clone.
static ONE: LazyLock<Arc<User>> = LazyLock::new(|| Arc::new(User::new(7)));
static FIFTY: LazyLock<Arc<Vec<User>>> = LazyLock::new(|| Arc::new((0..50).map(User::new).collect()));

/// How many different arguments.
const KEYS: u64 = 100;

mod json {
    use super::*;

    #[cache(ttl = 3600, codec = "json")]
    pub async fn one(_id: u64) -> Arc<User> {
        ONE.clone()
    }

    #[cache(ttl = 3600, codec = "json")]
    pub async fn fifty(_id: u64) -> Arc<Vec<User>> {
        FIFTY.clone()
    }
}

mod msgpack {
    use super::*;

    #[cache(ttl = 3600, codec = "msgpack")]
    pub async fn one(_id: u64) -> Arc<User> {
        ONE.clone()
    }

    #[cache(ttl = 3600, codec = "msgpack")]
    pub async fn fifty(_id: u64) -> Arc<Vec<User>> {
        FIFTY.clone()
    }
}

/// A call, for every number.
macro_rules! calls {
    ($name:expr, |$id:ident| $call:expr) => {
        Candidate::new($name, |runtime, numbers| {
            runtime.block_on(async {
                for number in numbers {
                    let $id = black_box(*number as u64 % KEYS);
                    black_box($call.await);
                }
            });
        })
    };
}

/// Something that doesn't wait, for every number.
fn does<T>(name: &'static str, run: impl Fn(u64) -> T + Send + Sync + 'static) -> Candidate {
    Candidate::new(name, move |_, numbers| {
        for number in numbers {
            black_box(run(black_box(*number as u64)));
        }
    })
}

const JSON: &str = "codec = \"json\"";
const MSGPACK: &str = "codec = \"msgpack\"";
const BARE_JSON: &str = "serde_json alone";
const BARE_MSGPACK: &str = "rmp-serde alone";

fn to_msgpack<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("it can be written")
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("it can be written")
}

/// The codecs alone, reading.
fn bare_reads<T: Serialize + DeserializeOwned>(value: &T) -> [Candidate; 2] {
    let (json, msgpack) = (to_json(value), to_msgpack(value));
    [
        does(BARE_JSON, move |_| serde_json::from_slice::<T>(&json).expect("it can be read")),
        does(BARE_MSGPACK, move |_| rmp_serde::from_slice::<T>(&msgpack).expect("it can be read")),
    ]
}

/// The codecs alone, writing.
fn bare_writes<T: Serialize + Clone + Send + Sync + 'static>(value: &T) -> [Candidate; 2] {
    let (json, msgpack) = (value.clone(), value.clone());
    [does(BARE_JSON, move |_| to_json(&json)), does(BARE_MSGPACK, move |_| to_msgpack(&msgpack))]
}

fn codecs(rounds: usize) -> Table {
    let (one, fifty) = (&*ONE, &*FIFTY);
    let [mut read_one, mut read_fifty, mut store_one, mut store_fifty] = [
        [calls!(JSON, |id| json::one(id)), calls!(MSGPACK, |id| msgpack::one(id))],
        [calls!(JSON, |id| json::fifty(id)), calls!(MSGPACK, |id| msgpack::fifty(id))],
        [
            calls!(JSON, |id| json::one::refresh_cache(id)),
            calls!(MSGPACK, |id| msgpack::one::refresh_cache(id)),
        ],
        [
            calls!(JSON, |id| json::fifty::refresh_cache(id)),
            calls!(MSGPACK, |id| msgpack::fifty::refresh_cache(id)),
        ],
    ]
    .map(Vec::from);
    read_one.extend(bare_reads(one));
    read_fifty.extend(bare_reads(fifty));
    store_one.extend(bare_writes(one));
    store_fifty.extend(bare_writes(fifty));

    let mut columns = Vec::new();
    let mut rows = [JSON, MSGPACK, BARE_JSON, BARE_MSGPACK].map(|name| Row::new(name, Vec::new()));
    for (name, candidates, many) in [
        ("hit, 1 struct", read_one, 200_000),
        ("hit, 50", read_fifty, 10_000),
        ("load and store, 1", store_one, 100_000),
        ("load and store, 50", store_fifty, 10_000),
    ] {
        let load = Load { name, work: vec![(0..many).collect()] };
        let table = compare(name, &candidates, &[load], rounds);
        columns.push(Column::new(name, "ns", Better::Lower));
        for (row, measured) in rows.iter_mut().zip(table.rows) {
            row.cells.extend(measured.cells.into_iter().next());
        }
    }
    let drawn = (0..columns.len()).collect();
    for (name, json, msgpack) in [
        ("1 struct", to_json(one).len(), to_msgpack(one).len()),
        ("50", to_json(fifty).len(), to_msgpack(fifty).len()),
    ] {
        columns.push(Column::new(name, "bytes", Better::Lower));
        for (row, bytes) in rows.iter_mut().zip([json, msgpack, json, msgpack]) {
            row.cells.push(Cell::just(bytes as f64));
        }
    }
    Table::new("a value", columns, rows.into()).chart(Chart::Bars(drawn))
}

#[derive(Serialize)]
struct Filter<'a> {
    tenant: &'a str,
    page: u32,
    is_open: Option<bool>,
}

/// Functions of each shape; none is ever called.
mod shapes {
    use super::*;

    #[cache]
    pub async fn number(id: u64) -> u64 {
        id
    }

    #[cache]
    pub async fn text(name: &str) -> usize {
        name.len()
    }

    #[cache]
    pub async fn both(id: u64, name: &str) -> u64 {
        id + name.len() as u64
    }

    #[cache]
    pub async fn structure(filter: &Filter<'_>) -> u32 {
        filter.page
    }

    #[cache]
    pub async fn list(ids: Vec<u64>) -> usize {
        ids.len()
    }

    #[cache(key = "user:{id}:{name}")]
    pub async fn template(id: u64, name: &str) -> u64 {
        id + name.len() as u64
    }

    #[cache(key_builder = |id, name| format!("user:{id}:{name}"))]
    pub async fn builder(id: u64, name: &str) -> u64 {
        id + name.len() as u64
    }
}

fn keys(rounds: usize) -> Table {
    let name = "ada.lovelace-15";
    let candidates = [
        does("by hand: format!(\"user:{id}:{name}\")", move |id| format!("user:{id}:{name}")),
        does("key_builder: the same", move |id| shapes::builder::cache_key(id, name)),
        does("key = \"user:{id}:{name}\"", move |id| shapes::template::cache_key(id, name)),
        does("u64", shapes::number::cache_key),
        does("&str", move |_| shapes::text::cache_key(black_box(name))),
        does("u64, &str", move |id| shapes::both::cache_key(id, name)),
        does("a struct of three", move |id| {
            shapes::structure::cache_key(&Filter { tenant: name, page: id as u32, is_open: Some(true) })
        }),
        does("a Vec of 10", |id| shapes::list::cache_key((id..id + 10).collect())),
    ];
    let load = Load { name: "a key", work: vec![(0..100_000).collect()] };
    compare("arguments", &candidates, &[load], rounds)
}

fn main() {
    let options = Options::parse();
    // The embedded store: what is behind makes no difference to what is compared here.
    runtime().block_on(cache_aside::init(Settings::from_vars([("", ""); 0]).unwrap())).unwrap();
    let mut report = Report::new("Keys and codecs").peers(&["serde_json", "rmp-serde"]);
    report.add(keys(options.rounds(21)));
    report.add(codecs(options.rounds(21)));
    report.note("ns of CPU time per call (times that of the first row). A hit and a store are whole calls on the embedded store.");
    report.finish(&options);
}
