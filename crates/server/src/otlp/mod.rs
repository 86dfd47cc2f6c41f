//! Spans and metrics to an OpenTelemetry collector (OTLP), over gRPC or HTTP.
//!
//! ```text
//! request ends --> queue of records (fixed bytes) --> one task: batch (fixed buffer) --> one connection --> collector
//! ```
//!
//! A collector that is slow, gone or refusing never slows or grows the server: who ends a request copies one record of fixed size under a short lock or drops it, one batch is under way at a
//! time, and it has a deadline. Spans are derived from records as they are written, so that a request costs the queue one record and not six spans.
//!
//! The SDK was not chosen: its queue is bounded by spans, not bytes, each of them a dozen heap blocks; its exporters bring threads or tonic's client. Both protocols are one POST of the same bytes,
//! for which hyper, that serves here anyway, is enough.

mod answer;
mod client;
mod export;
mod metrics;
mod protobuf;
mod queue;
mod settings;
mod spans;

pub use export::{EXPORT_BYTES, Exporter};
pub use queue::{Dropped, SpanStats, Spans};
pub use settings::{OtlpSettings, Protocol, SettingError};

/// Spans of a batch, at most.
pub const BATCH_SPANS_MAX: usize = 1024;
