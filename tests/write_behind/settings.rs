//! What can't be used, and what is said then.

use cache_aside::{CacheError, Durability, Job, WriteBehind, WriteBehindBuilder};

use crate::support::{embedded, ms, secs};
use crate::world::queue;

#[test]
fn each_bad_value_is_named_with_what_to_write() {
    let cases: [(WriteBehindBuilder, &str, &str); 13] = [
        (WriteBehind::queue(""), "the name of the queue is \"\"", "`user_writes`"),
        (WriteBehind::queue("a:b"), "\"a:b\"", "1 to 64 letters, digits, `_`, `.` or `-`"),
        (WriteBehind::queue("\u{e9}"), "the name of the queue", "`user_writes`"),
        (WriteBehind::queue("a{b}"), "the name of the queue", "`user_writes`"),
        (WriteBehind::queue("q".repeat(65)), "the name of the queue", "1 to 64"),
        (WriteBehind::queue("q").shards(0), "`shards` is 0", "from 1 to 64"),
        (WriteBehind::queue("q").shards(65), "`shards` is 65", "from 1 to 64"),
        (WriteBehind::queue("q").capacity(0), "`capacity` is 0", "at least 1"),
        (WriteBehind::queue("q").dead_letter_capacity(0), "`dead_letter_capacity` is 0", "at least 1"),
        (WriteBehind::queue("q").backoff(secs(2), secs(1)), "`backoff`", "the shorter time first"),
        (WriteBehind::queue("q").backoff(ms(0), secs(1)), "`backoff` is below", "a longer time"),
        (WriteBehind::queue("q").attempt_timeout(ms(0)), "`attempt_timeout`", "a longer time"),
        (WriteBehind::queue("q").patience(ms(0)), "`patience`", "a longer time"),
    ];
    for (builder, problem, cure) in cases {
        let error = builder.cache(&embedded()).build().unwrap_err();
        let CacheError::Settings(text) = &error else { panic!("{error:?}") };
        assert!(text.contains(problem) && text.contains(cure), "{text}");
    }
}

#[test]
fn what_can_be_used_is() {
    let names = ["q", "user_writes", "a.b-C_9", &"q".repeat(64)];
    for name in names {
        let writes = WriteBehind::queue(name).cache(&embedded()).shards(64).retries(0).build().unwrap();
        assert_eq!((writes.name(), writes.clone().name()), (name, name));
        assert!(format!("{writes:?}").contains(name));
    }
}

#[tokio::test]
async fn the_embedded_store_has_no_disk() {
    let writes = queue(&embedded()).durability(Durability::Fsync).build().unwrap();
    let sent = writes.send("write", 1, &1).await.unwrap_err();
    let run = writes.workers(()).run_until(std::future::pending::<()>()).await.unwrap_err();
    for error in [sent, run] {
        let CacheError::Settings(text) = &error else { panic!("{error:?}") };
        assert!(text.contains("REDIS_URL") && text.contains("`Durability::Memory`"), "{text}");
    }
}

#[tokio::test]
async fn handlers_that_can_not_be_are_refused() {
    let writes = queue(&embedded()).build().unwrap();
    let handler = async |_: Job<u8>, ()| Ok::<_, String>(());
    let twice = writes.workers(()).handle("a", handler).handle("b", handler).handle("a", handler);
    let shown = format!("{twice:?}");
    let error = twice.run_until(std::future::pending::<()>()).await.unwrap_err().to_string();
    assert!(error.contains("two handlers for the kind `a`") && shown.contains("writes"), "{error} {shown}");
    let error = writes.workers(()).handle("", handler).run_until(async {}).await.unwrap_err().to_string();
    assert!(error.contains("the kind \"\""), "{error}");
}
