//! The cache of vectors as families of metrics.

use plimsoll_memory::CacheStats;

use super::sink::{Kind, Sink};

/// Bytes, finds and departures.
pub(super) fn collect(stats: &CacheStats, sink: &mut dyn Sink) {
    let gauges = [
        (
            "plimsoll_cache_bytes",
            "Bytes of cached vectors, borrowed from what requests leave free.",
            stats.bytes,
        ),
        (
            "plimsoll_cache_target_bytes",
            "The most they may be now.",
            stats.target_bytes,
        ),
        (
            "plimsoll_cache_pinned_bytes",
            "Of them, chunks with a vector that an answer is written from: nobody can take them back.",
            stats.pinned_bytes,
        ),
        ("plimsoll_cache_entries", "Cached vectors.", stats.entries),
    ];
    for (name, help, value) in gauges {
        sink.gauge(name, help, value as f64);
    }
    let counters = [
        (
            "plimsoll_cache_hits_total",
            "Vectors that were found.",
            stats.hits,
        ),
        (
            "plimsoll_cache_misses_total",
            "Vectors that were not.",
            stats.misses,
        ),
        (
            "plimsoll_cache_unpinnable_total",
            "Of them, those that were there, while as much as may be was pinned.",
            stats.misses_unpinnable,
        ),
        (
            "plimsoll_cache_insertions_total",
            "Vectors that were kept.",
            stats.insertions,
        ),
        (
            "plimsoll_cache_uncached_total",
            "Vectors that were not kept for want of room.",
            stats.insertions_refused,
        ),
    ];
    for (name, help, value) in counters {
        sink.counter(name, help, value as f64);
    }
    let reasons = [
        ("room", stats.evictions),
        ("session", stats.evictions_session),
        ("shrink", stats.evictions_shrink),
        ("age", stats.expirations),
    ];
    let help = "Vectors that had to go, by reason.";
    sink.family("plimsoll_cache_evictions_total", Kind::Counter, help);
    for (reason, count) in reasons {
        sink.value(&[("reason", reason)], count as f64);
    }
}
