//! A leased slot, and why one may be refused.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::class::SlotId;
use crate::pod::Pod;
use crate::pool::{Clear, PoolCore};
use crate::profile;
use crate::region::CommitError;

/// Why a lease was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseError {
    /// Longer than any lease of this pool.
    TooLong {
        /// The pool.
        pool: &'static str,
        /// Elements asked for.
        len: usize,
        /// Longest lease.
        len_max: usize,
    },
    /// All slots of the size are out: more was leased than [`bytes_max`](crate::PoolConfig::bytes_max).
    Exhausted {
        /// The pool.
        pool: &'static str,
        /// Size of the slot.
        slot_bytes: usize,
        /// How many there are.
        slots: usize,
    },
    /// The pools together hold the whole cap in live leases: more was leased than debited.
    CapReached {
        /// The pool.
        pool: &'static str,
        /// Bytes of the slot.
        requested_bytes: usize,
        /// Bytes left under the cap.
        available_bytes: usize,
    },
    /// The kernel refused the pages.
    Commit {
        /// The pool.
        pool: &'static str,
        /// What the kernel said.
        error: CommitError,
    },
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LeaseError::TooLong { pool, len, len_max } => {
                write!(
                    f,
                    "pool {pool}: a lease of {len} elements, {len_max} is the longest"
                )
            }
            LeaseError::Exhausted {
                pool,
                slot_bytes,
                slots,
            } => {
                write!(
                    f,
                    "pool {pool}: all {slots} slots of {slot_bytes} bytes are leased"
                )
            }
            LeaseError::CapReached {
                pool,
                requested_bytes,
                available_bytes,
            } => write!(
                f,
                "pool {pool}: a slot needs {requested_bytes} bytes, {available_bytes} available under the cap"
            ),
            LeaseError::Commit { pool, error } => write!(f, "pool {pool}: {error}"),
        }
    }
}

impl std::error::Error for LeaseError {}

/// A slot of `len` elements. Having one tells you: the slot is yours alone, its bytes are initialised, drop returns it.
///
/// It borrows nothing, so it can be stored, sent, and given to `bytes::Bytes::from_owner`.
pub struct Lease<T: Pod> {
    pub(crate) core: Arc<PoolCore>,
    pub(crate) address: NonNull<T>,
    pub(crate) len: usize,
    /// What may have been written: the length asked for, whatever `truncate` did since.
    pub(crate) dirty_len: usize,
    pub(crate) class: usize,
    pub(crate) slot: SlotId,
    pub(crate) warm: bool,
    pub(crate) discard: bool,
    /// Its birth is remembered by the profile.
    pub(crate) sampled: bool,
}

// SAFETY: a lease owns its slot as a `Box<[T]>` would, and `T: Pod` is `Send`; the pool it returns to is behind locks.
unsafe impl<T: Pod> Send for Lease<T> {}
// SAFETY: shared access only reads, and `T: Pod` is `Sync`.
unsafe impl<T: Pod> Sync for Lease<T> {}

impl<T: Pod> Lease<T> {
    /// Shortens the visible length; a longer `len` changes nothing. The slot, and what it costs, stay the same.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Bytes of the slot: what this lease costs.
    pub fn slot_bytes(&self) -> usize {
        self.core.classes[self.class].slot_bytes()
    }

    /// Whether the slot was committed already when it was leased.
    pub fn was_warm(&self) -> bool {
        self.warm
    }

    /// Returns the slot as a panic would: its pages are dropped, nobody sees its contents again.
    pub fn discard(mut self) {
        self.discard = true;
    }
}

impl<T: Pod> Deref for Lease<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the slot is committed, at least `len` elements long, page-aligned (so aligned for `T`), initialised (fresh pages are zero, reused ones hold
        // `Pod` values without padding), and nobody else has it until drop.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}

impl<T: Pod> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.len) }
    }
}

impl<T: Pod> AsRef<[T]> for Lease<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> AsMut<[T]> for Lease<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: Pod> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.core.config.name;
        f.debug_struct("Lease")
            .field("pool", &pool)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T: Pod> Drop for Lease<T> {
    fn drop(&mut self) {
        let discard = self.discard || std::thread::panicking();
        if !discard && self.core.config.clear == Clear::OnReturn {
            // SAFETY: the first `dirty_len` elements are in the slot, which is still ours alone; zero bytes are a `T`.
            unsafe { self.address.write_bytes(0, self.dirty_len) };
        }
        if self.sampled {
            profile::lease_died(self.address.as_ptr().cast());
        }
        self.core.put(self.class, self.slot, discard);
    }
}
