//! `drill ablation`: what each layer is worth.
//!
//! The server is started once for each variant, with one layer switched off in each, and the naive twin beside them with all of them off. Then they
//! take turns, a slice of the same traffic each, so that what else the machine does falls on all alike. No cgroup is needed: memory is read from the
//! process.
//!
//! Not every layer can be switched off in a server that is built on it. Admission (G3) without reservation, and one pass without an arena (L3), exist
//! in the twin only; what the shared pass is worth is measured by asking for each task by itself.

mod report;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::line::RigError;
use crate::line::scrape::Metrics;
use crate::line::server::{Program, Scratch, Server};
use crate::night::plan::{Clock, Plan};
use crate::night::steady;
use crate::night::texts::Texts;
use crate::process::{Peak, anonymous_bytes};

pub use report::Report;
use visit::{Slice, Visitor};

/// Slices of the traffic.
const ROUNDS: usize = 10;
/// How long memory is left alone before it is read.
const SILENCE: Duration = Duration::from_secs(5);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub program: Program,
    /// Arguments that make the executable the naive twin.
    pub twin: Vec<String>,
    /// N of each variant.
    pub limit_bytes: u64,
    /// Where all random choices come from.
    pub seed: u64,
    /// Requests of the steady traffic, for each variant.
    pub requests: usize,
}

/// A variant of the server.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// What is off.
    pub name: &'static str,
    /// Flags that switch it off.
    flags: &'static [&'static str],
    is_twin: bool,
}

const fn ours(name: &'static str, flags: &'static [&'static str]) -> Variant {
    Variant {
        name,
        flags,
        is_twin: false,
    }
}

const fn twin(name: &'static str, flags: &'static [&'static str]) -> Variant {
    Variant {
        name,
        flags,
        is_twin: true,
    }
}

/// All of them, in the order of the table.
pub const VARIANTS: [Variant; 11] = [
    ours("all layers", &[]),
    ours("L1 off: no slot is kept", &["--without", "reuse"]),
    ours("L2 off: no cache", &["--cache-bytes", "0"]),
    ours("L2 by LRU", &["--cache-policy", "lru"]),
    ours("L2 by SIEVE", &["--cache-policy", "sieve"]),
    ours("L4, G1 off: nothing goes back", &["--without", "give-back"]),
    ours("G2 off: no levels", &["--without", "levels"]),
    ours("G3: no waiting at the door", &["--without", "waiting"]),
    ours("G6 off: no reclaimer", &["--reclaim-growth", "0"]),
    twin("all off: the twin, plain map", &[]),
    twin("all off: the twin, no map", &["--no-cache"]),
];

/// What was measured of a variant.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Which.
    pub name: &'static str,
    /// Times of the steady traffic, in microseconds.
    pub steady_us: Vec<u32>,
    /// Of its requests for texts that were asked for before, those found in the cache.
    pub hot: (u64, u64),
    /// Leases that found their slot warm, of all, in percent.
    pub warm_percent: Option<f64>,
    /// Heap allocations of a request, all threads, HTTP included.
    pub allocations: f64,
    /// Of them, in the pipeline.
    pub pipeline_allocations: Option<f64>,
    /// Times of the bursts, in microseconds.
    pub burst_us: Vec<u32>,
    /// Requests of the bursts that were refused.
    pub burst_refused: u64,
    /// Times of one request for all tasks, and of a request for each, in microseconds.
    pub tasks_us: (Vec<u32>, Vec<u32>),
    /// Anonymous bytes after the first requests.
    pub rest_bytes: u64,
    /// The most during the bursts.
    pub peak_bytes: u64,
    /// Some seconds after them.
    pub after_bytes: u64,
    /// What the steady traffic and its new texts added, with as much silence before and after.
    pub grown_bytes: i64,
}

struct Candidate {
    variant: Variant,
    server: Server,
    visitor: Visitor,
    row: Row,
}

/// Measures. Progress goes to standard error.
///
/// # Errors
/// [`RigError`] when a variant does not start or dies.
pub fn run(options: &Options) -> Result<Report, RigError> {
    let scratch = Scratch::new(&options.program.path)?;
    let texts = Arc::new(Texts::from_seed(options.seed));
    let clock = Clock::new(Duration::from_secs(1));
    let plan = Plan::new(options.seed, clock, options.limit_bytes, 100_000);
    let steps = VARIANTS.len() * (ROUNDS + 3);
    let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.expect("the template is a constant"));
    let mut all = Vec::new();
    for variant in VARIANTS {
        bar.set_message(format!("{} starts", variant.name));
        all.push(Candidate::start(options, &scratch, variant, &plan, &texts)?);
        bar.inc(1);
    }
    std::thread::sleep(SILENCE);
    for candidate in &mut all {
        candidate.row.rest_bytes = candidate.anonymous()?;
    }
    let slice = options.requests.div_ceil(ROUNDS);
    for round in 0..ROUNDS {
        for candidate in &mut all {
            bar.set_message(format!("round {}: {}", round + 1, candidate.variant.name));
            candidate.steady(slice)?;
            bar.inc(1);
        }
    }
    std::thread::sleep(SILENCE);
    for candidate in &mut all {
        candidate.row.grown_bytes = candidate.anonymous()? as i64 - candidate.row.rest_bytes as i64;
    }
    for candidate in &mut all {
        bar.set_message(format!("tasks: {}", candidate.variant.name));
        candidate.tasks()?;
        bar.inc(1);
        bar.set_message(format!("burst: {}", candidate.variant.name));
        candidate.burst()?;
        bar.inc(1);
    }
    std::thread::sleep(SILENCE);
    for candidate in &mut all {
        candidate.row.after_bytes = candidate.anonymous()?;
    }
    bar.finish_and_clear();
    Ok(Report {
        seed: options.seed,
        limit_bytes: options.limit_bytes,
        requests: slice * ROUNDS,
        rows: all.into_iter().map(|candidate| candidate.row).collect(),
    })
}

impl Candidate {
    fn start(
        options: &Options,
        scratch: &Scratch,
        variant: Variant,
        plan: &Plan,
        texts: &Arc<Texts>,
    ) -> Result<Candidate, RigError> {
        let mut arguments = match variant.is_twin {
            true => options.twin.clone(),
            false => options.program.serve(options.limit_bytes),
        };
        arguments.extend(variant.flags.iter().map(|&flag| flag.to_owned()));
        let server = Server::start_as(&options.program, scratch, None, &arguments)?;
        steady::warm(server.address, texts)?;
        Ok(Candidate {
            variant,
            visitor: Visitor::new(server.address, plan, texts, options.seed)?,
            server,
            row: Row {
                name: variant.name,
                ..Row::default()
            },
        })
    }

    fn anonymous(&self) -> Result<u64, RigError> {
        anonymous_bytes(self.server.pid()).ok_or_else(|| self.died())
    }

    fn died(&self) -> RigError {
        RigError::Program(format!("{}: it has ended", self.variant.name))
    }

    fn steady(&mut self, requests: usize) -> Result<(), RigError> {
        // Asking costs allocations, too: what lies between two questions in a row is taken off.
        let idle = Metrics::of(self.server.address)?;
        let before = Metrics::of(self.server.address)?;
        let Slice { times_us, hot } = self.visitor.steady(requests)?;
        let after = Metrics::of(self.server.address)?;
        let grown = |series: &str| {
            let now = before.value(series)?;
            Some(after.value(series)? - now - (now - idle.value(series)?))
        };
        let share = requests as f64 * ROUNDS as f64;
        let row = &mut self.row;
        row.allocations += grown("plimsoll_heap_allocations_total").unwrap_or(0.0) / share;
        if let Some(count) = grown("plimsoll_pipeline_allocations_total") {
            *row.pipeline_allocations.get_or_insert(0.0) += count / share;
        }
        row.steady_us.extend(times_us);
        row.hot = (row.hot.0 + hot.0, row.hot.1 + hot.1);
        if let (Some(warm), Some(cold)) = (
            after.sum("plimsoll_lease_hits_total"),
            after.sum("plimsoll_lease_misses_total"),
        ) {
            row.warm_percent = Some(100.0 * warm / (warm + cold).max(1.0));
        }
        Ok(())
    }

    /// One request for all tasks against a request for each. The twin knows two of them and nothing of passes.
    fn tasks(&mut self) -> Result<(), RigError> {
        if !self.variant.is_twin {
            self.row.tasks_us = self.visitor.tasks()?;
        }
        Ok(())
    }

    fn burst(&mut self) -> Result<(), RigError> {
        let peak = Peak::start(self.server.pid());
        let (times_us, refused) = self.visitor.burst()?;
        self.row.peak_bytes = peak.finish();
        self.row.burst_us = times_us;
        self.row.burst_refused = refused;
        if self.server.is_alive() {
            Ok(())
        } else {
            Err(self.died())
        }
    }
}
