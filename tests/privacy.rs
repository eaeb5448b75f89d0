//! No argument and no value is ever logged or shown in an error, whatever goes wrong (I16).

#[path = "support/log.rs"]
mod log;
mod support;

use std::time::Duration;

use cache_aside::{Cache, CacheManager, Ttl, cache, cache_invalidate};
use log::Log;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{Loads, embedded};

/// What must not be seen.
const CANARY: &str = "c4n4ry";

/// A secret whose own code is talkative.
#[derive(Debug, Clone, PartialEq)]
struct Secret {
    text: String,
    is_writable: bool,
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_writable {
            self.text.serialize(serializer)
        } else {
            Err(serde::ser::Error::custom(format!("{} can't be written", self.text)))
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with("unreadable") {
            return Err(serde::de::Error::custom(format!("{text} can't be read")));
        }
        Ok(Self { text, is_writable: true })
    }
}

fn secret(kind: &str) -> Secret {
    Secret { text: format!("{kind} {CANARY}"), is_writable: kind != "unwritable" }
}

#[cache(ttl = 60, key_prefix = "privacy")]
async fn get(argument: &Secret, fails: bool) -> Result<Secret, String> {
    if fails { Err(format!("no such thing: {CANARY}")) } else { Ok(argument.clone()) }
}

#[cache(ttl = 60, skip(password))]
async fn skipping(id: u64, password: &str) -> Secret {
    secret(&format!("{id} {password}"))
}

#[cache(ttl = 60)]
async fn unwritable(id: u64) -> Secret {
    let _ = id;
    secret("unwritable")
}

#[cache(ttl = 60)]
async fn number(id: u64) -> u64 {
    id
}

#[cache(ttl = 60)]
async fn panics(id: u64) -> Secret {
    assert!(id == 0, "{CANARY}");
    secret("fine")
}

static RECURSIVE: Loads = Loads::new();

/// Calls itself once, with the same argument.
#[cache(ttl = 60)]
async fn recursive(text: &str) -> Secret {
    if RECURSIVE.load(Duration::ZERO).await == 1 { Box::pin(recursive(text)).await } else { secret(text) }
}

#[cache_invalidate("privacy:*", on = "always")]
async fn write(argument: Secret) -> Result<Secret, String> {
    Err(argument.text)
}

#[cache_invalidate("privacy:{id}")]
async fn update(id: u64, argument: Secret) -> Secret {
    let _ = id;
    argument
}

#[tokio::test]
async fn no_log_line_and_no_error_shows_an_argument_or_a_value() {
    let (log, _guard) = Log::new();
    let cache = embedded();
    let mut errors = Vec::new();
    Cache::scope(cache.clone(), async {
        for kind in ["fine", "unreadable", "unwritable"] {
            for _ in 0..2 {
                let _ = get(&secret(kind), false).await;
                let _ = get(&secret(kind), true).await;
            }
            let argument = secret(kind);
            errors.extend(get::cached(&argument, false).await.err());
            errors.extend(get::put_cache(&argument, false, &argument).await.err());
            errors.extend(get::put_cache(&secret("fine"), false, &argument).await.err());
            errors.extend(get::clear_cache(&argument, false).await.err());
            errors.extend(get::cache_key(&argument, false).err());
            errors.extend(cache.set("by_hand", &argument, Ttl::Default).await.err());
            errors.extend(cache.get::<u64>("by_hand").await.err());
            errors.extend(cache.increment("by_hand").await.err());
            let _ = get::refresh_cache(&argument, false).await;
        }
        for _ in 0..2 {
            skipping(1, CANARY).await;
            unwritable(1).await;
        }
        // Bytes that don't decode, plain and in a record.
        cache.set(&number::cache_key(1).unwrap(), &format!("text {CANARY}"), Ttl::Default).await.unwrap();
        assert_eq!((number(1).await, number(1).await), (1, 1));
        let _ = cache.get_or_set("shared", Ttl::Default, || async { secret("unreadable") }).await;
        let _ = cache.get_or_set("shared", Ttl::Default, || async { secret("fine") }).await;
        errors.extend(cache.get::<u64>("shared").await.err());
        recursive(CANARY).await;
        let _ = write(secret("fine")).await;
        update(1, secret("fine")).await;
    })
    .await;
    let panic = tokio::spawn(Cache::scope(cache.clone(), panics(1))).await;
    assert!(panic.is_err());

    let text = log.text();
    for event in ["miss", "hit", "fill", "invalidated", "calls itself", "WARN"] {
        assert!(text.contains(event), "the test saw no {event}: {text}");
    }
    assert!(!text.contains(CANARY), "{text}");
    assert!(errors.len() >= 8, "the test saw few errors: {errors:?}");
    for error in &errors {
        assert!(!error.to_string().contains(CANARY), "{error}");
    }
    let manager = CacheManager::new("prefix", Ttl::Default).on(&cache);
    assert!(!format!("{cache:?} {manager:?}").contains(CANARY));
}
