//! What an entry takes on the server, and whether a hit stays as fast, by the number of entries.

use std::ops::Range;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use benches::server::Server;
use benches::{Better, Cell, Chart, Column, Report, Row, Table};
use cache_aside::redis::aio::MultiplexedConnection;
use cache_aside::{Cache, CacheError};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::near::Near;
use crate::rows::{self, BY_HAND, CACHED, OURS, User, cached_entries};

/// At once: on one thread, the other core is the server's.
const TASKS: u64 = 128;
/// Hits of each way, number of entries and round.
const HITS: u64 = 4_000;

const PATIENCE: Duration = Duration::from_secs(10);
/// After so long a server knows what its connections take.
const LOOKED_AT: Duration = Duration::from_millis(1200);

#[derive(Clone, Copy)]
enum Way {
    Ours,
    OneTag,
    OwnTag,
    ByHand,
    Cached,
}

impl Way {
    const ALL: [Self; 5] = [Self::Ours, Self::OneTag, Self::OwnTag, Self::ByHand, Self::Cached];

    fn is_timed(self) -> bool {
        matches!(self, Self::Ours | Self::ByHand | Self::Cached)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::OneTag => "#[cache(tags = [\"users\"])]",
            Self::OwnTag => "#[cache(tags = [\"user:{id}\"])]",
            Self::ByHand => BY_HAND,
            Self::Cached => CACHED,
        }
    }
}

/// A server with the entries of one way, and the way to them.
struct Place {
    way: Way,
    server: Server,
    cache: Cache,
    bare: MultiplexedConnection,
    /// What the server had in use when it was empty.
    empty: f64,
}

impl Place {
    async fn new(way: Way) -> Self {
        let server = Server::start();
        if let Way::Cached = way {
            cached_entries::on(&server);
        }
        // On a busy machine, too, everything is stored.
        let cache = Cache::builder().redis(server.url()).store_budget(PATIENCE);
        let cache = cache.build().expect("a cache");
        let bare = rows::connect(&server).await;
        let place = Self { way, server, cache, bare, empty: 0.0 };
        // Its connections and scripts are none of an entry's.
        place.call(u64::MAX / 2).await;
        place
    }

    async fn call(&self, id: u64) -> User {
        match self.way {
            Way::Ours => rows::user(&self.cache, id).await,
            Way::OneTag => rows::user_of_all(&self.cache, id).await,
            Way::OwnTag => rows::user_with_tag(&self.cache, id).await,
            Way::ByHand => rows::user_by_hand(self.bare.clone(), id).await,
            Way::Cached => cached_entries::user(id).await.expect("it answers"),
        }
    }

    fn bytes_per_entry(&self, entries: u64) -> f64 {
        let stored: u64 = self.server.link().ask(&["DBSIZE"]).expect("it answers").parse().expect("a number");
        assert!(stored >= entries, "{}: {stored} keys of {entries} entries", self.way.name());
        (in_use(&self.server) - self.empty) / entries as f64
    }

    /// What is stored under the first one's key, beyond the JSON of the value.
    fn beyond_json(&self) -> f64 {
        let (cache, ours) = (&self.cache, |key: Result<String, CacheError>| key.expect("it fits"));
        let key = match self.way {
            Way::Ours => ours(rows::user::cache_key(cache, 0)),
            Way::OneTag => ours(rows::user_of_all::cache_key(cache, 0)),
            Way::OwnTag => ours(rows::user_with_tag::cache_key(cache, 0)),
            Way::ByHand => rows::key_by_hand(0),
            Way::Cached => rows::CACHED_KEY.to_owned(),
        };
        let stored: f64 =
            self.server.link().ask(&["STRLEN", &key]).expect("it answers").parse().expect("a length");
        stored - User::new(0).json().len() as f64
    }
}

/// Bytes, without what connections have for themselves, which the server looks at each second.
fn in_use(server: &Server) -> f64 {
    server.info("memory", "used_memory") - server.info("memory", "mem_clients_normal")
}

/// Calls them all, many at a time.
async fn each<F, T>(ids: Range<u64>, call: F)
where
    F: Fn(u64) -> T + Clone + Send + 'static,
    T: Future<Output = User> + Send + 'static,
{
    let mut running = JoinSet::new();
    for task in 0..TASKS {
        let (call, ids) = (call.clone(), ids.clone());
        running.spawn(async move {
            for id in ids.skip(task as usize).step_by(TASKS as usize) {
                call(id).await;
            }
        });
    }
    running.join_all().await;
}

/// Microseconds per hit, one after the other.
async fn time(place: &Place, entries: u64, round: usize) -> f64 {
    let mut random = fastrand::Rng::with_seed(round as u64);
    let begun = Instant::now();
    for _ in 0..HITS {
        place.call(random.u64(..entries)).await;
    }
    begun.elapsed().as_secs_f64() * 1e6 / HITS as f64
}

pub fn measure(mut report: Report, sizes: &[u64], rounds: usize) -> Report {
    // One thread: the other core is the server's, and what it asks for is counted.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut places = Way::ALL.map(|way| runtime.block_on(Place::new(way)));
    sleep(LOOKED_AT);
    places.iter_mut().for_each(|place| place.empty = in_use(&place.server));
    let places = places.map(Arc::new);
    report = report.server(&places[0].server);
    let mut bytes = places.iter().map(|_| Vec::new()).collect::<Vec<_>>();
    let timed: Vec<&Arc<Place>> = places.iter().filter(|place| place.way.is_timed()).collect();
    let mut times = timed.iter().map(|_| Vec::new()).collect::<Vec<_>>();
    let mut near = Near::new();
    let mut filled = 0;
    for size in sizes.iter().copied() {
        for place in &places {
            let own = Arc::clone(place);
            let call = move |id| {
                let own = Arc::clone(&own);
                async move { own.call(id).await }
            };
            runtime.block_on(each(filled..size, call));
        }
        sleep(LOOKED_AT);
        for (place, bytes) in places.iter().zip(&mut bytes) {
            bytes.push(place.bytes_per_entry(size));
        }
        filled = size;
        let mut rounds_of_all = timed.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        for round in 0..=rounds {
            for (place, times) in timed.iter().zip(&mut rounds_of_all) {
                let time = runtime.block_on(time(place, size, round));
                // The first round only warms up.
                times.extend((round > 0).then_some(time));
            }
        }
        for (all, own) in times.iter_mut().zip(&rounds_of_all) {
            all.push(Cell::beside(&rounds_of_all[0], own));
        }
        near.measure(&runtime, size, rounds);
    }
    let lines = || Chart::Lines { axis: "entries", at: sizes.iter().map(|size| *size as f64).collect() };
    let rows = places.iter().zip(&bytes).map(|(place, own)| {
        let cells = own.iter().zip(&bytes[0]).map(|(own, first)| Cell::beside(&[*first], &[*own]));
        Row::new(place.way.name(), cells.collect())
    });
    let columns = crate::columns(sizes, "B", Better::Lower);
    let mut table =
        Table::new("memory of Redis per entry, by entries", columns, rows.collect()).chart(lines());
    let beyond = places.iter().map(|place| Cell::just(place.beyond_json()));
    table.extend(Column::new("value beyond its JSON", "B", Better::Lower), beyond);
    report.add(table);
    let rows = timed.iter().zip(times).map(|(place, cells)| Row::new(place.way.name(), cells));
    let columns = crate::columns(sizes, "us", Better::Lower);
    report.add(Table::new("a hit on Redis with 1 task, by entries", columns, rows.collect()).chart(lines()));
    near.report(&mut report, sizes, &lines());
    report
}
