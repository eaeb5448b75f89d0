//! Where and with what something was measured.

use std::fmt::{self, Display};

use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

mod built {
    include!(concat!(env!("OUT_DIR"), "/built.rs"));
}

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub os: String,
    pub rustc: &'static str,
    /// Who else was at work: processes that ran or waited to, in the minute before.
    pub load_average: f64,
}

impl Machine {
    pub fn this() -> Self {
        let wanted = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
        let system = System::new_with_specifics(wanted).expect("the system says what it is");
        let os = [System::name(), System::os_version()];
        Self {
            cpu: system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
            cores: system.cpus().len(),
            os: os.into_iter().flatten().collect::<Vec<_>>().join(" "),
            rustc: built::RUSTC_VERSION,
            load_average: System::load_average().map_or(f64::NAN, |load| load.one),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, os, rustc, load_average } = self;
        write!(f, "{cpu}, {cores} cores, {os}, {rustc}, load average {load_average:.1} at the begin")
    }
}

/// Of a crate that the benches depend on.
///
/// # Panics
///
/// There is no such dependency.
pub fn version(name: &str) -> &'static str {
    let found = built::DIRECT_DEPENDENCIES.iter().find(|(direct, _)| *direct == name);
    found.unwrap_or_else(|| panic!("the benches don't depend on `{name}`")).1
}
