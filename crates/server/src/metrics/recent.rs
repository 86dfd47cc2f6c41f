//! How long things took lately: a histogram of the last minute, fine enough for quantiles.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Bins in which a time doubles: each is a sixteenth of its octave wide, so its middle is at most 3.2% off.
const STEPS: u32 = 16;
/// Below this all times are one bin.
const LEAST_BITS: u32 = 13;
/// From 8 us to 69 s.
const BINS: usize = 23 * STEPS as usize + 1;
/// A minute, and the slice that fills.
const SLICES: usize = 12;

/// Times of the last minute, in slices of [`Recent::SLICE_S`]; recording allocates nothing and waits for nobody.
#[derive(Debug)]
pub struct Recent {
    slices: [[AtomicU32; BINS]; SLICES],
    filling: AtomicUsize,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            slices: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU32::new(0))),
            filling: AtomicUsize::new(0),
        }
    }
}

fn bin(nanos: u64) -> usize {
    let octave = nanos.max(1).ilog2();
    if octave < LEAST_BITS {
        return 0;
    }
    let step = (nanos >> (octave - STEPS.ilog2())) as usize % STEPS as usize;
    (1 + (octave - LEAST_BITS) as usize * STEPS as usize + step).min(BINS - 1)
}

/// The middle of a bin.
fn nanos(bin: usize) -> u64 {
    let Some(place) = bin.checked_sub(1) else {
        return 1 << (LEAST_BITS - 1);
    };
    let (octave, step) = (place as u32 / STEPS, place as u64 % u64::from(STEPS));
    let width = 1 << (octave + LEAST_BITS - STEPS.ilog2());
    (u64::from(STEPS) + step) * width + width / 2
}

impl Recent {
    /// Seconds of a slice: [`Recent::turn`] is called so often.
    pub const SLICE_S: usize = 5;
    /// Slices of the last minute.
    pub const MINUTE: usize = SLICES;

    /// Something took so long.
    pub fn record(&self, nanos: u64) {
        let filling = self.filling.load(Relaxed) % SLICES;
        self.slices[filling][bin(nanos)].fetch_add(1, Relaxed);
    }

    /// Begins the next slice; the oldest is forgotten.
    pub fn turn(&self) {
        let next = (self.filling.load(Relaxed) + 1) % SLICES;
        self.slices[next].iter().for_each(|count| count.store(0, Relaxed));
        self.filling.store(next, Relaxed);
    }

    /// Times in nanoseconds that so many percent of the newest `slices` did not exceed, to 3.2%; `None` when there are none.
    pub fn quantiles<const N: usize>(&self, slices: usize, percents: [u64; N]) -> Option<[u64; N]> {
        let filling = self.filling.load(Relaxed);
        let newest = (0..slices.min(SLICES)).map(|back| &self.slices[(filling + SLICES - back) % SLICES]);
        let mut counts = [0u64; BINS];
        for slice in newest {
            let sums = counts.iter_mut().zip(slice);
            sums.for_each(|(sum, count)| *sum += u64::from(count.load(Relaxed)));
        }
        let total: u64 = counts.iter().sum();
        let quantile = |percent: u64| {
            let (wanted, mut seen) = ((total * percent).div_ceil(100).max(1), 0);
            let bin = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            nanos(bin.unwrap_or(BINS - 1))
        };
        (total > 0).then(|| percents.map(quantile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_minute_later_it_is_forgotten() {
        let recent = Recent::default();
        recent.record(1_000_000);
        (0..Recent::MINUTE - 1).for_each(|_| recent.turn());
        assert!(recent.quantiles(Recent::MINUTE, [50]).is_some());
        assert_eq!(recent.quantiles(1, [50]), None, "not of the newest slice");
        recent.turn();
        assert_eq!(recent.quantiles(Recent::MINUTE, [50]), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_times(mut all in prop::collection::vec(10_000u64..60_000_000_000, 1..300)) {
            let recent = Recent::default();
            all.iter().for_each(|&nanos| recent.record(nanos));
            all.sort_unstable();
            for percent in [50, 99] {
                let [found] = recent.quantiles(1, [percent]).unwrap();
                let exact = all[(all.len() * percent as usize).div_ceil(100) - 1];
                prop_assert!(found.abs_diff(exact) as f64 <= exact as f64 * 0.0325, "{found} for {exact}");
            }
        }
    }
}
