//! A hit in Redis: the whole decorated call, beside what else reads a value from there.
//!
//! ```text
//! cargo xtask bench redis_hit [--rounds N] [--millis N] [--only WORD] [--load WORD] [--size WORD] [--json FILE]
//! ```

#[path = "redis_hit/measure.rs"]
mod measure;
#[path = "redis_hit/ways.rs"]
mod ways;

use std::{env, fs};

use benches::server::Server;
use measure::{Bench, Load, Results};
use tokio::runtime::{Builder, Runtime};
use ways::{ByHand, Cached, Ours, Page, Pooled, Raw, User};

const KEYS: u64 = 10_000;

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().expect("a runtime")
}

/// Latency alone on one worker, where the connection's task can't be on another; throughput on two.
fn loads(only: &str) -> Vec<Load> {
    let throughput = |name, tasks, keys| Load { name, workers: 2, tasks, keys };
    let all = vec![
        Load { name: "1 task, us", workers: 1, tasks: 1, keys: KEYS },
        throughput("64 tasks", 64, KEYS),
        throughput("512 tasks", 512, KEYS),
        throughput("64, hot key", 64, 1),
        throughput("512, hot key", 512, 1),
    ];
    all.into_iter().filter(|load| load.name.contains(only)).collect()
}

macro_rules! ways {
    ($bench:expr, $url:expr, $value:ty) => {
        $bench.add("redis-rs GET, raw", |_| Raw::<$value>::connect($url));
        $bench.add("redis-rs GET, serde_json", |_| ByHand::<$value>::connect($url));
        $bench.add("#[cache]", |_| Ours::<$value>::connect($url));
        $bench.add("cached: #[concurrent_cached]", |at| Cached::<$value>::connect($url, at));
        $bench.add("deadpool-redis, by hand", |_| Pooled::<$value>::connect($url));
    };
}

fn main() {
    let words: Vec<String> = env::args().collect();
    let option = |name| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let number = |name, other| option(name).map_or(other, |number| number.parse().expect("a number"));
    let (rounds, millis) = (number("--rounds", 7), number("--millis", 150));
    let text = |name| option(name).map_or("", String::as_str);
    let (only, load, size) = (text("--only"), text("--load"), text("--size"));
    let server = Server::start();
    let url: &'static str = server.url().leak();
    let mut all: Vec<Results> = Vec::new();
    for title in ["100 bytes", "4 KB"].into_iter().filter(|title| title.contains(size)) {
        let mut bench = Bench::new(title, [runtime(1), runtime(2)], only);
        if title == "4 KB" {
            ways!(bench, url, Page);
        } else {
            ways!(bench, url, User);
        }
        let results = bench.run(&server, &loads(load), rounds, millis);
        println!("{results}");
        all.push(results);
    }
    println!(
        "microseconds, or thousands of hits a second (times those of the second row); medians over {rounds} rounds\n"
    );
    if let Some(file) = option("--json") {
        fs::write(file, serde_json::to_vec_pretty(&all).unwrap()).expect("--json FILE");
    }
}
