//! A histogram over fixed bounds.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BUCKETS_MAX: usize = 16;

/// Counts by bound. The sum is kept in millionths, so that it needs no lock.
pub struct Histogram {
    bounds: &'static [f64],
    counts: [AtomicU64; BUCKETS_MAX],
    sum_millionths: AtomicU64,
}

impl Histogram {
    /// An empty one over ascending bounds, at most 15 of them.
    pub fn new(bounds: &'static [f64]) -> Self {
        assert!(
            bounds.len() < BUCKETS_MAX,
            "one bucket is for what is above all bounds"
        );
        Histogram {
            bounds,
            counts: Default::default(),
            sum_millionths: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn record(&self, value: f64) {
        let bucket = self
            .bounds
            .iter()
            .position(|&bound| value <= bound)
            .unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_millionths.fetch_add((value * 1e6) as u64, Relaxed);
    }

    /// Writes it in Prometheus' text format.
    pub fn encode(&self, name: &str, help: &str, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        let mut total = 0;
        for (bucket, bound) in self.bounds.iter().enumerate() {
            total += self.counts[bucket].load(Relaxed);
            writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {total}")?;
        }
        total += self.counts[self.bounds.len()].load(Relaxed);
        writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {total}")?;
        writeln!(
            text,
            "{name}_sum {}",
            self.sum_millionths.load(Relaxed) as f64 / 1e6
        )?;
        writeln!(text, "{name}_count {total}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::new(&[1.0, 10.0]);
        [0.5, 1.0, 3.0, 100.0]
            .into_iter()
            .for_each(|value| histogram.record(value));
        let mut text = String::new();
        histogram.encode("h", "A test.", &mut text).unwrap();
        let expected = "# HELP h A test.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"10\"} 3\n\
                        h_bucket{le=\"+Inf\"} 4\nh_sum 104.5\nh_count 4\n";
        assert_eq!(text, expected);
    }
}
