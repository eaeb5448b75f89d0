//! Rate limits: never more than promised in any window, whoever asks and whatever the server does.

#[path = "support/log.rs"]
mod log;
mod support;

use std::time::Duration;

use cache_aside::{Cache, CacheError, Decision, RateLimiter};
use log::Log;
use support::server::Server;
use support::{ms, secs};
use tokio::time::Instant;

fn over(url: &str) -> Cache {
    Cache::builder().redis(url).store_budget(secs(10)).build().unwrap()
}

/// A call that was allowed: the server's time is between these.
struct Span {
    sent: Instant,
    answered: Instant,
}

/// Callers of several processes, as the server sees them: each has a connection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_many_connections_get_no_more_in_any_window() {
    let server = Server::redis().start();
    for (max, window) in [(7, ms(100)), (80, ms(200))] {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let cache = over(&server.url());
            for _ in 0..16 {
                let limiter = RateLimiter::new(max, window).cache(&cache);
                tasks.spawn(async move {
                    let (mut allowed, begun) = (Vec::new(), Instant::now());
                    while begun.elapsed() < ms(1000) {
                        let sent = Instant::now();
                        if limiter.check("ada").await.unwrap().is_allowed() {
                            allowed.push(Span { sent, answered: Instant::now() });
                        }
                    }
                    allowed
                });
            }
        }
        let spans: Vec<Span> = tasks.join_all().await.into_iter().flatten().collect();
        // Two clocks may differ by a thousandth in a second.
        let surely = window * 999 / 1000;
        for first in &spans {
            let inside = |span: &&Span| span.sent >= first.sent && span.answered < first.sent + surely;
            let count = spans.iter().filter(inside).count();
            assert!(count <= max as usize, "{count} of {max} in {window:?}");
        }
        assert!(spans.len() > max as usize, "{} in ten windows of {max}", spans.len());
    }
}

/// What the server does with these calls in its key, made so long ago.
struct Seeded {
    server: Server,
    cache: Cache,
}

const KEY: &str = "@rate:api:ada";

impl Seeded {
    fn new() -> Self {
        let server = Server::redis().start();
        let cache = over(&server.url());
        Self { server, cache }
    }

    fn now(&self) -> u64 {
        let time = self.server.command(&["TIME"]);
        let digits: Vec<u64> =
            time.split(|char: char| !char.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
        let [seconds, micros] = digits[..] else { panic!("{time}") };
        seconds * 1_000_000 + micros
    }

    /// The decision, and how many batches there are then.
    async fn check(&self, max: u32, window: Duration, batches: &[(i64, u64)]) -> (Decision, Vec<(u64, u64)>) {
        let now = self.now();
        let at = |ago: i64| now.checked_add_signed(-ago * 1_000_000).unwrap();
        let total: u64 = batches.iter().map(|batch| batch.1).sum();
        let batches = batches.iter().map(|(ago, count)| format!("{:016}{count:010}", at(*ago)));
        let log = format!("{total:010}{}", batches.collect::<String>());
        self.server.command(&["SET", KEY, &log]);
        let limiter = RateLimiter::new(max, window).name("api").cache(&self.cache);
        let decision = limiter.check("ada").await.unwrap();
        let log = self.server.command(&["GET", KEY]);
        let number = |digits: &[u8]| str::from_utf8(digits).unwrap().parse::<u64>().unwrap();
        let batches = log.as_bytes()[10..].chunks(26).map(|batch| {
            let (last, count) = batch.split_at(16);
            (self.now().saturating_sub(number(last)) / 1_000_000, number(count))
        });
        (decision, batches.collect())
    }
}

/// Whether it is this time, but for what a test takes.
fn is_about(time: Duration, seconds: u64) -> bool {
    time <= secs(seconds) && time + secs(30) > secs(seconds)
}

#[tokio::test]
async fn the_server_forgets_what_is_too_old_and_counts_the_rest() {
    let seeded = Seeded::new();
    let hour = secs(3600);
    let (decision, left) = seeded.check(5, hour, &[(9999, 3), (3600, 1), (3000, 2), (100, 1)]).await;
    let Decision::Allowed { remaining: 1, reset_after } = decision else { panic!("{decision:?}") };
    assert!(is_about(reset_after, 600));
    assert_eq!(left.iter().map(|batch| batch.1).collect::<Vec<_>>(), [2, 1, 1]);

    let (decision, _) = seeded.check(5, hour, &[(9999, 3), (3000, 2), (2000, 2), (100, 1)]).await;
    let Decision::Limited { retry_after } = decision else { panic!("{decision:?}") };
    assert!(is_about(retry_after, 600));
    // The limit was higher: four have to go before there is room for one.
    let (decision, left) = seeded.check(3, hour, &[(3000, 2), (2000, 2), (1000, 2)]).await;
    let Decision::Limited { retry_after } = decision else { panic!("{decision:?}") };
    assert!(is_about(retry_after, 1600));
    assert_eq!(left.len(), 3, "a call that is limited changes nothing");
}

/// A batch that counted from its first call on would let too many through.
#[tokio::test]
async fn a_batch_counts_until_its_last_call_is_too_old() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let seeded = Seeded::new();
    // All of this test is in one 32nd of the window: within this year, as a rule.
    let (decision, left) = seeded.check(100, 32 * YEAR, &[(40, 3)]).await;
    let Decision::Allowed { remaining: 96, reset_after } = decision else { panic!("{decision:?}") };
    let [(ago, 4)] = left[..] else { panic!("{left:?}") };
    assert!(ago < 30 && is_about(reset_after, 32 * YEAR.as_secs()), "{ago}");
}

/// However many calls there are, and however long they go on.
#[tokio::test]
async fn a_log_has_no_more_batches_than_a_window_is_divided_into() {
    const BATCHES: usize = 32;
    let server = Server::redis().start();
    let limiter = RateLimiter::new(1_000_000, ms(320)).name("api").cache(&over(&server.url()));
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < ms(1000) {
        assert!(limiter.check("ada").await.unwrap().is_allowed());
        let length: usize = server.command(&["STRLEN", KEY]).parse().unwrap();
        most = most.max(length / 26);
    }
    // The first and the last of the window's parts may both be cut.
    assert!(most <= BATCHES + 1, "{most}");
}

/// Set back by a minute, say by an operator: calls from the future count for one window from now.
#[tokio::test]
async fn a_clock_that_is_set_back_limits_for_no_longer_than_a_window() {
    let seeded = Seeded::new();
    let (decision, left) = seeded.check(5, secs(3600), &[(1000, 1), (-9000, 2)]).await;
    let Decision::Allowed { remaining: 1, reset_after } = decision else { panic!("{decision:?}") };
    assert!(is_about(reset_after, 3600));
    assert_eq!(left.iter().map(|batch| batch.1).sum::<u64>(), 4);
    let (decision, _) = seeded.check(3, secs(3600), &[(1000, 1), (-9000, 2)]).await;
    let Decision::Limited { retry_after } = decision else { panic!("{decision:?}") };
    assert!(is_about(retry_after, 3600));
}

#[tokio::test]
async fn the_key_always_ends_with_the_window() {
    let server = Server::redis().start();
    let cache = over(&server.url());
    let limiter = RateLimiter::new(2, secs(100)).name("api").cache(&cache);
    let left = || server.command(&["PTTL", KEY]).parse::<i64>().unwrap();
    for is_allowed in [true, true, false] {
        assert_eq!(limiter.check("ada").await.unwrap().is_allowed(), is_allowed);
        assert!((70_000..=100_000).contains(&left()), "{}", left());
    }
    // Somebody's `PERSIST`: the next call that counts gives it an end again.
    server.command(&["PERSIST", KEY]);
    let higher = RateLimiter::new(3, secs(100)).name("api").cache(&cache);
    assert!(higher.check("ada").await.unwrap().is_allowed());
    assert!(left() > 0);
}

#[tokio::test]
async fn a_server_that_restarts_has_forgotten_and_one_that_is_gone_is_an_error() {
    let server = Server::redis().start();
    let cache =
        Cache::builder().redis(server.url()).store_budget(secs(10)).reconnect(ms(1), ms(10)).build().unwrap();
    let limiter = RateLimiter::new(1, secs(600)).cache(&cache);
    assert!(limiter.check("ada").await.unwrap().is_allowed());
    assert!(!limiter.check("ada").await.unwrap().is_allowed());
    server.kill();
    let error = limiter.check("ada").await.unwrap_err();
    assert!(matches!(error, CacheError::Unavailable(_) | CacheError::Timeout(_)), "{error}");
    server.restart();
    let begun = Instant::now();
    let decision = loop {
        match limiter.check("ada").await {
            Ok(decision) => break decision,
            Err(_) => assert!(begun.elapsed() < secs(20), "it doesn't come back"),
        }
        tokio::time::sleep(ms(5)).await;
    };
    assert!(decision.is_allowed(), "the script is sent whole, and the calls are forgotten");
}

/// Both open and closed are a word in the caller's code.
#[tokio::test]
async fn without_a_server_the_caller_decides() {
    let nowhere = Cache::builder().redis("redis://127.0.0.1:1").build().unwrap();
    let limiter = RateLimiter::new(1, secs(60)).cache(&nowhere);
    assert!(limiter.check("ada").await.map_or(true, Decision::is_allowed));
    assert!(!limiter.check("ada").await.is_ok_and(Decision::is_allowed));
}

#[tokio::test]
async fn ids_are_in_no_log_and_no_error() {
    let (log, _guard) = Log::new();
    let server = Server::redis().start();
    let cache = over(&server.url());
    let limiter = RateLimiter::new(1, secs(60)).name("api").cache(&cache);
    for _ in 0..3 {
        let _ = limiter.check("c4n4ry").await.unwrap();
    }
    server.command(&["DEL", "@rate:api:c4n4ry"]);
    server.command(&["RPUSH", "@rate:api:c4n4ry", "x"]);
    let error = limiter.check("c4n4ry").await.unwrap_err();
    assert!(matches!(error, CacheError::Server(_)), "{error:?}");
    server.kill();
    let gone = limiter.check("c4n4ry").await.unwrap_err();
    let shown = format!("{error} {error:?} {gone} {gone:?} {limiter:?} {}", log.text());
    assert!(!shown.contains("c4n4ry"), "{shown}");
}
