//! Sessions on a server: what stands there, what ends them, and what a thief gets.

#[path = "support/log.rs"]
mod log;
mod support;

use std::time::Duration;

use cache_aside::{Cache, CacheError, SessionId, SessionStore};
use log::Log;
use support::server::Server;
use support::{embedded, ms, secs};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

fn over(server: &Server) -> (SessionStore<String>, Cache) {
    let cache =
        Cache::builder().redis(server.url()).store_budget(secs(10)).reconnect(ms(1), ms(10)).build().unwrap();
    (SessionStore::new(HOUR, 12 * HOUR).name("web").cache(&cache), cache)
}

fn data() -> String {
    "data".to_owned()
}

/// The only key.
fn key(server: &Server) -> String {
    assert_eq!(server.command(&["DBSIZE"]), "1");
    server.command(&["RANDOMKEY"])
}

/// Makes all sessions of the store older: since they were made, and since they were seen.
fn age(server: &Server, made: Duration, seen: Duration) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*')) do
        local all = redis.call('HGETALL', key)
        for at = 1, #all, 2 do
            local made, seen = string.sub(all[at + 1], 1, 13) - ARGV[1], string.sub(all[at + 1], 14, 26) - ARGV[2]
            local times = string.format('%013.0f%013.0f', made, seen)
            redis.call('HSET', key, all[at], times .. string.sub(all[at + 1], 27))
        end
    end";
    let [made, seen] = [made, seen].map(|time| time.as_millis().to_string());
    let done = server.command(&["EVAL", script, "0", &made, &seen]);
    assert!(!done.starts_with('-'), "{done}");
}

/// What is left of the life of the only key.
fn left(server: &Server) -> Duration {
    let left: i64 = server.command(&["PTTL", &key(server)]).parse().unwrap();
    ms(u64::try_from(left).expect("it ends"))
}

/// Whether it is this time, but for what a test takes.
fn is_about(time: Duration, expected: Duration) -> bool {
    time <= expected && time + secs(60) > expected
}

#[tokio::test]
async fn a_session_is_renewed_by_each_request_but_not_beyond_its_end() {
    let server = Server::redis().start();
    let (sessions, _cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    assert!(is_about(left(&server), HOUR));
    for hours in 1..12 {
        age(&server, HOUR, secs(3540));
        let session = sessions.get(&id).await.unwrap().expect("it was seen within an hour");
        assert!(session.age >= hours * HOUR && session.idle >= secs(3540));
        assert!(is_about(left(&server), HOUR), "{hours}: {:?}", left(&server));
    }
    age(&server, secs(1800), secs(0));
    assert!(sessions.get(&id).await.unwrap().is_some(), "half an hour is left");
    let id = sessions.rotate(&id).await.unwrap().expect("and another id doesn't change that");
    age(&server, secs(1800), secs(0));
    assert_eq!(sessions.get(&id).await.unwrap(), None);
    assert_eq!(server.command(&["DBSIZE"]), "0", "nothing of it is left");
}

#[tokio::test]
async fn a_session_that_is_idle_for_too_long_ends_while_others_go_on() {
    let server = Server::redis().start();
    let (sessions, _cache) = over(&server);
    let phone = sessions.create("ada", &data()).await.unwrap();
    age(&server, secs(3599), secs(3599));
    let desk = sessions.create("ada", &data()).await.unwrap();
    age(&server, secs(1), secs(1));
    assert_eq!(sessions.sessions_of("ada").await.unwrap().len(), 1);
    assert!(
        !sessions.update(&phone, &data()).await.unwrap() && sessions.rotate(&phone).await.unwrap().is_none()
    );
    assert_eq!(sessions.get(&phone).await.unwrap(), None);
    assert!(sessions.get(&desk).await.unwrap().is_some());
}

/// The times are those of whoever asks: after a deployment with shorter ones nobody lives on by the old.
#[tokio::test]
async fn shorter_times_hold_at_once() {
    let server = Server::redis().start();
    let (sessions, cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    age(&server, secs(600), secs(600));
    let stricter = SessionStore::<String>::new(secs(600), HOUR).name("web").cache(&cache);
    assert_eq!(stricter.get(&id).await.unwrap(), None);
    assert_eq!(sessions.get(&id).await.unwrap(), None, "and it has ended for all");
}

#[tokio::test]
async fn the_key_always_ends() {
    let server = Server::redis().start();
    let (sessions, cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    let id = sessions.rotate(&id).await.unwrap().unwrap();
    assert!(is_about(left(&server), HOUR), "the field before it was the only one");
    let brief = SessionStore::new(secs(60), secs(60)).name("web").cache(&cache);
    brief.create("ada", &data()).await.unwrap();
    assert!(is_about(left(&server), HOUR), "another session doesn't shorten it");
    server.command(&["PERSIST", &key(&server)]);
    sessions.get(&id).await.unwrap();
    assert!(is_about(left(&server), HOUR), "somebody's PERSIST is mended");
}

#[tokio::test]
async fn what_is_stolen_from_the_store_logs_nobody_in() {
    let server = Server::redis().start();
    let (sessions, _cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    let dump = server.command(&[
        "EVAL",
        "local all = {}
        for _, key in ipairs(redis.call('KEYS', '*')) do
            all[#all + 1] = key
            for _, part in ipairs(redis.call('HGETALL', key)) do all[#all + 1] = part end
        end
        local out = ''
        for _, part in ipairs(all) do
            for at = 1, #part do out = out .. string.format('%02x', string.byte(part, at)) end
            out = out .. ' '
        end
        return out",
        "0",
    ]);
    let parts: Vec<Vec<u8>> = dump
        .split_whitespace()
        .map(|hex| {
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
        })
        .collect();
    let [key, digest, entry] = &parts[..] else { panic!("{dump}") };
    assert_eq!(digest.len(), 32);
    assert!(String::from_utf8_lossy(entry).ends_with("\"ada\"\n\"data\""));
    // The secret half of the id, in any of its forms.
    let text = id.expose();
    let secret = &text.as_bytes()[22..];
    assert!(
        parts.iter().all(|part| !part.windows(8).any(|some| secret.windows(8).any(|other| some == other)))
    );
    // And what a thief would make of it: the key names the user's half, and the digest stands in for the secret.
    let user: Vec<u8> = (0..16)
        .map(|at| {
            let hex = &key[key.len() - 32..][2 * at..2 * at + 2];
            u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap()
        })
        .collect();
    let forged = SessionId::parse(&base64(&[&user[..], digest].concat())).expect("it is well formed");
    assert_eq!(&forged.expose()[..21], &text[..21], "it has the right half");
    assert_eq!(sessions.get(&forged).await.unwrap(), None);
    assert!(sessions.get(&id).await.unwrap().is_some());
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|three| {
        let all = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(all >> shift) as usize & 63]))
    });
    digits.collect()
}

#[tokio::test]
async fn ids_are_in_no_log_and_no_error() {
    let (log, _guard) = Log::new();
    let server = Server::redis().start();
    let (sessions, cache) = over(&server);
    let id = sessions.create("ada", &"c4n4ry".to_owned()).await.unwrap();
    let other = SessionStore::<u64>::new(HOUR, HOUR).name("web").cache(&cache);
    assert_eq!(other.get(&id).await.unwrap(), None, "it is logged that it doesn't decode");
    let id = sessions.rotate(&id).await.unwrap().unwrap();
    server.command(&["SET", &key(&server), "x"]);
    let wrong = sessions.get(&id).await.unwrap_err();
    assert!(matches!(wrong, CacheError::Server(_)), "{wrong:?}");
    server.kill();
    let gone = sessions.get(&id).await.unwrap_err();
    let lost = sessions.destroy_all("ada").await.unwrap_err();
    let shown = format!("{wrong} {wrong:?} {gone} {gone:?} {lost:?} {sessions:?} {id:?} {}", log.text());
    assert!(log.count("doesn't decode") == 1 && !shown.contains("c4n4ry"));
    assert!(!shown.contains(&id.expose()[22..]) && !shown.contains(&id.expose()), "{shown}");
}

#[tokio::test]
async fn a_server_without_memory_still_knows_who_is_logged_in() {
    let server = Server::redis().config("maxmemory-policy", "noeviction").start();
    let (sessions, _cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(sessions.get(&id).await.unwrap().is_some());
    for refused in [
        sessions.create("ada", &data()).await.map(drop),
        sessions.update(&id, &data()).await.map(drop),
        sessions.rotate(&id).await.map(drop),
    ] {
        assert!(matches!(&refused, Err(CacheError::Server(text)) if text.starts_with("OOM")), "{refused:?}");
    }
    assert!(sessions.get(&id).await.unwrap().is_some(), "what was refused changed nothing");
    assert!(sessions.destroy(&id).await.unwrap());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(sessions.get(&id).await.unwrap(), None);
}

#[tokio::test]
async fn sessions_are_ended_once_the_server_is_back() {
    let server = Server::redis().start();
    let (sessions, cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    let bob = sessions.create("bob", &data()).await.unwrap();
    server.freeze();
    let impatient =
        Cache::builder().redis(server.url()).store_budget(ms(50)).reconnect(ms(1), ms(10)).build().unwrap();
    let away = sessions.clone().cache(&impatient);
    assert!(away.destroy_all("ada").await.is_err());
    assert_eq!(impatient.pending_invalidations(), 1);
    server.thaw();
    let begun = Instant::now();
    while impatient.pending_invalidations() > 0 {
        assert!(begun.elapsed() < secs(20), "it is kept for ever");
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(sessions.get(&id).await.unwrap(), None);
    assert!(sessions.get(&bob).await.unwrap().is_some());
    drop(cache);
}

#[tokio::test]
async fn a_server_that_restarts_has_logged_everybody_out() {
    let server = Server::redis().start();
    let (sessions, _cache) = over(&server);
    let id = sessions.create("ada", &data()).await.unwrap();
    server.kill();
    assert!(sessions.get(&id).await.is_err());
    server.restart();
    let begun = Instant::now();
    let session = loop {
        match sessions.get(&id).await {
            Ok(session) => break session,
            Err(_) => assert!(begun.elapsed() < secs(20), "it doesn't come back"),
        }
        tokio::time::sleep(ms(5)).await;
    };
    assert_eq!(session, None);
}

/// Both stores, asked the same at random, give the same.
#[tokio::test]
async fn stores_agree() {
    let server = Server::redis().start();
    let (remote, _cache) = over(&server);
    let local = remote.clone().cache(&embedded());
    let mut random = fastrand::Rng::with_seed(7);
    let mut ids: Vec<[SessionId; 2]> = Vec::new();
    let both = [&remote, &local];
    for step in 0..2000 {
        let user = random.u8(..2).to_string();
        let data = format!("{step}");
        let at = random.usize(..ids.len().max(1));
        let of = ids.get(at).cloned();
        match (random.u8(..20), of) {
            (0..4, _) | (_, None) => {
                let [one, other] = both.map(|store| store.create(&user, &data));
                ids.push([one.await.unwrap(), other.await.unwrap()]);
            }
            (4..10, Some([one, other])) => {
                let (one, other) = (remote.get(&one).await.unwrap(), local.get(&other).await.unwrap());
                assert_eq!(
                    one.map(|one| (one.user, one.data)),
                    other.map(|other| (other.user, other.data)),
                    "{step}"
                );
            }
            (10..13, Some([one, other])) => {
                let there =
                    (remote.update(&one, &data).await.unwrap(), local.update(&other, &data).await.unwrap());
                assert_eq!(there.0, there.1, "{step}");
            }
            (13..16, Some([one, other])) => {
                let new = (remote.rotate(&one).await.unwrap(), local.rotate(&other).await.unwrap());
                assert_eq!(new.0.is_some(), new.1.is_some(), "{step}");
                if let (Some(one), Some(other)) = new {
                    ids.push([one, other]);
                }
            }
            (16..18, Some([one, other])) => {
                let was = (remote.destroy(&one).await.unwrap(), local.destroy(&other).await.unwrap());
                assert_eq!(was.0, was.1, "{step}");
            }
            (18, _) if random.u8(..4) == 0 => {
                for store in both {
                    store.destroy_all(&user).await.unwrap();
                }
            }
            _ => {
                let mut data = Vec::new();
                for store in both {
                    let all = store.sessions_of(&user).await.unwrap();
                    let mut all: Vec<String> = all.into_iter().map(|session| session.data).collect();
                    all.sort_unstable();
                    data.push(all);
                }
                assert_eq!(data[0], data[1], "{step}");
            }
        }
    }
}
