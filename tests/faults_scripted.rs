//! Every reply that a server can give, at each step of each operation: a decorated call gives what its
//! function gives, an operation by hand gives the right kind of error, a writer's invalidation is kept,
//! and nothing panics or is wrong (I11, I12, I13; the fault table of DESIGN 4).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_aside::{Cache, CacheError, Expiry, Ttl, cache};
use sample::{Row, World, read, write, write_all};
use support::script::{Reply, Script};
use support::server::Server;
use support::{ms, secs};
use tokio::task::JoinSet;

/// What a reply means to an operation by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// The server says no.
    Refused,
    /// It would work in a moment.
    Moment,
    /// It doesn't know the script.
    Unknown,
    /// The connection is of no use any more.
    Gone,
    /// No answer.
    Silence,
    /// A well-formed reply that may or may not fit.
    Odd,
}

#[derive(Debug, Clone)]
struct Fault {
    name: &'static str,
    reply: Reply,
    means: Means,
}

fn faults() -> Vec<Fault> {
    use Means::{Gone, Moment, Odd, Refused, Silence, Unknown};
    let mut all = Vec::new();
    for (means, text) in [
        (Refused, "OOM command not allowed when used memory > 'maxmemory'."),
        (Moment, "LOADING Redis is loading the dataset in memory"),
        (Moment, "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        (Moment, "CLUSTERDOWN The cluster is down"),
        (Moment, "TRYAGAIN Multiple keys request during rehashing of slot"),
        (Gone, "READONLY You can't write against a read only replica."),
        (Refused, "MOVED 3999 127.0.0.1:6381"),
        (Refused, "ASK 3999 127.0.0.1:6381"),
        (Refused, "NOAUTH Authentication required."),
        (Refused, "WRONGPASS invalid username-password pair or user is disabled."),
        (Refused, "NOPERM this user has no permissions to run the command"),
        (Refused, "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
        (
            Refused,
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        ),
        (Refused, "NOREPLICAS Not enough good replicas to write."),
        (Unknown, "NOSCRIPT No matching script. Please use EVAL."),
        (Refused, "WRONGTYPE Operation against a key holding the wrong kind of value"),
        (Refused, "ERR unknown command"),
        (Refused, "EXECABORT Transaction discarded because of previous errors."),
        (Refused, "NEVERHEARDOF it"),
    ] {
        all.push(Fault { name: text.split(' ').next().unwrap(), reply: Reply::Error(text), means });
    }
    all.push(Fault { name: "silence", reply: Reply::Silence, means: Silence });
    all.push(Fault { name: "close", reply: Reply::Close, means: Gone });
    all.push(Fault { name: "done and lost", reply: Reply::Lost, means: Gone });
    for (means, name, bytes) in [
        (Gone, "garbage", &b"\x00\xff\xfe garbage \r\n\r\n"[..]),
        (Gone, "another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        (Odd, "a bad length", b"$-7\r\n"),
        (Silence, "half a reply", b"$100\r\nhalf"),
        (Silence, "a length beyond all memory", b"$99999999999\r\nx"),
        (Silence, "an array beyond all memory", b"*2147483647\r\n:1\r\n"),
        (Odd, "an error without a word", b"-\r\n"),
        (Odd, "null", b"_\r\n"),
        (Odd, "null of RESP2", b"$-1\r\n"),
        (Odd, "a status", b"+OK\r\n"),
        (Odd, "a number below zero", b":-9\r\n"),
        (Odd, "a double", b",3.5\r\n"),
        (Odd, "a truth", b"#t\r\n"),
        (Odd, "a big number", b"(3492890328409238509324850943850943825024385\r\n"),
        (Odd, "an empty string", b"$0\r\n\r\n"),
        (Odd, "a string of no form", b"$5\r\nhello\r\n"),
        (Odd, "a lease of nobody", b"$20\r\n\xCA\x5E\x01\x020123456789abcdef\r\n"),
        (Odd, "the half of a record", b"$30\r\n\xCA\x5E\x01\x010123456789abcdef0123456789\r\n"),
        (Odd, "a record of the future", b"$21\r\n\xCA\x5E\x63\x010123456789abcdef!\r\n"),
        (Odd, "verbatim", b"=8\r\ntxt:text\r\n"),
        (Odd, "an empty array", b"*0\r\n"),
        (Odd, "an array", b"*2\r\n:1\r\n*1\r\n+x\r\n"),
        (Odd, "a map", b"%1\r\n+a\r\n:1\r\n"),
        (Odd, "a set", b"~1\r\n+a\r\n"),
        (Odd, "an error as a string", b"!10\r\nERR no way\r\n"),
    ] {
        all.push(Fault { name, reply: Reply::Raw(bytes.to_vec()), means });
    }
    all
}

/// Which commands get the fault: those of this name, from this one on.
#[derive(Debug, Clone)]
struct Rule {
    command: &'static str,
    skip: usize,
    /// How often; then it passes.
    times: usize,
    reply: Reply,
    hits: usize,
}

/// A server that answers as a real one, but for what is armed.
struct Stage {
    world: World,
    armed: Arc<Mutex<Vec<Rule>>>,
    _script: Script,
    next: u64,
}

const LEASE: Duration = ms(90);

impl Stage {
    fn new(server: &Server, fault: &Fault) -> Self {
        let armed = Arc::<Mutex<Vec<Rule>>>::default();
        let script = Script::over(&server.url(), {
            let armed = Arc::clone(&armed);
            move |words| {
                for rule in armed.lock().unwrap().iter_mut().filter(|rule| rule.command == words[0]) {
                    if rule.skip > 0 {
                        rule.skip -= 1;
                    } else if rule.times > 0 {
                        rule.times -= 1;
                        rule.hits += 1;
                        return rule.reply.clone();
                    }
                }
                Reply::Default
            }
        });
        let cache = Cache::builder().redis(script.url()).namespace(fault.name.replace(' ', "-"));
        let cache = cache
            .store_budget(budget(fault))
            .lease(LEASE)
            .load_deadline(ms(500))
            .breaker(2)
            .reconnect(ms(1), ms(10));
        Self { world: World::new(cache.build().unwrap()), armed, _script: script, next: 0 }
    }

    fn arm(&self, step: Step, fault: &Fault, times: usize) {
        let Step(command, skip) = step;
        let mut rules = vec![Rule { command, skip, times, reply: fault.reply.clone(), hits: 0 }];
        if command == "EVAL" {
            let unknown = Reply::Error("NOSCRIPT No matching script. Please use EVAL.");
            rules.push(Rule { command: "EVALSHA", skip: 0, times: usize::MAX, reply: unknown, hits: 0 });
        }
        *self.armed.lock().unwrap() = rules;
    }

    /// Everything works again; how often the fault was given.
    async fn heal(&self) -> usize {
        let hits = std::mem::take(&mut *self.armed.lock().unwrap()).first().map_or(0, |rule| rule.hits);
        let begun = Instant::now();
        while self.world.cache.ping().await.is_err() || self.world.cache.pending_invalidations() > 0 {
            assert!(begun.elapsed() < secs(10), "it doesn't come back: {:?}", self.world.cache.stats());
            tokio::time::sleep(ms(1)).await;
        }
        hits
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The command that the fault hits, and how many of its name come before.
#[derive(Debug, Clone, Copy)]
struct Step(&'static str, usize);

/// The same function, before and after its values changed their meaning.
async fn versioned(world: &World, id: u64, is_new: bool) -> Row {
    if is_new {
        #[cache(ttl = 600, key = "versioned:{id}", version = 2, cache = &world.cache)]
        async fn function(world: &World, id: u64) -> Row {
            world.row(id)
        }
        function(world, id).await
    } else {
        #[cache(ttl = 600, key = "versioned:{id}", version = 1, cache = &world.cache)]
        async fn function(world: &World, id: u64) -> Row {
            world.row(id)
        }
        function(world, id).await
    }
}

/// The calls that a user's code makes without knowing of a cache, and their commands.
const CALLS: [(&str, &[Step]); 9] = [
    ("miss", &[Step("GET", 0), Step("SET", 0), Step("EVALSHA", 0), Step("EVAL", 0)]),
    ("hit", &[Step("GET", 0)]),
    ("replace", &[Step("GET", 0), Step("EVALSHA", 0), Step("EVALSHA", 1), Step("EVAL", 0), Step("EVAL", 1)]),
    ("error", &[Step("GET", 0), Step("SET", 0), Step("EVALSHA", 0), Step("EVAL", 0)]),
    ("long load", &[Step("SET", 0), Step("EVALSHA", 0), Step("EVALSHA", 1), Step("EVAL", 0)]),
    ("refresh", &[Step("GET", 0), Step("EVALSHA", 0), Step("EVALSHA", 1), Step("EVAL", 0), Step("EVAL", 1)]),
    ("refresh of plain JSON", &[Step("GET", 0), Step("GETRANGE", 0), Step("UNLINK", 0)]),
    ("write", &[Step("UNLINK", 0)]),
    ("write all", &[Step("SCAN", 0), Step("UNLINK", 0)]),
];

/// What has to be there before the fault.
async fn prepare(world: &World, call: &str, id: u64) {
    match call {
        "replace" => drop(versioned(world, id, false).await),
        "hit" | "refresh" | "write" | "write all" => drop(world.check(id).await),
        "refresh of plain JSON" => {
            world.cache.set(&format!("row:{id}"), &world.row(id), secs(60)).await.unwrap();
        }
        _ => {}
    }
}

/// Makes the call, whose outcome is that of the function.
async fn make(world: &World, call: &str, id: u64) {
    match call {
        "miss" | "hit" => assert_eq!(read(world, id).await, world.row(id)),
        "replace" => assert_eq!(versioned(world, id, true).await, world.row(id)),
        "error" => {
            let key = format!("error:{id}");
            let failed = world.cache.try_get_or_set(&key, secs(60), async || Err::<Row, _>(id)).await;
            assert_eq!(failed, Err(id), "the caller's own error");
        }
        "long load" => {
            let load = async || {
                tokio::time::sleep(LEASE * 9 / 10).await;
                id
            };
            assert_eq!(world.cache.get_or_set(&format!("long:{id}"), secs(60), load).await.unwrap(), id);
        }
        "refresh" | "refresh of plain JSON" => {
            assert_eq!(read::refresh_cache(world, id).await, world.row(id));
        }
        "write" => assert_eq!(write(world, id).await, world.row(id).version),
        "write all" => assert_eq!(write_all(world, id + 1).await, "written"),
        other => panic!("{other}"),
    }
}

/// With a budget that the machine doesn't exhaust, unless the fault does.
fn budget(fault: &Fault) -> Duration {
    match fault.means {
        Means::Silence | Means::Moment => ms(80),
        Means::Odd => ms(400),
        Means::Refused | Means::Unknown | Means::Gone => secs(3),
    }
}

/// Plays it for all faults, several at a time, for most of it is waiting.
async fn for_all_faults<F: Future<Output = usize> + Send + 'static>(play: impl Fn(Fault, Arc<Server>) -> F) {
    let server = Arc::new(Server::redis().start());
    let (mut plays, mut cases) = (JoinSet::new(), 0);
    for fault in faults() {
        if plays.len() == 6 {
            cases += plays.join_next().await.unwrap().unwrap();
        }
        plays.spawn(play(fault, Arc::clone(&server)));
    }
    cases += plays.join_all().await.into_iter().sum::<usize>();
    println!("{cases} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_says_a_call_gives_what_its_function_gives() {
    for_all_faults(async |fault, server| {
        let mut stage = Stage::new(&server, &fault);
        for (call, steps) in CALLS {
            for step in steps {
                for times in [1, usize::MAX] {
                    let case = format!("{} at {step:?} of {call}, {times} times", fault.name);
                    // With a short budget, a busy machine may end a call before it comes to that.
                    let mut tries = 0;
                    loop {
                        let id = stage.fresh();
                        prepare(&stage.world, call, id).await;
                        stage.arm(*step, &fault, times);
                        make(&stage.world, call, id).await;
                        stage.world.check(id).await; // during the fault
                        let hits = stage.heal().await;
                        stage.world.check(id).await; // and after it
                        if hits > 0 {
                            break;
                        }
                        tries += 1;
                        assert!(tries < 5, "{case}: never came to that");
                    }
                }
            }
        }
        usize::try_from(stage.next).unwrap()
    })
    .await;
}

/// A fault for good, whatever the server is asked: the calls go on, and the hits come back by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_says_to_everything_calls_go_on() {
    const ALL: [&str; 9] = ["GET", "SET", "EVALSHA", "EVAL", "UNLINK", "SCAN", "GETRANGE", "PTTL", "PING"];
    for_all_faults(async |fault, server| {
        let stage = Stage::new(&server, &fault);
        stage.world.check(1).await;
        stage.world.check(1).await;
        let rule =
            |command| Rule { command, skip: 0, times: usize::MAX, reply: fault.reply.clone(), hits: 0 };
        *stage.armed.lock().unwrap() = ALL.into_iter().map(rule).collect();
        for id in 0..4 {
            stage.world.check(id).await;
        }
        assert_eq!(write(&stage.world, 1).await, 1);
        stage.world.check(1).await;
        assert_eq!(read::refresh_cache(&stage.world, 1).await, stage.world.row(1));
        stage.world.check(1).await;
        stage.heal().await;
        stage.world.check(1).await;
        stage.world.until_hit(1).await;
        1
    })
    .await;
}

/// What has no form that the command could have shows that replies and commands are out of step.
#[tokio::test]
async fn a_reply_of_another_form_costs_the_connection() {
    for (command, reply) in
        [("GET", &b"+OK\r\n"[..]), ("SET", b":1\r\n"), ("EVALSHA", b"+OK\r\n"), ("UNLINK", b"_\r\n")]
    {
        let first = AtomicBool::new(true);
        let script = Script::start(move |words| {
            let odd = words[0] == command && words.get(1).is_some_and(|word| word != "warm");
            if odd && first.swap(false, SeqCst) { Reply::Raw(reply.to_vec()) } else { Reply::Default }
        });
        let world = World::new(sample::patient(&script.url()).build().unwrap());
        world.cache.get::<u8>("warm").await.unwrap();
        assert_eq!(script.seen.count("PING"), 1);
        world.check(1).await;
        write(&world, 1).await;
        sample::eventually("another connection", || script.seen.count("PING") == 2).await;
        world.check(1).await;
    }
}

/// A fault while the connection is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_says_to_a_greeting_calls_go_on() {
    for_all_faults(async |fault, server| {
        for command in ["HELLO", "AUTH", "CLIENT", "SELECT", "PING"] {
            let rule = Rule { command, skip: 0, times: usize::MAX, reply: fault.reply.clone(), hits: 0 };
            let armed = Arc::new(Mutex::new(Some(rule)));
            let script = Script::over(&server.url(), {
                let armed = Arc::clone(&armed);
                move |words| match &mut *armed.lock().unwrap() {
                    Some(rule) if rule.command == words[0] => {
                        rule.hits += 1;
                        rule.reply.clone()
                    }
                    _ => Reply::Default,
                }
            });
            // The bench's own user, for the server asks nobody else.
            let url = script.url().replace("redis://", "redis://bench:bench@");
            let protocol = if command == "AUTH" { "?protocol=resp2" } else { "" };
            let cache =
                Cache::builder().redis(format!("{url}/3{protocol}")).namespace(fault.name.replace(' ', "-"));
            let cache = cache.store_budget(ms(80)).reconnect(ms(1), ms(10)).build().unwrap();
            let world = World::new(cache);
            for id in 0..3 {
                world.check(id).await;
            }
            assert!(armed.lock().unwrap().take().unwrap().hits > 0, "{command} came");
            world.until_hit(1).await;
        }
        5
    })
    .await;
}

/// Operations by hand, and their commands.
const BY_HAND: [(&str, &[Step]); 16] = [
    ("get", &[Step("GET", 0)]),
    ("get_many", &[Step("MGET", 0)]),
    ("set", &[Step("SET", 0)]),
    ("set_many", &[Step("SET", 0), Step("SET", 1)]),
    ("delete", &[Step("GETRANGE", 0), Step("UNLINK", 0)]),
    ("delete_pattern", &[Step("SCAN", 0), Step("UNLINK", 0)]),
    ("exists", &[Step("PTTL", 0), Step("GETRANGE", 0)]),
    ("ttl", &[Step("PTTL", 0), Step("GETRANGE", 0)]),
    ("increment", &[Step("INCRBY", 0)]),
    ("increment_with_ttl", &[Step("EVALSHA", 0), Step("EVAL", 0)]),
    ("expire", &[Step("PEXPIRE", 0)]),
    ("never expire", &[Step("PERSIST", 0), Step("EXISTS", 0)]),
    ("clear_cache", &[Step("UNLINK", 0)]),
    ("clear_cache_all", &[Step("SCAN", 0), Step("UNLINK", 0)]),
    ("put_cache", &[Step("GET", 0), Step("EVALSHA", 0)]),
    ("cached", &[Step("GET", 0)]),
];

/// The value under `key` is `id`; a wrong one isn't given, whatever happens.
async fn by_hand(world: &World, operation: &str, id: u64) -> Result<(), CacheError> {
    let (cache, key, row) = (&world.cache, &*format!("k:{id}"), world.row(id));
    match operation {
        "get" => cache.get::<u64>(key).await.map(|got| assert!(got.is_none_or(|got| got == id), "{got:?}")),
        "get_many" => cache.get_many::<u64>(&[key, key]).await.map(|got| {
            assert!(got.len() == 2 && got.iter().flatten().all(|got| *got == id), "{got:?}");
        }),
        "set" => cache.set(key, &id, secs(60)).await,
        "set_many" => cache.set_many(&[(key, id), (key, id)], secs(60)).await,
        "delete" => cache.delete(key).await.map(drop),
        "delete_pattern" => cache.delete_pattern(key).await.map(drop),
        "exists" => cache.exists(key).await.map(drop),
        "ttl" => cache.ttl(key).await.map(|left| match left {
            Expiry::In(left) => assert!(left <= secs(60)),
            Expiry::Missing | Expiry::Never => {}
        }),
        "increment" => cache.increment(key).await.map(drop),
        "increment_with_ttl" => cache.increment_with_ttl(key, secs(60)).await.map(drop),
        "expire" => cache.expire(key, secs(50)).await.map(drop),
        "never expire" => cache.expire(key, Ttl::Never).await.map(drop),
        "clear_cache" => read::clear_cache(world, id).await.map(drop),
        "clear_cache_all" => read::clear_cache_all(world).await,
        "put_cache" => read::put_cache(world, id, &row).await,
        "cached" => {
            read::cached(world, id).await.map(|got| assert!(got.is_none_or(|got| got == row), "{got:?}"))
        }
        other => panic!("{other}"),
    }
}

/// Whether an outcome fits the fault.
fn fits(fault: &Fault, step: Step, times: usize, outcome: &Result<(), CacheError>) -> bool {
    use CacheError::{Decode, Server, Timeout, Unavailable};
    match (fault.means, outcome) {
        // What stood there is asked besides; without an answer to that it goes on.
        (Means::Refused | Means::Unknown | Means::Moment | Means::Gone, Ok(())) if step.0 == "GETRANGE" => {
            true
        }
        (Means::Refused, Err(Server(text))) => text.starts_with(fault.name),
        (Means::Unknown, Ok(())) => step.0 == "EVALSHA",
        (Means::Unknown, Err(Server(_))) => step.0 != "EVALSHA",
        // What may be asked twice is, over the next connection.
        (Means::Moment | Means::Gone, Ok(())) => times == 1,
        // A status where a number belongs, and so on: either it is taken as it is, or it shows that replies
        // and commands have got out of step.
        (Means::Odd, Err(error)) => matches!(error, Server(_) | Decode(_) | Unavailable(_) | Timeout(_)),
        (Means::Odd, Ok(()))
        | (Means::Moment | Means::Gone | Means::Silence, Err(Unavailable(_) | Timeout(_))) => true,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_says_by_hand_it_is_the_right_error() {
    for_all_faults(async |fault, server| {
        let mut stage = Stage::new(&server, &fault);
        for (operation, steps) in BY_HAND {
            for step in steps {
                for times in [1, usize::MAX] {
                    let mut tries = 0;
                    loop {
                        let id = stage.fresh();
                        by_hand(&stage.world, "set", id).await.ok();
                        stage.world.check(id).await;
                        stage.arm(*step, &fault, times);
                        let outcome = by_hand(&stage.world, operation, id).await;
                        let case =
                            format!("{} at {step:?} of {operation}, {times} times: {outcome:?}", fault.name);
                        if operation.starts_with("clear") && outcome.is_err() {
                            // The one that may not be lost.
                            stage.world.touch(id);
                            stage.world.check(id).await;
                        }
                        let hits = stage.heal().await;
                        if hits > 0 {
                            assert!(fits(&fault, *step, times, &outcome), "{case}");
                            break;
                        }
                        tries += 1;
                        assert!(tries < 5, "{case}: never came to that");
                    }
                }
            }
        }
        usize::try_from(stage.next).unwrap()
    })
    .await;
}
