//! What came in and what became of it, under text-embeddings-inference's names where they mean the same.

use std::sync::atomic::Ordering::Relaxed;

use super::KINDS;
use super::sink::{Kind, Sink};
use crate::app::App;
use crate::http::problem::Reason;
use crate::http::routes;

/// Requests, refusals, times and sizes.
pub(super) fn collect(app: &App, sink: &mut dyn Sink) {
    let metrics = &app.metrics;
    let paths = || std::iter::once("/").chain(routes().map(|route| route.path));
    sink.family("te_request_count", Kind::Counter, "Requests, by route.");
    for (path, count) in paths().zip(&metrics.requests) {
        sink.value(&[("route", path)], count.load(Relaxed) as f64);
    }
    let help = "Requests that were answered, by route.";
    sink.family("te_request_success", Kind::Counter, help);
    for (path, count) in paths().zip(&metrics.successes) {
        sink.value(&[("route", path)], count.load(Relaxed) as f64);
    }
    let help = "Requests that were refused or failed, by kind.";
    sink.family("te_request_failure", Kind::Counter, help);
    for ((_, kind), count) in KINDS.iter().zip(&metrics.failures) {
        sink.value(&[("err", kind)], count.load(Relaxed) as f64);
    }
    let help = "Requests that were not let in, by reason.";
    sink.family("plimsoll_refusals_total", Kind::Counter, help);
    for (reason, count) in Reason::ALL.into_iter().zip(&metrics.refusals) {
        sink.value(&[("reason", reason.name())], count.load(Relaxed) as f64);
    }
    histograms(app, sink);
    let help = "Jobs that wait for a worker.";
    sink.gauge("te_queue_size", help, app.engine.queue_len() as f64);
    let (help, truncated) = ("Texts that were not read whole.", metrics.truncated.load(Relaxed));
    sink.counter("plimsoll_truncated_inputs_total", help, truncated as f64);
    let counts = [
        (
            "plimsoll_texts_total",
            "Texts that were answered for.",
            &metrics.texts,
        ),
        (
            "plimsoll_tokens_total",
            "Tokens that were read of them.",
            &metrics.tokens,
        ),
    ];
    for (name, help, count) in counts {
        sink.counter(name, help, count.load(Relaxed) as f64);
    }
    let open = metrics.connections.load(Relaxed);
    sink.gauge("plimsoll_connections", "Open connections.", open as f64);
    let (help, refused) = (
        "Connections over the cap.",
        metrics.connections_refused.load(Relaxed),
    );
    sink.counter("plimsoll_connections_refused_total", help, refused as f64);
}

fn histograms(app: &App, sink: &mut dyn Sink) {
    let metrics = &app.metrics;
    let all = [
        (
            &metrics.refusal_time,
            "plimsoll_refusal_duration_seconds",
            "Seconds from a request's head to its refusal.",
        ),
        (
            &metrics.duration,
            "te_request_duration",
            "Seconds from request to answer.",
        ),
        (
            &metrics.queue,
            "te_request_queue_duration",
            "Seconds of waiting for a worker.",
        ),
        (
            &metrics.tokenization,
            "te_request_tokenization_duration",
            "Seconds of tokenisation.",
        ),
        (
            &metrics.inference,
            "te_request_inference_duration",
            "Seconds of inference.",
        ),
        (
            &metrics.input_length,
            "te_request_input_length",
            "Tokens in a text.",
        ),
        (&metrics.batch_size, "te_batch_next_size", "Sequences in a pass."),
        (&metrics.batch_tokens, "te_batch_next_tokens", "Tokens in a pass."),
    ];
    for (histogram, name, help) in all {
        histogram.collect(name, help, sink);
    }
}
