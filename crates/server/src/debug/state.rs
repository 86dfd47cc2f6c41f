//! `/debug/state`: who is inside, what workers do, what is held, as of now. Times are milliseconds of the engine's clock.
//!
//! With `?mark=1` it marks the leases that are out first: each later state counts how many of them still are. Requests are read before leases, and the time of the mark
//! after them: so whoever is not among the requests of one state owns none of the marked leases of a later one.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Uri, header};
use plimsoll_engine::Nanos;
use plimsoll_engine::trace::{Deed, Inside};
use plimsoll_memory::{alloc, process, profile};
use serde_json::{Value, json};

use super::{Problem, number};
use crate::app::App;
use crate::cli::plan;
use crate::wire::analyze;

pub(super) async fn state(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let engine = &app.engine;
    if number(&uri, "mark", 0, 0..=1)? == 1 {
        engine.mark_leases();
    }
    let (now, ledger) = (engine.now(), engine.ledger());
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let heap = alloc::total_counts();
    let reclaim = engine.governor_stats();
    let state = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": &*app.model_name,
        "now_ms": ms(now),
        "unix_ms": unix.as_millis() as u64,
        "memory_limit_bytes": engine.plan().limit_bytes,
        "resident_bytes": process::resident_bytes(),
        "plan": plan::as_json(engine.plan()),
        "level": engine.level().name(),
        "level_since_ms": level_since(&app),
        "ledger": {
            "limit_bytes": ledger.limit_bytes(),
            "requests_bytes": engine.requests_bytes(),
            "cached_bytes": ledger.in_use().saturating_sub(engine.requests_bytes()),
            "high_water_bytes": ledger.high_water_bytes(),
        },
        "requests_inside": engine.requests_inside(),
        "requests_waiting": engine.requests_waiting(),
        "requests": engine.inside().map(request).collect::<Vec<_>>(),
        "workers": workers(&app),
        "pools": pools(&app),
        "leases_marked_ms": engine.leases_marked().map(ms),
        "heap": {
            "live_bytes": heap.live_bytes(),
            "allocations": heap.allocations,
            "pipeline_allocations": alloc::pipeline_allocations(),
            "sealed_allocations": alloc::violations(),
        },
        "reclaim": {"cycles": reclaim.cycles, "worked_ms": reclaim.worked_ns / 1_000_000},
        "connections": app.metrics.connections(),
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, state.to_string()).into_response())
}

fn ms(at: Nanos) -> u64 {
    at.0 / 1_000_000
}

/// When the level became what it is; null where it never changed, as far as is known.
fn level_since(app: &App) -> Value {
    let mut since = Value::Null;
    app.engine.deeds(0, |at, deed| {
        if let Deed::Level(_) = deed {
            since = json!(ms(at));
        }
    });
    since
}

fn request(inside: Inside) -> Value {
    let names = analyze::names(inside.tasks).collect::<Vec<_>>();
    json!({
        "number": inside.number,
        "phase": inside.phase.name(),
        "admitted_ms": ms(inside.stay.admitted.at),
        "writing_ms": inside.stay.writing.map(|moment| ms(moment.at)),
        "held_bytes": inside.held_bytes(),
        "flushed_bytes": inside.flushed_bytes,
        "tasks": names,
    })
}

fn workers(app: &App) -> Vec<Value> {
    let doing = app.engine.doing();
    doing
        .map(|doing| {
            json!({
                "worker": doing.worker,
                "stage": doing.stage.name(),
                "since_ms": ms(doing.since),
                "number": doing.number,
            })
        })
        .collect()
}

fn pools(app: &App) -> Vec<Value> {
    let ages_of = |kind: &str| {
        let mut all = profile::get()?.ages();
        all.find(|(name, _)| *name == kind).map(|(_, ages)| ages)
    };
    let pools = app.engine.pool_stats();
    pools
        .iter()
        .map(|pool| {
            let ages = ages_of(pool.kind);
            let quantile = |permille| {
                ages.and_then(|ages| ages.quantile_ns(permille))
                    .map(|ns| ns as f64 / 1e6)
            };
            json!({
                "kind": pool.kind,
                "leased_slots": pool.stats.leased_slots,
                "leased_bytes": pool.stats.leased_bytes,
                "marked_slots": pool.stats.marked_slots,
                "marked_bytes": pool.stats.marked_bytes,
                "idle_slots": pool.stats.idle_slots,
                "idle_bytes": pool.stats.idle_bytes,
                "hits": pool.stats.hits,
                "misses": pool.stats.misses,
                "ages": {
                    "died": ages.map(profile::Ages::count),
                    "p50_ms": quantile(500),
                    "p99_ms": quantile(990),
                    "p999_ms": quantile(999),
                },
            })
        })
        .collect()
}
