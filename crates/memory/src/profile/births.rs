//! Sampled objects that are alive, by address.
//!
//! A table of fixed size. An address belongs to one bucket of eight keys, one cache line; who frees an address that was not sampled reads that line and goes on. A birth
//! whose bucket is full is not kept, and counted. Nothing waits: a key is claimed by one exchange, and its record is published by the key.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::stack::{FRAMES_MAX, Stack};

/// Keys of a bucket: one cache line.
const WAYS: usize = 8;
/// A key whose record is being written. No object has this address.
const BUSY: u64 = 1;
/// Words of a record before its frames: bytes, time of birth, kind and number of frames.
const HEAD: usize = 3;

#[repr(align(64))]
#[derive(Debug)]
struct Bucket([AtomicU64; WAYS]);

#[derive(Debug)]
struct Record([AtomicU64; HEAD + FRAMES_MAX]);

/// The table.
#[derive(Debug)]
pub(super) struct Births {
    buckets: Box<[Bucket]>,
    records: Box<[Record]>,
    dropped: AtomicU64,
}

/// One sampled object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    pub(super) kind: u8,
    pub(super) bytes: u64,
    pub(super) born_ns: u64,
    pub(super) stack: Stack,
}

impl Births {
    /// Room for `1 << bits` objects.
    pub(super) fn new(bits: u32) -> Births {
        let slots = 1usize << bits;
        let zero = || AtomicU64::new(0);
        Births {
            buckets: (0..slots / WAYS)
                .map(|_| Bucket(std::array::from_fn(|_| zero())))
                .collect(),
            records: (0..slots)
                .map(|_| Record(std::array::from_fn(|_| zero())))
                .collect(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Heap bytes of such a table.
    pub(super) const fn bytes(bits: u32) -> usize {
        (1 << bits) * (size_of::<Record>() + size_of::<Bucket>() / WAYS)
    }

    fn bucket(&self, address: u64) -> usize {
        // Fibonacci hashing: the high bits of the product depend on all bits of the address.
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 32) as usize % self.buckets.len()
    }

    /// Keeps the birth of the object at `address`.
    pub(super) fn insert(&self, address: u64, birth: &Raw) {
        let bucket = self.bucket(address);
        let free = |key: &AtomicU64| {
            key.compare_exchange(0, BUSY, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        let Some(way) = self.buckets[bucket].0.iter().position(free) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let record = &self.records[bucket * WAYS + way].0;
        let head = [
            birth.bytes,
            birth.born_ns,
            u64::from(birth.kind) << 32 | birth.stack.len() as u64,
        ];
        let words = head.iter().chain(birth.stack.words());
        for (to, word) in record.iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
        self.buckets[bucket].0[way].store(address, Ordering::Release);
    }

    /// The object at `address` dies; its kind and time of birth if it was sampled. Called before the address can be anybody else's.
    pub(super) fn remove(&self, address: u64) -> Option<(u8, u64)> {
        let bucket = self.bucket(address);
        let keys = &self.buckets[bucket].0;
        let way = keys
            .iter()
            .position(|key| key.load(Ordering::Relaxed) == address)?;
        // The one who frees an object learnt its address from the one who made it: what that one wrote is seen.
        let record = &self.records[bucket * WAYS + way].0;
        let (born_ns, kind) = (
            record[1].load(Ordering::Relaxed),
            record[2].load(Ordering::Relaxed) >> 32,
        );
        keys[way].store(0, Ordering::Release);
        Some((kind as u8, born_ns))
    }

    /// Births that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Every object that is alive now.
    pub(super) fn each(&self, mut each: impl FnMut(&Raw)) {
        let keys = self.buckets.iter().flat_map(|bucket| &bucket.0);
        for (key, Record(record)) in keys.zip(&self.records) {
            let before = key.load(Ordering::Acquire);
            if before <= BUSY {
                continue;
            }
            let words: [u64; HEAD + FRAMES_MAX] =
                std::array::from_fn(|word| record[word].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if key.load(Ordering::Relaxed) == before {
                each(&Raw {
                    kind: (words[2] >> 32) as u8,
                    bytes: words[0],
                    born_ns: words[1],
                    stack: Stack::from_words(&words[HEAD..], words[2] as u32 as usize),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u8, bytes: u64) -> Raw {
        Raw {
            kind,
            bytes,
            born_ns: 7,
            stack: Stack::here(),
        }
    }

    fn alive(births: &Births) -> Vec<u64> {
        let mut all = Vec::new();
        births.each(|birth| all.push(birth.bytes));
        all.sort_unstable();
        all
    }

    #[test]
    fn who_is_born_is_there_until_it_dies() {
        let births = Births::new(8);
        (1..=20).for_each(|n| births.insert(n * 4096, &raw(3, n)));
        assert_eq!(alive(&births), (1..=20).collect::<Vec<_>>());
        (1..=20).step_by(2).for_each(|n| {
            assert_eq!(births.remove(n * 4096), Some((3, 7)));
            assert_eq!(births.remove(n * 4096), None);
        });
        assert_eq!(alive(&births), (2..=20).step_by(2).collect::<Vec<_>>());
        assert_eq!(births.dropped(), 0);
    }

    #[test]
    fn a_full_table_drops_and_counts() {
        let births = Births::new(4);
        (1..=100).for_each(|n| births.insert(n * 64, &raw(0, n)));
        assert_eq!(alive(&births).len() as u64 + births.dropped(), 100);
        assert!(births.dropped() >= 84);
        (1..=100).for_each(|n| {
            births.remove(n * 64);
        });
        assert_eq!(alive(&births), Vec::<u64>::new());
    }
}
