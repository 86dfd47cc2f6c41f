//! Where records wait for their export.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::{BATCH_SPANS_MAX, spans};
use crate::observe::Record;

/// So many records make a batch that is worth sending at once.
const BATCH_RECORDS: usize = BATCH_SPANS_MAX / spans::SPANS_MAX;

/// Why spans were not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full.
    Queue,
    /// The collector did not answer in time.
    Timeout,
    /// It could not be reached, or broke off.
    Unreachable,
    /// It would not have them.
    Refused,
    /// The server went down before they were sent.
    Shutdown,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Dropped; 5] = [
        Dropped::Queue,
        Dropped::Timeout,
        Dropped::Unreachable,
        Dropped::Refused,
        Dropped::Shutdown,
    ];

    /// As the metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Dropped::Queue => "queue",
            Dropped::Timeout => "timeout",
            Dropped::Unreachable => "unreachable",
            Dropped::Refused => "refused",
            Dropped::Shutdown => "shutdown",
        }
    }
}

/// What became of spans. Whatever was recorded is exported, dropped, or still waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanStats {
    /// Spans of requests that ended.
    pub recorded: u64,
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that were dropped, in the order of [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
    /// Requests whose spans wait.
    pub waiting_requests: usize,
    /// Metrics were taken so often.
    pub metrics_exported: u64,
    /// Metrics were not taken so often.
    pub metrics_failed: u64,
}

/// A queue of records, bounded in bytes, with the counts of what became of them.
pub struct Spans {
    sampling_ratio: f64,
    records_max: usize,
    records: Mutex<VecDeque<Record>>,
    /// A batch lies ready.
    pub(super) ready: Notify,
    recorded: AtomicU64,
    pub(super) exported: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    pub(super) metrics_exported: AtomicU64,
    pub(super) metrics_failed: AtomicU64,
}

impl Spans {
    /// A queue of at most `queue_bytes`, all allocated now.
    pub fn new(queue_bytes: usize, sampling_ratio: f64) -> Spans {
        let records_max = (queue_bytes / size_of::<Record>()).max(BATCH_RECORDS);
        Spans {
            sampling_ratio,
            records_max,
            records: Mutex::new(VecDeque::with_capacity(records_max)),
            ready: Notify::new(),
            recorded: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            dropped: Default::default(),
            metrics_exported: AtomicU64::new(0),
            metrics_failed: AtomicU64::new(0),
        }
    }

    /// The share of new traces that is kept.
    pub fn sampling_ratio(&self) -> f64 {
        self.sampling_ratio
    }

    /// Bytes that a queue of `queue_bytes` takes.
    pub const fn bytes(queue_bytes: usize) -> usize {
        let least = BATCH_RECORDS * size_of::<Record>();
        if queue_bytes < least { least } else { queue_bytes }
    }

    /// Puts a request at the end of the queue, or drops it. Waits for nobody but those who do the same.
    pub(crate) fn push(&self, record: &Record) {
        let spans = spans::count(record) as u64;
        self.recorded.fetch_add(spans, Relaxed);
        let mut records = self.lock();
        if records.len() >= self.records_max {
            drop(records);
            self.drop_spans(Dropped::Queue, spans);
            return;
        }
        records.push_back(*record);
        let waiting = records.len();
        drop(records);
        if waiting.is_multiple_of(BATCH_RECORDS) {
            self.ready.notify_one();
        }
    }

    /// Whether a whole batch waits.
    pub(super) fn has_batch(&self) -> bool {
        self.lock().len() >= BATCH_RECORDS
    }

    /// Takes the next record if its spans are at most `spans_max`.
    pub(super) fn pop(&self, spans_max: usize) -> Option<Record> {
        let mut records = self.lock();
        let next = records.front()?;
        if spans::count(next) > spans_max {
            return None;
        }
        records.pop_front()
    }

    pub(super) fn drop_spans(&self, why: Dropped, spans: u64) {
        self.dropped[why as usize].fetch_add(spans, Relaxed);
    }

    /// What became of spans so far.
    pub fn stats(&self) -> SpanStats {
        SpanStats {
            recorded: self.recorded.load(Relaxed),
            exported: self.exported.load(Relaxed),
            dropped: std::array::from_fn(|why| self.dropped[why].load(Relaxed)),
            waiting_requests: self.lock().len(),
            metrics_exported: self.metrics_exported.load(Relaxed),
            metrics_failed: self.metrics_failed.load(Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
