//! What governs the line, in Prometheus' text format.

use std::fmt::{Result, Write};
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_engine::govern::{BUCKETS, Buckets};
use plimsoll_memory::{limits, process};

use super::text::{head, one};
use crate::app::App;
use crate::wire::analyze;

/// Levels, reclaiming, lengths and readings.
pub(super) fn encode(app: &App, text: &mut String) -> Result {
    level(app, text)?;
    reclaim(app, text)?;
    lengths(app, text)?;
    readings(app, text)
}

fn level(app: &App, text: &mut String) -> Result {
    let (engine, stats) = (&app.engine, app.engine.governor_stats());
    let help = "0 normal, 1 strained, 2 refusing.";
    one(text, "plimsoll_level", "gauge", help, engine.level() as u8)?;
    let help = "Changes of the level: at most one a second.";
    one(
        text,
        "plimsoll_level_changes_total",
        "counter",
        help,
        stats.level_changes,
    )?;
    let help = "From 0 at 60% of the ledger to 1 at 85%.";
    let pressure = engine.pressure().permille() as f64 / 1000.0;
    one(text, "plimsoll_pressure_ratio", "gauge", help, pressure)?;
    let help = "Requests that were ended before they had started, to make room.";
    let name = "plimsoll_returned_requests_total";
    one(text, name, "counter", help, stats.returned_requests)?;
    let name = "plimsoll_dropped_tasks_total";
    head(
        text,
        name,
        "counter",
        "Answers that leave a task out under pressure, by task.",
    )?;
    let mut tasks = analyze::names(analyze::ALL).zip(&app.metrics.dropped);
    tasks.try_for_each(|(task, count)| writeln!(text, "{name}{{task=\"{task}\"}} {}", count.load(Relaxed)))
}

fn reclaim(app: &App, text: &mut String) -> Result {
    let stats = app.engine.governor_stats();
    one(
        text,
        "plimsoll_reclaim_cycles_total",
        "counter",
        "Reclaim cycles.",
        stats.cycles,
    )?;
    let seconds = stats.worked_ns as f64 / 1e9;
    let help = "Seconds of one core that they worked.";
    one(text, "plimsoll_reclaim_seconds_total", "counter", help, seconds)?;
    let help = "Bytes of pools and caches, used or idle.";
    one(text, "plimsoll_live_bytes", "gauge", help, stats.live_bytes)?;
    let help = "Live bytes at which growth starts the next cycle.";
    one(
        text,
        "plimsoll_reclaim_goal_bytes",
        "gauge",
        help,
        stats.goal_bytes,
    )
}

fn lengths(app: &App, text: &mut String) -> Result {
    let stats = app.engine.length_stats();
    let name = "plimsoll_recent_input_lengths";
    head(
        text,
        name,
        "gauge",
        "Of the last 1024 inputs, those of so many tokens.",
    )?;
    for bucket in 0..BUCKETS {
        writeln!(
            text,
            "{name}{{le=\"{}\"}} {}",
            Buckets::name(bucket),
            stats.buckets.0[bucket]
        )?;
    }
    let name = "plimsoll_recent_input_length_tokens";
    head(
        text,
        name,
        "gauge",
        "Quantiles of the lengths of the last 1024 inputs.",
    )?;
    for (quantile, tokens) in ["0.5", "0.75", "0.9", "0.95"].iter().zip(stats.boundaries) {
        writeln!(text, "{name}{{quantile=\"{quantile}\"}} {tokens}")?;
    }
    let counts = [
        (
            "plimsoll_lease_hits_total",
            "Leases that found their slot warm, by tokens of the longest input.",
            stats.hits,
        ),
        (
            "plimsoll_lease_misses_total",
            "Leases that took fresh pages, by tokens of the longest input.",
            stats.misses,
        ),
    ];
    for (name, help, counts) in counts {
        head(text, name, "counter", help)?;
        for (bucket, count) in counts.iter().enumerate() {
            writeln!(text, "{name}{{le=\"{}\"}} {count}", Buckets::name(bucket))?;
        }
    }
    Ok(())
}

fn readings(app: &App, text: &mut String) -> Result {
    if let Some(drift) = drift_bytes(app) {
        let help = "Resident bytes beyond the bill of what is used; the bill's slack bounds it.";
        one(text, "plimsoll_memory_drift_bytes", "gauge", help, drift)?;
    }
    if let Some(bytes) = process::anonymous_bytes() {
        let help = "Resident bytes that no file backs.";
        one(text, "plimsoll_anonymous_bytes", "gauge", help, bytes)?;
    }
    if let Some(bytes) = limits::cgroup_usage_bytes() {
        let help = "Bytes charged to the process's cgroup, page cache included.";
        one(text, "plimsoll_cgroup_usage_bytes", "gauge", help, bytes)?;
    }
    if let Some(percent) = limits::memory_pressure_percent() {
        let help = "Share of time that something stood still for want of memory, of the last 10 s.";
        one(
            text,
            "plimsoll_memory_stall_ratio",
            "gauge",
            help,
            percent / 100.0,
        )?;
    }
    let help = "Readings beyond their mark.";
    one(
        text,
        "plimsoll_alarms_total",
        "counter",
        help,
        app.metrics.alarms.load(Relaxed),
    )
}

/// Resident bytes less all lines of the bill, of the slots of requests only those that have pages. Below 0 while not every line is used up.
pub(crate) fn drift_bytes(app: &App) -> Option<i64> {
    let plan = app.engine.plan();
    let billed = plan.limit_bytes - plan.request_slots_bytes + app.engine.committed_bytes();
    Some(process::resident_bytes()? as i64 - billed as i64)
}
