//! SIEVE: first in, first out, but a hand that walks from the oldest to the newest lets pass, once, what was used since.

use super::Order;
use crate::cache::list::{Links, List, NONE};

#[derive(Debug)]
pub(in crate::cache) struct Sieve {
    list: List,
    visited: Box<[bool]>,
    /// The slot that is looked at next; [`NONE`]: the oldest.
    hand: u32,
}

impl Sieve {
    pub(in crate::cache) fn bytes(slots: usize) -> usize {
        size_of::<Sieve>() + slots
    }

    pub(in crate::cache) fn new(slots: usize) -> Sieve {
        Sieve {
            list: List::default(),
            visited: vec![false; slots].into(),
            hand: NONE,
        }
    }
}

impl Order for Sieve {
    fn insert(&mut self, links: &mut Links, slot: u32, _: u64) {
        self.visited[slot as usize] = false;
        self.list.push_front(links, slot);
    }

    fn used(&mut self, _: &mut Links, slot: u32) {
        self.visited[slot as usize] = true;
    }

    fn remove(&mut self, links: &mut Links, slot: u32) {
        if self.hand == slot {
            self.hand = links.prev(slot);
        }
        self.list.remove(links, slot);
    }

    fn replace(&mut self, links: &mut Links, old: u32, new: u32) {
        if self.hand == old {
            self.hand = new;
        }
        self.visited[new as usize] = self.visited[old as usize];
        self.list.replace(links, old, new);
    }

    fn evict(&mut self, links: &mut Links, pinned: &dyn Fn(u32) -> bool) -> Option<u32> {
        // One round to clear every mark, one to find what has none.
        for _ in 0..2 * self.list.len() {
            let slot = if self.hand == NONE {
                self.list.back()
            } else {
                self.hand
            };
            if !pinned(slot) && !self.visited[slot as usize] {
                self.remove(links, slot);
                return Some(slot);
            }
            self.visited[slot as usize] = false;
            self.hand = links.prev(slot);
        }
        None
    }
}
