//! S3-FIFO: newcomers wait in a small queue, and a scan gets no further.
//!
//! Most of what is asked once is never asked again. It enters a small queue, a tenth of all, and leaves through it; what was used again while it waited,
//! or comes back soon after it left (the ghost remembers), goes to the main queue. There it stays for as many rounds as it was used, three at most.

use super::Order;
use super::ghost::Ghost;
use crate::cache::list::{Links, List};
use crate::cache::zeros::{Zeros, zeros};

/// One part in so many is the small queue.
const SMALL_PART: usize = 10;
/// Uses that are counted.
const USES_MAX: u8 = 3;

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    fingerprint: u32,
    uses: u8,
    in_main: bool,
}

// SAFETY: numbers, and a flag that is not set.
unsafe impl Zeros for Mark {}

#[derive(Debug)]
pub(in crate::cache) struct S3Fifo {
    small: List,
    main: List,
    marks: Box<[Mark]>,
    ghost: Ghost,
}

impl S3Fifo {
    pub(in crate::cache) fn bytes(slots: usize) -> usize {
        size_of::<S3Fifo>() + slots * size_of::<Mark>() + Ghost::bytes(slots)
    }

    pub(in crate::cache) fn new(slots: usize) -> S3Fifo {
        S3Fifo {
            small: List::default(),
            main: List::default(),
            marks: zeros(slots),
            ghost: Ghost::new(slots),
        }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    fn mark(&mut self, slot: u32) -> &mut Mark {
        &mut self.marks[slot as usize]
    }

    fn push_main(&mut self, links: &mut Links, slot: u32) {
        self.mark(slot).in_main = true;
        self.main.push_front(links, slot);
    }

    /// Looks at the oldest newcomer: it leaves, or moves on to the main queue.
    fn evict_small(&mut self, links: &mut Links, pinned: &dyn Fn(u32) -> bool) -> Option<u32> {
        let slot = self.small.back();
        self.small.remove(links, slot);
        let mark = self.mark(slot);
        if mark.uses > 0 || pinned(slot) {
            mark.uses = 0;
            self.push_main(links, slot);
            return None;
        }
        let fingerprint = mark.fingerprint;
        self.ghost.add(fingerprint);
        Some(slot)
    }

    /// Looks at the oldest of the main queue: it leaves, or goes round once more.
    fn evict_main(&mut self, links: &mut Links, pinned: &dyn Fn(u32) -> bool) -> Option<u32> {
        let slot = self.main.back();
        let mark = self.mark(slot);
        if mark.uses == 0 && !pinned(slot) {
            self.main.remove(links, slot);
            return Some(slot);
        }
        mark.uses = mark.uses.saturating_sub(1);
        self.main.move_to_front(links, slot);
        None
    }
}

impl Order for S3Fifo {
    fn insert(&mut self, links: &mut Links, slot: u32, hash: u64) {
        let fingerprint = Ghost::fingerprint(hash);
        *self.mark(slot) = Mark {
            fingerprint,
            ..Mark::default()
        };
        let span = self.main.len().max(self.small.len());
        if self.ghost.take(fingerprint, span) {
            self.push_main(links, slot);
        } else {
            self.small.push_front(links, slot);
        }
    }

    fn used(&mut self, _: &mut Links, slot: u32) {
        let mark = self.mark(slot);
        mark.uses = (mark.uses + 1).min(USES_MAX);
    }

    fn remove(&mut self, links: &mut Links, slot: u32) {
        if self.mark(slot).in_main {
            self.main.remove(links, slot);
        } else {
            self.small.remove(links, slot);
        }
    }

    fn replace(&mut self, links: &mut Links, old: u32, new: u32) {
        let mark = *self.mark(old);
        *self.mark(new) = mark;
        if mark.in_main {
            self.main.replace(links, old, new);
        } else {
            self.small.replace(links, old, new);
        }
    }

    fn evict(&mut self, links: &mut Links, pinned: &dyn Fn(u32) -> bool) -> Option<u32> {
        // Every slot may be looked at once in the small queue and, in the main one, once for each use and once more.
        let looks_max = self.len() * (2 + usize::from(USES_MAX));
        for _ in 0..looks_max {
            let from_small = self.main.len() == 0 || self.small.len() * SMALL_PART >= self.len();
            let found = match from_small && self.small.len() > 0 {
                true => self.evict_small(links, pinned),
                false => self.evict_main(links, pinned),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
