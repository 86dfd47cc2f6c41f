//! Counters, under the names that text-embeddings-inference's dashboards know, and the state of memory beside them.
//!
//! A fixed set of atomics: recording allocates nothing and waits for nobody.

mod governor;
mod histogram;
mod memory;
mod recent;
mod requests;
mod sink;
mod telemetry;
pub mod text;
mod vectors;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use plimsoll_engine::{Nanos, Tasks, Timings};

pub use histogram::Histogram;
pub use recent::Recent;
pub(crate) use sink::{Kind, Sink};

use crate::app::App;
use crate::http::problem::Reason;
use crate::http::road::Counts;
use crate::http::{Route, routes};
use crate::page::Totals;
use crate::wire::analyze;

/// Routes that are counted apart: those of the table and `/`.
const ROUTES_MAX: usize = 40;
/// What failures are counted as, see [`crate::http::problem::Problem::label`]; others are counted as the last.
const LABELS: [&str; 13] = [
    "validation",
    "batch_size",
    "empty",
    "overloaded",
    "model_type",
    "inference",
    "tokenization",
    "unhealthy",
    "timeout",
    "notfound",
    "methodnotallowed",
    "unauthorized",
    "other",
];
/// Vectors and classes, which text-embeddings-inference counts by text.
const BY_TEXT: [Tasks; 2] = [Tasks::EMBEDDING.with(Tasks::TOKEN_EMBEDDINGS), Tasks::CLASSES];

/// How a request's inputs came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Nobody knows: it was refused unread.
    #[default]
    Unread,
    /// One, not in a list.
    Single,
    /// In a list.
    Batch,
}

impl Method {
    /// Its names in the metrics, the first two text-embeddings-inference's.
    const ALL: [(Method, &str); 3] = [
        (Method::Single, "single"),
        (Method::Batch, "batch"),
        (Method::Unread, "unread"),
    ];

    /// That of a request which was read.
    pub const fn of(single: bool) -> Method {
        match single {
            true => Method::Single,
            false => Method::Batch,
        }
    }
}

/// Bounds in seconds.
const SECONDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
/// Bounds in seconds of refusals.
const REFUSAL_SECONDS: &[f64] = &[
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.012, 0.02, 0.05, 0.1, 1.0,
];

/// Bounds in tokens or sequences.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
];

/// All counters of a server.
pub struct Metrics {
    started_unix_s: u64,
    workers: AtomicUsize,
    requests: [AtomicU64; ROUTES_MAX],
    answers: [AtomicU64; ROUTES_MAX],
    /// By method.
    asked: [AtomicU64; Method::ALL.len()],
    answered: [AtomicU64; Method::ALL.len()],
    /// By what of [`BY_TEXT`].
    texts_asked: [AtomicU64; BY_TEXT.len()],
    texts_answered: [AtomicU64; BY_TEXT.len()],
    failures: [AtomicU64; LABELS.len()],
    refusals: [AtomicU64; Reason::ALL.len()],
    dropped: [AtomicU64; 4],
    alarms: AtomicU64,
    refusal_time: Histogram,
    truncated: AtomicU64,
    texts: AtomicU64,
    tokens: AtomicU64,
    answer_times: Recent,
    refusal_times: Recent,
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_refused: AtomicU64,
    duration: Histogram,
    queue: Histogram,
    tokenization: Histogram,
    inference: Histogram,
    input_length: Histogram,
    batch_size: Histogram,
    batch_tokens: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Metrics {
            started_unix_s: now.map_or(0, |now| now.as_secs()),
            workers: AtomicUsize::new(0),
            requests: [const { AtomicU64::new(0) }; ROUTES_MAX],
            answers: [const { AtomicU64::new(0) }; ROUTES_MAX],
            asked: Default::default(),
            answered: Default::default(),
            texts_asked: Default::default(),
            texts_answered: Default::default(),
            failures: Default::default(),
            refusals: Default::default(),
            dropped: Default::default(),
            alarms: AtomicU64::new(0),
            refusal_time: Histogram::new(REFUSAL_SECONDS),
            truncated: AtomicU64::new(0),
            texts: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            answer_times: Recent::default(),
            refusal_times: Recent::default(),
            connections: AtomicUsize::new(0),
            connections_refused: AtomicU64::new(0),
            duration: Histogram::new(SECONDS),
            queue: Histogram::new(SECONDS),
            tokenization: Histogram::new(SECONDS),
            inference: Histogram::new(SECONDS),
            input_length: Histogram::new(COUNTS),
            batch_size: Histogram::new(COUNTS),
            batch_tokens: Histogram::new(COUNTS),
        }
    }
}

/// Walks over all families.
pub(crate) fn collect(app: &App, sink: &mut dyn Sink) {
    requests::collect(app, sink);
    memory::collect(app, sink);
    governor::collect(app, sink);
    if let Some(cache) = app.engine.cache() {
        vectors::collect(&cache.stats(), sink);
    }
    telemetry::collect(&app.observer, sink);
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Counts texts under each of [`BY_TEXT`] that was done with them.
fn count_texts(counts: &[AtomicU64; BY_TEXT.len()], tasks: Tasks, texts: usize) {
    for (kind, count) in BY_TEXT.into_iter().zip(counts) {
        if tasks.any(kind) {
            count.fetch_add(texts as u64, Relaxed);
        }
    }
}

/// A route's place in the counters; the alias `/` has the first.
fn place(path: &str) -> usize {
    routes()
        .position(|route| route.path == path)
        .map_or(0, |place| place + 1)
}

impl Metrics {
    /// When the server started, in seconds since 1970.
    pub fn started_unix_s(&self) -> u64 {
        self.started_unix_s
    }

    /// Threads that run the model.
    pub fn workers(&self) -> usize {
        self.workers.load(Relaxed)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// How long the answers of the last minute took, from the request's head to the answer's first byte.
    pub fn answer_times(&self) -> &Recent {
        &self.answer_times
    }

    /// How long the refusals of the last minute took, of those who were not let in.
    pub fn refusal_times(&self) -> &Recent {
        &self.refusal_times
    }

    /// Counts since the start.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            answers: self.answers.iter().map(|count| count.load(Relaxed)).sum(),
            texts: self.texts.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            refusals: std::array::from_fn(|reason| self.refusals[reason].load(Relaxed)),
        }
    }

    /// Begins the next slice of what is recent.
    pub(crate) fn turn(&self) {
        self.answer_times.turn();
        self.refusal_times.turn();
    }

    /// Another worker thread.
    pub(crate) fn worker_started(&self) {
        self.workers.fetch_add(1, Relaxed);
    }

    /// A request came in.
    pub fn began(&self, route: &Route) {
        self.requests[place(route.path)].fetch_add(1, Relaxed);
    }

    /// Its body was read, or will not be.
    pub fn asked(&self, method: Method, tasks: Tasks, inputs: usize) {
        self.asked[method as usize].fetch_add(1, Relaxed);
        count_texts(&self.texts_asked, tasks, inputs);
    }

    /// Its answer is on its way.
    pub fn succeeded(&self, route: &Route, took: Nanos) {
        self.answers[place(route.path)].fetch_add(1, Relaxed);
        self.duration.record(seconds(took.0));
        self.answer_times.record(took.0);
    }

    /// It was refused or failed.
    pub fn failed(&self, label: &'static str) {
        let other = LABELS.len() - 1;
        let place = LABELS.iter().position(|known| *known == label).unwrap_or(other);
        self.failures[place].fetch_add(1, Relaxed);
    }

    /// It was not let in.
    pub fn refused(&self, reason: Reason, took: Nanos) {
        self.refusals[reason as usize].fetch_add(1, Relaxed);
        self.refusal_time.record(seconds(took.0));
        // Who is returned was inside for a while: that is no time to refuse.
        if reason != Reason::Returned {
            self.refusal_times.record(took.0);
        }
    }

    /// An answer leaves some tasks out.
    pub fn dropped(&self, tasks: Tasks) {
        let counts = analyze::names(analyze::ALL).zip(&self.dropped);
        for (name, count) in counts {
            if analyze::task(name).is_some_and(|task| tasks.has(task)) {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    /// A reading of the process or its group was beyond its mark.
    pub(crate) fn alarmed(&self) {
        self.alarms.fetch_add(1, Relaxed);
    }

    /// The engine did these tasks.
    pub fn answered(&self, method: Method, tasks: Tasks, counts: &Counts, timings: Timings) {
        self.answered[method as usize].fetch_add(1, Relaxed);
        count_texts(&self.texts_answered, tasks, counts.inputs);
        self.queue.record(seconds(timings.queue_ns));
        self.tokenization.record(seconds(timings.tokenize_ns));
        self.inference.record(seconds(timings.inference_ns));
        self.truncated.fetch_add(counts.truncated as u64, Relaxed);
        self.texts.fetch_add(counts.inputs as u64, Relaxed);
        self.tokens.fetch_add(counts.tokens as u64, Relaxed);
    }

    /// Of a text so many tokens were read.
    pub fn read(&self, tokens: usize) {
        self.input_length.record(tokens as f64);
    }

    /// A worker ran a pass.
    pub(crate) fn passed(&self, sequences: usize, tokens: usize) {
        self.batch_size.record(sequences as f64);
        self.batch_tokens.record(tokens as f64);
    }
}
