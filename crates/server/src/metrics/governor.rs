//! What governs the line, as families of metrics.

use std::sync::atomic::Ordering::Relaxed;

use plimsoll_engine::govern::{BUCKETS, Buckets};
use plimsoll_memory::{limits, process};

use super::sink::{Kind, Sink};
use crate::app::App;
use crate::wire::analyze;

/// Levels, reclaiming, lengths and readings.
pub(super) fn collect(app: &App, sink: &mut dyn Sink) {
    level(app, sink);
    reclaim(app, sink);
    lengths(app, sink);
    readings(app, sink);
}

fn level(app: &App, sink: &mut dyn Sink) {
    let (engine, stats) = (&app.engine, app.engine.governor_stats());
    let help = "0 normal, 1 strained, 2 refusing.";
    sink.gauge("plimsoll_level", help, f64::from(engine.level() as u8));
    let help = "Changes of the level: at most one a second.";
    sink.counter("plimsoll_level_changes_total", help, stats.level_changes as f64);
    let help = "From 0 at 60% of the ledger to 1 at 85%.";
    let pressure = engine.pressure().permille() as f64 / 1000.0;
    sink.gauge("plimsoll_pressure_ratio", help, pressure);
    let help = "Requests that were ended before they had started, to make room.";
    let returned = stats.returned_requests as f64;
    sink.counter("plimsoll_returned_requests_total", help, returned);
    let help = "Answers that leave a task out under pressure, by task.";
    sink.family("plimsoll_dropped_tasks_total", Kind::Counter, help);
    for (task, count) in analyze::names(analyze::ALL).zip(&app.metrics.dropped) {
        sink.value(&[("task", task)], count.load(Relaxed) as f64);
    }
}

fn reclaim(app: &App, sink: &mut dyn Sink) {
    let stats = app.engine.governor_stats();
    let cycles = stats.cycles as f64;
    sink.counter("plimsoll_reclaim_cycles_total", "Reclaim cycles.", cycles);
    let help = "Seconds of one core that they worked.";
    let seconds = stats.worked_ns as f64 / 1e9;
    sink.counter("plimsoll_reclaim_seconds_total", help, seconds);
    let help = "Bytes of pools and caches, used or idle.";
    sink.gauge("plimsoll_live_bytes", help, stats.live_bytes as f64);
    let help = "Live bytes at which growth starts the next cycle.";
    sink.gauge("plimsoll_reclaim_goal_bytes", help, stats.goal_bytes as f64);
}

fn lengths(app: &App, sink: &mut dyn Sink) {
    let stats = app.engine.length_stats();
    let help = "Of the last 1024 inputs, those of so many tokens.";
    sink.family("plimsoll_recent_input_lengths", Kind::Gauge, help);
    for bucket in 0..BUCKETS {
        sink.value(
            &[("le", Buckets::name(bucket))],
            f64::from(stats.buckets.0[bucket]),
        );
    }
    let help = "Quantiles of the lengths of the last 1024 inputs.";
    sink.family("plimsoll_recent_input_length_tokens", Kind::Gauge, help);
    for (quantile, tokens) in ["0.5", "0.75", "0.9", "0.95"].iter().zip(stats.boundaries) {
        sink.value(&[("quantile", quantile)], f64::from(tokens));
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
        sink.family(name, Kind::Counter, help);
        for (bucket, count) in counts.iter().enumerate() {
            sink.value(&[("le", Buckets::name(bucket))], *count as f64);
        }
    }
}

fn readings(app: &App, sink: &mut dyn Sink) {
    if let Some(drift) = drift_bytes(app) {
        let help = "Resident bytes beyond the bill of what is used; the bill's slack bounds it.";
        sink.gauge("plimsoll_memory_drift_bytes", help, drift as f64);
    }
    if let Some(bytes) = process::anonymous_bytes() {
        let help = "Resident bytes that no file backs.";
        sink.gauge("plimsoll_anonymous_bytes", help, bytes as f64);
    }
    if let Some(bytes) = limits::cgroup_usage_bytes() {
        let help = "Bytes charged to the process's cgroup, page cache included.";
        sink.gauge("plimsoll_cgroup_usage_bytes", help, bytes as f64);
    }
    if let Some(percent) = limits::memory_pressure_percent() {
        let help = "Share of time that something stood still for want of memory, of the last 10 s.";
        sink.gauge("plimsoll_memory_stall_ratio", help, percent / 100.0);
    }
    let (help, alarms) = ("Readings beyond their mark.", app.metrics.alarms.load(Relaxed));
    sink.counter("plimsoll_alarms_total", help, alarms as f64);
}

/// Resident bytes less all lines of the bill, of the slots of requests only those that have pages. Below 0 while not every line is used up.
fn drift_bytes(app: &App) -> Option<i64> {
    let plan = app.engine.plan();
    let billed = plan.limit_bytes - plan.request_slots_bytes + app.engine.committed_bytes();
    Some(process::resident_bytes()? as i64 - billed as i64)
}
