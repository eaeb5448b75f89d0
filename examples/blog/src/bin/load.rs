//! Asks a blog for pages, without and with its cache, and prints what that makes of requests and queries.
//!
//! `cargo run --release -p blog --bin load -- 20000`. On Redis with `REDIS_URL`, whose keys `blog:*` it deletes.
#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use blog::{Blog, Config};
use cache_aside::Settings;
use serde_json::json;
use ureq::Agent;

const CLIENTS: u64 = 16;
const POSTS: u32 = 500;

type Fault = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let requests = std::env::args().nth(1).map_or(Ok(20_000), |number| number.parse())?;
    let settings = Settings::load()?;
    cache_aside::init(settings.clone()).await?;
    let cache = cache_aside::global()?;
    cache.delete_pattern("blog:*").await?; // a server may remember the last run
    let folder = std::env::temp_dir().join(format!("blog-load-{}", std::process::id()));
    std::fs::create_dir(&folder)?;

    println!(
        "{requests} requests by {CLIENTS} clients for pages of {POSTS} posts, 1 in 100 a new comment; store: {}",
        cache.store_name()
    );
    println!(
        "{:<14}{:>12}{:>12}{:>12}{:>12}{:>13}",
        "", "requests/s", "median", "99 %", "queries", "per request"
    );
    for (name, cached) in [("without cache", false), ("with cache", true)] {
        measure(name, cached, requests, &folder, &settings).await?;
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

async fn measure(
    name: &str,
    cached: bool,
    requests: u32,
    folder: &Path,
    settings: &Settings,
) -> Result<(), Box<dyn Error>> {
    let database = folder.join(format!("{cached}.db")); // each begins with the same rows
    let config = Config { port: 0, database, cached, requests: u32::MAX, ..Config::default() };
    let blog = Blog::start(&config, settings).await?;
    let url = format!("http://{}", blog.address());
    let cookie = {
        let url = url.clone();
        tokio::task::spawn_blocking(move || fill(&url)).await?.map_err(|fault| fault.to_string())?
    };

    let before = blog.queries();
    let begun = Instant::now();
    let asked = tokio::task::spawn_blocking(move || ask(&url, &cookie, requests)).await?;
    let (took, queries) = (begun.elapsed(), blog.queries() - before);
    let mut times = asked.map_err(|fault| fault.to_string())?;
    times.sort_unstable();
    let count = u32::try_from(times.len())?;
    println!(
        "{name:<14}{:>12.0}{:>12}{:>12}{queries:>12}{:>13.3}",
        f64::from(count) / took.as_secs_f64(),
        millis(times[times.len() / 2]),
        millis(times[times.len() * 99 / 100]),
        f64::from(u32::try_from(queries)?) / f64::from(count),
    );
    blog.stop().await
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", 1000.0 * time.as_secs_f64())
}

/// Writes posts as any client would. Gives the cookie of who may comment.
fn fill(url: &str) -> Result<String, Fault> {
    let agent = agent();
    let form = [("name", "ada"), ("password", "correct horse")];
    let answer = agent.post(format!("{url}/login")).send_form(form)?;
    let cookie = answer.headers().get("set-cookie").ok_or("no cookie")?.to_str()?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    for number in 0..POSTS {
        let draft =
            json!({ "title": format!("Post {number}"), "body": "All work and no play. ".repeat(100) });
        agent.post(format!("{url}/api/posts")).header("cookie", &cookie).send_json(draft)?;
    }
    Ok(cookie)
}

/// How long each request took.
fn ask(url: &str, cookie: &str, requests: u32) -> Result<Vec<Duration>, Fault> {
    let left = AtomicU32::new(requests);
    let take = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
    thread::scope(|scope| {
        let client = |seed| {
            let take = &take;
            scope.spawn(move || {
                let (agent, mut random) = (agent(), fastrand::Rng::with_seed(seed));
                let mut times = Vec::new();
                while take() {
                    let begun = Instant::now();
                    one(&agent, &mut random, url, cookie)?;
                    times.push(begun.elapsed());
                }
                Ok::<_, Fault>(times)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().expect("clients don't panic")?);
        }
        Ok(all)
    })
}

/// Some posts are read much more often than others: the n-th 1/n times as often as the first.
fn one(agent: &Agent, random: &mut fastrand::Rng, url: &str, cookie: &str) -> Result<(), Fault> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is below 500")]
    let rank = f64::from(POSTS).powf(random.f64()) as u32;
    let post = format!("ada/{}", POSTS + 6 - rank.min(POSTS)); // after the five that a blog begins with
    let mut answer = match random.u8(..100) {
        0 => {
            let path = format!("{url}/api/authors/{}/comments", post.replace('/', "/posts/"));
            agent.post(path).header("cookie", cookie).send_json(json!({ "text": "Well said." }))?
        }
        1..15 => agent.get(url).call()?,
        15..20 => agent.get(format!("{url}/@ada")).call()?,
        20..25 => agent.get(format!("{url}/api/posts")).call()?,
        _ => agent.get(format!("{url}/@{post}")).call()?,
    };
    answer.body_mut().read_to_string()?;
    Ok(())
}

fn agent() -> Agent {
    // Redirects are answers, too: the cookie comes with one.
    Agent::config_builder().max_redirects(0).proxy(None).build().new_agent()
}
