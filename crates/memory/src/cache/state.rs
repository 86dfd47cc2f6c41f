//! All that the lock guards: entries, the index, the orders, the chunks, and the moves that keep them in step.

use std::ops::Range;

use super::chunks::{Chunks, Geometry};
use super::index::Index;
use super::list::{Links, List};
use super::order::{self, Order};
use super::sessions::Sessions;
use super::zeros::{Zeros, zeros};
use super::{CacheConfig, CacheKey, CachePolicy, CacheStats, Inserted};
use crate::region::Region;

/// Entries whose age each insertion looks at, so that the old go although nobody asks for them.
const SWEEP: usize = 2;

/// What is in a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    key: CacheKey,
    used_ns: u64,
    note: [u32; 2],
    pins: u32,
    /// The session's record.
    session: u32,
    /// It holds a vector; otherwise it is free, or its chunk has no pages.
    full: bool,
}

// SAFETY: numbers, and a flag that is not set.
unsafe impl Zeros for Entry {}

impl Entry {
    fn is_old(&self, now_ns: u64, ttl_ns: u64) -> bool {
        now_ns.saturating_sub(self.used_ns) >= ttl_ns
    }
}

#[derive(Debug)]
pub(super) struct State {
    geometry: Geometry,
    entries: Box<[Entry]>,
    index: Index,
    /// Links of `free` and of the order's lists: a slot of a committed chunk is in exactly one of them.
    links: Links,
    free: List,
    order: Box<dyn Order>,
    sessions: Sessions,
    chunks: Chunks,
    /// Chunks with a pinned slot: none of their bytes can be given back.
    pinned_chunks: usize,
    pinned_chunks_max: usize,
    session_slots_max: usize,
    ttl_ns: u64,
    target_chunks: usize,
    sweep_at: u32,
    stats: CacheStats,
}

impl State {
    pub(super) fn table_bytes(geometry: &Geometry, policy: CachePolicy) -> usize {
        let slots = geometry.slots();
        slots * (size_of::<Entry>() + Links::BYTES_EACH)
            + Index::bytes(slots)
            + Sessions::bytes(slots)
            + order::bytes(policy, slots)
            + geometry.chunks * size_of::<super::chunks::Chunk>()
    }

    pub(super) fn new(geometry: Geometry, config: &CacheConfig, chunks: Chunks) -> State {
        let slots = geometry.slots();
        State {
            geometry,
            entries: zeros(slots),
            index: Index::new(slots),
            links: Links::new(slots),
            free: List::default(),
            order: order::build(config.policy, slots),
            sessions: Sessions::new(slots),
            chunks,
            pinned_chunks: 0,
            pinned_chunks_max: (config.pinned_bytes_max / geometry.chunk_bytes).max(1),
            session_slots_max: (config.session_bytes_max / geometry.slot_bytes).max(1),
            ttl_ns: config.ttl_ns,
            target_chunks: geometry.chunks,
            sweep_at: 0,
            stats: CacheStats::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.committed() * self.geometry.chunk_bytes
    }

    pub(super) fn stats(&self) -> CacheStats {
        CacheStats {
            bytes: self.bytes(),
            target_bytes: self.target_chunks * self.geometry.chunk_bytes,
            entries: self.chunks.committed() * self.geometry.chunk_slots - self.free.len(),
            sessions: self.sessions.named_count(),
            pinned_bytes: self.pinned_chunks * self.geometry.chunk_bytes,
            ..self.stats
        }
    }

    fn slot_of(&self, key: CacheKey) -> Option<u32> {
        self.index
            .find(key.0, |slot| self.entries[slot as usize].key == key)
    }

    /// Finds an entry and pins it.
    pub(super) fn find(&mut self, key: CacheKey, now_ns: u64) -> Option<(u32, [u32; 2])> {
        let found = self.look_up(key, now_ns);
        match found {
            Some(_) => self.stats.hits += 1,
            None => self.stats.misses += 1,
        }
        found
    }

    /// Whether an entry is there that is not too old.
    pub(super) fn holds(&self, key: CacheKey, now_ns: u64) -> bool {
        let slot = self.slot_of(key);
        slot.is_some_and(|slot| !self.entries[slot as usize].is_old(now_ns, self.ttl_ns))
    }

    fn look_up(&mut self, key: CacheKey, now_ns: u64) -> Option<(u32, [u32; 2])> {
        let slot = self.slot_of(key)?;
        if self.entries[slot as usize].is_old(now_ns, self.ttl_ns) {
            self.expire(slot);
            return None;
        }
        if !self.pin(slot) {
            self.stats.misses_unpinnable += 1;
            return None;
        }
        self.used(slot, now_ns);
        Some((slot, self.entries[slot as usize].note))
    }

    fn used(&mut self, slot: u32, now_ns: u64) {
        let entry = &mut self.entries[slot as usize];
        entry.used_ns = now_ns;
        self.sessions.used(entry.session, slot);
        self.order.used(&mut self.links, slot);
    }

    /// One more reader; false when that would pin more than may be.
    fn pin(&mut self, slot: u32) -> bool {
        let pinned = &mut self.chunks.all[self.geometry.chunk_of(slot)].pinned;
        if *pinned == 0 {
            if self.pinned_chunks == self.pinned_chunks_max {
                return false;
            }
            self.pinned_chunks += 1;
        }
        let entry = &mut self.entries[slot as usize];
        *pinned += u32::from(entry.pins == 0);
        entry.pins += 1;
        true
    }

    /// One reader less.
    pub(super) fn unpin(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        debug_assert!(entry.full && entry.pins > 0, "slot {slot} is unpinned twice");
        entry.pins -= 1;
        if entry.pins == 0 {
            let pinned = &mut self.chunks.all[self.geometry.chunk_of(slot)].pinned;
            *pinned -= 1;
            self.pinned_chunks -= usize::from(*pinned == 0);
        }
    }

    /// Makes an entry; the caller writes the vector into the slot that is returned, if one is, before the lock is released.
    pub(super) fn insert(
        &mut self,
        region: &Region,
        key: CacheKey,
        session: u64,
        now_ns: u64,
        note: [u32; 2],
    ) -> (Option<u32>, Inserted) {
        self.sweep(now_ns);
        if let Some(slot) = self.slot_of(key) {
            self.used(slot, now_ns);
            let entry = &mut self.entries[slot as usize];
            if entry.pins > 0 {
                return (None, Inserted::Known);
            }
            entry.note = note;
            return (Some(slot), Inserted::Known);
        }
        if !self.keep_share(session) || !self.make_room(region) {
            self.stats.insertions_refused += 1;
            return (None, Inserted::Full);
        }
        let slot = self
            .free
            .pop_front(&mut self.links)
            .expect("room was made for it");
        self.fill(slot, key, session, now_ns, note);
        (Some(slot), Inserted::New)
    }

    fn fill(&mut self, slot: u32, key: CacheKey, session: u64, now_ns: u64, note: [u32; 2]) {
        self.entries[slot as usize] = Entry {
            key,
            used_ns: now_ns,
            note,
            pins: 0,
            session: self.sessions.add(session, slot),
            full: true,
        };
        self.index.insert(key.0, slot);
        self.order.insert(&mut self.links, slot, key.1);
        self.chunks.all[self.geometry.chunk_of(slot)].used += 1;
        self.stats.insertions += 1;
    }

    /// Lets a session that holds its share give up what it used longest ago; false when it reads all of that.
    fn keep_share(&mut self, session: u64) -> bool {
        if session == 0 || self.sessions.len(session) < self.session_slots_max {
            return true;
        }
        let entries = &self.entries;
        let unread = |slot: u32| entries[slot as usize].pins == 0;
        let Some(slot) = self.sessions.oldest(session, unread) else {
            return false;
        };
        self.stats.evictions_session += 1;
        self.order.remove(&mut self.links, slot);
        self.empty(slot);
        true
    }

    /// Sees to a free slot: one that is there, one of a fresh chunk, or the coldest entry's.
    fn make_room(&mut self, region: &Region) -> bool {
        if self.free.len() > 0 || self.grow(region) {
            return true;
        }
        let evicted = self.evict();
        self.stats.evictions += u64::from(evicted.is_some());
        evicted.is_some()
    }

    fn grow(&mut self, region: &Region) -> bool {
        if self.chunks.committed() >= self.target_chunks {
            return false;
        }
        let Some(chunk) = self.chunks.grow(&self.geometry, region) else {
            return false;
        };
        for slot in self.geometry.slots_of(chunk).rev() {
            self.free.push_front(&mut self.links, slot);
        }
        true
    }

    /// Empties the coldest entry that nobody reads; its slot is free then.
    fn evict(&mut self) -> Option<u32> {
        let entries = &self.entries;
        let pinned = |slot: u32| entries[slot as usize].pins > 0;
        let slot = self.order.evict(&mut self.links, &pinned)?;
        self.empty(slot);
        Some(slot)
    }

    /// Frees the slot of an entry that is out of the order already.
    fn empty(&mut self, slot: u32) {
        let entry = std::mem::take(&mut self.entries[slot as usize]);
        debug_assert!(
            entry.full && entry.pins == 0,
            "slot {slot} is freed twice or while read"
        );
        self.sessions.remove(entry.session, slot);
        let entries = &self.entries;
        self.index
            .remove(entry.key.0, slot, |other| entries[other as usize].key.0);
        self.free.push_front(&mut self.links, slot);
        self.chunks.all[self.geometry.chunk_of(slot)].used -= 1;
    }

    /// Empties an entry for its age, unless someone reads it.
    fn expire(&mut self, slot: u32) -> bool {
        if self.entries[slot as usize].pins > 0 {
            return false;
        }
        self.stats.expirations += 1;
        self.order.remove(&mut self.links, slot);
        self.empty(slot);
        true
    }

    fn expire_if_old(&mut self, slot: u32, now_ns: u64) -> bool {
        let entry = &self.entries[slot as usize];
        entry.full && entry.is_old(now_ns, self.ttl_ns) && self.expire(slot)
    }

    fn sweep(&mut self, now_ns: u64) {
        if self.ttl_ns == u64::MAX {
            return;
        }
        for _ in 0..SWEEP.min(self.entries.len()) {
            self.expire_if_old(self.sweep_at, now_ns);
            self.sweep_at = (self.sweep_at + 1) % self.entries.len() as u32;
        }
    }

    pub(super) fn expire_all(&mut self, now_ns: u64) -> usize {
        (0..self.entries.len() as u32)
            .filter(|&slot| self.expire_if_old(slot, now_ns))
            .count()
    }

    pub(super) fn set_target_bytes(&mut self, bytes: usize) {
        self.target_chunks = (bytes / self.geometry.chunk_bytes).min(self.geometry.chunks);
    }

    /// Gives chunks back, from the last on, until at most `bytes` are committed. A chunk with a reader stays.
    pub(super) fn shrink_to(&mut self, region: &Region, bytes: usize) -> usize {
        let keep = bytes / self.geometry.chunk_bytes;
        let (mut freed, mut run) = (0, 0..0);
        for chunk in (0..self.geometry.chunks).rev() {
            if self.chunks.committed() - run.len() <= keep {
                break;
            }
            if !self.chunks.is_committed(chunk) || self.chunks.all[chunk].pinned > 0 {
                continue;
            }
            self.clear_chunk(region, chunk);
            if chunk + 1 == run.start {
                run.start = chunk;
                continue;
            }
            freed += self.give_back(region, std::mem::replace(&mut run, chunk..chunk + 1));
        }
        freed + self.give_back(region, run)
    }

    /// Empties a chunk without readers: what is coldest of all goes, what is hotter moves out of it. Its slots are then in no list.
    fn clear_chunk(&mut self, region: &Region, chunk: usize) {
        let slots = self.geometry.slots_of(chunk);
        for slot in slots.clone() {
            if !self.entries[slot as usize].full {
                self.free.remove(&mut self.links, slot);
            }
        }
        for slot in slots.clone() {
            while self.entries[slot as usize].full {
                if let Some(room) = self.free.pop_front(&mut self.links) {
                    self.relocate(region, slot, room);
                    continue;
                }
                let evicted = self.evict().expect("at least this one can go");
                self.stats.evictions_shrink += 1;
                if slots.contains(&evicted) {
                    self.free.remove(&mut self.links, evicted);
                }
            }
        }
    }

    /// Moves an entry that nobody reads to the free slot `to`.
    fn relocate(&mut self, region: &Region, from: u32, to: u32) {
        let entry = std::mem::take(&mut self.entries[from as usize]);
        self.entries[to as usize] = entry;
        self.index.replace(entry.key.0, from, to);
        self.order.replace(&mut self.links, from, to);
        self.sessions.replace(entry.session, from, to);
        self.chunks.all[self.geometry.chunk_of(from)].used -= 1;
        self.chunks.all[self.geometry.chunk_of(to)].used += 1;
        let source = self.geometry.address(region, from);
        let target = self.geometry.address(region, to);
        // SAFETY: two different slots of committed chunks; nobody reads `from`, nobody knows `to`, and the lock is held.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target.as_ptr(), self.geometry.vector_len) };
    }

    fn give_back(&mut self, region: &Region, run: Range<usize>) -> usize {
        if run.is_empty() {
            return 0;
        }
        let freed = self.chunks.give_back(&self.geometry, region, run.clone());
        if freed == 0 {
            for slot in run.flat_map(|chunk| self.geometry.slots_of(chunk)) {
                self.free.push_front(&mut self.links, slot);
            }
        }
        freed
    }
}

#[cfg(test)]
impl State {
    /// Keys of all entries.
    pub(super) fn keys(&self) -> Vec<CacheKey> {
        let full = self.entries.iter().filter(|entry| entry.full);
        full.map(|entry| entry.key).collect()
    }

    /// Keys that the next insertion will find too old.
    pub(super) fn next_swept(&self, now_ns: u64) -> Vec<CacheKey> {
        let slots = (0..SWEEP).map(|nth| (self.sweep_at as usize + nth) % self.entries.len());
        let entries = slots.map(|slot| &self.entries[slot]);
        let old = entries.filter(|entry| entry.full && entry.pins == 0 && entry.is_old(now_ns, self.ttl_ns));
        old.map(|entry| entry.key).collect()
    }
}
