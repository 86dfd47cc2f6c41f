//! Sampled objects that are alive, by address.
//!
//! A table of fixed size. An address belongs to one bucket of eight keys, one cache line. A birth whose bucket is full is not kept, and counted. Nothing waits: a key is
//! claimed by one exchange, and its record is published by the key.
//!
//! Every free asks whether its address was sampled, and almost none was: [`may_live`] looks at a small table that stays in the nearest cache and counts the living
//! by a hash of their addresses.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

use super::stack::{FRAMES_MAX, Stack};

/// Keys of a bucket: one cache line.
const WAYS: usize = 8;
/// A key whose record is being written. No object has this address.
const BUSY: u64 = 1;
/// Counts of the living by their addresses: two to the power of this.
const LIVING_BITS: u32 = 11;
/// Of all tables; a count holds as many as a table has keys.
static LIVING: [AtomicU16; 1 << LIVING_BITS] = [const { AtomicU16::new(0) }; 1 << LIVING_BITS];

/// Fibonacci hashing: the high bits of the product depend on all bits of the address.
fn hash(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn living(address: u64) -> &'static AtomicU16 {
    &LIVING[(hash(address) >> (u64::BITS - LIVING_BITS)) as usize]
}

/// False where no object at `address` was sampled.
#[inline]
pub(super) fn may_live(address: u64) -> bool {
    // The one who frees an object learnt its address from the one who made it: what that one wrote is seen.
    living(address).load(Ordering::Relaxed) != 0
}

/// Words of a record before its frames: bytes, time of birth, and number of frames with kind and doublings of the interval.
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
    /// How often the shortest interval between samples was doubled when this one was chosen.
    pub(super) doublings: u32,
    pub(super) bytes: u64,
    pub(super) born_ns: u64,
    pub(super) stack: Stack,
}

/// What is known of a sampled object that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) kind: u8,
    pub(super) doublings: u32,
    pub(super) born_ns: u64,
}

impl Births {
    /// Room for `1 << bits` objects.
    pub(super) fn new(bits: u32) -> Births {
        assert!(bits < u16::BITS, "a count holds them all");
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
        (hash(address) >> 32) as usize & (self.buckets.len() - 1)
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
            u64::from(birth.doublings) << 40 | u64::from(birth.kind) << 32 | birth.stack.len() as u64,
        ];
        let words = head.iter().chain(birth.stack.words());
        for (to, word) in record.iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
        living(address).fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket].0[way].store(address, Ordering::Release);
    }

    /// The object at `address` dies; what was sampled of it, without its stack. Called before the address can be anybody else's.
    pub(super) fn remove(&self, address: u64) -> Option<Death> {
        let bucket = self.bucket(address);
        let keys = &self.buckets[bucket].0;
        let way = keys
            .iter()
            .position(|key| key.load(Ordering::Relaxed) == address)?;
        let record = &self.records[bucket * WAYS + way].0;
        let kind = record[2].load(Ordering::Relaxed) >> 32;
        let death = Death {
            kind: kind as u8,
            doublings: (kind >> 8) as u32,
            born_ns: record[1].load(Ordering::Relaxed),
        };
        keys[way].store(0, Ordering::Release);
        living(address).fetch_sub(1, Ordering::Relaxed);
        Some(death)
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
                    doublings: (words[2] >> 40) as u32,
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
            doublings: 2,
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
            let death = Death {
                kind: 3,
                doublings: 2,
                born_ns: 7,
            };
            assert!(may_live(n * 4096));
            assert_eq!(births.remove(n * 4096), Some(death));
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
