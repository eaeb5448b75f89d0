//! A cold key and four processes of 250 callers each: how many loads, and who waits for how long
//! (I5, I6, I9). The numbers are printed.

mod support;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_aside::Cache;
use support::client::Client;
use support::fleet::{self, Folder, Lines, Member, report};
use support::server::Server;
use support::{ms, secs};
use tokio::task::JoinSet;

const PROCESSES: usize = 4;
const CALLERS: u64 = 250;
/// The default, which these tests are about.
const LEASE: Duration = secs(3);
/// The longest pause between two looks for another process' load.
const POLL: Duration = ms(100);
/// For a machine that has other things to do.
const SLACK: Duration = secs(1);

/// What became of it.
struct Outcome {
    /// As the database counts them.
    loads: String,
    /// The value and the latency of each caller who got one, the quickest first.
    calls: Vec<(Duration, u64)>,
}

/// One process: connects, waits for the order, lets all callers loose and writes what they got.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let lines = Arc::new(Lines::of_member());
    let url = fleet::given("SERVER").expect("the parent says where");
    let cache = Cache::builder()
        .redis(&*url)
        .lease(LEASE)
        .poll(ms(5), POLL)
        // The server is well: a thousand callers on two cores are no reason to go on without it.
        .store_budget(secs(5))
        .build()
        .expect("the settings are good");
    cache.ping().await.expect("the server is there");
    lines.say("ready");
    fleet::orders().recv().await.expect("there is something to do");
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (cache, url, lines) = (cache.clone(), url.clone(), Arc::clone(&lines));
        callers.spawn(async move {
            let begun = Instant::now();
            let load = async || {
                let number = Client::to(&url).await.ask("INCR loads").await;
                lines.say("loading");
                tokio::time::sleep(ms(fleet::number("TAKES"))).await;
                number.parse().expect("a count")
            };
            let value: u64 = cache.get_or_set("cold", secs(600), load).await.expect("a short key");
            (value, begun.elapsed())
        });
    }
    for (value, took) in callers.join_all().await {
        lines.say(format_args!("call {value} {}", took.as_micros()));
    }
    lines.say("done");
}

/// A stampede for a load that takes so long. If `kill` says when, the process that loads is killed
/// that long after it began.
fn stampede(test: &str, takes: Duration, kill: Option<Duration>) -> Outcome {
    let (server, folder) = (Server::redis().start(), Folder::new());
    let url = server.url();
    let member = |number: usize| {
        let file = folder.path().join(number.to_string());
        Member::start(test, file, &[("SERVER", &url), ("TAKES", &takes.as_millis())])
    };
    let mut members: Vec<Member> = (0..PROCESSES).map(member).collect();
    wait(|| members.iter().all(|member| said(member, "ready")).then_some(()));
    for member in &mut members {
        member.tell("go");
    }
    if let Some(after) = kill {
        let leader = wait(|| members.iter().position(|member| said(member, "loading")));
        std::thread::sleep(after);
        members.remove(leader).kill();
    }
    wait(|| members.iter().all(|member| said(member, "done")).then_some(()));
    let mut calls: Vec<_> = members.iter().flat_map(Member::said).filter_map(|line| call(&line)).collect();
    calls.sort_unstable();
    let outcome = Outcome { loads: server.command(&["GET", "loads"]), calls };
    report(format_args!("{test}: {outcome}"));
    outcome
}

fn said(member: &Member, word: &str) -> bool {
    member.said().iter().any(|line| line == word)
}

fn call(line: &str) -> Option<(Duration, u64)> {
    let (value, micros) = line.strip_prefix("call ")?.split_once(' ')?;
    Some((Duration::from_micros(micros.parse().ok()?), value.parse().ok()?))
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < secs(60), "a process hangs");
        std::thread::sleep(ms(2));
    }
}

impl Outcome {
    /// The latency that this part of the callers didn't exceed.
    fn quantile(&self, per_mille: usize) -> Duration {
        self.calls[(self.calls.len() * per_mille / 1000).min(self.calls.len() - 1)].0
    }

    fn max(&self) -> Duration {
        self.quantile(1000)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [500, 990, 1000].map(|part| self.quantile(part).as_millis());
        write!(
            f,
            "{} callers, loads: {}, p50 {p50} ms, p99 {p99} ms, max {max} ms",
            self.calls.len(),
            self.loads
        )?;
        let (first, last) = (self.calls[0].0.as_millis(), max);
        let width = ((last - first) / 8).max(1);
        for from in (first..=last).step_by(usize::try_from(width).unwrap_or(1)) {
            let within = |(took, _): &&(Duration, u64)| (from..from + width).contains(&took.as_millis());
            let count = self.calls.iter().filter(within).count();
            write!(f, "\n  {from:>6} ms {count:>5} {}", "#".repeat(count.div_ceil(20)))?;
        }
        Ok(())
    }
}

#[test]
fn a_thousand_callers_in_four_processes_load_once() {
    if fleet::is_member() {
        return member();
    }
    let outcome = stampede("a_thousand_callers_in_four_processes_load_once", ms(200), None);
    assert_eq!((outcome.loads.as_str(), outcome.calls.len()), ("1", 1000));
    assert!(outcome.calls.iter().all(|(_, value)| *value == 1));
    assert!(outcome.max() < ms(200) + POLL + SLACK);
}

#[test]
fn a_killed_leader_delays_the_others_by_a_lease_and_a_poll() {
    if fleet::is_member() {
        return member();
    }
    let test = "a_killed_leader_delays_the_others_by_a_lease_and_a_poll";
    let outcome = stampede(test, ms(200), Some(ms(50)));
    assert_eq!((outcome.loads.as_str(), outcome.calls.len()), ("2", 750));
    assert!(outcome.calls.iter().all(|(_, value)| *value == 2), "nothing of the dead one's load is left");
    // 50 ms until the kill, what is left of its lease, a poll until one of the others leads, its
    // load, and a poll until the rest see its value.
    assert!(outcome.max() < ms(50) + LEASE + POLL + ms(200) + POLL + SLACK);
}

#[test]
fn a_load_longer_than_three_leases_is_the_only_one() {
    if fleet::is_member() {
        return member();
    }
    let outcome = stampede("a_load_longer_than_three_leases_is_the_only_one", secs(10), None);
    assert_eq!((outcome.loads.as_str(), outcome.calls.len()), ("1", 1000));
    assert!(outcome.max() < secs(10) + POLL + SLACK);
}
