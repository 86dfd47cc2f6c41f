//! `/metrics`: the counters in Prometheus' text format.

use std::fmt::{Display, Result, Write};
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_memory::{alloc, process};

use super::KINDS;
use crate::app::App;
use crate::http::problem::Reason;
use crate::http::routes;

/// Everything.
pub fn encode(app: &App) -> String {
    let mut text = String::with_capacity(16 * 1024);
    requests(app, &mut text)
        .and_then(|()| memory(app, &mut text))
        .and_then(|()| pools(app, &mut text))
        .and_then(|()| super::governor::encode(app, &mut text))
        .and_then(|()| match app.engine.cache() {
            Some(cache) => super::vectors::encode(&cache.stats(), &mut text),
            None => Ok(()),
        })
        .expect("a String takes all that is written to it");
    text
}

pub(super) fn head(text: &mut String, name: &str, kind: &str, help: &str) -> Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

pub(super) fn one(text: &mut String, name: &str, kind: &str, help: &str, value: impl Display) -> Result {
    head(text, name, kind, help)?;
    writeln!(text, "{name} {value}")
}

fn requests(app: &App, text: &mut String) -> Result {
    let metrics = &app.metrics;
    let paths = || std::iter::once("/").chain(routes().map(|route| route.path));
    head(text, "te_request_count", "counter", "Requests, by route.")?;
    for (path, count) in paths().zip(&metrics.requests) {
        writeln!(
            text,
            "te_request_count{{route=\"{path}\"}} {}",
            count.load(Relaxed)
        )?;
    }
    head(
        text,
        "te_request_success",
        "counter",
        "Requests that were answered, by route.",
    )?;
    for (path, count) in paths().zip(&metrics.successes) {
        writeln!(
            text,
            "te_request_success{{route=\"{path}\"}} {}",
            count.load(Relaxed)
        )?;
    }
    head(
        text,
        "te_request_failure",
        "counter",
        "Requests that were refused or failed, by kind.",
    )?;
    for (kind, count) in KINDS.iter().zip(&metrics.failures) {
        writeln!(
            text,
            "te_request_failure{{err=\"{}\"}} {}",
            kind.to_lowercase(),
            count.load(Relaxed)
        )?;
    }
    head(
        text,
        "plimsoll_refusals_total",
        "counter",
        "Requests that were not let in, by reason.",
    )?;
    for (reason, count) in Reason::ALL.into_iter().zip(&metrics.refusals) {
        writeln!(
            text,
            "plimsoll_refusals_total{{reason=\"{}\"}} {}",
            reason.name(),
            count.load(Relaxed)
        )?;
    }
    metrics.refusal_time.encode(
        "plimsoll_refusal_duration_seconds",
        "Seconds from a request's head to its refusal.",
        text,
    )?;
    metrics
        .duration
        .encode("te_request_duration", "Seconds from request to answer.", text)?;
    metrics.queue.encode(
        "te_request_queue_duration",
        "Seconds of waiting for a worker.",
        text,
    )?;
    metrics.tokenization.encode(
        "te_request_tokenization_duration",
        "Seconds of tokenisation.",
        text,
    )?;
    metrics
        .inference
        .encode("te_request_inference_duration", "Seconds of inference.", text)?;
    metrics
        .input_length
        .encode("te_request_input_length", "Tokens in a text.", text)?;
    metrics
        .batch_size
        .encode("te_batch_next_size", "Sequences in a pass.", text)?;
    metrics
        .batch_tokens
        .encode("te_batch_next_tokens", "Tokens in a pass.", text)?;
    one(
        text,
        "te_queue_size",
        "gauge",
        "Jobs that wait for a worker.",
        app.engine.queue_len(),
    )?;
    let truncated = metrics.truncated.load(Relaxed);
    one(
        text,
        "plimsoll_truncated_inputs_total",
        "counter",
        "Texts that were not read whole.",
        truncated,
    )?;
    let open = metrics.connections.load(Relaxed);
    one(text, "plimsoll_connections", "gauge", "Open connections.", open)?;
    let refused = metrics.connections_refused.load(Relaxed);
    one(
        text,
        "plimsoll_connections_refused_total",
        "counter",
        "Connections over the cap.",
        refused,
    )
}

fn memory(app: &App, text: &mut String) -> Result {
    let (engine, ledger) = (&app.engine, app.engine.ledger());
    let gauge = "gauge";
    one(
        text,
        "plimsoll_memory_limit_bytes",
        gauge,
        "The line of the whole process.",
        engine.plan().limit_bytes,
    )?;
    head(text, "plimsoll_plan_bytes", gauge, "The bill, by owner.")?;
    for line in &engine.plan().lines {
        writeln!(
            text,
            "plimsoll_plan_bytes{{owner=\"{}\"}} {}",
            line.owner,
            line.total_bytes()
        )?;
    }
    one(
        text,
        "plimsoll_ledger_limit_bytes",
        gauge,
        "Bytes that requests share.",
        ledger.limit_bytes(),
    )?;
    one(
        text,
        "plimsoll_ledger_in_use_bytes",
        gauge,
        "Bytes debited to requests.",
        engine.requests_bytes(),
    )?;
    one(
        text,
        "plimsoll_ledger_high_water_bytes",
        gauge,
        "The most so far.",
        ledger.high_water_bytes(),
    )?;
    one(
        text,
        "plimsoll_requests_inside",
        gauge,
        "Requests that hold bytes.",
        engine.requests_inside(),
    )?;
    one(
        text,
        "plimsoll_requests_waiting",
        gauge,
        "Requests that wait for bytes.",
        engine.requests_waiting(),
    )?;
    if let Some(resident) = process::resident_bytes() {
        one(
            text,
            "process_resident_memory_bytes",
            gauge,
            "Bytes in memory.",
            resident,
        )?;
    }
    let (counts, counter) = (alloc::total_counts(), "counter");
    one(
        text,
        "plimsoll_heap_live_bytes",
        gauge,
        "Bytes on the heap.",
        counts.live_bytes(),
    )?;
    one(
        text,
        "plimsoll_heap_allocations_total",
        counter,
        "Heap allocations.",
        counts.allocations,
    )?;
    let pipeline = alloc::pipeline_allocations();
    one(
        text,
        "plimsoll_pipeline_allocations_total",
        counter,
        "Of them, in the pipeline: must be 0.",
        pipeline,
    )?;
    let sealed = alloc::violations();
    one(
        text,
        "plimsoll_sealed_allocations_total",
        counter,
        "Of them, by sealed threads: must be 0.",
        sealed,
    )
}

fn pools(app: &App, text: &mut String) -> Result {
    let all = app.engine.pool_stats();
    let mut family =
        |name: &str, kind: &str, help: &str, value: &dyn Fn(&plimsoll_memory::PoolStats) -> u64| {
            head(text, name, kind, help)?;
            all.iter().try_for_each(|pool| {
                writeln!(text, "{name}{{kind=\"{}\"}} {}", pool.kind, value(&pool.stats))
            })
        };
    family(
        "plimsoll_pool_leased_bytes",
        "gauge",
        "Slots that are out.",
        &|stats| stats.leased_bytes as u64,
    )?;
    family(
        "plimsoll_pool_idle_bytes",
        "gauge",
        "Slots that wait.",
        &|stats| stats.idle_bytes as u64,
    )?;
    family(
        "plimsoll_pool_hits_total",
        "counter",
        "Leases served from a slot that waited.",
        &|stats| stats.hits,
    )?;
    family(
        "plimsoll_pool_misses_total",
        "counter",
        "Leases that took fresh pages.",
        &|stats| stats.misses,
    )?;
    family(
        "plimsoll_pool_discarded_total",
        "counter",
        "Slots not reused after a panic.",
        &|stats| stats.discarded,
    )?;
    family(
        "plimsoll_pool_refused_total",
        "counter",
        "Returns refused: must be 0.",
        &|stats| stats.refused,
    )
}
