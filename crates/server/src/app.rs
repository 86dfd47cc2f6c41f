//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use plimsoll_engine::{Clock, Engine, Nanos};

use crate::metrics::Metrics;
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
    /// Times and keys.
    pub settings: Settings,
    /// Set once the server drains.
    pub draining: AtomicBool,
}

/// What the operator may set for requests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From the first byte of a body to its last.
    pub body_timeout: Duration,
    /// From the body's last byte to the finished answer.
    pub request_timeout: Duration,
    /// What clients must show as a bearer token.
    pub api_key: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            api_key: None,
        }
    }
}

impl App {
    /// Stops taking requests; those inside go on.
    pub fn drain(&self) {
        self.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        self.engine.drain();
    }

    /// Whether the server is going down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(std::sync::atomic::Ordering::Relaxed)
    }
}
