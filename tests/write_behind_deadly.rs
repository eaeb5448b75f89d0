//! A write whose handler takes the whole process with it becomes a dead letter, and takes none of those along
//! that are at work beside it each time (I20).

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use cache_aside::{Cache, Job, WriteBehind};
use support::fleet::{self, Folder, Lines, Member, said};
use support::server::Server;
use support::{ms, secs};

const NAME: &str = "a_deadly_write_takes_nobody_along";
const RETRIES: u32 = 3;
const GOOD: u64 = 16;
/// Longer than the deadly one takes.
const SLOW: Duration = ms(200);

fn queue(url: &str) -> WriteBehind {
    let cache = Cache::builder().redis(url).lease(ms(300)).store_budget(secs(10)).build().unwrap();
    let writes = WriteBehind::queue("deadly").cache(&cache).shards(4).retries(RETRIES);
    writes.backoff(ms(5), ms(20)).build().unwrap()
}

async fn slow(job: Job<u64>, lines: Arc<Lines>) -> Result<(), Infallible> {
    tokio::time::sleep(SLOW).await;
    lines.say(job.payload);
    Ok(())
}

async fn die(_: Job<u64>, lines: Arc<Lines>) -> Result<(), Infallible> {
    tokio::time::sleep(SLOW / 4).await;
    lines.say("died");
    std::process::exit(0)
}

/// A worker with all shards.
async fn work() {
    let writes = queue(&fleet::given("URL").unwrap());
    let shutdown = async {
        let mut orders = fleet::orders();
        while orders.recv().await.is_some() {}
    };
    let workers = writes.workers(Arc::new(Lines::of_member())).handle("slow", slow).handle("die", die);
    workers.run_until(shutdown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadly_write_takes_nobody_along() {
    if fleet::is_member() {
        return work().await;
    }
    let (server, folder) = (Server::redis().start(), Folder::new());
    let writes = queue(&server.url());
    let deadly = writes.send("die", "deadly", &0_u64).await.unwrap();
    for number in 1..=GOOD {
        writes.send("slow", number, &number).await.unwrap();
    }
    let (file, url) = (folder.path().join("done"), server.url());
    let start = || Member::start(NAME, file.clone(), &[("URL", &url)]);
    let mut worker = start();
    let mut deaths = 0;
    while writes.stats().await.unwrap().pending > 0 {
        if worker.end_within(ms(0)).is_some() {
            deaths += 1;
            assert!(deaths < 20, "{:?}", said(&file));
            worker = start();
        }
        tokio::time::sleep(ms(10)).await;
    }
    worker.stop();
    assert!(worker.end_within(secs(20)).is_some_and(|status| status.success()));
    let letters = writes.dead_letters(10).await.unwrap();
    let causes: Vec<_> =
        letters.iter().map(|letter| (letter.seq(), letter.order_key(), letter.cause())).collect();
    assert_eq!(causes, [(deadly, "deadly", "its workers ended while they tried it")]);
    assert!((RETRIES + 1..=RETRIES + 2).contains(&letters[0].attempts()), "{}", letters[0].attempts());
    let done = said(&file);
    for number in 1..=GOOD {
        assert!(done.contains(&number.to_string()), "{number} is missing: {done:?}");
    }
    assert!(done.iter().filter(|line| *line == "died").count() > RETRIES as usize, "{done:?}");
}
