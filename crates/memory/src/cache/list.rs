//! Lists threaded through one array of links: taking an element out of the middle is O(1), and no list ever allocates.

use super::zeros::{Zeros, zeros};

/// No element.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    prev: u32,
    next: u32,
}

// SAFETY: numbers.
unsafe impl Zeros for Link {}

/// One link an element. An element may be in one of the lists that share these links, not in two.
#[derive(Debug)]
pub(super) struct Links(Box<[Link]>);

impl Links {
    pub(super) const BYTES_EACH: usize = size_of::<Link>();

    pub(super) fn new(count: usize) -> Links {
        Links(zeros(count))
    }

    /// The element before `index`, towards the front.
    pub(super) fn prev(&self, index: u32) -> u32 {
        self.0[index as usize].prev
    }

    fn at(&mut self, index: u32) -> &mut Link {
        &mut self.0[index as usize]
    }
}

/// A list; its elements lie in [`Links`].
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    front: u32,
    back: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        List {
            front: NONE,
            back: NONE,
            len: 0,
        }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The last element, or [`NONE`].
    pub(super) fn back(&self) -> u32 {
        self.back
    }

    pub(super) fn push_front(&mut self, links: &mut Links, index: u32) {
        *links.at(index) = Link {
            prev: NONE,
            next: self.front,
        };
        match self.front {
            NONE => self.back = index,
            front => links.at(front).prev = index,
        }
        self.front = index;
        self.len += 1;
    }

    /// Takes `index`, which is in this list, out of it.
    pub(super) fn remove(&mut self, links: &mut Links, index: u32) {
        let Link { prev, next } = *links.at(index);
        match prev {
            NONE => self.front = next,
            prev => links.at(prev).next = next,
        }
        match next {
            NONE => self.back = prev,
            next => links.at(next).prev = prev,
        }
        self.len -= 1;
    }

    pub(super) fn pop_front(&mut self, links: &mut Links) -> Option<u32> {
        let front = self.front;
        if front == NONE {
            return None;
        }
        self.remove(links, front);
        Some(front)
    }

    pub(super) fn move_to_front(&mut self, links: &mut Links, index: u32) {
        if self.front != index {
            self.remove(links, index);
            self.push_front(links, index);
        }
    }

    /// Puts `new`, which is in no list, in the place of `old`.
    pub(super) fn replace(&mut self, links: &mut Links, old: u32, new: u32) {
        let link = *links.at(old);
        *links.at(new) = link;
        match link.prev {
            NONE => self.front = new,
            prev => links.at(prev).next = new,
        }
        match link.next {
            NONE => self.back = new,
            next => links.at(next).prev = new,
        }
    }
}
