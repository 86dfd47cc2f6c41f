//! Where the vectors lie: slots packed into chunks of whole pages, committed one chunk at a time and given back in runs.
//!
//! A pool's slot is a page at least, for a vector of 1.5 KiB three fifths of it wasted. Here neighbours share pages, and what is committed, debited and
//! given back is a chunk. A chunk is small, because one reader of one vector holds all of it; of the small ones it is that which its vectors fill best.

use std::ops::{Range, RangeInclusive};
use std::ptr::NonNull;

use super::CacheConfig;
use crate::cap::CommitCap;
use crate::ledger::{Debit, Ledger, Owner};
use crate::process::page_bytes;
use crate::region::Region;

/// Chunks of several vectors are so long.
const CHUNK_BYTES: RangeInclusive<usize> = 12 * 1024..=64 * 1024;

/// The length within [`CHUNK_BYTES`] that slots leave the least of, the shortest of those; one slot's pages where it is longer.
fn chunk_bytes(slot_bytes: usize) -> usize {
    let pages = |bytes: usize| bytes.next_multiple_of(page_bytes());
    let lengths = (pages(*CHUNK_BYTES.start().max(&slot_bytes))..=*CHUNK_BYTES.end()).step_by(page_bytes());
    // Parts of a million, so that lengths that differ are compared.
    let waste = |length: &usize| length % slot_bytes * 1_000_000 / length;
    lengths.min_by_key(waste).unwrap_or_else(|| pages(slot_bytes))
}

/// How slots are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Elements of a vector.
    pub(super) vector_len: usize,
    pub(super) slot_bytes: usize,
    pub(super) chunk_bytes: usize,
    /// Slots of a chunk.
    pub(super) chunk_slots: usize,
    pub(super) chunks: usize,
}

impl Geometry {
    pub(super) fn of(config: &CacheConfig) -> Geometry {
        let slot_bytes = config.vector_len.max(1) * size_of::<f32>();
        let chunk_bytes = chunk_bytes(slot_bytes);
        // Slots are numbered by `u32`, and the index has a cell to spare for each.
        let chunk_slots = chunk_bytes / slot_bytes;
        let chunks = (config.bytes_max / chunk_bytes).min((1 << 30) / chunk_slots);
        Geometry {
            vector_len: config.vector_len,
            slot_bytes,
            chunk_bytes,
            chunk_slots,
            chunks,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.chunks * self.chunk_slots
    }

    /// The chunk of a slot.
    pub(super) fn chunk_of(&self, slot: u32) -> usize {
        slot as usize / self.chunk_slots
    }

    /// The slots of a chunk.
    pub(super) fn slots_of(&self, chunk: usize) -> Range<u32> {
        (chunk * self.chunk_slots) as u32..((chunk + 1) * self.chunk_slots) as u32
    }

    /// Where a slot begins, in bytes of the region.
    fn offset(&self, slot: u32) -> usize {
        let (chunk, nth) = (self.chunk_of(slot), slot as usize % self.chunk_slots);
        chunk * self.chunk_bytes + nth * self.slot_bytes
    }

    /// First element of a slot. Reading or writing it is sound only while its chunk is committed.
    pub(super) fn address(&self, region: &Region, slot: u32) -> NonNull<f32> {
        let offset = self.offset(slot);
        debug_assert!(offset + self.slot_bytes <= region.bytes());
        // SAFETY: `offset` lies in the region, as its chunk does.
        unsafe { region.base().add(offset) }.cast()
    }

    fn pages(&self, chunks: Range<usize>) -> Range<usize> {
        let pages = self.chunk_bytes / page_bytes();
        chunks.start * pages..chunks.end * pages
    }
}

/// What is known of a chunk.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Slots that hold a vector.
    pub(super) used: u32,
    /// Of them, pinned.
    pub(super) pinned: u32,
    /// Present while the chunk is committed.
    debit: Option<Debit>,
}

/// The chunks of a cache.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) all: Box<[Chunk]>,
    /// Chunks that are committed.
    committed: usize,
    /// All chunks before this one are committed, so that growing does not look for one from the start.
    full_before: usize,
    cap: CommitCap,
    ledger: Ledger,
    owner: Owner,
    floor_bytes: usize,
}

impl Chunks {
    pub(super) fn new(
        geometry: &Geometry,
        cap: &CommitCap,
        ledger: &Ledger,
        owner: Owner,
        floor_bytes: usize,
    ) -> Chunks {
        Chunks {
            all: (0..geometry.chunks).map(|_| Chunk::default()).collect(),
            committed: 0,
            full_before: 0,
            cap: cap.clone(),
            ledger: ledger.clone(),
            owner,
            floor_bytes,
        }
    }

    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    pub(super) fn is_committed(&self, chunk: usize) -> bool {
        self.all[chunk].debit.is_some()
    }

    /// Commits one more chunk: debited first, then charged to the cap, then asked of the kernel. `None` when any of them has no room.
    pub(super) fn grow(&mut self, geometry: &Geometry, region: &Region) -> Option<usize> {
        if self.committed == self.all.len() {
            return None;
        }
        let debit = self
            .ledger
            .try_debit_leaving(self.owner, geometry.chunk_bytes, self.floor_bytes)
            .ok()?;
        let after = &self.all[self.full_before..];
        let chunk = self.full_before + after.iter().position(|chunk| chunk.debit.is_none())?;
        self.cap.charge(geometry.chunk_bytes).ok()?;
        if region.commit(geometry.pages(chunk..chunk + 1)).is_err() {
            self.cap.release(geometry.chunk_bytes);
            return None;
        }
        self.all[chunk].debit = Some(debit);
        self.committed += 1;
        self.full_before = chunk + 1;
        Some(chunk)
    }

    /// Gives neighbouring empty chunks back and credits them; 0 when the kernel refuses.
    pub(super) fn give_back(&mut self, geometry: &Geometry, region: &Region, chunks: Range<usize>) -> usize {
        debug_assert!(self.all[chunks.clone()].iter().all(|chunk| chunk.used == 0));
        let freed = region.give_back(geometry.pages(chunks.clone()));
        if freed == 0 {
            return 0;
        }
        self.committed -= chunks.len();
        self.full_before = self.full_before.min(chunks.start);
        self.cap.release(freed);
        for chunk in &mut self.all[chunks] {
            chunk.debit = None;
        }
        freed
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let bytes = self
            .all
            .iter()
            .flat_map(|chunk| &chunk.debit)
            .map(Debit::bytes)
            .sum();
        self.cap.release(bytes);
    }
}
