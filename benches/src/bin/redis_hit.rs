//! A hit in Redis: the whole decorated call, beside what else reads a value from there.
//!
//! ```text
//! cargo xtask bench redis_hit [--rounds N] [--millis N] [--only WORD] [--load WORD] [--size WORD]
//! ```

#[cfg(feature = "hitbox")]
#[path = "redis_hit/hitbox.rs"]
mod hitbox;
#[path = "redis_hit/measure.rs"]
mod measure;
#[path = "redis_hit/ways.rs"]
mod ways;

use benches::server::Server;
use benches::{Options, Report};
use clap::Parser;
use measure::{Bench, Load};
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
        Load { name: "1 task", workers: 1, tasks: 1, keys: KEYS },
        throughput("64 tasks", 64, KEYS),
        throughput("512 tasks", 512, KEYS),
        throughput("64, hot key", 64, 1),
        throughput("512, hot key", 512, 1),
    ];
    all.into_iter().filter(|load| load.name.contains(only)).collect()
}

macro_rules! ways {
    ($bench:expr, $url:expr, $value:ty) => {
        $bench.add("redis-rs GET, serde_json", |_| ByHand::<$value>::connect($url));
        $bench.add("redis-rs GET, raw", |_| Raw::<$value>::connect($url));
        $bench.add("#[cache]", |_| Ours::<$value>::connect($url));
        $bench.add("cached: #[concurrent_cached]", |at| Cached::<$value>::connect($url, at));
        #[cfg(feature = "hitbox")]
        $bench.add("hitbox-fn", |_| hitbox::Hitbox::<$value>::connect($url));
        $bench.add("deadpool-redis, by hand", |_| Pooled::<$value>::connect($url));
    };
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Options,
    /// For so long each of them works in each round.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// Only those whose names have this in them.
    #[arg(long, default_value = "")]
    only: String,
    /// Only such loads.
    #[arg(long, default_value = "")]
    load: String,
    /// Only such values.
    #[arg(long, default_value = "")]
    size: String,
}

fn main() {
    let args = Args::parse();
    let (rounds, millis) = (args.common.rounds(7), args.millis);
    let server = Server::start();
    let url: &'static str = server.url().leak();
    let peers = [
        "cached",
        "deadpool-redis",
        "redis",
        #[cfg(feature = "hitbox")]
        "hitbox-fn",
    ];
    let mut report = Report::new("A hit in Redis").peers(&peers).server(&server);
    for title in ["100 bytes", "4 KB"].into_iter().filter(|title| title.contains(&args.size)) {
        let mut bench = Bench::new(title, [runtime(1), runtime(2)], &args.only);
        if title == "4 KB" {
            ways!(bench, url, Page);
        } else {
            ways!(bench, url, User);
        }
        bench
            .run(&server, &loads(&args.load), rounds, millis)
            .into_iter()
            .for_each(|table| report.add(table));
    }
    report.note(format!(
        "Microseconds, or thousands of hits a second; medians of {rounds} rounds of {millis} ms, in brackets how many times the first row in the same round."
    ));
    report.finish(&args.common);
}
