//! Characters that wait, in a ring: taking some from its front moves none of the others.

use super::{SOURCED_WORDS, Sourced, pack, unpack};

/// Characters in scratch that come in behind and go at the front.
pub(crate) struct Queue<'s> {
    ring: &'s mut [[u32; SOURCED_WORDS]],
    front: usize,
    len: usize,
}

impl<'s> Queue<'s> {
    /// An empty one with room for as many as `words` holds.
    pub(crate) fn new(words: &'s mut [u32]) -> Self {
        Self {
            ring: bytemuck::cast_slice_mut(words),
            front: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where in the ring the character at `at`, at most its length, lies.
    #[inline]
    fn place(&self, at: usize) -> usize {
        let place = self.front + at;
        if place < self.ring.len() {
            place
        } else {
            place - self.ring.len()
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, sourced: Sourced) {
        debug_assert!(self.len < self.ring.len());
        self.ring[self.place(self.len)] = pack(sourced);
        self.len += 1;
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<Sourced> {
        if at < self.len {
            Some(unpack(self.ring[self.place(at)]))
        } else {
            None
        }
    }

    /// Removes the first `count`.
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.front = self.place(count);
        self.len -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_holds_what_a_list_holds(room in 1usize..9, steps in prop::collection::vec((any::<bool>(), 0usize..9), 0..60)) {
            let mut words = vec![0; room * SOURCED_WORDS];
            let (mut queue, mut list) = (Queue::new(&mut words), VecDeque::new());
            for (number, (push, count)) in (0..).zip(steps) {
                if push && list.len() < room {
                    let sourced = Sourced { c: 'a', start: number, end: number + 1 };
                    queue.push(sourced);
                    list.push_back(sourced);
                } else {
                    let count = count.min(list.len());
                    queue.drop_front(count);
                    list.drain(..count);
                }
                prop_assert_eq!(queue.len(), list.len());
                prop_assert!((0..=room).all(|at| queue.get(at) == list.get(at).copied()));
            }
        }
    }
}
