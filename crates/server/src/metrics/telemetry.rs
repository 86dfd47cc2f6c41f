//! The log and the exporter as families of metrics: what was written, what was lost.

use super::sink::{Kind, Sink};
use crate::observe::Observer;
use crate::otlp::{Dropped, Spans};

/// Lines, spans and exports.
pub(super) fn collect(observer: &Observer, sink: &mut dyn Sink) {
    let log = observer.log.stats();
    let help = "Lines of the log that were written.";
    sink.counter("plimsoll_log_lines_total", help, log.written as f64);
    let help = "Lines that were dropped: the queue was full, the line too long, the system did not take it.";
    sink.family("plimsoll_log_dropped_total", Kind::Counter, help);
    let dropped = [
        ("queue", log.dropped_queue),
        ("long", log.dropped_long),
        ("write", log.dropped_write),
    ];
    for (reason, count) in dropped {
        sink.value(&[("reason", reason)], count as f64);
    }
    let help = "Log files that were put aside, or could not be and were emptied.";
    sink.family("plimsoll_log_rotations_total", Kind::Counter, help);
    for (outcome, count) in [("aside", log.rotations), ("emptied", log.rotations_failed)] {
        sink.value(&[("outcome", outcome)], count as f64);
    }
    if let Some(spans) = &observer.spans {
        exporter(spans, sink);
    }
}

fn exporter(spans: &Spans, sink: &mut dyn Sink) {
    let stats = spans.stats();
    let help = "Spans of requests that ended: exported, dropped or still waiting.";
    sink.counter("plimsoll_otlp_spans_recorded_total", help, stats.recorded as f64);
    let help = "Spans that the collector took.";
    sink.counter("plimsoll_otlp_spans_exported_total", help, stats.exported as f64);
    let help = "Spans that were dropped, by reason.";
    sink.family("plimsoll_otlp_spans_dropped_total", Kind::Counter, help);
    for (why, count) in Dropped::ALL.iter().zip(stats.dropped) {
        sink.value(&[("reason", why.name())], count as f64);
    }
    let help = "Requests whose spans wait for their export.";
    sink.gauge(
        "plimsoll_otlp_waiting_requests",
        help,
        stats.waiting_requests as f64,
    );
    let help = "Exports of metrics.";
    sink.family("plimsoll_otlp_metric_exports_total", Kind::Counter, help);
    for (outcome, count) in [
        ("taken", stats.metrics_exported),
        ("failed", stats.metrics_failed),
    ] {
        sink.value(&[("outcome", outcome)], count as f64);
    }
}
