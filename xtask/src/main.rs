//! The project's own commands. They need Rust and a C compiler (for `rusqlite` in an example), and
//! get what else they need.

mod bench;
mod compat;
mod install;
mod run;
mod servers;
mod test;
mod throwaway;

use std::env;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test    find or install Redis and Valkey, then run every test: unit, integration, UI and
          documentation tests, and the examples, on the embedded store and on Redis; what shows
          most on Redis 6.2, too
  compat  run the suites that show most on every server that is supported (Redis 6.2, 8.2 and Valkey 9.0 out
          of wheels, and those of `test`), and print a table; or on these: compat /path/to/server ..
          --suite NAME for some of the suites
  bench   measure one thing beside its peers, or without a name one after the other; an unknown name
          lists all. --rounds N, --json FILE, --svg FILE, or --save: both into docs/benches/
  redis   start a throw-away Redis, print its REDIS_URL, and keep it until Ctrl-C";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["test"] => test::all(),
        ["bench" | "compat", "--help" | "-h"] => Err(USAGE.to_owned()),
        ["compat", ref words @ ..] => compat::all(words),
        ["bench", ref words @ ..] => bench::some(words),
        ["redis"] => throwaway::until_stopped(),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            run::say(&problem);
            ExitCode::FAILURE
        }
    }
}
