//! What recent inputs looked like: the lengths of the last 1,024 of them.
//!
//! Operators read it. (Pools go by the sizes of their own recent leases, which say more than tokens do: `memory::sizing`.) Five buckets: up to 128 tokens, 256, 512, 1,024 and more;
//! beside these fixed ones stand the boundaries that divide the recent inputs at their own quantiles.

/// Inputs that are remembered.
pub const LENGTHS_KEPT: usize = 1024;
/// Upper bounds of the first four buckets, in tokens; the fifth has none.
const BOUNDS: [u32; 4] = [128, 256, 512, 1024];
/// Number of buckets.
pub const BUCKETS: usize = BOUNDS.len() + 1;
/// Quantiles at which the moving boundaries lie, in percent.
const QUANTILES: [u32; 4] = [50, 75, 90, 95];
/// Lengths are told apart in steps of so many tokens, up to the last bin.
const BIN_TOKENS: u32 = 8;
const BINS: usize = 513;

/// Counts by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets(pub [u32; BUCKETS]);

impl Buckets {
    /// The bucket of a length.
    pub fn of(tokens: u32) -> usize {
        BOUNDS.partition_point(|&bound| bound < tokens)
    }

    /// Its name in metrics: its upper bound.
    pub const fn name(bucket: usize) -> &'static str {
        ["128", "256", "512", "1024", "+Inf"][bucket]
    }
}

/// The last [`LENGTHS_KEPT`] lengths. Recording is O(1); a quantile looks at a fixed number of bins. Allocated once.
///
/// ```
/// use plimsoll_engine::govern::Lengths;
/// let mut lengths = Lengths::default();
/// (1..=100).for_each(|tokens| lengths.record(tokens));
/// assert_eq!(lengths.buckets().0, [100, 0, 0, 0, 0]);
/// assert_eq!(lengths.quantile(95), 96, "known to 8 tokens");
/// ```
#[derive(Clone, Debug)]
pub struct Lengths {
    ring: Box<[u32]>,
    bins: Box<[u16]>,
    next: usize,
    len: usize,
    buckets: Buckets,
}

impl Default for Lengths {
    fn default() -> Self {
        Lengths {
            ring: vec![0; LENGTHS_KEPT].into(),
            bins: vec![0; BINS].into(),
            next: 0,
            len: 0,
            buckets: Buckets::default(),
        }
    }
}

fn bin(tokens: u32) -> usize {
    (tokens.div_ceil(BIN_TOKENS) as usize).min(BINS - 1)
}

impl Lengths {
    /// What one takes on the heap.
    pub const HEAP_BYTES: usize = LENGTHS_KEPT * size_of::<u32>() + BINS * size_of::<u16>();

    /// An input of so many tokens; the oldest is forgotten.
    pub fn record(&mut self, tokens: u32) {
        if self.len == LENGTHS_KEPT {
            let old = self.ring[self.next];
            self.bins[bin(old)] -= 1;
            self.buckets.0[Buckets::of(old)] -= 1;
        } else {
            self.len += 1;
        }
        self.ring[self.next] = tokens;
        self.next = (self.next + 1) % LENGTHS_KEPT;
        self.bins[bin(tokens)] += 1;
        self.buckets.0[Buckets::of(tokens)] += 1;
    }

    /// Inputs remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of them are in each bucket.
    pub fn buckets(&self) -> Buckets {
        self.buckets
    }

    /// The least multiple of 8 tokens that at least `percent` of them do not exceed; 0 when there are none. Lengths above 4,096 count as that.
    pub fn quantile(&self, percent: u32) -> u32 {
        let wanted = (self.len as u64 * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let bin = self.bins.iter().position(|&count| {
            seen += u64::from(count);
            seen >= wanted
        });
        bin.unwrap_or(BINS - 1) as u32 * BIN_TOKENS
    }

    /// The moving boundaries of five buckets: quantiles 50, 75, 90 and 95.
    pub fn boundaries(&self) -> [u32; BUCKETS - 1] {
        QUANTILES.map(|percent| self.quantile(percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_end_at_their_bounds() {
        let buckets = [0, 128, 129, 256, 512, 513, 1024, 1025, u32::MAX].map(Buckets::of);
        assert_eq!(buckets, [0, 0, 1, 1, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn a_shift_is_followed_within_the_window() {
        let mut lengths = Lengths::default();
        (0..LENGTHS_KEPT).for_each(|_| lengths.record(40));
        assert_eq!(lengths.boundaries(), [40; 4]);
        (0..LENGTHS_KEPT).for_each(|_| lengths.record(300));
        assert_eq!((lengths.boundaries(), lengths.buckets().0[2]), ([304; 4], 1024));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list(all in prop::collection::vec(0u32..4096, 1..3000), percent in 0u32..=100) {
            let mut lengths = Lengths::default();
            all.iter().for_each(|&tokens| lengths.record(tokens));
            let mut last: Vec<u32> = all.iter().rev().take(LENGTHS_KEPT).copied().collect();
            last.sort_unstable();
            prop_assert_eq!(lengths.len(), last.len());
            for bucket in 0..BUCKETS {
                let expected = last.iter().filter(|&&tokens| Buckets::of(tokens) == bucket).count();
                prop_assert_eq!(lengths.buckets().0[bucket] as usize, expected);
            }
            let quantile = lengths.quantile(percent);
            let at_most = |tokens: u32| last.iter().filter(|&&l| l <= tokens).count() * 100;
            prop_assert!(at_most(quantile) >= last.len() * percent as usize);
            prop_assert!(quantile == 0 || at_most(quantile - BIN_TOKENS) < last.len() * percent as usize || percent == 0);
        }
    }
}
