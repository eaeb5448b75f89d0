//! What every store does alike about sessions. Each check is given a cache over an empty store.

use std::collections::BTreeSet;

use cache_aside::{Cache, CacheError, SessionId, SessionStore};
use serde::{Deserialize, Serialize};

use super::{ms, secs};

type Checked = Result<(), CacheError>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cart {
    device: String,
    items: Vec<u32>,
}

fn cart(items: &[u32]) -> Cart {
    Cart { device: "a \"phone\"\n".into(), items: items.into() }
}

fn store<T>(cache: &Cache) -> SessionStore<T> {
    SessionStore::new(secs(600), secs(3600)).name("web").cache(cache)
}

pub async fn a_session_is_kept_until_it_is_destroyed(cache: Cache) -> Checked {
    let sessions = store(&cache);
    let id = sessions.create("ada", &cart(&[1])).await?;
    let text = id.expose();
    assert_eq!(text.len(), 64);
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");

    let id = SessionId::parse(&text).expect("it is one");
    for _ in 0..2 {
        let session = sessions.get(&id).await?.expect("it is alive");
        assert_eq!((session.user.as_str(), session.data), ("ada", cart(&[1])));
        assert!(session.age < secs(300) && session.idle <= session.age);
    }
    assert!(sessions.update(&id, &cart(&[1, 2])).await?);
    let session = sessions.get(&id).await?.expect("it is alive");
    assert_eq!((session.user.as_str(), session.data), ("ada", cart(&[1, 2])), "the user stays");

    assert!(sessions.destroy(&id).await?);
    assert!(!sessions.destroy(&id).await?);
    assert_eq!(sessions.get(&id).await?, None);
    assert!(!sessions.update(&id, &cart(&[3])).await?, "an update doesn't bring it back");
    assert!(sessions.rotate(&id).await?.is_none(), "nor does another id");
    assert_eq!(sessions.get(&id).await?, None);
    Ok(())
}

pub async fn another_id_ends_the_one_before(cache: Cache) -> Checked {
    let sessions = store(&cache);
    let first = sessions.create("ada", &1).await?;
    let mut id = first.clone();
    for _ in 0..3 {
        let next = sessions.rotate(&id).await?.expect("it is alive");
        assert_eq!(sessions.get(&id).await?, None, "the old one is dead at once");
        assert_eq!(sessions.get(&next).await?.expect("the new one is alive").data, 1);
        assert_eq!(sessions.sessions_of("ada").await?.len(), 1);
        id = next;
    }
    assert!(sessions.get(&first).await?.is_none() && sessions.rotate(&first).await?.is_none());
    // Two at once: only one of them gets the session.
    let (one, other) = tokio::join!(sessions.rotate(&id), sessions.rotate(&id));
    let alive: Vec<SessionId> = [one?, other?].into_iter().flatten().collect();
    assert_eq!(alive.len(), 1);
    assert!(sessions.get(&alive[0]).await?.is_some());
    Ok(())
}

pub async fn users_have_their_own_sessions(cache: Cache) -> Checked {
    let sessions = store(&cache);
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(sessions.create("ada", &number).await?);
    }
    let bob = sessions.create("bob", &9).await?;
    let numbers =
        |all: Vec<cache_aside::Session<u32>>| all.iter().map(|one| one.data).collect::<BTreeSet<_>>();
    assert_eq!(numbers(sessions.sessions_of("ada").await?), BTreeSet::from([0, 1, 2]));
    assert_eq!(numbers(sessions.sessions_of("bob").await?), BTreeSet::from([9]));
    assert_eq!(numbers(sessions.sessions_of("eve").await?), BTreeSet::new());

    sessions.destroy(&ids[1]).await?;
    assert_eq!(numbers(sessions.sessions_of("ada").await?), BTreeSet::from([0, 2]));
    sessions.destroy_all("ada").await?;
    sessions.destroy_all("ada").await?;
    for id in &ids {
        assert_eq!(sessions.get(id).await?, None);
    }
    assert_eq!(numbers(sessions.sessions_of("ada").await?), BTreeSet::new());
    assert_eq!(sessions.get(&bob).await?.expect("not his").data, 9);
    assert_eq!(sessions.get(&sessions.create("ada", &4).await?).await?.expect("she may come back").data, 4);
    // A user is what it prints as.
    let id = sessions.create(7, &7).await?;
    assert_eq!(sessions.sessions_of("7").await?.len(), 1);
    sessions.destroy_all(7).await?;
    assert_eq!(sessions.get(&id).await?, None);
    Ok(())
}

pub async fn stores_of_other_names_know_nothing_of_them(cache: Cache) -> Checked {
    let (web, admin) = (store(&cache), store(&cache).name("admin"));
    let id = web.create("ada", &1).await?;
    assert_eq!(admin.get(&id).await?, None);
    assert!(
        !admin.destroy(&id).await? && !admin.update(&id, &2).await? && admin.rotate(&id).await?.is_none()
    );
    admin.destroy_all("ada").await?;
    assert!(admin.sessions_of("ada").await?.is_empty());
    assert_eq!(web.get(&id).await?.expect("it is alive").data, 1);
    Ok(())
}

pub async fn sessions_end(cache: Cache) -> Checked {
    // Times that a busy machine only makes longer; what ends early is in tests with a clock of their own.
    let idle = SessionStore::new(ms(50), secs(60)).name("idle").cache(&cache);
    let id = idle.create("ada", &1).await?;
    tokio::time::sleep(ms(60)).await;
    assert_eq!(idle.get(&id).await?, None);
    assert!(idle.sessions_of("ada").await?.is_empty());

    let absolute = SessionStore::new(secs(60), ms(50)).name("absolute").cache(&cache);
    let begun = tokio::time::Instant::now();
    let mut id = absolute.create("ada", &1).await?;
    while absolute.get(&id).await?.is_some() {
        assert!(begun.elapsed() < secs(20), "reading keeps it alive");
        id = absolute.rotate(&id).await?.unwrap_or(id);
        absolute.update(&id, &2).await?;
        tokio::time::sleep(ms(5)).await;
    }
    assert!(begun.elapsed() >= ms(49), "times are whole milliseconds");
    Ok(())
}

pub async fn a_user_has_a_hundred_at_most(cache: Cache) -> Checked {
    let sessions = store(&cache);
    let first = sessions.create("ada", &0).await?;
    let second = sessions.create("ada", &1).await?;
    tokio::time::sleep(ms(2)).await; // times are milliseconds
    for number in 2..100 {
        sessions.create("ada", &number).await?;
    }
    assert!(sessions.get(&first).await?.is_some(), "it was seen last");
    sessions.create("ada", &100).await?;
    assert_eq!(sessions.sessions_of("ada").await?.len(), 100);
    assert!(sessions.get(&first).await?.is_some());
    assert_eq!(sessions.get(&second).await?, None, "it wasn't seen for the longest time");
    Ok(())
}

pub async fn any_user_and_any_data_will_do(cache: Cache) -> Checked {
    let sessions = store(&cache);
    let long = "x".repeat(5000);
    for user in ["", " ", "a:b", "*", "{a}", "a\nb", "\0", "\u{1F980}", &long] {
        for data in [None, Some(String::new()), Some("a\nb\r\n\u{2028}".to_owned())] {
            let id = sessions.create(user, &data).await?;
            let session = sessions.get(&id).await?.expect("it is alive");
            assert_eq!((session.user.as_str(), &session.data), (user, &data));
        }
        assert_eq!(sessions.sessions_of(user).await?.len(), 3);
    }
    let nothing = store(&cache).name("nothing");
    let id = nothing.create("ada", &()).await?;
    assert!(nothing.get(&id).await?.is_some() && nothing.update(&id, &()).await?);
    Ok(())
}

pub async fn what_does_not_decode_counts_as_dead(cache: Cache) -> Checked {
    let id = store(&cache).create("ada", &"text".to_owned()).await?;
    let numbers = store::<u64>(&cache);
    assert_eq!(numbers.get(&id).await?, None);
    assert!(numbers.sessions_of("ada").await?.is_empty());
    assert_eq!(store::<String>(&cache).get(&id).await?.expect("it is left alone").data, "text");
    assert!(numbers.update(&id, &7).await?);
    assert_eq!(numbers.get(&id).await?.expect("it has data of this type now").data, 7);
    let huge = store::<String>(&cache).create("ada", &"x".repeat(9 << 20)).await;
    assert!(matches!(huge, Err(CacheError::ValueTooLarge { .. })));
    Ok(())
}

/// Nobody's, but well formed: each is a miss, and leaves nothing behind.
pub async fn ids_that_nobody_was_given_are_dead(cache: Cache) -> Checked {
    let sessions = store(&cache);
    let id = sessions.create("ada", &1).await?;
    let text = id.expose();
    for at in [0, 20, 21, 22, 40, 63] {
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        let forged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        let forged = SessionId::parse(&forged).expect("it is well formed");
        assert_eq!(sessions.get(&forged).await?, None, "{at}");
        assert!(!sessions.update(&forged, &2).await? && !sessions.destroy(&forged).await?);
        assert!(sessions.rotate(&forged).await?.is_none());
    }
    assert_eq!(sessions.get(&id).await?.expect("it is alive").data, 1);
    assert_eq!(sessions.sessions_of("ada").await?.len(), 1);
    assert_eq!(cache.delete_pattern("@session:*").await?, 1, "the forged ones left no keys");
    assert_eq!(sessions.get(&id).await?, None, "a store that loses the key ends its sessions");
    Ok(())
}
