//! One size of slot: which slots are idle (committed, waiting), which are cold (no pages), which are out.
//!
//! Slots are threaded into two lists through one array, so taking and putting are O(1) and the array's untouched part costs no memory.

use std::ops::Range;
use std::ptr::NonNull;

use crate::process::page_bytes;
use crate::region::{CommitError, Region};
use crate::sync::{Mutex, MutexGuard, lock};

/// End of a list.
const NONE: u32 = u32::MAX;

/// A slot that someone holds, the generation in which they got it, and after how many marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    marks: u32,
}

#[derive(Debug)]
pub(crate) struct Class {
    slot_bytes: usize,
    region: Region,
    lists: Mutex<Lists>,
}

/// State and counts of a class. Every slot below `touched` is idle, cold or out; the rest were never used.
#[derive(Debug)]
pub(crate) struct Lists {
    next: Vec<u32>,
    generations: Vec<u32>,
    idle: u32,
    cold: u32,
    touched: u32,
    pub(crate) idle_slots: u32,
    pub(crate) leased_slots: u32,
    marks: u32,
    /// Of those that are out, how many were at the last mark.
    pub(crate) marked_slots: u32,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) discarded: u64,
    pub(crate) refused: u64,
}

impl Class {
    /// A class of as many slots as fit `region`.
    pub(crate) fn new(region: Region, slot_bytes: usize) -> Self {
        let slots = u32::try_from(region.bytes() / slot_bytes)
            .unwrap_or(NONE)
            .min(NONE - 1);
        let lists = Lists {
            next: vec![0; slots as usize],
            generations: vec![0; slots as usize],
            idle: NONE,
            cold: NONE,
            touched: 0,
            idle_slots: 0,
            leased_slots: 0,
            marks: 0,
            marked_slots: 0,
            hits: 0,
            misses: 0,
            discarded: 0,
            refused: 0,
        };
        Class {
            slot_bytes,
            region,
            lists: Mutex::new(lists),
        }
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    pub(crate) fn lists(&self) -> MutexGuard<'_, Lists> {
        lock(&self.lists)
    }

    /// First byte of a slot.
    pub(crate) fn address(&self, index: u32) -> NonNull<u8> {
        debug_assert!((index as usize + 1) * self.slot_bytes <= self.region.bytes());
        // SAFETY: `index` is one of the slots that fit the region.
        unsafe { self.region.base().add(index as usize * self.slot_bytes) }
    }

    pub(crate) fn commit(&self, index: u32) -> Result<(), CommitError> {
        self.region.commit(self.pages(index))
    }

    pub(crate) fn populate(&self, index: u32) -> Result<(), CommitError> {
        self.region.populate(self.pages(index))
    }

    /// Drops the pages of neighbouring slots that nobody else can reach; returns the bytes freed, 0 when the kernel refuses.
    pub(crate) fn give_back(&self, slots: Range<u32>) -> usize {
        let pages = self.slot_bytes / page_bytes();
        self.region
            .give_back(slots.start as usize * pages..slots.end as usize * pages)
    }

    pub(crate) fn committed_bytes(&self) -> usize {
        self.region.committed_bytes()
    }

    fn pages(&self, index: u32) -> Range<usize> {
        let pages = self.slot_bytes / page_bytes();
        index as usize * pages..(index as usize + 1) * pages
    }
}

impl Lists {
    pub(crate) fn slots(&self) -> usize {
        self.next.len()
    }

    pub(crate) fn pop_idle(&mut self) -> Option<u32> {
        let index = self.idle;
        if index == NONE {
            return None;
        }
        self.idle = self.next[index as usize];
        self.idle_slots -= 1;
        Some(index)
    }

    /// Takes idle slots out as long as they are neighbours, at most `slots_max` (not 0): one call to the kernel gives them all back.
    pub(crate) fn pop_idle_run(&mut self, slots_max: usize) -> Option<Range<u32>> {
        let first = self.pop_idle()?;
        let mut run = first..first + 1;
        while run.len() < slots_max {
            match self.idle {
                index if index == run.end => run.end += 1,
                index if index != NONE && index + 1 == run.start => run.start -= 1,
                _ => break,
            }
            self.pop_idle();
        }
        Some(run)
    }

    /// As [`pop_idle_run`](Self::pop_idle_run), as long as `warm_slots` stay, those that are out included.
    pub(crate) fn pop_excess_run(&mut self, warm_slots: usize, slots_max: usize) -> Option<Range<u32>> {
        let stay = warm_slots.saturating_sub(self.leased_slots as usize);
        let excess = (self.idle_slots as usize).saturating_sub(stay);
        match excess.min(slots_max) {
            0 => None,
            slots => self.pop_idle_run(slots),
        }
    }

    pub(crate) fn push_idle(&mut self, index: u32) {
        self.next[index as usize] = self.idle;
        self.idle = index;
        self.idle_slots += 1;
    }

    /// A slot without pages: one given back before, else one never used.
    pub(crate) fn pop_cold(&mut self) -> Option<u32> {
        if self.cold != NONE {
            let index = self.cold;
            self.cold = self.next[index as usize];
            return Some(index);
        }
        if self.touched as usize == self.next.len() {
            return None;
        }
        self.touched += 1;
        Some(self.touched - 1)
    }

    pub(crate) fn push_cold(&mut self, index: u32) {
        self.next[index as usize] = self.cold;
        self.cold = index;
    }

    /// Hands a slot out.
    pub(crate) fn stamp(&mut self, index: u32) -> SlotId {
        self.leased_slots += 1;
        SlotId {
            index,
            generation: self.generations[index as usize],
            marks: self.marks,
        }
    }

    /// What is out from now on is told apart from what is out now.
    pub(crate) fn mark(&mut self) {
        self.marks = self.marks.wrapping_add(1);
        self.marked_slots = self.leased_slots;
    }

    /// Takes a slot back in: false, counted, when the stamp is not the one it was handed out with.
    pub(crate) fn unstamp(&mut self, slot: SlotId) -> bool {
        let generation = &mut self.generations[slot.index as usize];
        if *generation != slot.generation {
            self.refused += 1;
            return false;
        }
        *generation = generation.wrapping_add(1);
        self.leased_slots -= 1;
        if slot.marks != self.marks {
            self.marked_slots -= 1;
        }
        true
    }
}
