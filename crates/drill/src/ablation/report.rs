//! The worth of each layer, in one table.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Row;
use crate::line::field::quantile;

/// The table.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// N of each variant.
    pub limit_bytes: u64,
    /// Requests of the steady traffic that each variant got.
    pub requests: usize,
    /// Variant by variant.
    pub rows: Vec<Row>,
}

fn ms(times_us: &[u32], share: f64) -> Option<f64> {
    quantile(times_us, share).map(|us| f64::from(us) / 1e3)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn hot_percent(row: &Row) -> Option<f64> {
    (row.hot.1 > 0).then(|| 100.0 * row.hot.0 as f64 / row.hot.1 as f64)
}

impl Report {
    /// As a table.
    pub fn as_text(&self) -> String {
        let mut text = format!(
            "{:<30} {:>8} {:>8} {:>6} {:>6} {:>8} {:>8} {:>9} {:>9} {:>9} {:>10} {:>9} {:>8} {:>9} {:>9}\n",
            "what is off",
            "p50 ms",
            "p99 ms",
            "hot %",
            "warm %",
            "allocs",
            "pipeline",
            "rest MiB",
            "peak MiB",
            "after MiB",
            "grown KiB",
            "burst p99",
            "refused",
            "one pass",
            "a pass each"
        );
        for row in &self.rows {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
            };
            writeln!(
                text,
                "{:<30} {:>8} {:>8} {:>6} {:>6} {:>8.1} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>10.0} {:>9} {:>8} {:>9} {:>9}",
                row.name,
                number(ms(&row.steady_us, 0.5), 2),
                number(ms(&row.steady_us, 0.99), 2),
                number(hot_percent(row), 1),
                number(row.warm_percent, 1),
                row.allocations,
                number(row.pipeline_allocations, 1),
                mib(row.rest_bytes),
                mib(row.peak_bytes),
                mib(row.after_bytes),
                row.grown_bytes as f64 / 1024.0,
                number(ms(&row.burst_us, 0.99), 1),
                row.burst_refused,
                number(ms(&row.tasks_us.0, 0.5), 2),
                number(ms(&row.tasks_us.1, 0.5), 2),
            )
            .expect("a String takes all that is written to it");
        }
        text += &format!(
            "seed {}, N = {} bytes, {} requests each in turns; memory is anonymous; allocations are of a request, HTTP included\n",
            self.seed, self.limit_bytes, self.requests
        );
        text
    }

    /// As JSON.
    pub fn as_json(&self) -> Value {
        json!({
            "seed": self.seed,
            "memory_limit_bytes": self.limit_bytes,
            "requests": self.requests,
            "rows": self.rows.iter().map(|row| json!({
                "off": row.name,
                "p50_ms": ms(&row.steady_us, 0.5),
                "p99_ms": ms(&row.steady_us, 0.99),
                "hot_hit_percent": hot_percent(row),
                "warm_lease_percent": row.warm_percent,
                "heap_allocations_a_request": row.allocations,
                "pipeline_allocations_a_request": row.pipeline_allocations,
                "rest_bytes": row.rest_bytes,
                "peak_bytes": row.peak_bytes,
                "after_bytes": row.after_bytes,
                "grown_bytes": row.grown_bytes,
                "burst_p50_ms": ms(&row.burst_us, 0.5),
                "burst_p99_ms": ms(&row.burst_us, 0.99),
                "burst_refused": row.burst_refused,
                "all_tasks_p50_ms": ms(&row.tasks_us.0, 0.5),
                "task_by_task_p50_ms": ms(&row.tasks_us.1, 0.5),
            })).collect::<Vec<_>>(),
        })
    }
}
