//! `cargo xtask compat`: the same tests on every server that is supported.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Done, command, output, say};
use crate::servers::{self, OLD, REDIS_VARIABLE, VALKEY_VARIABLE};

/// What is run on each: the promises, the bytes on the wire, and what goes wrong.
pub(crate) const SUITES: &[&str] = &[
    "conformance_servers",
    "conformance_cluster",
    "tags_servers",
    "fences",
    "redis_hits",
    "stampede",
    "stale_servers",
    "sessions",
    "rate_limit",
    "write_behind",
    "faults_real",
    "near_faults",
    "missing_commands",
    "sentinel",
];

/// What `cargo xtask test` runs on the oldest server, beside everything on a new one.
const OLDEST: &[&str] =
    &["conformance_servers", "conformance_cluster", "tags_servers", "fences", "missing_commands"];

/// A server and how each suite went on it.
struct Row {
    server: String,
    cells: Vec<Result<(), Vec<String>>>,
}

/// The suites on these programs, or without any on all that there are; `--suite NAME` for some of the suites.
pub(crate) fn all(words: &[&str]) -> Done {
    let (mut suites, mut programs) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--suite" => suites.push(*words.next().ok_or("`--suite` needs a name")?),
            option if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
            program => programs.push(PathBuf::from(program)),
        }
    }
    if suites.is_empty() {
        suites = SUITES.to_vec();
    }
    let mut missing = Vec::new();
    if programs.is_empty() {
        programs.extend([servers::redis()?, servers::valkey()?]);
        for wheel in servers::WHEELS {
            match servers::wheel(wheel) {
                Ok(program) => programs.push(program),
                Err(why) => missing.push(why),
            }
        }
    }
    // Before anything is run: a wrong path would throw away what was found out on the others.
    let servers = programs.iter().map(|program| name(program)).collect::<Done<Vec<_>>>()?;
    build(&suites)?;
    let mut rows = Vec::new();
    for (program, server) in programs.iter().zip(servers) {
        say(&format!("On {server}: {}", program.display()));
        let cells = suites.iter().map(|suite| run(program, suite)).collect::<Done<_>>()?;
        rows.push(Row { server, cells });
    }
    say(&table(&suites, &rows));
    for why in &missing {
        say(why);
    }
    let failed = rows.iter().flat_map(|row| &row.cells).filter(|cell| cell.is_err()).count();
    match (failed, missing.len()) {
        (0, 0) => Ok(()),
        (0, missing) => Err(format!("{missing} of the servers are missing.")),
        (failed, _) => Err(format!("{failed} suites failed.")),
    }
}

/// The suites that show the most, on the oldest Redis. False: there is no wheel of it for this machine, or it can't be
/// had, and nothing was tested on it. One that was named must do.
pub(crate) fn oldest() -> Done<bool> {
    let program = match servers::wheel(&OLD) {
        Ok(program) => program,
        Err(why) if OLD.is_named() => return Err(why),
        Err(why) => {
            say(&why);
            return Ok(false);
        }
    };
    build(OLDEST)?;
    for suite in OLDEST {
        run(&program, suite)?.map_err(|failed| format!("{suite} on {}: {}", OLD.is, failed.join(", ")))?;
    }
    Ok(true)
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // As `cargo xtask test` builds them.
    cargo.args(["test", "--workspace"]).env_remove("REDIS_URL");
    cargo
}

fn build(suites: &[&str]) -> Done {
    let mut build = cargo();
    build.arg("--no-run");
    for suite in suites {
        build.args(["--test", suite]);
    }
    crate::run::run(&mut build)
}

/// One suite, or the tests of it that failed. Whatever it asks for, a Redis or a Valkey server, is this program; what
/// is written for both runs once.
fn run(program: &Path, suite: &str) -> Done<Result<(), Vec<String>>> {
    let mut suite_run = cargo();
    suite_run.args(["--quiet", "--test", suite, "--", "--skip", "valkey"]);
    suite_run.env(REDIS_VARIABLE, program).env(VALKEY_VARIABLE, program);
    let done = suite_run.output().map_err(|error| format!("{suite} doesn't start: {error}"))?;
    let said = String::from_utf8_lossy(&done.stdout);
    if done.status.success() {
        say(&format!("  {suite}: ok"));
        return Ok(Ok(()));
    }
    // Of a failure everything is shown, for it may not come again.
    say(&format!("{said}{}\n  {suite}: failed", String::from_utf8_lossy(&done.stderr)));
    Ok(Err(failures(&said)))
}

/// The names of the failed tests: what stands, indented, behind the last `failures:`.
fn failures(said: &str) -> Vec<String> {
    let list = said.rsplit_once("\nfailures:\n").map_or("", |(_, list)| list);
    let names = list.lines().map_while(|line| line.strip_prefix("    "));
    let names: Vec<_> = names.map(str::to_owned).collect();
    if names.is_empty() { vec!["(it ended without a result)".to_owned()] } else { names }
}

/// What the program calls itself.
pub(crate) fn name(program: &Path) -> Done<String> {
    let line = output(&mut command(program, &["--version"]));
    let line = line.ok_or_else(|| format!("{} doesn't run", program.display()))?;
    let is = line.split_whitespace().next().unwrap_or_default();
    let version = line.split_once("v=").and_then(|(_, rest)| rest.split_whitespace().next());
    version
        .map(|version| format!("{is} {version}"))
        .ok_or_else(|| format!("{} is no server", program.display()))
}

/// Suites down, servers across; below, what failed.
fn table(suites: &[&str], rows: &[Row]) -> String {
    let line = |name: &str, cells: Vec<String>| format!("| {name} | {} |", cells.join(" | "));
    let cell = |row: &Row, suite: usize| match &row.cells[suite] {
        Ok(()) => "ok".to_owned(),
        Err(failed) => format!("{} failed", failed.len()),
    };
    let mut lines = vec![
        String::new(),
        line("suite", rows.iter().map(|row| row.server.clone()).collect()),
        format!("|---|{}", "---|".repeat(rows.len())),
    ];
    for (number, suite) in suites.iter().enumerate() {
        lines.push(line(suite, rows.iter().map(|row| cell(row, number)).collect()));
    }
    for row in rows {
        for (suite, failed) in suites.iter().zip(&row.cells) {
            let failed = failed.as_ref().err().into_iter().flatten();
            lines.extend(failed.map(|test| format!("{}: {suite}: {test}", row.server)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_failed() {
        let said = "running 2 tests\n..\n\nfailures:\n\n---- a ----\nwords\n\nfailures:\n    a::b\n    c\n\ntest result: FAILED.";
        let failed = failures(said);
        assert_eq!(failed, ["a::b", "c"]);
        let rows = [
            Row { server: "Redis 6.2.14".into(), cells: vec![Ok(()), Err(failed)] },
            Row { server: "Valkey 9.1.2".into(), cells: vec![Ok(()), Ok(())] },
        ];
        assert_eq!(
            table(&["fences", "tls"], &rows),
            "\n| suite | Redis 6.2.14 | Valkey 9.1.2 |\n|---|---|---|\n| fences | ok | ok |\n| tls | 2 failed | ok |\n\
             Redis 6.2.14: tls: a::b\nRedis 6.2.14: tls: c"
        );
        assert_eq!(failures("it was killed"), ["(it ended without a result)"]);
    }
}
