//! A ring of fixed records that many threads write and one reads.
//!
//! What happens on a hot path is told to whoever diagnoses it without a lock, without the heap and in bytes that were settled at start. A writer takes the next place
//! by one addition and overwrites what is there; a reader that comes too late has lost the oldest, and is told how many. Every word is an atomic: a record that was
//! overwritten while it was read is noticed by its number and left out. A writer that was held up for a whole round keeps its place: the record that should have gone there
//! is lost, as two at once would leave a mixture of both.

use crate::sync::{AtomicU64, Ordering, fence};

/// The last records of `W` words each.
#[derive(Debug)]
pub struct Ring<const W: usize> {
    slots: Box<[Slot<W>]>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Slot<const W: usize> {
    /// Twice the record's number plus 2; odd while it is written; 0 before the first.
    stamp: AtomicU64,
    words: [AtomicU64; W],
}

impl<const W: usize> Ring<W> {
    /// A ring of `records`.
    ///
    /// # Panics
    /// When `records` is 0.
    pub fn new(records: usize) -> Self {
        assert!(records > 0, "a ring holds something");
        let slot = || Slot {
            stamp: AtomicU64::new(0),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Ring {
            slots: (0..records).map(|_| slot()).collect(),
            next: AtomicU64::new(0),
        }
    }

    /// Heap bytes of such a ring.
    pub const fn bytes(records: usize) -> usize {
        records * size_of::<Slot<W>>()
    }

    /// Writes a record. From any thread, also from a signal handler.
    pub fn push(&self, words: &[u64; W]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (slot, writing) = (self.slot(number), 2 * number + 1);
        let is_free = |stamp: u64| stamp.is_multiple_of(2) && stamp < writing;
        let taken = slot
            .stamp
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |stamp| {
                is_free(stamp).then_some(writing)
            });
        if taken.is_err() {
            return;
        }
        fence(Ordering::Release);
        for (to, word) in slot.words.iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
        slot.stamp.store(2 * number + 2, Ordering::Release);
    }

    /// The number of the next record: where a reader begins that wants none of the past.
    pub fn end(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Reads `most` records from number `from` on; returns where to go on, and how many were overwritten before they could be read. Stops before a record that is being
    /// written, until half a round has come after it: it is lost then.
    pub fn read(&self, from: u64, most: usize, mut each: impl FnMut(&[u64; W])) -> (u64, u64) {
        let end = self.end();
        let oldest = end.saturating_sub(self.slots.len() as u64);
        let mut lost = oldest.saturating_sub(from);
        let mut number = from.max(oldest);
        let last = end.min(number.saturating_add(most as u64));
        while number < last {
            let slot = self.slot(number);
            let stamp = slot.stamp.load(Ordering::Acquire);
            let is_recent = end - number <= (self.slots.len() as u64).div_ceil(2);
            if stamp < 2 * number + 2 && is_recent {
                break;
            }
            let words = std::array::from_fn(|word| slot.words[word].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if stamp == 2 * number + 2 && slot.stamp.load(Ordering::Relaxed) == stamp {
                each(&words);
            } else {
                lost += 1;
            }
            number += 1;
        }
        (number, lost)
    }

    fn slot(&self, number: u64) -> &Slot<W> {
        &self.slots[(number % self.slots.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ring: &Ring<2>, from: u64) -> (Vec<[u64; 2]>, u64, u64) {
        let mut records = Vec::new();
        let (next, lost) = ring.read(from, usize::MAX, |words| records.push(*words));
        (records, next, lost)
    }

    #[test]
    fn records_come_in_order_and_the_oldest_are_lost_first() {
        let ring = Ring::<2>::new(4);
        assert_eq!(read(&ring, 0), (vec![], 0, 0));
        (0..3).for_each(|n| ring.push(&[n, n * n]));
        assert_eq!(read(&ring, 0), (vec![[0, 0], [1, 1], [2, 4]], 3, 0));
        (3..9).for_each(|n| ring.push(&[n, n * n]));
        let (records, next, lost) = read(&ring, 3);
        assert_eq!((next, lost), (9, 2));
        assert_eq!(records, vec![[5, 25], [6, 36], [7, 49], [8, 64]]);
        assert_eq!(read(&ring, ring.end()), (vec![], 9, 0));
    }

    #[test]
    fn a_writer_that_is_held_up_keeps_its_place_and_does_not_hold_up_the_reader() {
        let ring = Ring::<2>::new(4);
        let number = ring.next.fetch_add(1, Ordering::Relaxed);
        ring.slot(number).stamp.store(1, Ordering::Relaxed);
        assert_eq!(read(&ring, 0), (vec![], 0, 0), "it may still come");
        (1..4).for_each(|n| ring.push(&[n, n]));
        assert_eq!(read(&ring, 0), (vec![[1, 1], [2, 2], [3, 3]], 4, 1));
        (4..6).for_each(|n| ring.push(&[n, n]));
        assert_eq!(
            ring.slot(number).words[0].load(Ordering::Relaxed),
            0,
            "nobody wrote there meanwhile"
        );
        assert_eq!(read(&ring, 4), (vec![], 4, 0));
        ring.push(&[6, 6]);
        assert_eq!(read(&ring, 4), (vec![[5, 5], [6, 6]], 7, 1));
    }

    #[test]
    fn records_of_many_writers_are_read_whole() {
        let ring = Ring::<2>::new(64);
        let (mut next, mut seen, mut lost) = (0, 0, 0);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4u64)
                .map(|writer| {
                    let ring = &ring;
                    scope.spawn(move || {
                        (0..5000).for_each(|n| ring.push(&[writer << 32 | n, !(writer << 32 | n)]))
                    })
                })
                .collect();
            while !writers.iter().all(|writer| writer.is_finished()) {
                let (to, more) = ring.read(next, 100, |words| {
                    assert_eq!(words[0], !words[1], "a torn record");
                    seen += 1;
                });
                (next, lost) = (to, lost + more);
            }
        });
        let (_, more) = ring.read(next, usize::MAX, |_| seen += 1);
        assert_eq!(seen + lost + more, 20_000);
    }
}
