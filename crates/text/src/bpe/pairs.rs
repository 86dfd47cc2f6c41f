//! What two neighbouring tokens merge into: a hash table with open addressing.

/// `(left, right)` to `(rank, id)`.
#[derive(Debug)]
pub(crate) struct Pairs {
    slots: Vec<Slot>,
    shift: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    key: u64,
    rank: u32,
    id: u32,
}

/// No two tokens: ids stay below 2^32 - 1.
const EMPTY: u64 = u64::MAX;

impl Pairs {
    pub(crate) fn with_capacity(count: usize) -> Self {
        let slots = (count * 2).next_power_of_two().max(2);
        Self {
            slots: vec![
                Slot {
                    key: EMPTY,
                    rank: 0,
                    id: 0
                };
                slots
            ],
            shift: 64 - slots.trailing_zeros(),
        }
    }

    fn home(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    /// Adds a pair; of equal pairs the later counts. At most as many as the capacity.
    pub(crate) fn insert(&mut self, (left, right): (u32, u32), (rank, id): (u32, u32)) {
        let key = u64::from(left) << 32 | u64::from(right);
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        while self.slots[at].key != EMPTY && self.slots[at].key != key {
            at = (at + 1) & mask;
        }
        self.slots[at] = Slot { key, rank, id };
    }

    /// The rank and result of a pair.
    #[inline]
    pub(crate) fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let key = u64::from(left) << 32 | u64::from(right);
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        loop {
            let slot = self.slots.get(at)?;
            if slot.key == key {
                return Some((slot.rank, slot.id));
            }
            if slot.key == EMPTY {
                return None;
            }
            at = (at + 1) & mask;
        }
    }
}
