//! What operators see of single requests: a line in the log and a span for each, if they ask for it.
//!
//! The guard opens a `Watch` on a request and the road fills in a `Story`; when the last of the answer was handed to the transport, or the client has
//! gone, the two are one [`Record`] of fixed size. It is written as a line ([`crate::log`]) and copied into the queue of spans ([`crate::otlp`]), both
//! bounded in bytes. Nothing here waits for anybody: what finds no room is dropped and counted. Where nobody looks, nothing is done at all.

mod record;
mod trace;
mod watch;

use plimsoll_engine::Nanos;

pub use record::{Record, Story};
pub(crate) use record::{cache_name, level_name};
pub use trace::Trace;
pub(crate) use watch::Watch;

use crate::log::Log;
use crate::otlp::Spans;
use trace::Ids;

/// Who is told of requests.
#[derive(Default)]
pub struct Observer {
    /// Lines about the server, and about requests where the operator wants them.
    pub log: Log,
    access_log: bool,
    /// Where spans wait for their export, if they are exported.
    pub spans: Option<Spans>,
    ids: Ids,
}

impl Observer {
    /// Tells the log of requests, if `access_log`, and the queue of spans, if there is one.
    pub fn new(log: Log, access_log: bool, spans: Option<Spans>) -> Observer {
        Observer {
            log,
            access_log,
            spans,
            ids: Ids::default(),
        }
    }

    /// Whether anybody wants to know of single requests.
    pub fn looks(&self) -> bool {
        self.access_log || self.spans.is_some()
    }

    /// The trace that a request belongs to: its caller's, or a new one.
    fn trace(&self, traceparent: Option<&[u8]>) -> Trace {
        let ratio = self.spans.as_ref().map_or(0.0, Spans::sampling_ratio);
        Trace::of(traceparent, &self.ids, ratio)
    }

    /// The request is over.
    fn record(&self, record: &Record, request_id: &[u8]) {
        if self.access_log {
            self.log.request(record, request_id);
        }
        if let Some(spans) = self.spans.as_ref().filter(|_| record.trace.sampled) {
            spans.push(record);
        }
    }
}

/// Nanoseconds from one moment to a later one; 0 where either did not come.
pub(crate) fn between(from: Nanos, to: Nanos) -> u64 {
    if from.0 == 0 { 0 } else { to.since(from) }
}
