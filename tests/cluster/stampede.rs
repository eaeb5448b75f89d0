//! A cold key of a cluster, and of a primary that sentinels name, and four processes of 250 callers each (I5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_aside::Cache;
use tokio::task::JoinSet;

use crate::scene::three_and_three;
use crate::support::client::Client;
use crate::support::fleet::{self, Folder, Lines, Member, report};
use crate::support::sentinel::Trio;
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::{member, turn};

const PROCESSES: usize = 4;
const CALLERS: usize = 250;

/// One process: connects, waits for the order, lets all callers loose and writes what they got.
async fn callers() {
    let lines = Arc::new(Lines::of_member());
    let given = |name| fleet::given(name).expect("the parent says where");
    let (url, truth) = (given("SERVER"), given("TRUTH"));
    // The servers are well: a thousand callers on two cores are no reason to go on without them.
    let cache = Cache::builder().redis(url).store_budget(secs(20)).build().expect("the settings are good");
    cache.ping().await.expect("the cluster is there");
    lines.say("ready");
    fleet::orders().recv().await.expect("there is something to do");
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (cache, truth) = (cache.clone(), truth.clone());
        callers.spawn(async move {
            let begun = Instant::now();
            let load = async || {
                let number = Client::to(&truth).await.ask("INCR loads").await;
                tokio::time::sleep(ms(200)).await;
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

/// Waits until all have said this word.
fn all_say(members: &[Member], word: &str) {
    let begun = Instant::now();
    while !members.iter().all(|member| member.said().iter().any(|line| line == word)) {
        assert!(begun.elapsed() < secs(60), "a process hangs before it is {word}");
        std::thread::sleep(ms(2));
    }
}

fn call(line: &str) -> Option<(Duration, u64)> {
    let (value, micros) = line.strip_prefix("call ")?.split_once(' ')?;
    Some((Duration::from_micros(micros.parse().ok()?), value.parse().ok()?))
}

#[test]
fn a_thousand_callers_in_four_processes_load_once() {
    if fleet::is_member() {
        return member(callers());
    }
    let _turn = turn();
    let cluster = three_and_three(Kind::Redis, true);
    load_once("stampede::a_thousand_callers_in_four_processes_load_once", &cluster.url());
}

#[test]
fn a_thousand_callers_with_sentinels_load_once() {
    if fleet::is_member() {
        return member(callers());
    }
    let _turn = turn();
    let trio = Trio::start(Kind::Redis);
    load_once("stampede::a_thousand_callers_with_sentinels_load_once", &trio.url());
}

fn load_once(test: &'static str, url: &str) {
    let (truth, folder) = (Server::redis().start(), Folder::new());
    let truth_url = truth.url();
    let member = |number: usize| {
        let file = folder.path().join(number.to_string());
        Member::start(test, file, &[("SERVER", &url), ("TRUTH", &truth_url)])
    };
    let mut members: Vec<Member> = (0..PROCESSES).map(member).collect();
    all_say(&members, "ready");
    for member in &mut members {
        member.tell("go");
    }
    all_say(&members, "done");
    let mut calls: Vec<_> = members.iter().flat_map(Member::said).filter_map(|line| call(&line)).collect();
    calls.sort_unstable();
    let loads = truth.command(&["GET", "loads"]);
    let at = |per_cent: usize| calls[(calls.len() - 1) * per_cent / 100].0;
    report(format_args!(
        "{test}: {} callers, {loads} load of 200 ms, p50 {:.0?}, p99 {:.0?}, max {:.0?}",
        calls.len(),
        at(50),
        at(99),
        at(100)
    ));
    assert_eq!((&*loads, calls.len()), ("1", PROCESSES * CALLERS));
    assert!(calls.iter().all(|(_, value)| *value == 1));
}
