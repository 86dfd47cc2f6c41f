//! `drill 3am`: the night in which services of this kind die, on a compressed clock.
//!
//! Steady traffic in sessions, and at the same second a log rotation, a full warm-up of the cache, a scan of the cold partition and a burst of clients:
//! each alone, each pair, all together, in a memory cgroup that kills. What is sent and when follows from a seed ([`plan`]); what is served is a fresh
//! server each time, ours or its naive twin, so that no night inherits from another. Whether somebody died, and how much was held, the kernel says.

pub mod causes;
pub mod html;
pub mod judge;
pub mod kernel_log;
pub mod plan;
pub mod report;
mod screen;
pub mod steady;
pub mod texts;
pub mod watch;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_engine::govern::{BUCKETS, Buckets};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::line::cgroup::{Counters, Group};
use crate::line::health::Prober;
use crate::line::sample::Sampler;
use crate::line::scrape::Metrics;
use crate::line::server::{Bill, Program, Scratch, Server};
use crate::line::{Line, RigError, raise_descriptors};
use causes::{Rotation, Scene};
use judge::{Death, Events, Facts, Part, Who, recovered};
use kernel_log::KernelLog;
use plan::{Cause, Causes, Clock, Plan};
use report::Report;
use screen::Screen;
use steady::{Sample, Traffic};
use texts::Texts;
use watch::Watch;

/// How long the most that the server can do is looked for.
const PEAK_TIME: Duration = Duration::from_secs(3);
/// Between two looks at a server and its traffic.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two readings of what is held: the kernel sums up a group's counters for each.
const READING_EVERY: Duration = Duration::from_millis(20);
/// At the beginning of the steady traffic connections are opened; so much of the calm is not counted.
const OPENING_SHARE: f64 = 0.1;

/// What to drill.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub program: Program,
    /// Arguments that make the executable the naive twin.
    pub twin: Vec<String>,
    /// Arguments that make it rotate a log: its directory follows.
    pub rotate: Vec<String>,
    /// The line.
    pub line: Line,
    /// Where all random choices come from.
    pub seed: u64,
    /// How long the steady traffic is left alone, before and after.
    pub calm: Duration,
    /// Which combinations.
    pub causes: Vec<Causes>,
    /// Who serves.
    pub who: Vec<Who>,
    /// Reviews, a line each; without it they are made from the seed.
    pub texts: Option<PathBuf>,
    /// Requests a second; without it, `load_percent` of the most.
    pub rate: Option<f64>,
    /// Of the most that the server answers in a closed loop.
    pub load_percent: f64,
    /// What is asked of the calm parts, and half of which a request may wait for workers.
    pub p99_ms_max: Option<f64>,
}

/// Holds the drill. Progress goes to standard error.
///
/// # Errors
/// [`RigError`] when it could not be held; a server that dies is in the report.
pub fn run(options: &Options) -> Result<Report, RigError> {
    // First of all: without a group there is nothing to drill.
    let version = Group::new("probe", 1 << 30)?.version();
    raise_descriptors();
    let scratch = Scratch::new(&options.program.path)?;
    let line_bytes = match options.line {
        Line::Bytes(bytes) => bytes,
        Line::Least(times) => times * options.program.least_limit()?,
    };
    let bill = options.program.plan(line_bytes)?.map_err(|needed| {
        RigError::Program(format!("{line_bytes} bytes are too few, {needed} are needed"))
    })?;
    let texts = match &options.texts {
        Some(path) => Texts::from_file(path, options.seed)?,
        None => Texts::from_seed(options.seed),
    };
    let clock = Clock::new(options.calm);
    let mut night = Night {
        plan: Plan::new(options.seed, clock, line_bytes, bill.body_bytes_max),
        texts: Arc::new(texts),
        rate: 0.0,
        options,
        scratch,
        bill,
    };
    let screen = Screen::new(options.causes.len() * options.who.len(), line_bytes);
    night.rate = match options.rate {
        Some(rate) => rate,
        None => night.peak()? * options.load_percent / 100.0,
    };
    let mut nights = Vec::new();
    for causes in &options.causes {
        for who in &options.who {
            screen.begin(*who, *causes);
            let facts = night.pass(*who, *causes, &screen)?;
            screen.end(&facts);
            nights.push(facts);
        }
    }
    screen.finish();
    Ok(Report {
        seed: options.seed,
        line_bytes,
        version,
        clock,
        rate: night.rate,
        made_up: options.texts.is_none(),
        documents: night.plan.documents.len(),
        scan_bytes: night.plan.scan_bytes(),
        log_bytes: night.plan.log_bytes,
        p99_ms_max: options.p99_ms_max,
        nights,
    })
}

struct Night<'a> {
    options: &'a Options,
    scratch: Scratch,
    bill: Bill,
    plan: Plan,
    texts: Arc<Texts>,
    rate: f64,
}

/// A server in its group.
struct Stage {
    server: Server,
    group: Arc<Group>,
}

/// When the parts of a night began, on the clock of the steady traffic.
struct Times {
    three: Duration,
    over: Duration,
    end: Duration,
}

impl Night<'_> {
    fn set_up(&self, who: Who, arguments: &[String]) -> Result<Stage, RigError> {
        let group = Arc::new(Group::new(who.name(), self.bill.limit_bytes)?);
        let program = &self.options.program;
        let server = Server::start_as(program, &self.scratch, Some(&group), arguments)?;
        steady::warm(server.address, &self.texts)?;
        Ok(Stage { server, group })
    }

    /// Who asks for a p99 tells the server how long a request may wait for workers: half of it, the other half is for the answer itself.
    fn arguments(&self, who: Who) -> Vec<String> {
        let Who::Plimsoll = who else {
            return self.options.twin.clone();
        };
        let mut arguments = self.options.program.serve(self.bill.limit_bytes);
        if let Some(bound) = self.options.p99_ms_max {
            arguments.extend(["--queue-ms-max".to_owned(), format!("{:.0}", bound / 2.0)]);
        }
        arguments
    }

    /// Of a server that refuses none of so few clients.
    fn peak(&self) -> Result<f64, RigError> {
        let arguments = self.options.program.serve(self.bill.limit_bytes);
        let stage = self.set_up(Who::Plimsoll, &arguments)?;
        Ok(steady::peak(
            stage.server.address,
            &self.plan,
            &self.texts,
            PEAK_TIME,
        )?)
    }

    fn pass(&self, who: Who, causes: Causes, screen: &Screen) -> Result<Facts, RigError> {
        let mut log = KernelLog::from_now();
        let mut stage = self.set_up(who, &self.arguments(who))?;
        let (address, group) = (stage.server.address, Arc::clone(&stage.group));
        let (idle, counted) = (group.reading()?, group.counters()?);
        let metrics = Metrics::of(address)?;
        let scene = Rc::new(self.scene(&stage));
        if causes.has(Cause::Rotation) {
            scene.rotation.prepare(self.plan.log_bytes)?;
        }
        let (sampler, prober) = (Sampler::every(READING_EVERY, &group), Prober::start(address));
        let watch = Watch::start(&group, address);
        let traffic = Traffic::start(address, &self.plan, &self.texts, self.rate);
        let mut died = None;
        let mut look = |stage: &mut Stage| {
            screen.show(&watch.last(), &traffic);
            if died.is_none() && !stage.server.is_alive() {
                died = Some(traffic.elapsed());
            }
            died.is_none()
        };
        while traffic.elapsed() < self.plan.clock.calm && look(&mut stage) {
            std::thread::sleep(LOOK_EVERY);
        }
        let three = traffic.elapsed();
        self.cause(&scene, causes, || look(&mut stage))?;
        let over = traffic.elapsed();
        self.recover(&traffic, over, || look(&mut stage));
        let end = traffic.elapsed();
        let samples = traffic.finish()?;
        let health = prober.finish();
        let mut settled = None;
        let (mut events, mut leases) = (None, Vec::new());
        if died.is_none() {
            std::thread::sleep(self.plan.clock.settle);
            settled = Some(group.reading()?);
            if let Ok(now) = Metrics::of(address) {
                events = Some(events_since(&now, &metrics));
                leases = leases_since(&now, &metrics);
            }
        }
        let moments = watch.finish();
        let peaks = sampler.finish();
        let (status, words) = stage.server.stop();
        let death = died.map(|at| Death {
            at: at.saturating_sub(three),
            status: status.map_or_else(|| words.clone(), |status| status.to_string()),
            kernel: log.kills(),
        });
        let outcomes = *scene.outcomes.borrow();
        Ok(self.facts(
            Facts {
                who,
                causes,
                rate: self.rate,
                before: Part::default(),
                during: Part::default(),
                after: Part::default(),
                outcomes,
                recovery: None,
                counters: since(counted, group.counters()?),
                peak: peaks.at_peak,
                idle,
                settled,
                health,
                death,
                events,
                leases,
                moments,
                three,
                over,
            },
            &samples,
            &Times { three, over, end },
        ))
    }

    /// Divides the steady traffic by the parts of the night.
    fn facts(&self, facts: Facts, samples: &[Sample], times: &Times) -> Facts {
        let opened = self.plan.clock.calm.mul_f64(OPENING_SHARE);
        let recovery =
            recovered(samples, times.over, self.options.p99_ms_max).filter(|_| facts.death.is_none());
        let after = recovery.map_or(times.end, |took| times.over + took);
        Facts {
            before: Part::of(samples, opened, times.three),
            during: Part::of(samples, times.three, times.over),
            after: Part::of(samples, after, times.end),
            recovery,
            ..facts
        }
    }

    fn scene(&self, stage: &Stage) -> Scene {
        let program = &self.options.program;
        let mut arguments = program.enter.clone();
        arguments.push(stage.group.procs().display().to_string());
        arguments.push(program.path.display().to_string());
        arguments.extend(self.options.rotate.clone());
        Scene {
            address: stage.server.address,
            plan: self.plan.clone(),
            texts: Arc::clone(&self.texts),
            rotation: Rotation {
                program: program.path.clone(),
                arguments,
                dir: self.scratch.path().join("rotation"),
            },
            outcomes: RefCell::default(),
        }
    }

    /// Lets the causes loose; `look` says whether the server still lives.
    fn cause(
        &self,
        scene: &Rc<Scene>,
        causes: Causes,
        mut look: impl FnMut() -> bool,
    ) -> Result<(), RigError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let outlived = async {
            while look() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let ended = LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                ended = causes::run(scene, causes) => ended,
                () = outlived => Ok(()),
            }
        });
        Ok(ended?)
    }

    /// Waits until the calm is back and has lasted as long as before, or patience is over.
    fn recover(&self, traffic: &Traffic, over: Duration, mut look: impl FnMut() -> bool) {
        let clock = &self.plan.clock;
        let began = Instant::now();
        let mut back = None;
        while began.elapsed() < clock.patience && look() {
            back = back.or_else(|| traffic.look(|samples| recovered(samples, over, self.options.p99_ms_max)));
            if back.is_some_and(|back| began.elapsed() > back + clock.calm) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn since(before: Counters, after: Counters) -> Counters {
    Counters {
        kills: after.kills - before.kills,
        limit_hits: after.limit_hits - before.limit_hits,
        ..after
    }
}

fn grown(now: &Metrics, before: &Metrics, series: &str) -> u64 {
    let value = |metrics: &Metrics| metrics.value(series).unwrap_or(0.0);
    (value(now) - value(before)) as u64
}

fn events_since(now: &Metrics, before: &Metrics) -> Events {
    Events {
        levels: grown(now, before, "plimsoll_level_changes_total"),
        cycles: grown(now, before, "plimsoll_reclaim_cycles_total"),
        returned: grown(now, before, "plimsoll_returned_requests_total"),
    }
}

fn leases_since(now: &Metrics, before: &Metrics) -> Vec<(&'static str, u64, u64)> {
    let buckets = (0..BUCKETS).map(|bucket| {
        let name = Buckets::name(bucket);
        let of = |family: &str| grown(now, before, &format!("{family}{{le=\"{name}\"}}"));
        (
            name,
            of("plimsoll_lease_hits_total"),
            of("plimsoll_lease_misses_total"),
        )
    });
    buckets.collect()
}
