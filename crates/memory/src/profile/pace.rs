//! How often a thread samples.
//!
//! A stack of forty frames takes some 20 us to walk, as little of what is looked at lies in a cache. At a fixed interval a server that answers from its cache, of whose
//! 60 us requests each makes 55 allocations, would spend one part in twenty on it. So the interval follows the rate: twice as long where samples come too quickly, half as long where
//! they come too slowly. Each sample keeps its interval, so that what it stands for is known.

use std::cell::Cell;

/// So many samples are looked at together, so that a short burst is seen in full.
const ROUND: u32 = 64;
/// They take at least this long: twenty samples a second.
const ROUND_NS_MIN: u64 = 3_200_000_000;
/// Where fewer come in this time, the interval is halved.
const ROUND_NS_MAX: u64 = 4 * ROUND_NS_MIN;
/// The longest interval is the shortest, doubled so often.
pub(super) const DOUBLINGS_MAX: u32 = 5;

/// One thread's interval for one kind of sample.
pub(super) struct Pace {
    doublings: Cell<u32>,
    count: Cell<u32>,
    began_ns: Cell<u64>,
}

impl Pace {
    pub(super) const fn new() -> Pace {
        Pace {
            doublings: Cell::new(0),
            count: Cell::new(0),
            began_ns: Cell::new(0),
        }
    }

    /// How often the shortest interval is doubled now.
    pub(super) fn doublings(&self) -> u32 {
        self.doublings.get()
    }

    /// A sample was taken.
    pub(super) fn sampled(&self, now_ns: u64) {
        let (count, doublings) = (self.count.get() + 1, self.doublings.get());
        let took_ns = now_ns.saturating_sub(self.began_ns.get());
        self.count.set(count);
        if took_ns > ROUND_NS_MAX {
            self.begin(now_ns, doublings.saturating_sub(1));
        } else if count == ROUND {
            let too_quick = u32::from(took_ns < ROUND_NS_MIN);
            self.begin(now_ns, (doublings + too_quick).min(DOUBLINGS_MAX));
        }
    }

    fn begin(&self, now_ns: u64, doublings: u32) {
        self.doublings.set(doublings);
        self.count.set(0);
        self.began_ns.set(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: u64, apart_ns: u64, pace: &Pace, from_ns: u64) -> (u32, u64) {
        (1..=samples).for_each(|n| pace.sampled(from_ns + n * apart_ns));
        (pace.doublings(), from_ns + samples * apart_ns)
    }

    #[test]
    fn the_interval_follows_the_rate() {
        let pace = Pace::new();
        let (doublings, now) = after(63, 1000, &pace, 0);
        assert_eq!(doublings, 0, "a burst is seen in full");
        let (doublings, now) = after(1, 1000, &pace, now);
        assert_eq!(doublings, 1);
        let (doublings, now) = after(640, 1000, &pace, now);
        assert_eq!(doublings, DOUBLINGS_MAX);
        let (doublings, now) = after(128, 100_000_000, &pace, now);
        assert_eq!(
            doublings, DOUBLINGS_MAX,
            "10 a second are neither too many nor too few"
        );
        let (doublings, _) = after(u64::from(DOUBLINGS_MAX), 15_000_000_000, &pace, now);
        assert_eq!(doublings, 0);
    }
}
