//! What the environment says, and what is said when it is wrong (SPEC 3.1; I16).

#[path = "support/child.rs"]
mod child;
#[path = "support/log.rs"]
mod log;
mod support;

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use cache_aside::{Cache, CacheError, Settings, cache, global};
use log::Log;
use support::{Loads, ms, secs};

fn of(vars: &[(&str, &str)]) -> Settings {
    Settings::from_vars(vars.iter().copied()).unwrap_or_else(|error| panic!("{vars:?}: {error}"))
}

/// All that an error shows to anybody.
fn shown(error: &CacheError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, " {error} {error:?}").unwrap();
        source = error.source();
    }
    text
}

#[test]
fn without_variables_everything_has_its_default() {
    for vars in
        [&[][..], &[("REDIS_URL", ""), ("REDIS_HOST", " "), ("REDIS_CACHE_TTL", ""), ("CACHE_NAMESPACE", "")]]
    {
        let settings = of(vars);
        assert_eq!(settings.redis_url(), None, "the embedded store");
        assert_eq!((settings.default_ttl(), settings.namespace()), (secs(300), None));
        assert_eq!(Cache::builder().settings(&settings).build().unwrap().store_name(), "embedded");
    }
    assert_eq!(of(&[("REDIS_PORT", "1"), ("REDIS_PASSWORD", "x")]).redis_url(), None, "no host, no server");
}

#[test]
fn each_variable_is_read() {
    assert_eq!(of(&[("REDIS_CACHE_TTL", "7")]).default_ttl(), secs(7));
    assert_eq!(of(&[("CACHE_NAMESPACE", "shop-eu")]).namespace(), Some("shop-eu"));
    assert_eq!(of(&[("REDIS_HOST", "db")]).redis_url().as_deref(), Some("redis://db:6379/0"));
    assert_eq!(of(&[("REDIS_HOST", "::1")]).redis_url().as_deref(), Some("redis://[::1]:6379/0"));
    let all = [
        ("REDIS_HOST", "db"),
        ("REDIS_PORT", "7000"),
        ("REDIS_USERNAME", "a:b"),
        ("REDIS_PASSWORD", "p@s/s:%#?ü"),
        ("REDIS_DB", "3"),
    ];
    let url = "redis://a%3Ab:p%40s%2Fs%3A%25%23%3F%C3%BC@db:7000/3";
    assert_eq!(of(&all).redis_url().as_deref(), Some(url));
    assert_eq!(
        of(&[("REDIS_HOST", "db"), ("REDIS_PASSWORD", "p")]).redis_url().as_deref(),
        Some("redis://:p@db:6379/0")
    );
    for url in [
        "redis://localhost",
        "rediss://user:pass@host:1/2",
        "redis+unix:///run/redis.sock",
        "redis+cluster://a,b",
        "redis+sentinel://a,b/main",
    ] {
        let vars = [&[("REDIS_URL", url)], &all[..1]].concat();
        assert_eq!(of(&vars).redis_url().as_deref(), Some(url), "it wins over the parts");
    }
}

#[test]
fn a_bad_value_is_named_and_the_message_says_what_to_write() {
    let host = ("REDIS_HOST", "db");
    for (name, value, write) in [
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("REDIS_URL", "http://db", "redis://"),
        ("REDIS_URL", "redis://", "redis://["),
        ("REDIS_HOST", "redis://db", "REDIS_URL"),
        ("REDIS_HOST", "a b", "localhost"),
        ("REDIS_PORT", "sixty", "6379"),
        ("REDIS_PORT", "65536", "6379"),
        ("REDIS_PORT", "-1", "6379"),
        ("REDIS_DB", "first", "0"),
        ("REDIS_CACHE_TTL", "soon", "300"),
        ("REDIS_CACHE_TTL", "0", "300"),
        ("REDIS_CACHE_TTL", "-5", "300"),
        ("REDIS_CACHE_TTL", "1.5", "300"),
        ("CACHE_NAMESPACE", "a:b", "shop-eu"),
        ("CACHE_NAMESPACE", "a*", "shop-eu"),
        ("CACHE_NAMESPACE", "a b", "shop-eu"),
        ("CACHE_NAMESPACE", "{a}", "shop-eu"),
    ] {
        let error = Settings::from_vars([host, (name, value)]).expect_err(value);
        assert!(matches!(error, CacheError::Settings(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.starts_with(name) && text.contains("write ") && text.contains(write),
            "{name}={value}: {text}"
        );
    }
}

#[test]
fn a_password_is_never_shown() {
    const SECRET: &str = "hunter2";
    for vars in [
        &[("REDIS_URL", "redis://:hunter2@db")][..],
        &[("REDIS_URL", "redis://me:hunter2@db:1/2")],
        &[("REDIS_URL", "rediss://me:a@hunter2@db")],
        &[("REDIS_URL", "redis://me:hunter2?x@db")],
        &[("REDIS_URL", "redis://me:hunter2#x@db")],
        &[("REDIS_URL", "redis://me:hunter2/x@db")],
        &[("REDIS_URL", "redis+cluster://me:hunter2@a,b")],
        &[("REDIS_URL", "redis+cluster://me:hunter2@a,me:hunter2@b")],
        &[("REDIS_URL", "redis+unix:///run/redis.sock?user=me&pass=hunter2")],
        &[("REDIS_URL", "unix:///run/redis.sock?pass=hunter2&db=1")],
        &[("REDIS_HOST", "db"), ("REDIS_PASSWORD", "hunter2")],
        &[("REDIS_HOST", "db"), ("REDIS_USERNAME", "me"), ("REDIS_PASSWORD", "hunter2")],
    ] {
        let settings = of(vars);
        let shown_settings = format!("{settings:?} {settings:#?}");
        assert!(!shown_settings.contains(SECRET), "{shown_settings}");
        let builder = format!("{:?}", Cache::builder().settings(&settings));
        assert!(!builder.contains(SECRET), "{builder}");
        if let Err(error) = Cache::builder().settings(&settings).build() {
            assert!(!shown(&error).contains(SECRET), "{}", shown(&error));
        }
    }
    for vars in [
        &[("REDIS_URL", "http://:hunter2@db")][..],
        &[("REDIS_URL", "redis:/:hunter2@db")],
        &[("REDIS_URL", "hunter2")],
        &[("REDIS_HOST", "me:hunter2@db")],
        &[("REDIS_HOST", "db"), ("REDIS_PASSWORD", "hunter2"), ("REDIS_PORT", "x")],
    ] {
        let error = Settings::from_vars(vars.iter().copied()).unwrap_err();
        assert!(!shown(&error).contains(SECRET), "{}", shown(&error));
    }
}

#[test]
fn a_builder_refuses_what_can_not_work() {
    for (builder, says) in [
        (Cache::builder().namespace("a:b"), "namespace"),
        (Cache::builder().namespace(""), "namespace"),
        (Cache::builder().default_ttl(ms(0)), "default_ttl"),
        (Cache::builder().lease(ms(0)), "lease"),
        (Cache::builder().load_deadline(ms(0)), "load_deadline"),
        (Cache::builder().poll(ms(0), ms(1)), "poll"),
    ] {
        let error = builder.build().expect_err(says);
        assert!(matches!(&error, CacheError::Settings(text) if text.contains(says)), "{error:?}");
    }
}

/// A directory with this `.env`, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn with_env(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cache-aside-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(".env"), text).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_dot_env_file_is_read_and_the_environment_wins_over_it() {
    if child::is_child() {
        let settings = Settings::load().unwrap();
        child::say(&format!(
            "{:?} {:?} {:?}",
            settings.redis_url(),
            settings.default_ttl(),
            settings.namespace()
        ));
        return;
    }
    let directory = Directory::with_env(
        "read",
        "# for development\nOTHER=1\nexport CACHE_NAMESPACE=\"shop\"\nREDIS_CACHE_TTL=7\nREDIS_HOST=db # there\nREDIS_PASSWORD='a b'\n",
    );
    let run = |vars: &[(&str, &str)]| {
        child::run("a_dot_env_file_is_read_and_the_environment_wins_over_it", &directory.0, vars)
    };
    let with_file = r#"Some("redis://:a%20b@db:6379/0") 7s Some("shop")"#;
    assert_eq!(run(&[]), [with_file.escape_debug().to_string()]);
    let overruled = r#"Some("redis://:a%20b@other:6379/0") 9s Some("shop")"#;
    let vars = [("REDIS_HOST", "other"), ("REDIS_CACHE_TTL", "9")];
    assert_eq!(run(&vars), [overruled.escape_debug().to_string()]);
}

#[test]
fn a_broken_dot_env_file_is_an_error_that_keeps_its_secrets() {
    if child::is_child() {
        child::say(&shown(&Settings::load().unwrap_err()));
        return;
    }
    let run = |name: &str, text: &str| {
        let directory = Directory::with_env(name, text);
        child::run("a_broken_dot_env_file_is_an_error_that_keeps_its_secrets", &directory.0, &[]).remove(0)
    };
    for (at, text) in [
        "REDIS_PASSWORD=\"hunter2",
        "REDIS_PASSWORD=hun ter2 hunter2 '",
        "REDIS_PASSWORD hunter2",
        "REDIS_PASSWORD: hunter2",
        "hunter2",
        "REDIS_URL=redis:/:hunter2@db",
    ]
    .into_iter()
    .enumerate()
    {
        let said = run(&format!("broken-{at}"), text);
        assert!(!said.contains("hunter2"), "{text}: {said}");
        assert!(said.contains(".env") || said.contains("REDIS_URL"), "{text}: {said}");
    }
    let said = run("bad-value", "REDIS_CACHE_TTL=soon\n");
    assert!(said.contains("REDIS_CACHE_TTL") && said.contains("300"), "{said}");
}

#[test]
fn with_broken_settings_functions_run_uncached_and_one_error_is_logged() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(id: u64) -> u64 {
        LOADS.load(ms(0)).await + id
    }
    #[cache_aside::cache_invalidate("k")]
    async fn write() -> u64 {
        7
    }
    if child::is_child() {
        let (log, _guard) = Log::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!((get(0).await, get(0).await, get(0).await), (1, 2, 3));
            assert_eq!(write().await, 7);
            assert_eq!((get::cache_stats().bypassed, get::cache_stats().misses), (3, 0));
            assert!(matches!(global(), Err(CacheError::Settings(_))));
            assert!(matches!(get::clear_cache(0).await, Err(CacheError::Settings(_))));
            assert!(matches!(get::cached(0).await, Err(CacheError::Settings(_))));
            let own = Cache::builder().build().unwrap();
            Cache::scope(own, async { assert_eq!((get(0).await, get(0).await), (4, 4)) }).await;
        });
        child::say(&format!("{} {}", log.count("ERROR"), log.text()));
        return;
    }
    let vars = [("REDIS_CACHE_TTL", "soon")];
    let test = "with_broken_settings_functions_run_uncached_and_one_error_is_logged";
    let said = child::run(test, &std::env::temp_dir(), &vars).remove(0);
    assert!(said.starts_with("1 ") && said.contains("REDIS_CACHE_TTL") && said.contains("300"), "{said}");
}

#[test]
fn init_makes_the_global_cache_once_and_before_its_first_use() {
    if child::is_child() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            cache_aside::init(of(&[("CACHE_NAMESPACE", "made-by-init")])).await.unwrap();
            assert!(format!("{:?}", global().unwrap()).contains("made-by-init"), "{:?}", global());
            let again = cache_aside::init(of(&[])).await.unwrap_err();
            assert!(matches!(&again, CacheError::Settings(text) if text.contains("once")), "{again:?}");
        });
        child::say("done");
        return;
    }
    // Set for the process, and overruled by what `init` was given.
    let vars = [("CACHE_NAMESPACE", "from-the-environment")];
    child::run("init_makes_the_global_cache_once_and_before_its_first_use", &std::env::temp_dir(), &vars);
}

#[test]
fn a_url_of_no_form_is_told_the_right_one() {
    let wrong = [
        ("redis://host/first", "redis://[user:password@]host[:port][/db]"),
        ("redis://:hunter2", "redis://[user:password@]host[:port][/db]"),
        ("redis+sentinel://:hunter2@a,b", "redis+sentinel://[user:password@]host1[:port]"),
        ("redis+cluster://:hunter2@a,b/1", "redis+cluster://[user:password@]host1[:port]"),
    ];
    for (url, form) in wrong {
        let builder = Cache::builder().redis(url);
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with("REDIS_URL ") && error.contains(form), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = Cache::builder().redis("http://me:hunter2@host").build().unwrap_err().to_string();
    assert!(error.contains("redis://") && !error.contains("hunter2"), "{error}");
}
