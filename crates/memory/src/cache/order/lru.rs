//! Least recently used.

use super::Order;
use crate::cache::list::{Links, List};

#[derive(Debug, Default)]
pub(in crate::cache) struct Lru {
    list: List,
}

impl Order for Lru {
    fn insert(&mut self, links: &mut Links, slot: u32, _: u64) {
        self.list.push_front(links, slot);
    }

    fn used(&mut self, links: &mut Links, slot: u32) {
        self.list.move_to_front(links, slot);
    }

    fn remove(&mut self, links: &mut Links, slot: u32) {
        self.list.remove(links, slot);
    }

    fn replace(&mut self, links: &mut Links, old: u32, new: u32) {
        self.list.replace(links, old, new);
    }

    fn evict(&mut self, links: &mut Links, pinned: &dyn Fn(u32) -> bool) -> Option<u32> {
        for _ in 0..self.list.len() {
            let back = self.list.back();
            if !pinned(back) {
                self.list.remove(links, back);
                return Some(back);
            }
            self.list.move_to_front(links, back);
        }
        None
    }
}
