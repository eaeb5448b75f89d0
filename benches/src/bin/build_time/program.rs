//! A program that is there to be compiled.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, str};

use crate::way::Way;

const NAME: &str = "program";

#[derive(Clone, Copy)]
pub enum Task {
    Check,
    Build,
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Build => "build",
        }
    }
}

pub struct Program {
    way: Way,
    folder: PathBuf,
}

impl Program {
    /// With so many functions of a struct each, so many in a file, and a `main` that calls them all.
    pub fn write(inside: &Path, way: Way, functions: usize, in_a_file: usize) -> Self {
        let folder = inside.join(format!("{way:?}"));
        let this = Self { way, folder };
        fs::create_dir_all(this.source("")).expect("a folder");
        let (base, own) = (Way::BASE, way.dependencies());
        let manifest = format!(
            "[package]\nname = \"{NAME}\"\nedition = \"2024\"\n\n[dependencies]\n{base}{own}\n[workspace]\n"
        );
        this.put("Cargo.toml", &manifest);
        // What is measured here has the versions of all that is measured.
        this.put("Cargo.lock", include_str!("../../../Cargo.lock"));
        let mut main = "#[tokio::main]\nasync fn main() {\n    let mut sum = 0.0;\n".to_owned();
        for file in 0..functions.div_ceil(in_a_file) {
            writeln!(main, "    sum += m{file}::all().await;").expect("a string");
            let numbers = file * in_a_file..functions.min((file + 1) * in_a_file);
            let mut text = way.head();
            let mut all = "\npub async fn all() -> f64 {\n    let mut sum = 0.0;\n".to_owned();
            for number in numbers {
                text.push_str(&way.function(number));
                let call = format!("row{number}({number}, \"acme\").await");
                writeln!(all, "    sum += {call}.map_or(0.0, |row| row.score);").expect("a string");
            }
            this.put(&format!("src/m{file}.rs"), &format!("{text}{all}    sum\n}}\n"));
        }
        main.push_str("    println!(\"{sum}\");\n}\n");
        (0..functions.div_ceil(in_a_file))
            .for_each(|file| write!(main, "\nmod m{file};\n").expect("a string"));
        this.put("src/main.rs", &main);
        this.cargo(&["fetch", "--quiet"]);
        this
    }

    /// All that was built for it.
    pub fn forget_all(&self) {
        if self.target().exists() {
            fs::remove_dir_all(self.target()).expect("it is ours");
        }
    }

    /// Only what was built of itself.
    pub fn forget_own(&self) {
        self.cargo(&["clean", "--quiet", "--offline", "--package", NAME]);
        let incremental = self.target().join("debug/incremental");
        if incremental.exists() {
            fs::remove_dir_all(incremental).expect("it is ours");
        }
    }

    /// Changes what one function does.
    pub fn touch(&self) {
        let text = fs::read_to_string(self.source("m0.rs")).expect("it was written");
        let (before, rest) = text.split_once(Way::CHANGES).expect("it is what was written");
        let (number, rest) = rest.split_once(".0;").expect("a number");
        let number: u32 = number.parse().expect("a number");
        self.put("src/m0.rs", &format!("{before}{}{}.0;{rest}", Way::CHANGES, number + 1));
    }

    /// Seconds that it takes.
    pub fn time(&self, task: Task) -> f64 {
        let begun = Instant::now();
        self.cargo(&[task.name(), "--quiet", "--offline", "-j2"]);
        begun.elapsed().as_secs_f64()
    }

    /// How many crates it is built of, itself not among them.
    pub fn crates(&self) -> usize {
        let tree = ["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
        let tree = self.cargo(&tree);
        let mut names: Vec<_> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
        names.sort_unstable();
        names.dedup();
        names.len() - 1
    }

    fn cargo(&self, words: &[&str]) -> String {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(words).current_dir(&self.folder).env("CARGO_TARGET_DIR", self.target());
        // As a developer has it, whoever runs this.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL", "RUSTC_WRAPPER"] {
            cargo.env_remove(name);
        }
        let output = cargo.output().expect("cargo starts");
        let said = str::from_utf8(&output.stderr).unwrap_or_default();
        assert!(output.status.success(), "{:?}: cargo {words:?}\n{said}", self.way);
        String::from_utf8(output.stdout).expect("text")
    }

    fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    fn source(&self, name: &str) -> PathBuf {
        self.folder.join("src").join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("it can be written");
    }
}
