//! Records as spans: `ExportTraceServiceRequest`.

use bytes::BytesMut;
use plimsoll_engine::Nanos;

use super::protobuf::Writer;
use super::queue::Spans;
use super::{BATCH_SPANS_MAX, export};
use crate::observe::{Record, cache_name, level_name};

/// The spans of one request, at most: its own and its stages.
pub(super) const SPANS_MAX: usize = 7;
/// They never take more.
const RECORD_BYTES_MAX: usize = 2048;

// OTLP's numbers for the kinds of spans, and for a status that is an error.
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const STATUS_ERROR: u64 = 2;

/// The stages of a request that took place, in their order.
fn stages(record: &Record) -> impl Iterator<Item = (&'static str, Nanos, Nanos)> {
    let (story, moments) = (&record.story, &record.story.moments);
    let refused_at = if story.reason.is_some() {
        record.ended
    } else {
        Nanos(0)
    };
    let admitted = if story.admitted.0 > 0 {
        story.admitted
    } else {
        refused_at
    };
    let all = [
        ("admission", story.began, admitted),
        ("body", story.admitted, story.received),
        ("queue", moments.submitted, moments.text_begun),
        ("text", moments.text_begun, moments.text_done),
        ("pass", moments.pass_begun, moments.done),
        ("answer", moments.done, record.ended),
    ];
    all.into_iter().filter(|(_, from, to)| from.0 > 0 && to.0 > 0)
}

/// How many spans a record becomes.
pub(super) fn count(record: &Record) -> usize {
    1 + stages(record).count()
}

/// Takes records from the queue and writes them, as many as a batch holds; returns the number of spans.
pub(super) fn encode(queue: &Spans, service_name: &str, buffer: &mut BytesMut) -> usize {
    let mut writer = Writer(buffer);
    let mut spans = 0;
    writer.nest(1, |all| {
        all.resource(service_name);
        all.nest(2, |ours| {
            ours.scope();
            while ours.0.len() + RECORD_BYTES_MAX <= export::BATCH_BYTES_MAX {
                let Some(record) = queue.pop(BATCH_SPANS_MAX - spans) else {
                    break;
                };
                spans += count(&record);
                encode_record(&record, ours);
            }
        });
    });
    spans
}

fn encode_record(record: &Record, writer: &mut Writer) {
    let before = writer.0.len();
    writer.nest(2, |span| {
        head(span, record, record.trace.span_id, record.trace.parent_id);
        let open = span.open(5);
        span.0.extend_from_slice(record.method.as_bytes());
        span.0.extend_from_slice(b" ");
        span.0.extend_from_slice(record.route().as_bytes());
        span.close(open);
        span.varint(6, SERVER);
        times(span, record, record.began, record.ended);
        attributes(span, record);
        if record.is_error() {
            span.nest(15, |status| status.varint(3, STATUS_ERROR));
        }
    });
    for (number, (name, from, to)) in stages(record).enumerate() {
        writer.nest(2, |span| {
            let id = record.trace.child_id(number as u64 + 1);
            head(span, record, id, record.trace.span_id);
            span.text(5, name);
            span.varint(6, INTERNAL);
            times(span, record, from, to);
        });
    }
    debug_assert!(writer.0.len() - before <= RECORD_BYTES_MAX);
}

fn head(span: &mut Writer, record: &Record, id: u64, parent_id: u64) {
    span.bytes(1, &record.trace.trace_id.to_be_bytes());
    span.bytes(2, &id.to_be_bytes());
    if parent_id != 0 {
        span.bytes(4, &parent_id.to_be_bytes());
    }
    span.fixed32(16, 1);
}

fn times(span: &mut Writer, record: &Record, from: Nanos, to: Nanos) {
    let unix_ns = |moment: Nanos| record.began_unix_ns + moment.since(record.began);
    span.fixed64(7, unix_ns(from));
    span.fixed64(8, unix_ns(to));
}

/// OpenTelemetry's names where it has them.
fn attributes(span: &mut Writer, record: &Record) {
    let (tag, story) = (9, &record.story);
    span.text_attribute(tag, "http.request.method", record.method);
    span.text_attribute(tag, "http.route", record.route());
    span.int_attribute(tag, "http.response.status_code", u64::from(record.status));
    span.int_attribute(tag, "http.response.body.size", record.answer_bytes);
    span.bool_attribute(tag, "plimsoll.complete", record.complete);
    if let Some(status) = story.grpc_status {
        span.text_attribute(tag, "rpc.system", "grpc");
        span.int_attribute(tag, "rpc.grpc.status_code", u64::from(status));
    }
    if let Some(error) = story.error {
        span.text_attribute(tag, "error.type", error);
    }
    if let Some(reason) = story.reason {
        span.text_attribute(tag, "plimsoll.refusal.reason", reason.name());
    }
    if story.began.0 > 0 {
        span.text_attribute(tag, "plimsoll.level", level_name(story.level));
    }
    if story.admitted.0 > 0 {
        span.int_attribute(tag, "http.request.body.size", story.body_bytes);
        span.int_attribute(tag, "plimsoll.debited_bytes", story.debited_bytes);
    }
    if story.moments.done.0 > 0 {
        span.int_attribute(tag, "plimsoll.inputs", story.inputs);
        span.int_attribute(tag, "plimsoll.tokens", story.tokens);
        span.int_attribute(tag, "plimsoll.truncated", story.truncated);
    }
    if let Some(cached) = story.cached {
        span.text_attribute(tag, "plimsoll.cache", cache_name(cached));
    }
}
