//! How many slots of each size stay warm: what recent leases asked for.
//!
//! A pool remembers the sizes of its last 1,024 leases and the most slots that were out at once, over two windows of time. From the first follows
//! which share of the leases each size serves, from both how many slots of it traffic like the recent one needs, fluctuations included. What lies
//! idle beyond that goes back to the system, and sizes that nobody asks for any more keep nothing.

/// Leases that are remembered.
const LEASES_KEPT: usize = 1024;
/// Sizes up to the one that serves this percentage of the recent leases stay warm between bursts.
const COVERED_PERCENT: usize = 99;
/// So many slots of a size in use stay warm between bursts: one at work and one for who comes next.
const SLOTS_LEAST: usize = 2;
/// Where nothing at all was out for two windows, only slots up to this size stay warm: what a text costs that needs a larger one is not its first touch.
const PAUSE_SLOT_BYTES_MAX: usize = 16 * 1024;
/// A size of slot is one of at most so many powers of two.
pub(crate) const SIZES_MAX: usize = 64;

/// What a pool remembers of its leases.
#[derive(Debug)]
pub(crate) struct Sizing {
    ring: Box<[u8]>,
    counts: [u16; SIZES_MAX],
    next: usize,
    len: usize,
    /// Slots that are out, and the most of them in this window and in the one before.
    out: usize,
    peak: usize,
    peak_before: usize,
}

impl Sizing {
    pub(crate) fn new() -> Self {
        Sizing {
            ring: vec![0; LEASES_KEPT].into(),
            counts: [0; SIZES_MAX],
            next: 0,
            len: 0,
            out: 0,
            peak: 0,
            peak_before: 0,
        }
    }

    /// Heap bytes of it.
    pub(crate) const fn heap_bytes() -> usize {
        LEASES_KEPT
    }

    /// A slot of size number `size` was leased.
    pub(crate) fn leased(&mut self, size: usize) {
        if self.len == LEASES_KEPT {
            self.counts[self.ring[self.next] as usize] -= 1;
        } else {
            self.len += 1;
        }
        self.ring[self.next] = size as u8;
        self.next = (self.next + 1) % LEASES_KEPT;
        self.counts[size] += 1;
        self.out += 1;
        self.peak = self.peak.max(self.out);
    }

    /// A slot came back.
    pub(crate) fn returned(&mut self) {
        self.out -= 1;
    }

    /// A window of time is over.
    pub(crate) fn turn(&mut self) {
        (self.peak_before, self.peak) = (self.peak, self.out);
    }

    /// Slots of size number `size`, which have `slot_bytes`, that traffic like the recent one needs: its share of the most that were out at once, and three
    /// standard deviations. Two at least of each size up to the one that covers 99% of the leases; none of the rare larger ones, nor in a pause of large ones.
    pub(crate) fn slots(&self, size: usize, slot_bytes: usize) -> usize {
        let smaller: usize = self.counts[..size].iter().map(|&count| count as usize).sum();
        let count = self.counts[size] as usize;
        let out = self.peak.max(self.peak_before);
        let is_rare = count == 0 || smaller * 100 >= self.len * COVERED_PERCENT;
        if is_rare || (out == 0 && slot_bytes > PAUSE_SLOT_BYTES_MAX) {
            return 0;
        }
        let mean = (count * out).div_ceil(self.len);
        (mean + 3 * mean.isqrt()).min(out).max(SLOTS_LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lease_all(sizing: &mut Sizing, sizes: impl IntoIterator<Item = usize>) {
        sizes.into_iter().for_each(|size| {
            sizing.leased(size);
            sizing.returned();
        });
    }

    #[test]
    fn a_shift_of_the_sizes_is_followed_and_leaves_nothing_behind() {
        let mut sizing = Sizing::new();
        lease_all(&mut sizing, std::iter::repeat_n(3, LEASES_KEPT));
        assert_eq!((sizing.slots(3, 4096), sizing.slots(7, 4096)), (2, 0));
        lease_all(&mut sizing, std::iter::repeat_n(7, LEASES_KEPT));
        assert_eq!((sizing.slots(3, 4096), sizing.slots(7, 4096)), (0, 2));
    }

    #[test]
    fn slots_follow_the_share_and_the_most_at_once() {
        let mut sizing = Sizing::new();
        for _ in 0..75 {
            sizing.leased(1);
        }
        for _ in 0..25 {
            sizing.leased(4);
        }
        assert_eq!(
            (sizing.slots(1, 4096), sizing.slots(4, 4096)),
            (75 + 3 * 8, 25 + 15)
        );
        (0..100).for_each(|_| sizing.returned());
        sizing.turn();
        assert_eq!(sizing.slots(4, 4096), 40, "the window before counts");
        sizing.turn();
        assert_eq!(
            (sizing.slots(1, 4096), sizing.slots(4, 4096)),
            (2, 2),
            "a pause leaves two of each"
        );
        assert_eq!(
            sizing.slots(4, PAUSE_SLOT_BYTES_MAX + 1),
            0,
            "but for the large ones"
        );
    }

    #[test]
    fn the_rare_largest_size_keeps_nothing() {
        let mut sizing = Sizing::new();
        lease_all(
            &mut sizing,
            (0..1000).map(|nth| if nth % 125 == 0 { 9 } else { 2 }),
        );
        assert_eq!((sizing.slots(2, 4096), sizing.slots(9, 4096)), (2, 0));
    }

    proptest! {
        #[test]
        fn never_more_than_were_out_at_once_or_two(steps in prop::collection::vec((0usize..6, any::<bool>()), 1..2000)) {
            let mut sizing = Sizing::new();
            let (mut out, mut most) = (0usize, 0usize);
            for (size, back) in steps {
                sizing.leased(size);
                out += 1;
                most = most.max(out);
                if back {
                    sizing.returned();
                    out -= 1;
                }
                for size in 0..6 {
                    prop_assert!(sizing.slots(size, 4096) <= most.max(2));
                }
            }
        }
    }
}
