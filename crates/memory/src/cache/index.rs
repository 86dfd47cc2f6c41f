//! A hash index of fixed size: from a hash to a slot, by open addressing with linear probing.
//!
//! At most half of its cells are ever full, so a probe is a few neighbouring words. Removing shifts back what follows, which leaves no
//! tombstones: lookups stay as short after a million evictions as on the first day.

use super::zeros::zeros;

/// The index. A cell holds a slot plus one, 0 when it is empty, so that an untouched part of it costs no memory.
#[derive(Debug)]
pub(super) struct Index {
    cells: Box<[u32]>,
}

impl Index {
    /// Heap bytes of an index of `slots` slots.
    pub(super) fn bytes(slots: usize) -> usize {
        Index::cells(slots) * size_of::<u32>()
    }

    fn cells(slots: usize) -> usize {
        (2 * slots).next_power_of_two().max(2)
    }

    pub(super) fn new(slots: usize) -> Index {
        Index {
            cells: zeros(Index::cells(slots)),
        }
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.cells.len() - 1)
    }

    fn after(&self, cell: usize) -> usize {
        (cell + 1) & (self.cells.len() - 1)
    }

    /// The slot under `hash` for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.cell_of(hash, is_it).map(|cell| self.cells[cell] - 1)
    }

    fn cell_of(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut cell = self.home(hash);
        loop {
            match self.cells[cell] {
                0 => return None,
                slot if is_it(slot - 1) => return Some(cell),
                _ => cell = self.after(cell),
            }
        }
    }

    /// Adds a slot that is not in the index.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let mut cell = self.home(hash);
        while self.cells[cell] != 0 {
            cell = self.after(cell);
        }
        self.cells[cell] = slot + 1;
    }

    /// Takes a slot out; `hash_of` tells the hashes of those that may move up.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = self
            .cell_of(hash, |other| other == slot)
            .expect("what is removed was inserted");
        let mut cell = self.after(hole);
        while self.cells[cell] != 0 {
            let home = self.home(hash_of(self.cells[cell] - 1));
            // It may move into the hole only if that does not put it in front of its home.
            let mask = self.cells.len() - 1;
            if cell.wrapping_sub(home) & mask >= cell.wrapping_sub(hole) & mask {
                self.cells[hole] = self.cells[cell];
                hole = cell;
            }
            cell = self.after(cell);
        }
        self.cells[hole] = 0;
    }

    /// Lets the cell of `old` point to `new`.
    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let cell = self
            .cell_of(hash, |other| other == old)
            .expect("what is replaced was inserted");
        self.cells[cell] = new + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few homes, so that runs collide and wrap around the end.
        #[test]
        fn it_agrees_with_a_map(steps in prop::collection::vec((0u32..16, 0u64..5), 0..200)) {
            let (mut index, mut homes) = (Index::new(16), [None; 16]);
            let hash_of = |slot: u32, homes: &[Option<u64>; 16]| homes[slot as usize].unwrap() * 13;
            for (slot, home) in steps {
                if homes[slot as usize].is_some() {
                    index.remove(hash_of(slot, &homes), slot, |other| hash_of(other, &homes));
                    homes[slot as usize] = None;
                } else {
                    homes[slot as usize] = Some(home);
                    index.insert(home * 13, slot);
                }
                for slot in 0..16 {
                    let under = |home: u64| index.find(home * 13, |other| other == slot);
                    prop_assert_eq!(homes[slot as usize].and_then(under), homes[slot as usize].map(|_| slot));
                    prop_assert!(homes[slot as usize].is_some() || (0..5).all(|home| under(home).is_none()));
                }
            }
        }
    }
}
