//! What came in and what became of it, under text-embeddings-inference's names where they mean the same.

use std::sync::atomic::Ordering::Relaxed;

use super::sink::{Kind, Sink};
use super::{BY_TEXT, LABELS, Method, Metrics};
use crate::app::App;
use crate::http::problem::Reason;
use crate::http::routes;

/// Requests, refusals, times and sizes.
pub(super) fn collect(app: &App, sink: &mut dyn Sink) {
    let metrics = &app.metrics;
    let paths = || std::iter::once("/").chain(routes().map(|route| route.path));
    let help = "Requests, by route.";
    sink.family("plimsoll_requests_total", Kind::Counter, help);
    for (path, count) in paths().zip(&metrics.requests) {
        sink.value(&[("route", path)], count.load(Relaxed) as f64);
    }
    let help = "Requests that were answered, by route.";
    sink.family("plimsoll_answers_total", Kind::Counter, help);
    for (path, count) in paths().zip(&metrics.answers) {
        sink.value(&[("route", path)], count.load(Relaxed) as f64);
    }
    by_method(metrics, sink);
    by_text(metrics, sink);
    let help = "Requests that were refused or failed, by kind.";
    sink.family("te_request_failure", Kind::Counter, help);
    for (label, count) in LABELS.iter().zip(&metrics.failures) {
        sink.value(&[("err", label)], count.load(Relaxed) as f64);
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

/// Requests as text-embeddings-inference counts them; those that were refused unread are a method of their own.
fn by_method(metrics: &Metrics, sink: &mut dyn Sink) {
    let help = "Requests, by how their inputs came: one, a list, or refused unread.";
    sink.family("te_request_count", Kind::Counter, help);
    for (method, name) in Method::ALL {
        let count = metrics.asked[method as usize].load(Relaxed);
        sink.value(&[("method", name)], count as f64);
    }
    let help = "Requests that were answered, by how their inputs came.";
    sink.family("te_request_success", Kind::Counter, help);
    for (method, name) in &Method::ALL[..2] {
        let count = metrics.answered[*method as usize].load(Relaxed);
        sink.value(&[("method", name)], count as f64);
    }
}

/// Texts that vectors or classes were asked for, in the order of [`BY_TEXT`].
fn by_text(metrics: &Metrics, sink: &mut dyn Sink) {
    const NAMES: [[(&str, &str); 2]; BY_TEXT.len()] = [
        [
            ("te_embed_count", "Texts whose vectors were asked for."),
            ("te_embed_success", "Texts whose vectors were answered."),
        ],
        [
            ("te_predict_count", "Texts whose classes were asked for."),
            ("te_predict_success", "Texts whose classes were answered."),
        ],
    ];
    let counts = metrics.texts_asked.iter().zip(&metrics.texts_answered);
    for ([(asked, asked_help), (answered, answered_help)], counts) in NAMES.into_iter().zip(counts) {
        sink.counter(asked, asked_help, counts.0.load(Relaxed) as f64);
        sink.counter(answered, answered_help, counts.1.load(Relaxed) as f64);
    }
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
