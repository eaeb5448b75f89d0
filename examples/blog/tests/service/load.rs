//! The load program prints what it promises.

use std::process::Command;

#[test]
fn with_the_cache_the_database_is_asked_less() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.arg("2000").env_remove("REDIS_URL").env_remove("REDIS_HOST");
    let output = command.output().expect("it is built");
    let table = String::from_utf8(output.stdout).expect("it is text");
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    let queries = |row: &str| -> f64 {
        let line = table.lines().find(|line| line.starts_with(row)).expect(row);
        line.split_whitespace().next_back().expect("it has columns").parse().expect("it is a number")
    };
    let (without, with) = (queries("without cache"), queries("with cache"));
    assert!(without > 2.0 && with < without / 2.0, "{table}");
}
