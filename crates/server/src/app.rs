//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plimsoll_engine::govern::{Marks, Order, PaceConfig};
use plimsoll_engine::{Clock, Engine, Layers, Nanos};

use crate::http::problem::Problem;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::page::Live;
use crate::wire::Abilities;

/// The process's clock: nanoseconds since it was made.
#[derive(Debug)]
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Monotonic(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What requests are served with.
pub struct App {
    /// The engine.
    pub engine: Arc<Engine>,
    /// What the model can do and what is allowed.
    pub abilities: Abilities,
    /// What answers call the model.
    pub model_name: Arc<str>,
    /// Where the model came from.
    pub model_id: String,
    /// Counters.
    pub metrics: Metrics,
    /// What the page shows.
    pub live: Live,
    /// Who is told of requests and events.
    pub observer: Arc<Observer>,
    /// Times and keys.
    pub settings: Settings,
    /// Set once the server drains.
    pub draining: AtomicBool,
    /// Set while texts are read that the server begins with.
    pub warming: AtomicBool,
}

/// What the operator may set for requests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From the first byte of a body to its last.
    pub body_timeout: Duration,
    /// From the body's last byte to the finished answer.
    pub request_timeout: Duration,
    /// The longest that a newcomer may have to wait for workers.
    pub queue_time_max: Duration,
    /// A body may take so long whatever its length.
    pub body_grace: Duration,
    /// After the grace it must have come at this rate.
    pub body_bytes_per_s_min: usize,
    /// What clients must show as a bearer token.
    pub api_key: Option<String>,
    /// Where the levels of the ledger lie.
    pub marks: Marks,
    /// What is dropped first under pressure.
    pub drop_order: Order,
    /// When memory is reclaimed.
    pub pace: PaceConfig,
    /// Which layers work.
    pub layers: Layers,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            queue_time_max: Duration::from_secs(2),
            body_grace: Duration::from_secs(2),
            body_bytes_per_s_min: 8 * 1024,
            api_key: None,
            marks: Marks::default(),
            drop_order: Order::default(),
            pace: PaceConfig::default(),
            layers: Layers::ALL,
        }
    }
}

impl Settings {
    /// For work that nobody waits for, as a file: it is done whole, however long it takes.
    pub fn ungoverned() -> Self {
        Settings {
            marks: Marks::OFF,
            ..Settings::default()
        }
    }

    /// The longest that a newcomer may have to wait for workers; none where nothing is refused for time.
    pub fn line_max(&self) -> Option<Nanos> {
        let nanos = u64::try_from(self.queue_time_max.as_nanos()).unwrap_or(u64::MAX);
        (self.marks != Marks::OFF).then_some(Nanos(nanos))
    }

    /// How long a body may take of which `read_bytes` have come.
    pub fn body_time(&self, read_bytes: usize) -> Duration {
        let earned = Duration::from_secs_f64(read_bytes as f64 / self.body_bytes_per_s_min.max(1) as f64);
        self.body_timeout.min(self.body_grace + earned)
    }
}

impl App {
    /// Tells probes that no more traffic should come; what comes all the same is served.
    pub fn take_leave(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Stops taking requests; those inside go on.
    pub fn drain(&self) {
        self.take_leave();
        self.engine.drain();
    }

    /// Whether the server is going down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Why no traffic should be sent here now, if so; who sends some all the same is answered while the server warms up.
    pub fn unready(&self) -> Option<Problem> {
        match () {
            () if self.is_draining() => Some(Problem::draining()),
            () if self.warming.load(Ordering::Relaxed) => Some(Problem::warming()),
            () => None,
        }
    }
}
