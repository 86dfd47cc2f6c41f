//! Who was here: fingerprints of entries that were evicted lately, without their contents.

use crate::cache::zeros::{Zeros, zeros};

/// Cells that a fingerprint may lie in.
const WAYS: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// 0: empty.
    fingerprint: u32,
    /// The eviction that wrote it, counted.
    at: u32,
}

// SAFETY: numbers.
unsafe impl Zeros for Cell {}

/// The last evictions, in a table of sets of four. A set that overflows forgets its oldest, and two keys may share a fingerprint: a wrong answer here
/// costs one eviction, never a wrong vector.
#[derive(Debug)]
pub(in crate::cache) struct Ghost {
    cells: Box<[Cell]>,
    evictions: u32,
}

impl Ghost {
    fn cells(slots: usize) -> usize {
        slots.next_power_of_two().max(WAYS)
    }

    pub(in crate::cache) fn bytes(slots: usize) -> usize {
        Ghost::cells(slots) * size_of::<Cell>()
    }

    pub(in crate::cache) fn new(slots: usize) -> Ghost {
        Ghost {
            cells: zeros(Ghost::cells(slots)),
            evictions: 0,
        }
    }

    /// What is remembered of a hash.
    pub(in crate::cache) fn fingerprint(hash: u64) -> u32 {
        ((hash >> 32) as u32).max(1)
    }

    fn set(&mut self, fingerprint: u32) -> &mut [Cell] {
        let sets = self.cells.len() / WAYS;
        let set = fingerprint as usize & (sets - 1);
        &mut self.cells[set * WAYS..(set + 1) * WAYS]
    }

    /// Remembers an eviction.
    pub(in crate::cache) fn add(&mut self, fingerprint: u32) {
        self.evictions = self.evictions.wrapping_add(1);
        let now = self.evictions;
        let set = self.set(fingerprint);
        let oldest = (0..WAYS)
            .max_by_key(|&way| match set[way].fingerprint {
                0 => u32::MAX,
                _ => now.wrapping_sub(set[way].at),
            })
            .expect("a set has ways");
        set[oldest] = Cell { fingerprint, at: now };
    }

    /// Forgets a fingerprint; whether it was among the last `span` evictions.
    pub(in crate::cache) fn take(&mut self, fingerprint: u32, span: usize) -> bool {
        let now = self.evictions;
        let Some(cell) = self
            .set(fingerprint)
            .iter_mut()
            .find(|cell| cell.fingerprint == fingerprint)
        else {
            return false;
        };
        let age = now.wrapping_sub(cell.at) as usize;
        *cell = Cell::default();
        age < span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_evictions_are_remembered_once() {
        let mut ghost = Ghost::new(64);
        (1..=32).for_each(|fingerprint| ghost.add(fingerprint));
        assert!(ghost.take(32, 10) && !ghost.take(32, 10));
        assert!(ghost.take(23, 10), "nine came after it");
        assert!(!ghost.take(22, 10), "ten came after it");
        assert!(!ghost.take(33, 10));
    }

    #[test]
    fn a_full_set_forgets_its_oldest() {
        let mut ghost = Ghost::new(4);
        (1..=5).for_each(|fingerprint| ghost.add(fingerprint));
        assert!(!ghost.take(1, 100));
        assert!((2..=5).all(|fingerprint| ghost.take(fingerprint, 100)));
    }
}
