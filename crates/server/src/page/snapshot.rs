//! What the page is told, as JSON. Counts are since the start, times in microseconds, sizes in bytes.

use std::sync::atomic::Ordering::Relaxed;

use plimsoll_engine::govern::{BUCKETS, Buckets, Cycle};
use plimsoll_memory::{CacheStats, process};
use serde::Serialize;

use super::past::{Curves, LastMinute};
use crate::app::App;
use crate::http::problem::Reason;
use crate::metrics::Recent;

/// What does not change while the server runs, and the past.
#[derive(Serialize)]
pub(super) struct Opening<'a> {
    version: &'static str,
    model: &'a str,
    limit_bytes: usize,
    marks: Marks,
    bill: Vec<Owner>,
    cache_bytes_max: usize,
    requests_max: usize,
    workers: usize,
    tasks: Vec<&'static str>,
    reasons: [&'static str; Reason::ALL.len()],
    past: Curves,
}

#[derive(Serialize)]
struct Marks {
    strained_percent: u8,
    refusing_percent: u8,
    resume_percent: u8,
}

#[derive(Serialize)]
struct Owner {
    owner: &'static str,
    count: usize,
    bytes: usize,
}

/// One second.
#[derive(Serialize)]
pub(super) struct Now {
    up_s: u64,
    level: &'static str,
    ledger: Ledger,
    resident_bytes: Option<usize>,
    pools: Vec<Pool>,
    lengths: Vec<Length>,
    cache: Option<Cache>,
    work: Work,
    minute: LastMinute,
    answers: Option<Times>,
    refusals: Option<Times>,
    refused: [u64; Reason::ALL.len()],
    returned: u64,
    reclaim: Reclaim,
    newest: Curves,
}

#[derive(Serialize)]
struct Ledger {
    in_use_bytes: usize,
    limit_bytes: usize,
}

#[derive(Serialize)]
struct Pool {
    kind: &'static str,
    leased_bytes: usize,
    idle_bytes: usize,
    hits: u64,
    misses: u64,
}

#[derive(Serialize)]
struct Length {
    to: &'static str,
    inputs: u32,
    hits: u64,
    misses: u64,
}

#[derive(Serialize)]
struct Cache {
    bytes: usize,
    target_bytes: usize,
    pinned_bytes: usize,
    entries: usize,
    sessions: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
}

#[derive(Serialize)]
struct Work {
    inside: usize,
    at_the_door: usize,
    queued: usize,
    connections: usize,
    connections_refused: u64,
}

#[derive(Serialize)]
struct Times {
    p50_us: u64,
    p99_us: u64,
}

#[derive(Serialize)]
struct Reclaim {
    cycles: u64,
    worked_us: u64,
    live_bytes: usize,
    goal_bytes: usize,
    last: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    number: u64,
    cause: &'static str,
    ago_s: u64,
    worked_us: u64,
    before_bytes: usize,
    marked_bytes: usize,
    after_bytes: usize,
}

impl Opening<'_> {
    pub(super) fn of(app: &App) -> Opening<'_> {
        let (plan, marks) = (app.engine.plan(), app.settings.marks);
        let bill = plan.lines.iter().map(|line| Owner {
            owner: line.owner,
            count: line.count,
            bytes: line.total_bytes(),
        });
        Opening {
            version: env!("CARGO_PKG_VERSION"),
            model: &app.model_name,
            limit_bytes: plan.limit_bytes,
            marks: Marks {
                strained_percent: marks.strained_percent,
                refusing_percent: marks.refusing_percent,
                resume_percent: marks.resume_percent,
            },
            bill: bill.collect(),
            cache_bytes_max: plan.cache_bytes_max,
            requests_max: plan.limits.requests_max,
            workers: app.metrics.workers(),
            tasks: crate::wire::analyze::names(crate::wire::analyze::tasks(&app.abilities)).collect(),
            reasons: Reason::ALL.map(Reason::name),
            past: app.live.past().curves(),
        }
    }
}

/// The server as it is.
pub(super) fn now(app: &App) -> Now {
    let (engine, metrics) = (&app.engine, &app.metrics);
    let times = |recent: &Recent| {
        let quantiles = recent.quantiles(Recent::MINUTE, [50, 99])?;
        let [p50_us, p99_us] = quantiles.map(|nanos| nanos / 1000);
        Some(Times { p50_us, p99_us })
    };
    let pools = engine.pool_stats().into_iter().map(|pool| Pool {
        kind: pool.kind,
        leased_bytes: pool.stats.leased_bytes,
        idle_bytes: pool.stats.idle_bytes,
        hits: pool.stats.hits,
        misses: pool.stats.misses,
    });
    let past = app.live.past();
    let (minute, newest) = (past.last_minute(), past.newest());
    drop(past);
    Now {
        up_s: engine.now().0 / 1_000_000_000,
        level: engine.level().name(),
        ledger: Ledger {
            in_use_bytes: engine.requests_bytes(),
            limit_bytes: engine.ledger().limit_bytes(),
        },
        resident_bytes: process::resident_bytes(),
        pools: pools.collect(),
        lengths: lengths(app),
        cache: engine.cache().map(|cache| Cache::of(&cache.stats())),
        work: Work {
            inside: engine.requests_inside(),
            at_the_door: engine.requests_waiting(),
            queued: engine.queue_len(),
            connections: metrics.connections(),
            connections_refused: metrics.connections_refused.load(Relaxed),
        },
        minute,
        answers: times(metrics.answer_times()),
        refusals: times(metrics.refusal_times()),
        refused: metrics.totals().refusals,
        returned: engine.governor_stats().returned_requests,
        reclaim: reclaim(app),
        newest,
    }
}

fn lengths(app: &App) -> Vec<Length> {
    let stats = app.engine.length_stats();
    let bucket = |bucket| Length {
        to: Buckets::name(bucket),
        inputs: stats.buckets.0[bucket],
        hits: stats.hits[bucket],
        misses: stats.misses[bucket],
    };
    (0..BUCKETS).map(bucket).collect()
}

impl Cache {
    fn of(stats: &CacheStats) -> Cache {
        Cache {
            bytes: stats.bytes,
            target_bytes: stats.target_bytes,
            pinned_bytes: stats.pinned_bytes,
            entries: stats.entries,
            sessions: stats.sessions,
            hits: stats.hits,
            misses: stats.misses,
            evictions: stats.evictions + stats.evictions_session + stats.evictions_shrink + stats.expirations,
        }
    }
}

fn reclaim(app: &App) -> Reclaim {
    let (stats, now) = (app.engine.governor_stats(), app.engine.now());
    let line = |cycle: Cycle| Line {
        number: cycle.number,
        cause: cycle.cause.name(),
        ago_s: now.since(cycle.began) / 1_000_000_000,
        worked_us: cycle.worked_ns / 1000,
        before_bytes: cycle.live_before_bytes,
        marked_bytes: cycle.marked_bytes,
        after_bytes: cycle.live_after_bytes,
    };
    Reclaim {
        cycles: stats.cycles,
        worked_us: stats.worked_ns / 1000,
        live_bytes: stats.live_bytes,
        goal_bytes: stats.goal_bytes,
        last: app.live.cycles().into_iter().map(line).collect(),
    }
}
