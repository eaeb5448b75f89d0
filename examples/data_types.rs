//! What else a server keeps beside cached values: the five types of everyday use, through `get_redis`.
//!
//! It needs a server: `cargo xtask redis` starts a throw-away one and prints the `REDIS_URL` to set.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Debug;

use cache_aside::redis::AsyncCommands;
use cache_aside::{Settings, get_redis};

const TRIES: &str = "data_types:tries:ada";
const USER: &str = "data_types:user:1";
const JOBS: &str = "data_types:jobs";
const ADAS: &str = "data_types:likes:ada";
const GRACES: &str = "data_types:likes:grace";
const DUE: &str = "data_types:due";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    cache_aside::init(Settings::load()?).await?;
    // One connection, ours alone until it is dropped: so commands that wait do no harm.
    let mut redis = get_redis().await.map_err(|error| error.to_string())?; // without a server it says so
    let () = redis.del(&[TRIES, USER, JOBS, ADAS, GRACES, DUE]).await?; // it may remember the last run

    // A string holds bytes, or a number that is counted up in one step. Cached values are strings, too.
    let () = redis.set_ex(TRIES, 4, 60).await?;
    let tries: i64 = redis.incr(TRIES, 1).await?;
    show("string", "SETEX INCR", &tries);

    // A hash is an object whose fields change one by one; JSON would be read and written whole.
    let () = redis.hset_multiple(USER, &[("name", "Ada"), ("visits", "41")]).await?;
    let _: i64 = redis.hincr(USER, "visits", 1).await?;
    let user: BTreeMap<String, String> = redis.hgetall(USER).await?;
    show("hash", "HSET HINCRBY HGETALL", &user);

    // A list is a queue: in at the right, out at the left. BLPOP waits for a job, here for a second at most.
    let _: i64 = redis.rpush(JOBS, &["first", "second", "third"]).await?;
    let job: Option<(String, String)> = redis.blpop(JOBS, 1.0).await?; // of which queue, and what
    let left: i64 = redis.llen(JOBS).await?;
    show("list", "RPUSH BLPOP LLEN", &(job.map(|(_, job)| job), left));

    // A set holds each member once, and knows what two sets have in common.
    let added: i64 = redis.sadd(ADAS, &["rust", "redis", "rust"]).await?;
    let _: i64 = redis.sadd(GRACES, &["cobol", "redis"]).await?;
    let both: BTreeSet<String> = redis.sinter(&[ADAS, GRACES]).await?;
    show("set", "SADD SINTER", &(added, both));

    // A sorted set keeps its members in the order of their scores: here of the times when they are due.
    let _: i64 = redis.zadd_multiple(DUE, &[(1700, "remind"), (900, "wake"), (1200, "lunch")]).await?;
    let now: Vec<String> = redis.zrangebyscore(DUE, "-inf", 1200).await?;
    show("sorted set", "ZADD ZRANGEBYSCORE", &now);

    let () = redis.del(&[TRIES, USER, JOBS, ADAS, GRACES, DUE]).await?; // an example leaves nothing behind
    Ok(())
}

fn show(kind: &str, commands: &str, answer: &impl Debug) {
    println!("{kind:<11} {commands:<21} {answer:?}");
}
