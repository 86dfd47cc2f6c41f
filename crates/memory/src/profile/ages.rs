//! How old sampled objects of a kind became: what "older than nearly all" means is measured, not guessed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets of one doubling.
const STEPS: usize = 4;
/// Doublings from a microsecond to a day and more.
const DOUBLINGS: usize = 38;
const BUCKETS: usize = STEPS * DOUBLINGS;

/// Ages at death, in buckets a fifth wide.
#[derive(Debug)]
pub struct Ages([AtomicU64; BUCKETS]);

impl Ages {
    pub(super) fn new() -> Ages {
        Ages(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// One died that stands for `weight` of the shortest interval.
    pub(super) fn died(&self, age_ns: u64, weight: u64) {
        self.0[bucket(age_ns)].fetch_add(weight, Relaxed);
    }

    /// Objects that died, of which one in about [`LEASE_INTERVAL`](super::LEASE_INTERVAL) is counted.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The age, in nanoseconds and rounded up by at most a fifth, that `permille` of 1,000 did not outlive; `None` before any died.
    pub fn quantile_ns(&self, permille: u64) -> Option<u64> {
        let all = self.count();
        let mut below = 0;
        let at = self.0.iter().position(|count| {
            below += count.load(Relaxed);
            all > 0 && below * 1000 >= all * permille
        });
        at.map(end_ns)
    }
}

fn bucket(age_ns: u64) -> usize {
    let us = (age_ns / 1000).max(1);
    let doubling = us.ilog2() as usize;
    // The two bits below the highest one.
    let step = (us << 2 >> doubling) as usize & (STEPS - 1);
    (doubling * STEPS + step).min(BUCKETS - 1)
}

/// Where a bucket ends.
fn end_ns(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    (((STEPS + step + 1) as u64 * 1000) << doubling) / STEPS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_rounded_up_by_a_fifth_at_most() {
        for age_us in [1, 2, 3, 7, 100, 1000, 12_345, 3_600_000_000] {
            let ages = Ages::new();
            ages.died(age_us * 1000, 1);
            let told = ages.quantile_ns(999).unwrap() / 1000;
            assert!(
                (age_us..=age_us + age_us / 4 + 1).contains(&told),
                "{age_us}: {told}"
            );
        }
        let ages = Ages::new();
        assert_eq!(ages.quantile_ns(999), None);
        (0..999).for_each(|_| ages.died(1_000_000, 1));
        ages.died(5_000_000_000, 1);
        assert!(ages.quantile_ns(999).unwrap() < 1_300_000);
        assert!(ages.quantile_ns(1000).unwrap() >= 5_000_000_000);
        assert_eq!(ages.count(), 1000);
        ages.died(u64::MAX, 1);
    }
}
