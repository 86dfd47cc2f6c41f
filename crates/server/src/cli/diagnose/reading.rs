//! All that a diagnosis reads, at the same time where it takes time.

use std::io::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fetch::Url;
use crate::debug::Profile;

/// Requests are listed once more so long before the end, or after half of a shorter reading: what they leave takes less to come back.
const LISTED: Duration = Duration::from_secs(1);
/// CPU time is told apart by slices so long.
const SLICE_MS: u64 = 250;

/// What was read.
pub(super) struct Reading {
    pub(super) url: String,
    /// The state before, with all leases marked; shortly before the end; and after.
    pub(super) before: State,
    pub(super) meanwhile: State,
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
    pub(super) leases_marked_ms: Option<u64>,
    pub(super) heap: Heap,
    pub(super) reclaim: Reclaim,
    pub(super) connections: u64,
}

impl State {
    /// What each connection may hold, by the bill.
    pub(super) fn connection_bytes(&self) -> Option<u64> {
        let lines = self.plan["lines"].as_array()?;
        let line = lines.iter().find(|line| line["owner"] == "connections")?;
        line["each_bytes"].as_u64()
    }
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
    pub(super) marked_slots: u64,
    pub(super) marked_bytes: u64,
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
        let state = |path: &str| -> Result<State> {
            serde_json::from_slice(&url.get(path, moment)?).map_err(Error::other)
        };
        let before = state("/debug/state?mark=1")?;
        let heap_before = profile("/debug/pprof/heap", moment)?;
        let (cpu, events, forbidden, meanwhile) = thread::scope(|scope| {
            let cpu = scope.spawn(|| {
                profile(
                    &format!("/debug/pprof/profile?seconds={seconds}&slice_ms={SLICE_MS}"),
                    time,
                )
            });
            let forbidden =
                scope.spawn(|| profile(&format!("/debug/pprof/forbidden?seconds={seconds}"), time));
            let meanwhile = scope.spawn(|| {
                thread::sleep(time - LISTED.min(time / 2));
                state("/debug/state")
            });
            let trace = url.get(&format!("/debug/trace?seconds={seconds}"), time);
            (join(cpu), trace, join(forbidden), join(meanwhile))
        });
        let after = state("/debug/state")?;
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
            meanwhile: meanwhile?,
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

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// The state of a server with nobody inside, but for what is said of it.
    pub(in crate::cli::diagnose) fn state(said: Value) -> State {
        let mut all = json!({
            "version": "", "model": "", "now_ms": 1000, "unix_ms": 1000, "memory_limit_bytes": 0, "plan": null, "connections": 0, "level": "normal", "level_since_ms": null,
            "ledger": {"limit_bytes": 6 << 20, "requests_bytes": 0}, "requests_inside": 0, "workers": [], "requests": [], "pools": [], "leases_marked_ms": 0,
            "heap": {"live_bytes": 0, "pipeline_allocations": 0, "sealed_allocations": 0}, "reclaim": {"cycles": 0, "worked_ms": 0},
        });
        let Value::Object(said) = said else {
            panic!("not an object")
        };
        all.as_object_mut().unwrap().extend(said);
        serde_json::from_value(all).unwrap()
    }

    /// A request in work.
    pub(in crate::cli::diagnose) fn request(admitted_ms: u64, held_bytes: u64) -> Value {
        json!({
            "number": 1, "phase": "work", "admitted_ms": admitted_ms, "writing_ms": null, "held_bytes": held_bytes, "flushed_bytes": 0, "tasks": [],
        })
    }

    /// What was read of such states, and nothing else.
    pub(in crate::cli::diagnose) fn reading(before: Value, meanwhile: Value, after: Value) -> Reading {
        Reading {
            url: String::new(),
            before: state(before),
            meanwhile: state(meanwhile),
            after: state(after),
            events: Vec::new(),
            cpu: Profile::default(),
            heap_before: Profile::default(),
            heap: Profile::default(),
            pools: Profile::default(),
            threads: Profile::default(),
            forbidden: Profile::default(),
            overhead: Duration::ZERO,
        }
    }
}
