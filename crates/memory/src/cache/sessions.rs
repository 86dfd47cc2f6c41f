//! Who asked: the entries of each session, the one used longest ago last, so that a session that holds its share gives up its own.

use super::index::Index;
use super::list::{Links, List, NONE};
use super::zeros::{Zeros, zeros};

/// Written whole before it is used first.
#[derive(Debug, Clone, Copy)]
struct Record {
    id: u64,
    list: List,
    next_free: u32,
}

// SAFETY: numbers.
unsafe impl Zeros for Record {}

/// All sessions with at least one entry; there is room for as many as slots.
#[derive(Debug)]
pub(super) struct Sessions {
    records: Box<[Record]>,
    index: Index,
    links: Links,
    free: u32,
    /// Records from here on were never used.
    touched: u32,
    open: usize,
}

/// Spreads ids that may be small numbers.
fn hash(id: u64) -> u64 {
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

impl Sessions {
    /// Heap bytes for `slots` slots.
    pub(super) fn bytes(slots: usize) -> usize {
        slots * (size_of::<Record>() + Links::BYTES_EACH) + Index::bytes(slots)
    }

    pub(super) fn new(slots: usize) -> Sessions {
        Sessions {
            records: zeros(slots),
            index: Index::new(slots),
            links: Links::new(slots),
            free: NONE,
            touched: 0,
            open: 0,
        }
    }

    fn find(&self, id: u64) -> Option<u32> {
        self.index
            .find(hash(id), |record| self.records[record as usize].id == id)
    }

    /// Named sessions with at least one entry.
    pub(super) fn named_count(&self) -> usize {
        self.open - usize::from(self.find(0).is_some())
    }

    /// Entries of a session.
    pub(super) fn len(&self, id: u64) -> usize {
        self.find(id)
            .map_or(0, |record| self.records[record as usize].list.len())
    }

    /// Adds a slot to the session `id`; returns the session's record.
    pub(super) fn add(&mut self, id: u64, slot: u32) -> u32 {
        let record = self.find(id).unwrap_or_else(|| self.open(id));
        self.records[record as usize]
            .list
            .push_front(&mut self.links, slot);
        record
    }

    fn open(&mut self, id: u64) -> u32 {
        let record = match self.free {
            NONE => {
                self.touched += 1;
                self.touched - 1
            }
            free => {
                self.free = self.records[free as usize].next_free;
                free
            }
        };
        self.records[record as usize] = Record {
            id,
            list: List::default(),
            next_free: NONE,
        };
        self.index.insert(hash(id), record);
        self.open += 1;
        record
    }

    /// Takes a slot out of its session, and the session away when that was its last.
    pub(super) fn remove(&mut self, record: u32, slot: u32) {
        let at = &mut self.records[record as usize];
        at.list.remove(&mut self.links, slot);
        if at.list.len() > 0 {
            return;
        }
        self.open -= 1;
        let id = at.id;
        at.next_free = self.free;
        self.free = record;
        let records = &self.records;
        self.index
            .remove(hash(id), record, |other| hash(records[other as usize].id));
    }

    /// The slot was used just now.
    pub(super) fn used(&mut self, record: u32, slot: u32) {
        self.records[record as usize]
            .list
            .move_to_front(&mut self.links, slot);
    }

    /// The session's entry used longest ago that `may` go. Those that may not are in use, and count as used just now.
    pub(super) fn oldest(&mut self, id: u64, may: impl Fn(u32) -> bool) -> Option<u32> {
        let record = self.find(id)?;
        let list = &mut self.records[record as usize].list;
        for _ in 0..list.len() {
            let back = list.back();
            if may(back) {
                return Some(back);
            }
            list.move_to_front(&mut self.links, back);
        }
        None
    }

    /// Puts the slot `new` in the place of `old`.
    pub(super) fn replace(&mut self, record: u32, old: u32, new: u32) {
        self.records[record as usize]
            .list
            .replace(&mut self.links, old, new);
    }
}
