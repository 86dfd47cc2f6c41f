//! What lines say.

use std::fmt::Display;
use std::time::SystemTime;

use super::Severity;
use super::fields::{Fields, HeaderText};
use crate::observe::{Record, between, cache_name, level_name};

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        }
    }
}

/// Something about the server.
pub(super) fn event(line: &mut Fields, severity: Severity, message: &dyn Display) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    line.begin(now.map_or(0, |now| now.as_nanos() as u64), severity.name());
    line.message(message);
}

/// A request that is over. Nothing of its body is repeated, and nothing of its head but the id that it came with.
pub(super) fn request(line: &mut Fields, record: &Record, request_id: &[u8]) {
    let story = &record.story;
    let severity = match record.is_error() {
        true => Severity::Error,
        false => Severity::Info,
    };
    line.begin(record.began_unix_ns, severity.name());
    line.message(&"request");
    line.text("request_id", &HeaderText(request_id));
    line.text("trace_id", &format_args!("{:032x}", record.trace.trace_id));
    line.text("span_id", &format_args!("{:016x}", record.trace.span_id));
    line.text("method", &record.method);
    line.text("route", &record.route());
    line.raw("status", &record.status);
    if let Some(status) = story.grpc_status {
        line.raw("grpc_status", &status);
    }
    if let Some(error) = story.error {
        line.text("error", &error);
    }
    if let Some(reason) = story.reason {
        line.text("reason", &reason.name());
    }
    line.raw("complete", &record.complete);
    line.raw("answer_bytes", &record.answer_bytes);
    let mut micros = |name, ns: u64| line.raw(name, &(ns / 1000));
    micros("duration_us", record.duration_ns());
    if story.admitted.0 > 0 {
        micros("admission_us", between(story.began, story.admitted));
        micros("body_us", between(story.admitted, story.received));
        line.raw("body_bytes", &story.body_bytes);
        line.raw("debited_bytes", &story.debited_bytes);
        line.text("level_of_memory", &level_name(story.level));
    }
    let moments = &story.moments;
    if moments.done.0 > 0 {
        let mut micros = |name, from, to| line.raw(name, &(between(from, to) / 1000));
        micros("queue_us", moments.submitted, moments.text_begun);
        micros("text_us", moments.text_begun, moments.text_done);
        micros("pass_us", moments.pass_begun, moments.done);
        micros("answer_us", moments.done, record.ended);
        line.raw("inputs", &story.inputs);
        line.raw("tokens", &story.tokens);
        line.raw("truncated", &story.truncated);
    }
    if let Some(cached) = story.cached {
        line.text("cache", &cache_name(cached));
    }
}
