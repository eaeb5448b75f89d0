//! The examples as programs, on each store. What they print is checked for what they claim: counts, never
//! times.

#[path = "support/child.rs"]
mod child;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use support::server::{Kind, Server};
use support::{example, secs};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// What an example printed.
struct Said(String);

impl Said {
    /// The whole numbers behind this label, for each line that has it.
    fn rows(&self, label: &str) -> Vec<Vec<u64>> {
        let rest = |line: &str| line.trim_start().strip_prefix(label).map(str::to_owned);
        let rests = self.0.lines().filter_map(rest).filter(|rest| rest.starts_with([' ', ':']));
        rests.map(|rest| numbers(&rest)).collect()
    }

    /// Those of the one line that has it.
    #[track_caller]
    fn row(&self, label: &str) -> Vec<u64> {
        let [row] = &self.rows(label)[..] else { panic!("not one `{label}` in\n{}", self.0) };
        row.clone()
    }

    #[track_caller]
    fn says(&self, line: &str) {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(self.0.lines().any(|said| words(said) == line), "no `{line}` in\n{}", self.0);
    }
}

/// The whole numbers in a text.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

static TURN: Mutex<()> = Mutex::const_new(());

async fn output(example: &str, vars: &[(&str, &str)]) -> Output {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| example::built(&["--examples"]));
    let mut command = Command::new(folder.join(example));
    command.current_dir(env!("CARGO_TARGET_TMPDIR")); // no `.env` there
    child::take_settings(&mut command);
    command.envs(vars.iter().copied());
    let mut command = tokio::process::Command::from(command);
    // One at a time: they are patient, but not for ever.
    let _turn = TURN.lock().await;
    let output = timeout(secs(300), command.kill_on_drop(true).output()).await;
    output.unwrap_or_else(|_| panic!("{example} doesn't end")).unwrap()
}

async fn run(example: &str, vars: &[(&str, &str)]) -> Said {
    let output = output(example, vars).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{example} {vars:?}\n{said}\n{complaints}");
    Said(said)
}

/// What it says when it can't do its work.
async fn refusal(example: &str, vars: &[(&str, &str)]) -> String {
    let output = output(example, vars).await;
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{example} ran\n{complaints}");
    assert_eq!(complaints.lines().count(), 1, "one sentence: {complaints}");
    complaints
}

/// Twice on one server, because it remembers; and in a namespace.
async fn on_servers(example: &str, check: impl Fn(&Said)) {
    for (kind, namespace, times) in [(Kind::Redis, "", 2), (Kind::Valkey, "shop", 1)] {
        let server = Server::of(kind).start();
        for _ in 0..times {
            check(&run(example, &[("REDIS_URL", &server.url()), ("CACHE_NAMESPACE", namespace)]).await);
            let left = server.command(&["INFO", "keyspace"]);
            let left = Said(left.replace(',', "\n").replace("db0:", "").replace('=', " "));
            // But queues: nobody forgets a write.
            let queues = server.command(&["EVAL", "return #redis.call('KEYS', '*@writes:{*')", "0"]);
            let (keys, expires) = (left.rows("keys").concat(), left.rows("expires").concat());
            let others: Vec<u64> = keys.iter().map(|keys| keys - numbers(&queues)[0]).collect();
            assert_eq!(others, expires, "{example}: what it leaves there expires");
        }
    }
}

async fn everywhere(example: &str, check: impl Fn(&Said)) {
    check(&run(example, &[]).await);
    on_servers(example, check).await;
}

/// Without a server it says what to set, and fails: so nobody takes it for done.
async fn on_servers_alone(example: &str, check: impl Fn(&Said)) {
    let why = refusal(example, &[]).await;
    assert!(why.contains("set REDIS_URL"), "{why}");
    on_servers(example, check).await;
}

#[test]
fn each_example_is_tested_and_stands_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (tests, readme) = (include_str!("examples.rs"), fs::read_to_string(root.join("README.md")).unwrap());
    let mut count = 0;
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue; // a package with tests of its own
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(tests.contains(&format!("(\"{name}\", ")), "nothing here runs {name}");
        assert!(readme.contains(&format!("| `{name}` |")), "{name} has no row in README.md");
        count += 1;
    }
    assert!(count > 10);
}

#[tokio::test]
async fn quickstart_says_what_is_a_hit() {
    everywhere("quickstart", |said| assert_eq!(said.row("3 hits, 5 misses"), [38])).await;
}

#[tokio::test]
async fn user_service_asks_the_database_less() {
    everywhere("user_service", |said| {
        assert_eq!(said.row("100 reads of 10 users"), [100, 10]);
        assert_eq!(said.row("after it"), [2, 0]);
    })
    .await;
}

#[tokio::test]
async fn hot_posts_are_loaded_once_for_a_crowd() {
    everywhere("hot_posts", |said| {
        let [queries, waited, later] = said.row("500 readers at once")[..] else { panic!("{}", said.0) };
        assert_eq!((queries, waited + later), (1, 499));
        said.says("after 9 likes: 0 queries, first is `post 3`");
        said.says("after the 10th: 1 query, first is `post 1`");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_is_seen_when_it_is_committed() {
    everywhere("transaction", |said| {
        said.says("in the transaction 70, for others 100");
        said.says("after the commit: (70, 130)");
        said.says("in the transaction -30, for others 70");
        said.says("after the rollback (1 can't pay 100): (70, 130)");
    })
    .await;
}

#[tokio::test]
async fn penetration_is_cured_for_ids_that_come_again() {
    everywhere("penetration", |said| {
        assert_eq!(said.row("100 users, `None` isn't cached"), [10_000, 10_000]);
        assert_eq!(said.row("100 users, `None` is cached"), [10_000, 100]);
        assert_eq!(said.row("1000 users, `None` is cached"), [1000, 1000]);
        said.says("user 7 is added, and found: Some(\"Ada\")");
    })
    .await;
}

#[tokio::test]
async fn an_avalanche_is_spread_by_jitter() {
    everywhere("avalanche", |said| {
        let (mut without, mut with) = (0, 0);
        for minute in 60..71 {
            let [first, second] = &said.rows(&minute.to_string())[..] else { panic!("{}", said.0) };
            (without, with) = (without + first[0], with + second[0]);
            assert_eq!(first[0], if minute == 60 { 1000 } else { 0 }, "{}", said.0);
            assert!(second[0] < 200, "{}", said.0);
            assert!(second[0] > 20 || minute == 70, "{}", said.0);
        }
        assert_eq!((without, with), (1000, 1000));
        for line in said.0.lines().filter(|line| line.starts_with("  ")) {
            let count: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert_eq!(line.matches('#').count(), count.div_ceil(20), "{line}");
        }
        let [without, with] = said.row("queries in the worst minute, without and with")[..] else {
            panic!("{}", said.0)
        };
        assert!(without == 1000 && with < 200, "{}", said.0);
    })
    .await;
}

#[tokio::test]
async fn a_breakdown_becomes_one_load() {
    everywhere("breakdown", |said| {
        assert_eq!(said.row("without single flight"), [1000, 0]);
        assert_eq!(said.row("with single flight"), [1, 999]);
    })
    .await;
}

#[tokio::test]
async fn a_stale_read_is_stored_by_hand_and_refused_by_a_lease() {
    everywhere("stale_read", |said| {
        said.says("by hand Grace Ada 0");
        said.says("with leases Grace Grace 1");
    })
    .await;
}

#[tokio::test]
async fn a_clean_stop_loses_no_view() {
    everywhere("view_counter", |said| {
        assert_eq!(said.row("before the stop"), [3150, 3000, 150, 30]);
        assert_eq!(said.row("after the stop"), [3150, 3150, 0, 33]);
    })
    .await;
}

#[tokio::test]
async fn hit_rates_are_those_of_the_process_and_of_the_fleet() {
    let here = |said: &Said| {
        assert_eq!(said.rows("get_user")[0], [90, 10, 90]);
        assert_eq!(said.rows("search")[0], [0, 100, 0]);
    };
    here(&run("hit_rate", &[]).await);
    on_servers("hit_rate", |said| {
        here(said);
        said.says("3 processes");
        assert_eq!(said.rows("get_user")[1], [290, 10, 96]);
        assert_eq!(said.rows("search")[1], [0, 300, 0]);
    })
    .await;
}

#[tokio::test]
async fn a_leaderboard_is_read_without_a_query() {
    on_servers_alone("leaderboard", |said| {
        said.says("1001 players from SQLite: 1 query");
        said.says("1. player 1000 10000");
        said.says("3. player 998 9980");
        said.says("ada plays, and has 9504 points: 1 query");
        said.says("50. player 951 9510");
        said.says("51. ada 9504");
        said.says("52. player 950 9500");
        said.says("who never played has a place: false");
        said.says("queries for all that was read: 0");
    })
    .await;
}

#[tokio::test]
async fn data_types_do_what_each_is_for() {
    on_servers_alone("data_types", |said| {
        said.says("string SETEX INCR 5");
        said.says(r#"hash HSET HINCRBY HGETALL {"name": "Ada", "visits": "42"}"#);
        said.says(r#"list RPUSH BLPOP LLEN (Some("first"), 2)"#);
        said.says(r#"set SADD SINTER (2, {"redis"})"#);
        said.says(r#"sorted set ZADD ZRANGEBYSCORE ["wake", "lunch"]"#);
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_is_one_round_trip() {
    on_servers_alone("pipeline", |said| {
        for command in ["SET", "GET"] {
            assert_eq!(said.row(&format!("{command} one by one")), [100]);
            assert_eq!(said.row(&format!("{command} in a pipeline")), [1]);
        }
        said.says("both read the same: true");
        assert_eq!(said.row("3 in a transaction"), [1]);
        said.says("moved: [0, 3]");
    })
    .await;
}

#[tokio::test]
async fn calls_go_on_when_memory_is_full() {
    let folder = std::env::temp_dir().join(format!("examples-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let folder_name = folder.to_str().unwrap();
    let server = "CACHE_ASIDE_REDIS_SERVER";
    for kind in [Kind::Redis, Kind::Valkey] {
        let program = kind.program();
        let said = run("memory_full", &[(server, program.to_str().unwrap()), ("TMPDIR", folder_name)]).await;
        let old: Vec<Vec<u64>> =
            said.0.lines().filter(|line| line.contains("old_data")).map(numbers).collect();
        let [[written], [all_deleted], [taken, twice, evicted], [deleted]] =
            old.iter().map(|row| &row[..]).collect::<Vec<_>>()[..]
        else {
            panic!("{}", said.0)
        };
        assert!(*written > 100 && written == all_deleted, "{}", said.0);
        assert!(*twice == 2 * written && taken == twice && *evicted > 0, "{}", said.0);
        assert!((1..*twice).contains(deleted), "{}", said.0);

        let hits = |label: &str| {
            let hits = |row: &Vec<u64>| {
                assert!(row[..2] == [50, 0] && row[2] + row[3] == 50, "each call has its page: {}", said.0);
                row[2]
            };
            said.rows(label).iter().map(hits).collect::<Vec<_>>()
        };
        let [0, evicted_from, partly] = hits("pages 1 to 50")[..] else { panic!("{}", said.0) };
        assert!(evicted_from < 50 && partly >= evicted_from, "{}", said.0);
        assert_eq!(hits("pages 51 to 100")[0], 0, "{}", said.0);
        // Read again: stored, still there when the server is full, new ones not stored, and stored again.
        let [50, 50, unstored, 50, 50] = hits("the same again")[..] else { panic!("{}", said.0) };
        assert!(unstored < 10, "a few bytes may come free, of buffers; no more: {}", said.0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "its server has ended");
    }
    let why = refusal("memory_full", &[(server, "/no/such/program")]).await;
    assert!(why.contains("install Redis"), "{why}");
    fs::remove_dir(&folder).unwrap();
}

#[tokio::test]
async fn a_sliding_window_lets_no_more_through_than_it_says() {
    everywhere("rate_limit", |said| {
        assert_eq!(said.row("fixed window")[0], 19);
        assert_eq!(said.row("sliding window"), [10]);
        assert_eq!(said.row("the next request")[0], 429);
        said.says("log in with \"ada1815\": wrong");
        said.says("log in with \"correct horse\": too many tries");
        said.says("without a store: too many tries");
    })
    .await;
}

#[tokio::test]
async fn sessions_end_when_they_should() {
    everywhere("session_store", |said| {
        let counts = |label| said.row(label)[0];
        let labels = ["two devices", "the second factor", "a third one", "a new password"];
        assert_eq!(labels.map(counts), [2, 2, 3, 1]);
        assert_eq!(counts("three seconds later"), 0);
        said.says("an id, as a log would show it: Some(SessionId(..))");
    })
    .await;
}

#[tokio::test]
async fn writes_are_answered_now_and_applied_later() {
    everywhere("write_behind", |said| {
        said.says("the row: \"user 1\", what readers get: \"renamed 1\"");
        said.says("without the entry, too: \"renamed 1\", 0 queries");
        said.says("readers get \"renamed again\"");
        said.says("rename of 1000: there is no such profile, after 4 attempts");
        said.says("replayed, now that there is: \"nobody\"");
        let end = "told to stop with 40 writes in the queue, the worker left 0; 40 rows are written";
        said.says(end);
    })
    .await;
}

#[tokio::test]
async fn each_strategy_asks_the_database_at_its_own_time() {
    everywhere("strategies", |said| {
        assert_eq!(said.row("cache-aside"), [1, 1, 1, 0]);
        assert_eq!(said.row("write-through"), [1, 1, 0, 0]);
        assert_eq!(said.row("write-behind"), [1, 0, 0, 1]);
        assert_eq!(said.row("refresh-ahead"), [1, 1, 0, 1]);
    })
    .await;
}
