//! How fast something comes back, measured while there is something to come back.

use crate::clock::Nanos;

/// The share of the newest interval in the rate.
const WEIGHT: f64 = 0.3;
/// The rate is measured over intervals of at least this length ...
const INTERVAL: Nanos = Nanos::from_ms(100);
/// ... in which something came back so many times, as things come back in batches, ...
const RETURNS_LEAST: u32 = 8;
/// ... or of this length.
const INTERVAL_MOST: Nanos = Nanos::from_ms(2000);

/// A rate per millisecond, smoothed.
///
/// ```
/// use plimsoll_engine::govern::Drain;
/// use plimsoll_engine::Nanos;
/// let mut drain = Drain::default();
/// assert_eq!(drain.ms_for(100), None, "nothing was measured yet");
/// drain.begin(Nanos(0));
/// (0..10).for_each(|_| drain.add(100, Nanos::from_ms(100)));
/// assert_eq!(drain.ms_for(50), Some(7), "eight times 100 in 100 ms");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Drain {
    since: Nanos,
    /// When something came back last.
    last: Nanos,
    amount: u64,
    returns: u32,
    per_ms: f64,
    intervals: u32,
}

impl Drain {
    /// From now on something is out: the time since the last came back does not count.
    pub fn begin(&mut self, now: Nanos) {
        let counted = self.last.since(self.since);
        self.since = Nanos(now.0.saturating_sub(counted));
        self.last = now;
    }

    /// So much came back.
    pub fn add(&mut self, amount: usize, now: Nanos) {
        self.last = now;
        self.amount += amount as u64;
        self.returns += 1;
        let span = now.since(self.since);
        if span < INTERVAL.0 || (self.returns < RETURNS_LEAST && span < INTERVAL_MOST.0) {
            return;
        }
        let rate = self.amount as f64 / (span as f64 / 1e6);
        self.intervals = self.intervals.saturating_add(1);
        // The first few count alike.
        let weight = WEIGHT.max(1.0 / f64::from(self.intervals));
        self.per_ms += weight * (rate - self.per_ms);
        (self.since, self.amount, self.returns) = (now, 0, 0);
    }

    /// Milliseconds until `amount` will have come back; `None` before anything was measured.
    pub fn ms_for(&self, amount: usize) -> Option<u64> {
        (self.per_ms > 0.0).then(|| (amount as f64 / self.per_ms).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_does_not_slow_the_rate() {
        let mut drain = Drain::default();
        for second in [0, 1000, 100_000] {
            drain.begin(Nanos::from_ms(second));
            (0..8).for_each(|_| drain.add(125, Nanos::from_ms(second + 100)));
        }
        assert_eq!(drain.ms_for(100), Some(10));
    }

    /// At moderate load something is out for a few milliseconds at a time.
    #[test]
    fn short_times_add_up() {
        let mut drain = Drain::default();
        for nth in 0..20 {
            drain.begin(Nanos::from_ms(1000 * nth));
            drain.add(50, Nanos::from_ms(1000 * nth + 5));
        }
        assert_eq!(drain.ms_for(100), Some(10), "1000 in 20 times 5 ms");
    }

    #[test]
    fn a_new_rate_is_taken_over_step_by_step() {
        let mut drain = Drain::default();
        drain.begin(Nanos(0));
        let mut interval = |amount: usize, nth: u64| {
            (0..8).for_each(|_| drain.add(amount / 8, Nanos::from_ms(100 * nth)));
            drain.ms_for(3000)
        };
        assert_eq!(interval(1600, 1), Some(188), "16 a millisecond");
        assert_eq!(interval(3200, 2), Some(125), "the mean of 16 and 32");
        (3..6).for_each(|nth| assert_eq!(interval(2400, nth), Some(125)));
        assert_eq!(interval(24_000, 6), Some(34), "24 + 0.3 * (240 - 24)");
    }

    #[test]
    fn a_batch_that_returns_at_once_is_not_mistaken_for_its_first() {
        let mut drain = Drain::default();
        drain.begin(Nanos(0));
        for pass in 1..=4 {
            (0..8).for_each(|_| drain.add(1, Nanos::from_ms(1000 * pass)));
        }
        assert_eq!(drain.ms_for(8), Some(1000));
    }

    #[test]
    fn a_single_return_counts_after_two_seconds() {
        let mut drain = Drain::default();
        drain.add(10, Nanos::from_ms(1999));
        assert_eq!(drain.ms_for(1), None);
        drain.add(10, Nanos::from_ms(2000));
        assert_eq!(drain.ms_for(1), Some(100));
    }
}
