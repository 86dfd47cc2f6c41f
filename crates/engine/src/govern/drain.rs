//! How fast something comes back, measured while there is something to come back.

use crate::clock::Nanos;

/// The share of the newest interval in the rate.
const WEIGHT: f64 = 0.3;
/// The rate is measured over intervals of this length.
const INTERVAL: Nanos = Nanos::from_ms(100);

/// A rate per millisecond, smoothed.
///
/// ```
/// use plimsoll_engine::govern::Drain;
/// use plimsoll_engine::Nanos;
/// let mut drain = Drain::default();
/// assert_eq!(drain.ms_for(100), None, "nothing was measured yet");
/// drain.begin(Nanos(0));
/// drain.add(1000, Nanos::from_ms(100));
/// assert_eq!(drain.ms_for(50), Some(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Drain {
    since: Nanos,
    amount: u64,
    per_ms: f64,
}

impl Drain {
    /// From now on something is out: the time before does not count.
    pub fn begin(&mut self, now: Nanos) {
        (self.since, self.amount) = (now, 0);
    }

    /// So much came back.
    pub fn add(&mut self, amount: usize, now: Nanos) {
        self.amount += amount as u64;
        let span = now.since(self.since);
        if span < INTERVAL.0 {
            return;
        }
        let rate = self.amount as f64 / (span as f64 / 1e6);
        let old = if self.per_ms > 0.0 { self.per_ms } else { rate };
        self.per_ms = old + WEIGHT * (rate - old);
        self.begin(now);
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
            drain.add(1000, Nanos::from_ms(second + 100));
        }
        assert_eq!(drain.ms_for(100), Some(10));
    }

    #[test]
    fn a_new_rate_is_taken_over_step_by_step() {
        let mut drain = Drain::default();
        drain.begin(Nanos(0));
        drain.add(1000, Nanos::from_ms(100));
        drain.add(3000, Nanos::from_ms(200));
        assert_eq!(
            drain.ms_for(1600),
            Some(100),
            "10 + 0.3 * (30 - 10) a millisecond"
        );
    }
}
