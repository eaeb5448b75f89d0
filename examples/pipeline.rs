//! Pipelines: a hundred commands in one round trip instead of a hundred. Each trip costs as much as the
//! way to the server and back, however small the command.
//!
//! It needs a server: `cargo xtask redis` starts a throw-away one and prints the `REDIS_URL` to set.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;

use cache_aside::redis::aio::ConnectionLike;
use cache_aside::redis::{AsyncCommands, Cmd, Pipeline, RedisFuture, Value};
use cache_aside::{RedisConnection, Settings, get_redis, redis};

const COMMANDS: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    cache_aside::init(Settings::load()?).await?;
    let inner = get_redis().await.map_err(|error| error.to_string())?; // without a server it says so
    let mut redis = Counted { inner, trips: 0 };
    let keys: Vec<String> = (0..COMMANDS).map(|n| format!("pipeline:{n}")).collect();

    println!("{COMMANDS} commands             round trips");
    for (n, key) in keys.iter().enumerate() {
        let () = redis.set_ex(key, n, 60).await?;
    }
    redis.show("SET one by one");

    let mut pipe = redis::pipe();
    for (n, key) in keys.iter().enumerate() {
        pipe.set_ex(key, n + 1, 60).ignore(); // of what is ignored no reply is handed out
    }
    let () = pipe.query_async(&mut redis).await?;
    redis.show("SET in a pipeline");

    let mut values = 0;
    for key in &keys {
        values += redis.get::<_, usize>(key).await?;
    }
    redis.show("GET one by one");

    let mut pipe = redis::pipe();
    for key in &keys {
        pipe.get(key);
    }
    let piped: Vec<usize> = pipe.query_async(&mut redis).await?;
    redis.show("GET in a pipeline");
    println!("both read the same: {}", values == piped.iter().sum::<usize>());

    // A pipeline saves trips, no more: others' commands may come between. `atomic` makes it MULTI .. EXEC, and
    // either all is done or nothing.
    let mut pipe = redis::pipe();
    pipe.atomic().decr(&keys[0], 1).ignore().incr(&keys[1], 1).ignore().mget(&keys[..2]);
    let [moved]: [Vec<i64>; 1] = pipe.query_async(&mut redis).await?;
    redis.show("3 in a transaction");
    println!("moved: {moved:?}");

    // For cached values there are `Cache::get_many` and `set_many`: one round trip, too.
    Ok(())
}

/// A connection that counts: whatever is sent together is one trip.
struct Counted {
    inner: RedisConnection,
    trips: u64,
}

impl Counted {
    fn show(&mut self, what: &str) {
        println!("{what:<24} {:>11}", std::mem::take(&mut self.trips));
    }
}

impl ConnectionLike for Counted {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.trips += 1;
        self.inner.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.trips += 1;
        self.inner.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}
