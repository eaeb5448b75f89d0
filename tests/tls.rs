//! `rediss://`: who is asked is who it says it is, or isn't asked at all; and all that works without works with.

#[path = "support/certs.rs"]
mod certs;
#[path = "support/sample.rs"]
mod sample;
mod support;

use std::path::PathBuf;

use cache_aside::redis::AsyncCommands;
use cache_aside::{Builder, Cache, CacheError, Settings, cache, get_redis};
use certs::{Authority, Files};
use sample::{World, patient, write};
use support::server::Server;
use support::{Loads, ms};

#[cache(ttl = 600, near = true, key = "near:{id}", cache = cache)]
async fn near(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

/// A server with this certificate, which asks clients for none.
fn server(authority: &Authority, files: &Files) -> Server {
    Server::redis().password("hunter2").tls(&authority.file(), &files.cert, &files.key).start()
}

#[tokio::test]
async fn all_that_works_without_works_with() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(&["localhost"]));
    let world = World::new(patient(&server.tls_url("localhost")).tls_ca(authority.file()).build().unwrap());
    world.cache.ping().await.unwrap();
    world.check(1).await;
    world.until_hit(1).await;
    write(&world, 1).await;
    world.check(1).await;
    world.until_hit(1).await;
    assert_eq!(world.cache.stats().store_errors, 0);

    // Values of this process: told of changes over a connection of their own.
    let loads = Loads::new();
    while world.cache.stats().near_hits == 0 {
        assert_eq!(near(&world.cache, &loads, 1).await, 1);
        tokio::task::yield_now().await;
    }
    server.command(&["DEL", "near:1"]);
    while near(&world.cache, &loads, 1).await == 1 {
        tokio::task::yield_now().await;
    }

    let beside = Cache::scope(world.cache.clone(), async {
        let mut redis = get_redis().await.unwrap();
        redis.incr::<_, _, u64>("n", 5).await.unwrap()
    });
    assert_eq!((beside.await, server.command(&["GET", "n"])), (5, "5".to_owned()));
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(&["127.0.0.1"]));
    let world = World::new(patient(&server.tls_url("127.0.0.1")).tls_ca(authority.file()).build().unwrap());
    world.until_hit(1).await;
    server.kill();
    write(&world, 1).await;
    world.check(1).await;
    server.restart();
    world.until_hit(1).await;
    assert_eq!(world.cache.stats().pending_invalidations, 0);
}

/// Each is told why, and each function runs as if there were no cache.
#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_is_not_asked() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        (authority.issue(&["localhost"]), Some(stranger.file()), "UnknownIssuer"),
        // Nobody's system knows the CA of a test.
        (authority.issue(&["localhost"]), None, "UnknownIssuer"),
        (authority.issue_expired(&["localhost"]), Some(authority.file()), "expired"),
        (authority.issue(&["other.example"]), Some(authority.file()), "not valid for name"),
    ];
    for (files, ca, says) in cases {
        let server = server(&authority, &files);
        let builder = patient(&server.tls_url("localhost"));
        let builder = match ca {
            Some(ca) => builder.tls_ca(ca),
            None => builder,
        };
        let world = World::new(builder.build().unwrap());
        let text = match world.cache.ping().await {
            Err(CacheError::Unavailable(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(text.contains("certificate") && text.contains(says), "{says}: {text}");
        assert!(text.contains("REDIS_TLS_CA") || !text.contains("UnknownIssuer"), "{text}");
        world.check(1).await;
        write(&world, 1).await;
        world.check(1).await;
        let stats = world.cache.stats();
        assert_eq!((stats.hits, world.loads()), (0, 2), "{says}");
        assert_eq!(server.command(&["DBSIZE"]), "0", "{says}");
        let error = Cache::scope(world.cache.clone(), get_redis()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_server_may_ask_who_we_are() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = authority.issue(&["localhost"]);
    let server = Server::redis()
        .tls(&authority.file(), &files.cert, &files.key)
        .config("tls-auth-clients", "yes")
        .start();
    let builder = || patient(&server.tls_url("localhost")).tls_ca(authority.file());
    let us = authority.issue(&["client"]);
    let world = World::new(builder().tls_identity(&us.cert, &us.key).build().unwrap());
    world.until_hit(1).await;
    let other = stranger.issue(&["client"]);
    for builder in [builder(), builder().tls_identity(&other.cert, &other.key)] {
        let world = World::new(builder.build().unwrap());
        let error = world.cache.ping().await.unwrap_err();
        assert!(matches!(error, CacheError::Unavailable(_)), "{error:?}");
        world.check(1).await;
        assert_eq!(world.cache.stats().hits, 0, "{error}");
    }
}

/// Neither side finds what it expects, and nobody waits for that.
#[tokio::test]
async fn a_server_without_tls_is_no_server_with_tls() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(&["127.0.0.1"]));
    let plain_as_tls = server.url().replacen("redis:", "rediss:", 1);
    let tls_as_plain = server.tls_url("127.0.0.1").replacen("rediss:", "redis:", 1);
    for builder in [patient(&plain_as_tls).tls_ca(authority.file()), patient(&tls_as_plain)] {
        let world = World::new(builder.build().unwrap());
        let error = world.cache.ping().await.unwrap_err();
        assert!(matches!(error, CacheError::Unavailable(_) | CacheError::Timeout(_)), "{error:?}");
        world.check(1).await;
        assert_eq!((world.cache.stats().hits, server.command(&["DBSIZE"])), (0, "0".to_owned()));
    }
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let authority = Authority::new();
    let (us, others) = (authority.issue(&["client"]), authority.issue(&["other"]));
    let at = |name: &str, text: &str| -> PathBuf {
        let path = authority.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (empty, text) = (at("empty", ""), at("text", "hunter2"));
    let torn = at("torn", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n");
    let absent = authority.dir().join("absent");
    let (cert, key) = (&us.cert, &us.key);
    let cases = [
        ("REDIS_TLS_CA", &absent, vec![("REDIS_TLS_CA", &absent)], "can't be read"),
        ("REDIS_TLS_CA", &empty, vec![("REDIS_TLS_CA", &empty)], "no certificate"),
        ("REDIS_TLS_CA", &text, vec![("REDIS_TLS_CA", &text)], "no certificate"),
        ("REDIS_TLS_CA", key, vec![("REDIS_TLS_CA", key)], "no certificate"),
        ("REDIS_TLS_CA", &torn, vec![("REDIS_TLS_CA", &torn)], "no CA"),
        (
            "REDIS_TLS_CERT",
            &absent,
            vec![("REDIS_TLS_CERT", &absent), ("REDIS_TLS_KEY", key)],
            "can't be read",
        ),
        ("REDIS_TLS_CERT", key, vec![("REDIS_TLS_CERT", key), ("REDIS_TLS_KEY", key)], "no certificate"),
        (
            "REDIS_TLS_KEY",
            &absent,
            vec![("REDIS_TLS_CERT", cert), ("REDIS_TLS_KEY", &absent)],
            "can't be read",
        ),
        ("REDIS_TLS_KEY", cert, vec![("REDIS_TLS_CERT", cert), ("REDIS_TLS_KEY", cert)], "no private key"),
        (
            "REDIS_TLS_KEY",
            &others.key,
            vec![("REDIS_TLS_CERT", cert), ("REDIS_TLS_KEY", &others.key)],
            "doesn't fit",
        ),
    ];
    let build = |vars: &[(&str, String)]| {
        let settings = Settings::from_vars(vars.iter().map(|(name, value)| (*name, value.clone())))?;
        Builder::from(settings).build()
    };
    for (name, path, files, says) in cases {
        let mut vars = vec![("REDIS_URL", "rediss://:hunter2@localhost".to_owned())];
        vars.extend(files.into_iter().map(|(name, path)| (name, path.display().to_string())));
        let text = build(&vars).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{name} is `{}`, which ", path.display())), "{text}");
        assert!(text.contains(says) && text.contains("; write the path of a PEM file"), "{says}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    // One without the other, and a secret that would go out for all to read.
    let path = cert.display().to_string();
    for (vars, says) in [
        (vec![("REDIS_TLS_CERT", path.clone())], "REDIS_TLS_KEY is not set"),
        (vec![("REDIS_TLS_KEY", path.clone())], "REDIS_TLS_CERT is not set"),
        (vec![("REDIS_URL", "redis://db".to_owned()), ("REDIS_TLS_CA", path.clone())], "write rediss://"),
        (vec![("REDIS_HOST", "db".to_owned()), ("REDIS_TLS_CA", path.clone())], "write rediss://"),
        (vec![("REDIS_URL", "redis+unix:///s".to_owned()), ("REDIS_TLS_CA", path)], "write rediss://"),
    ] {
        let text = build(&vars).unwrap_err().to_string();
        assert!(text.starts_with("REDIS_TLS_") && text.contains(says), "{text}");
    }
}
