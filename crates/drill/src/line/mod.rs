//! `drill line`: the promise of N bytes, tested with real kills.
//!
//! The server is started in a memory cgroup of its own and attacked from outside it, one attack after the other on the same server, as one night
//! follows another. Each attack is made twice: with the group's limit at N, where the kernel kills whatever passes it, and with four times as
//! much, where nothing would be killed and what cannot be reclaimed must stay at or below N by itself. The counters are the kernel's; the server is
//! asked only for its ledger and for how long its refusals took.

pub mod attacks;
pub mod cgroup;
pub mod client;
pub mod cores;
pub mod corpus;
pub mod field;
pub mod health;
pub mod judge;
mod leftovers;
pub mod logs;
mod night;
pub mod report;
pub mod sample;
pub mod scrape;
pub mod server;
pub mod thp;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use attacks::Attack;
use judge::Run;
use night::Night;
use report::{Cell, Report};
use server::{Program, Scratch};
use thp::HugePages;

/// Descriptors that all attacks at once need.
const DESCRIPTORS_MAX: u64 = 16_384;

/// Why a drill could not be held.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// No group of our own.
    #[error("{path}: {reason}; this drill needs a memory cgroup that it may write")]
    NoCgroup {
        /// Where it was tried.
        path: String,
        /// What the kernel said.
        reason: String,
    },
    /// The server, or its plan.
    #[error("the server did not start: {0}")]
    Program(String),
    /// A copy or a log could not be made.
    #[error("{0}")]
    Files(String),
    /// The host's huge pages.
    #[error("transparent huge pages cannot be set: {0}")]
    HugePages(String),
    /// The kernel's counters, the runtime.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A line to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// So many bytes.
    Bytes(u64),
    /// So many times the least that the server starts with.
    Least(u64),
}

/// What to drill.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub program: Program,
    /// The lines.
    pub lines: Vec<Line>,
    /// Where all random choices come from.
    pub seed: u64,
    /// How long each attack lasts.
    pub time: Duration,
    /// Which attacks; all when empty.
    pub attacks: Vec<String>,
    /// Settings of transparent huge pages to drill under; the host's own when empty.
    pub huge_pages: Vec<String>,
}

/// Holds the drill. Progress goes to standard error.
///
/// # Errors
/// [`RigError`] when it could not be held; a server that fails it is in the report.
pub fn run(options: &Options) -> Result<Report, RigError> {
    // First of all: without a group there is nothing to drill.
    let version = cgroup::Group::new("probe", 1 << 30)?.version();
    let descriptors = raise_descriptors();
    let attacks: Vec<Attack> = attacks::ALL
        .into_iter()
        .filter(|attack| options.attacks.is_empty() || options.attacks.iter().any(|name| name == attack.name))
        .collect();
    let scratch = Scratch::new(&options.program.path)?;
    let least_bytes = options.program.least_limit()?;
    let settings = match options.huge_pages.as_slice() {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    };
    let bar = bar(settings.len() * options.lines.len() * Run::BOTH.len() * attacks.len());
    let mut cells = Vec::new();
    for setting in settings {
        let _restored_later = setting.map(|setting| HugePages::set(setting)).transpose()?;
        let huge_pages = thp::current()?;
        for line in &options.lines {
            let line_bytes = match line {
                Line::Bytes(bytes) => *bytes,
                Line::Least(times) => times * least_bytes,
            };
            let bill = options.program.plan(line_bytes)?.map_err(|needed| {
                RigError::Program(format!("{line_bytes} bytes are too few, {needed} are needed"))
            })?;
            for run in Run::BOTH {
                let mut night = Night::new(options, &scratch, bill.clone(), run)?;
                for attack in &attacks {
                    bar.set_message(format!(
                        "THP {huge_pages}, N = {line_bytes}, run {}: {}",
                        run.name(),
                        attack.name
                    ));
                    let facts = night.attack(attack, options.seed, options.time)?;
                    let cell = Cell::new(&huge_pages, &bill, run, attack, facts);
                    bar.suspend(|| cell.faults().iter().for_each(|fault| eprintln!("{fault}")));
                    bar.inc(1);
                    cells.push(cell);
                }
                night.finish();
            }
        }
    }
    bar.finish_and_clear();
    Ok(Report {
        seed: options.seed,
        time: options.time,
        version,
        descriptors,
        least_bytes,
        cells,
    })
}

/// Has this process, and what it becomes, ended when the one that started it ends.
///
/// # Errors
/// The kernel's.
pub fn end_with_parent() -> std::io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Raises the limit of descriptors as far as it goes; returns where it stands.
pub(crate) fn raise_descriptors() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(DESCRIPTORS_MAX);
    for wanted in [DESCRIPTORS_MAX.max(hard), hard] {
        let limit = Rlimit {
            current: Some(wanted),
            maximum: Some(wanted),
        };
        if setrlimit(Resource::Nofile, limit).is_ok() {
            return wanted;
        }
    }
    now.current.unwrap_or(0)
}

fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.expect("the template is a constant"));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
