//! Where the bytes are: the bill, the ledger, the layers, the heap.

use plimsoll_memory::{PoolStats, alloc, process, reservation};

use super::sink::{Kind, Sink};
use crate::app::App;

/// Lines of the bill that are the arenas of passes (L3).
const ARENAS: [&str; 2] = ["hidden states", "text scratch"];

/// Bill, ledger, layers, pools and heap.
pub(super) fn collect(app: &App, sink: &mut dyn Sink) {
    bill(app, sink);
    ledger(app, sink);
    layers(app, sink);
    pools(app, sink);
    heap(sink);
}

fn bill(app: &App, sink: &mut dyn Sink) {
    let plan = app.engine.plan();
    let help = "The line of the whole process.";
    sink.gauge("plimsoll_memory_limit_bytes", help, plan.limit_bytes as f64);
    sink.family("plimsoll_plan_bytes", Kind::Gauge, "The bill, by owner.");
    for line in &plan.lines {
        sink.value(&[("owner", line.owner)], line.total_bytes() as f64);
    }
}

fn ledger(app: &App, sink: &mut dyn Sink) {
    let (engine, ledger) = (&app.engine, app.engine.ledger());
    let gauges = [
        (
            "plimsoll_ledger_limit_bytes",
            "Bytes that requests share.",
            ledger.limit_bytes(),
        ),
        (
            "plimsoll_ledger_in_use_bytes",
            "Bytes debited to requests.",
            engine.requests_bytes(),
        ),
        (
            "plimsoll_ledger_high_water_bytes",
            "The most so far.",
            ledger.high_water_bytes(),
        ),
        (
            "plimsoll_requests_inside",
            "Requests that hold bytes.",
            engine.requests_inside(),
        ),
        (
            "plimsoll_requests_waiting",
            "Requests that wait for bytes.",
            engine.requests_waiting(),
        ),
    ];
    for (name, help, value) in gauges {
        sink.gauge(name, help, value as f64);
    }
}

/// Every layer by owner. L4 is what lies under the others, so it is not added to them.
fn layers(app: &App, sink: &mut dyn Sink) {
    let help = "Bytes of a layer, by owner and state: L1 request slots, L2 cached vectors, L3 arenas, L4 the reservation under them all.";
    sink.family("plimsoll_layer_bytes", Kind::Gauge, help);
    let mut value = |layer: &'static str, owner: &'static str, state: &'static str, bytes: usize| {
        sink.value(
            &[("layer", layer), ("owner", owner), ("state", state)],
            bytes as f64,
        );
    };
    for pool in app.engine.pool_stats() {
        value("L1", pool.kind, "leased", pool.stats.leased_bytes);
        value("L1", pool.kind, "idle", pool.stats.idle_bytes);
    }
    let cache = app.engine.cache().map(|cache| cache.stats()).unwrap_or_default();
    value("L2", "cached vectors", "pinned", cache.pinned_bytes);
    let idle = cache.bytes.saturating_sub(cache.pinned_bytes);
    value("L2", "cached vectors", "idle", idle);
    for line in &app.engine.plan().lines {
        if ARENAS.contains(&line.owner) {
            value("L3", line.owner, "committed", line.total_bytes());
        }
    }
    let (reserved, committed) = reservation::totals();
    value("L4", "reservation", "reserved", reserved);
    value("L4", "reservation", "committed", committed);
}

fn pools(app: &App, sink: &mut dyn Sink) {
    type Figure = fn(&PoolStats) -> u64;
    let all = app.engine.pool_stats();
    let families: [(_, _, _, Figure); 6] = [
        (
            "plimsoll_pool_leased_bytes",
            Kind::Gauge,
            "Slots that are out.",
            |stats| stats.leased_bytes as u64,
        ),
        (
            "plimsoll_pool_idle_bytes",
            Kind::Gauge,
            "Slots that wait.",
            |stats| stats.idle_bytes as u64,
        ),
        (
            "plimsoll_pool_hits_total",
            Kind::Counter,
            "Leases served from a slot that waited.",
            |stats| stats.hits,
        ),
        (
            "plimsoll_pool_misses_total",
            Kind::Counter,
            "Leases that took fresh pages.",
            |stats| stats.misses,
        ),
        (
            "plimsoll_pool_discarded_total",
            Kind::Counter,
            "Slots not reused after a panic.",
            |stats| stats.discarded,
        ),
        (
            "plimsoll_pool_refused_total",
            Kind::Counter,
            "Returns refused: must be 0.",
            |stats| stats.refused,
        ),
    ];
    for (name, kind, help, figure) in families {
        sink.family(name, kind, help);
        for pool in &all {
            sink.value(&[("kind", pool.kind)], figure(&pool.stats) as f64);
        }
    }
}

fn heap(sink: &mut dyn Sink) {
    if let Some(resident) = process::resident_bytes() {
        sink.gauge(
            "process_resident_memory_bytes",
            "Bytes in memory.",
            resident as f64,
        );
    }
    let counts = alloc::total_counts();
    sink.gauge(
        "plimsoll_heap_live_bytes",
        "Bytes on the heap.",
        counts.live_bytes() as f64,
    );
    let counters = [
        (
            "plimsoll_heap_allocations_total",
            "Heap allocations.",
            counts.allocations,
        ),
        (
            "plimsoll_pipeline_allocations_total",
            "Of them, in the pipeline: must be 0.",
            alloc::pipeline_allocations(),
        ),
        (
            "plimsoll_sealed_allocations_total",
            "Of them, by sealed threads: must be 0.",
            alloc::violations(),
        ),
    ];
    for (name, help, value) in counters {
        sink.counter(name, help, value as f64);
    }
}
