//! What is kept of a request until it is told: plain values of fixed size.

use plimsoll_engine::{Answer, Cached, Moments, Nanos, Ticket};
use tonic::Code;

use super::trace::Trace;
use crate::http::Route;
use crate::http::problem::Reason;
use crate::http::road::Counts;
use crate::metrics::Method;

/// What the road knows of a request. A moment that did not come is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Story {
    /// The route's path.
    pub route: &'static str,
    /// How its inputs came.
    pub method: Method,
    /// The head was there.
    pub began: Nanos,
    /// It was let in.
    pub admitted: Nanos,
    /// Its body was there.
    pub received: Nanos,
    /// What the workers did.
    pub moments: Moments,
    /// Bytes debited at the door.
    pub debited_bytes: u64,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Texts.
    pub inputs: u64,
    /// Tokens that were read.
    pub tokens: u64,
    /// Texts that were not read whole.
    pub truncated: u64,
    /// What the cache of vectors did.
    pub cached: Option<Cached>,
    /// The level of the ledger at the end: 0 normal, 1 strained, 2 refusing.
    pub level: u8,
    /// The kind of failure, if it failed.
    pub error: Option<&'static str>,
    /// Why it was not let in, if it was not.
    pub reason: Option<Reason>,
    /// The status of a call over gRPC, whose HTTP status is always 200.
    pub grpc_status: Option<u8>,
}

impl Story {
    /// A request's head is there.
    pub(crate) fn begin(route: &Route, began: Nanos) -> Story {
        Story {
            route: route.path,
            began,
            ..Story::default()
        }
    }

    /// It was let in.
    pub(crate) fn admitted(&mut self, ticket: &Ticket, now: Nanos) {
        self.admitted = now;
        self.debited_bytes = ticket.held_bytes() as u64;
    }

    /// Its body is there.
    pub(crate) fn received(&mut self, ticket: &Ticket, now: Nanos) {
        self.received = now;
        self.body_bytes = ticket.body().len() as u64;
    }

    /// Its answer is.
    pub(crate) fn answered(&mut self, counts: &Counts, answer: &Answer) {
        self.moments = answer.moments();
        self.cached = Some(answer.cache());
        self.inputs = counts.inputs as u64;
        self.tokens = counts.tokens as u64;
        self.truncated = counts.truncated as u64;
    }
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its trace.
    pub trace: Trace,
    /// The method.
    pub method: &'static str,
    /// The status; 499 where the client had gone before there was one.
    pub status: u16,
    /// When it began, in nanoseconds since 1970.
    pub began_unix_ns: u64,
    /// When it began, by the engine's clock.
    pub began: Nanos,
    /// When the last of the answer was handed to the transport, or the client was found gone.
    pub ended: Nanos,
    /// The whole answer was handed over.
    pub complete: bool,
    /// Bytes of the answer.
    pub answer_bytes: u64,
    /// What happened between.
    pub story: Story,
}

impl Record {
    /// Its route, or a word for paths that have none: what a client made up is not repeated.
    pub fn route(&self) -> &'static str {
        match self.story.route {
            "" => "unknown",
            route => route,
        }
    }

    /// Whether the server is to blame, as OpenTelemetry's conventions for HTTP and for gRPC have it.
    pub fn is_error(&self) -> bool {
        const ERRORS: [Code; 6] = [
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
        ];
        match self.story.grpc_status {
            None => self.status >= 500,
            Some(status) => ERRORS.contains(&Code::from(i32::from(status))),
        }
    }

    /// From its head to its end.
    pub fn duration_ns(&self) -> u64 {
        self.ended.since(self.began)
    }
}

/// The cache's part in words.
pub(crate) fn cache_name(cached: Cached) -> &'static str {
    match cached {
        Cached::Off => "off",
        Cached::Miss => "miss",
        Cached::Partial => "partial",
        Cached::Hit => "hit",
    }
}

/// The level in words.
pub(crate) fn level_name(level: u8) -> &'static str {
    match level {
        0 => "normal",
        1 => "strained",
        _ => "refusing",
    }
}
