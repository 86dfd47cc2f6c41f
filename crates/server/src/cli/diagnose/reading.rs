//! All that a diagnosis reads, at the same time where it takes time.

use std::io::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fetch::Url;
use crate::debug::Profile;

/// CPU time is told apart by slices so long.
const SLICE_MS: u64 = 250;

/// What was read.
pub(super) struct Reading {
    pub(super) url: String,
    /// The state before and after.
    pub(super) before: State,
    pub(super) after: State,
    pub(super) events: Vec<Event>,
    pub(super) cpu: Profile,
    pub(super) heap_before: Profile,
    pub(super) heap: Profile,
    pub(super) pools: Profile,
    pub(super) threads: Profile,
    pub(super) forbidden: Profile,
    /// How long reading took, beyond the time that was asked for.
    pub(super) overhead: Duration,
}

/// One of Chrome's trace events.
#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) ph: char,
    #[serde(default)]
    pub(super) ts: f64,
    #[serde(default)]
    pub(super) dur: f64,
    #[serde(default)]
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Map<String, Value>,
}

impl Event {
    /// A number of its arguments; 0 where it has none.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.args.get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// A word of its arguments.
    pub(super) fn word(&self, name: &str) -> &str {
        self.args.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

/// The answer of `/debug/state`, as far as a diagnosis reads it.
#[derive(Deserialize)]
pub(super) struct State {
    pub(super) version: String,
    pub(super) model: String,
    pub(super) now_ms: u64,
    pub(super) unix_ms: u64,
    pub(super) memory_limit_bytes: u64,
    pub(super) plan: Value,
    pub(super) level: String,
    pub(super) level_since_ms: Option<u64>,
    pub(super) ledger: Ledger,
    pub(super) requests_inside: u64,
    pub(super) requests: Vec<Request>,
    pub(super) workers: Vec<Worker>,
    pub(super) pools: Vec<Pool>,
    pub(super) heap: Heap,
    pub(super) reclaim: Reclaim,
}

#[derive(Deserialize)]
pub(super) struct Ledger {
    pub(super) limit_bytes: u64,
    pub(super) requests_bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) phase: String,
    pub(super) admitted_ms: u64,
    pub(super) writing_ms: Option<u64>,
    pub(super) held_bytes: u64,
    pub(super) flushed_bytes: u64,
    pub(super) tasks: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Worker {
    pub(super) worker: u64,
    pub(super) stage: String,
    pub(super) since_ms: u64,
    pub(super) number: u64,
}

#[derive(Deserialize)]
pub(super) struct Pool {
    pub(super) kind: String,
    pub(super) leased_slots: u64,
    pub(super) leased_bytes: u64,
    pub(super) ages: Ages,
}

#[derive(Deserialize)]
pub(super) struct Ages {
    pub(super) died: Option<u64>,
    pub(super) p999_ms: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Heap {
    pub(super) live_bytes: u64,
    pub(super) pipeline_allocations: u64,
    pub(super) sealed_allocations: u64,
}

#[derive(Deserialize)]
pub(super) struct Reclaim {
    pub(super) cycles: u64,
    pub(super) worked_ms: u64,
}

impl State {
    /// A time of the engine's clock as milliseconds since 1970.
    pub(super) fn unix_ms(&self, at_ms: u64) -> u64 {
        (self.unix_ms + at_ms).saturating_sub(self.now_ms)
    }
}

impl Reading {
    /// Reads for `seconds`.
    ///
    /// # Errors
    /// Of the network, or an answer that cannot be read.
    pub(super) fn take(url: &Url, seconds: u64) -> Result<Reading> {
        let began = Instant::now();
        let (moment, time) = (Duration::ZERO, Duration::from_secs(seconds));
        let profile = |path: &str, takes| url.get(path, takes).and_then(|bytes| Profile::unpack(&bytes));
        let state = || -> Result<State> {
            serde_json::from_slice(&url.get("/debug/state", moment)?).map_err(Error::other)
        };
        let before = state()?;
        let heap_before = profile("/debug/pprof/heap", moment)?;
        let (cpu, events, forbidden) = thread::scope(|scope| {
            let cpu = scope.spawn(|| {
                profile(
                    &format!("/debug/pprof/profile?seconds={seconds}&slice_ms={SLICE_MS}"),
                    time,
                )
            });
            let forbidden =
                scope.spawn(|| profile(&format!("/debug/pprof/forbidden?seconds={seconds}"), time));
            let trace = url.get(&format!("/debug/trace?seconds={seconds}"), time);
            (join(cpu), trace, join(forbidden))
        });
        let after = state()?;
        let threads = profile("/debug/pprof/threads", moment)?;
        let trace: Trace = serde_json::from_slice(&events?).map_err(Error::other)?;
        Ok(Reading {
            url: url.to_string(),
            cpu: cpu?,
            forbidden: forbidden?,
            heap: profile("/debug/pprof/heap", moment)?,
            pools: profile("/debug/pprof/pools", moment)?,
            events: trace.events,
            before,
            after,
            heap_before,
            threads,
            overhead: began.elapsed().saturating_sub(time),
        })
    }

    /// Seconds of the engine's clock between the two states.
    pub(super) fn seconds(&self) -> f64 {
        self.after.now_ms.saturating_sub(self.before.now_ms).max(1) as f64 / 1000.0
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Error::other("a thread of the diagnosis panicked")))
}
