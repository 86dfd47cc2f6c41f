//! Merging one word: a linked list of symbols, and a heap of the pairs that may be merged.

use super::pairs::Pairs;
use crate::scratch::{ALIGN_SLACK, Scratch};

/// Words up to this length are merged by scanning: no heap is faster than a short row.
const SCAN_MAX: usize = 24;
/// End of the list, and "no pair here".
const NIL: u32 = u32::MAX;

/// The symbols of a word, `LINKS` words of 32 bits each, and the heap, `ENTRY` words an entry, at most two entries a symbol.
pub(super) struct Symbols<'s> {
    links: &'s mut [[u32; LINKS]],
    heap: &'s mut [[u32; ENTRY]],
    heap_len: usize,
    len: usize,
}

const LINKS: usize = 4;
const ENTRY: usize = 3;
const ID: usize = 0;
const NEXT: usize = 1;
const PREVIOUS: usize = 2;
/// In scanning: the rank of the pair with the next symbol. Always: symbols that were merged away have `END` 0.
const END: usize = 3;

impl<'s> Symbols<'s> {
    pub(super) fn scratch_bytes(count: usize) -> usize {
        count * (LINKS + 2 * ENTRY) * size_of::<u32>() + ALIGN_SLACK
    }

    pub(super) fn new(count: usize, scratch: &mut Scratch<'s>) -> Self {
        let links = bytemuck::cast_slice_mut(scratch.words(count * LINKS));
        let heap = if count > SCAN_MAX {
            scratch.words(count * 2 * ENTRY)
        } else {
            &mut []
        };
        Self {
            links,
            heap: bytemuck::cast_slice_mut(heap),
            heap_len: 0,
            len: 0,
        }
    }

    pub(super) fn push(&mut self, id: u32) {
        let at = self.len;
        self.len += 1;
        self.links[at] = [id, self.len as u32, (at as u32).wrapping_sub(1), self.len as u32];
    }

    pub(super) fn merge_all(&mut self, pairs: &Pairs) {
        if let Some(last) = self.links.get_mut(..self.len).and_then(<[_]>::last_mut) {
            last[NEXT] = NIL;
        }
        if self.len <= SCAN_MAX {
            self.merge_by_scanning(pairs)
        } else {
            self.merge_by_heap(pairs)
        }
    }

    /// The symbols in order: `(id, end)`.
    pub(super) fn each(&self, mut each: impl FnMut(u32, usize)) {
        let mut at = 0;
        while let Some(symbol) = self.links.get(at) {
            each(symbol[ID], symbol[END] as usize);
            at = symbol[NEXT] as usize;
        }
    }

    /// Joins the symbol at `at` with the one after it.
    fn join(&mut self, at: usize, id: u32) {
        let next = self.links[at][NEXT] as usize;
        let [_, after, _, end] = self.links[next];
        self.links[at][ID] = id;
        self.links[at][NEXT] = after;
        self.links[at][END] = end;
        self.links[next][END] = 0;
        if let Some(after) = self.links.get_mut(after as usize) {
            after[PREVIOUS] = at as u32;
        }
    }

    fn pair(&self, at: usize, pairs: &Pairs) -> Option<(u32, u32)> {
        let symbol = self.links.get(at)?;
        let next = self.links.get(symbol[NEXT] as usize)?;
        pairs.get(symbol[ID], next[ID])
    }

    fn merge_by_scanning(&mut self, pairs: &Pairs) {
        let mut ranks = [(NIL, 0); SCAN_MAX];
        let ranked = |symbols: &Self, at: usize| symbols.pair(at, pairs).unwrap_or((NIL, 0));
        for (at, rank) in ranks.iter_mut().enumerate().take(self.len) {
            *rank = ranked(self, at);
        }
        loop {
            let mut best = (NIL, 0);
            let mut best_at = 0;
            for (at, &rank) in ranks.iter().enumerate().take(self.len) {
                if rank.0 < best.0 {
                    (best, best_at) = (rank, at);
                }
            }
            if best.0 == NIL {
                return;
            }
            let gone = self.links[best_at][NEXT] as usize;
            self.join(best_at, best.1);
            ranks[gone] = (NIL, 0);
            ranks[best_at] = ranked(self, best_at);
            let previous = self.links[best_at][PREVIOUS] as usize;
            if previous < self.len {
                ranks[previous] = ranked(self, previous);
            }
        }
    }

    fn merge_by_heap(&mut self, pairs: &Pairs) {
        for at in 0..self.len {
            self.offer(at, pairs);
        }
        while let Some([_, at, id]) = self.pop() {
            let at = at as usize;
            // An entry is stale when its symbol is gone or its pair is no longer the one that gave this id.
            let current = if self.links[at][END] == 0 {
                None
            } else {
                self.pair(at, pairs)
            };
            if current.is_none_or(|(_, now)| now != id) {
                continue;
            }
            self.join(at, id);
            let previous = self.links[at][PREVIOUS] as usize;
            if previous < self.len {
                self.offer(previous, pairs);
            }
            self.offer(at, pairs);
        }
    }

    /// Puts the pair at `at` into the heap, if it can be merged.
    fn offer(&mut self, at: usize, pairs: &Pairs) {
        if let Some((rank, id)) = self.pair(at, pairs) {
            self.heap[self.heap_len] = [rank, at as u32, id];
            self.heap_len += 1;
            self.rise(self.heap_len - 1);
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn pop(&mut self) -> Option<[u32; ENTRY]> {
        let top = *self.heap.get(..self.heap_len)?.first()?;
        self.heap_len -= 1;
        self.heap[0] = self.heap[self.heap_len];
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.heap_len && self.heap[child] < self.heap[least] {
                    least = child;
                }
            }
            if least == at {
                return Some(top);
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}
