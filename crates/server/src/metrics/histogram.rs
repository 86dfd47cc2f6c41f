//! A histogram over fixed bounds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::sink::{Kind, Sink};

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

    /// Writes it as a family.
    pub(crate) fn collect(&self, name: &'static str, help: &'static str, sink: &mut dyn Sink) {
        let counts: [u64; BUCKETS_MAX] = std::array::from_fn(|bucket| self.counts[bucket].load(Relaxed));
        let sum = self.sum_millionths.load(Relaxed) as f64 / 1e6;
        sink.family(name, Kind::Histogram, help);
        sink.histogram(self.bounds, &counts[..=self.bounds.len()], sum);
    }
}
