//! The cache of vectors, in Prometheus' text format.

use std::fmt::{Result, Write};

use plimsoll_memory::CacheStats;

use super::text::{head, one};

/// Bytes, finds and departures.
pub(super) fn encode(stats: &CacheStats, text: &mut String) -> Result {
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
            "Of them, those that answers are written from.",
            stats.pinned_bytes,
        ),
        ("plimsoll_cache_entries", "Cached vectors.", stats.entries),
    ];
    for (name, help, value) in gauges {
        one(text, name, "gauge", help, value)?;
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
        one(text, name, "counter", help, value)?;
    }
    head(
        text,
        "plimsoll_cache_evictions_total",
        "counter",
        "Vectors that had to go, by reason.",
    )?;
    let reasons = [
        ("room", stats.evictions),
        ("session", stats.evictions_session),
        ("shrink", stats.evictions_shrink),
        ("age", stats.expirations),
    ];
    for (reason, count) in reasons {
        writeln!(
            text,
            "plimsoll_cache_evictions_total{{reason=\"{reason}\"}} {count}"
        )?;
    }
    Ok(())
}
