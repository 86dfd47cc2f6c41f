//! Reading in place: whoever holds a pin holds its slot.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use super::VectorCache;
use crate::lease::Lease;

/// A cached vector that is being read. Having one tells you: its slot is neither evicted, moved nor overwritten until drop.
pub struct Pin {
    cache: VectorCache,
    slot: u32,
    note: [u32; 2],
}

impl Pin {
    /// Takes over one pin of `slot`.
    pub(super) fn new(cache: VectorCache, slot: u32, note: [u32; 2]) -> Pin {
        Pin { cache, slot, note }
    }

    /// The two numbers that it was put in with.
    pub fn note(&self) -> [u32; 2] {
        self.note
    }
}

impl VectorCache {
    /// The vector in a slot, for as long as the borrow that the caller ties it to.
    ///
    /// # Safety
    /// One pin of `slot` must be held for `'a`.
    unsafe fn vector<'a>(&self, slot: u32) -> &'a [f32] {
        let len = self.shared.geometry.vector_len;
        // SAFETY: a pinned slot is committed and was filled with `len` numbers before its entry could be found; until it is unpinned nobody writes it.
        unsafe { std::slice::from_raw_parts(self.address(slot).as_ptr(), len) }
    }
}

impl Deref for Pin {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: this is the pin, and it lives as long as the borrow.
        unsafe { self.cache.vector(self.slot) }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.cache.state().unpin(self.slot);
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// Pins of one reader, in room that it leased: what a request of many texts holds until its answer was written. Dropping it unpins them all.
pub struct Pins {
    cache: VectorCache,
    slots: Lease<u32>,
    len: usize,
}

impl Pins {
    /// Room for as many pins of `cache` as `room` is long.
    pub fn new(cache: &VectorCache, room: Lease<u32>) -> Pins {
        Pins {
            cache: cache.clone(),
            slots: room,
            len: 0,
        }
    }

    /// Takes a pin over; returns its number.
    ///
    /// # Panics
    /// When there is no room, or the pin is another cache's.
    pub fn push(&mut self, pin: Pin) -> usize {
        assert!(
            std::sync::Arc::ptr_eq(&pin.cache.shared, &self.cache.shared),
            "a pin of another cache"
        );
        self.slots[self.len] = pin.slot;
        self.len += 1;
        // The slot stays pinned, by us from here on; only the handle goes.
        let mut pin = ManuallyDrop::new(pin);
        // SAFETY: the pin is forgotten, so its handle is dropped here and nowhere else.
        unsafe { std::ptr::drop_in_place(&mut pin.cache) };
        self.len - 1
    }

    /// The vector of pin `number`.
    pub fn vector(&self, number: usize) -> &[f32] {
        let slot = self.slots[..self.len][number];
        // SAFETY: the slot was pinned by the `Pin` that `push` took over, and stays so until we are dropped.
        unsafe { self.cache.vector(slot) }
    }

    /// Number of pins.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Unpins all, and returns the room as a panic would.
    pub fn discard(mut self) {
        self.slots.discard = true;
    }

    /// Bytes of the room.
    pub fn slot_bytes(&self) -> usize {
        self.slots.slot_bytes()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        self.slots[..self.len].iter().for_each(|&slot| state.unpin(slot));
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
