//! Vectors of recent texts (L2).
//!
//! The same texts come back: a session asks again, a job is run twice. A cache turns such a request from a forward pass into a lookup, and an unbounded one
//! into the next night's out-of-memory. This one is bounded three times over: by its own bytes, by the [`Ledger`] that requests are debited to, and by
//! the [`CommitCap`] of all pools. It borrows from what requests leave free, and gives back what is coldest when they want it.
//!
//! | question | answer |
//! |---|---|
//! | where do vectors lie | in slots of one length, packed into chunks of pages that are debited, committed and given back one by one |
//! | how is one found | by a 128-bit [`CacheKey`] in an index of fixed size, O(1) |
//! | who goes first | what the [`CachePolicy`] says, O(1); in a session that holds its share, what that session used longest ago |
//! | who reads | the holder of a [`Pin`], straight from the slot; a pinned slot is neither evicted, moved nor overwritten |
//! | what if all is pinned | at most a part of the cache may be pinned; beyond it, and when nothing can be evicted, the cache serves nobody and grows no further |
//! | how long | until an entry has not been used for the time to live |
//!
//! Time is an argument, as everywhere below the server. One lock guards it all and is held for a lookup, or for one copy of one vector.
//! After [`VectorCache::new`] nothing is allocated.
//!
//! ```
//! use plimsoll_memory::{CacheConfig, CacheKey, CachePolicy, CommitCap, Ledger, Owner, Reservation, VectorCache};
//!
//! let config = CacheConfig { vector_len: 4, bytes_max: 1 << 20, ..CacheConfig::default() };
//! let (ledger, cap) = (Ledger::new(1 << 20), CommitCap::new(1 << 20));
//! let reservation = Reservation::new(VectorCache::reserve_bytes(&config))?;
//! let cache = VectorCache::new(&reservation, &cap, &ledger, Owner::new(1, "cached vectors"), config)?;
//!
//! let (key, session, now_ns) = (CacheKey(17, 4), 0, 0);
//! assert!(cache.find(key, now_ns).is_none());
//! cache.insert(key, session, now_ns, &[1.0, 2.0, 3.0, 4.0], [5, 0]);
//! let pin = cache.find(key, now_ns).expect("it was put there");
//! assert_eq!((&pin[..], pin.note()), (&[1.0, 2.0, 3.0, 4.0][..], [5, 0]));
//! assert_eq!(ledger.in_use(), cache.stats().bytes);
//! drop(pin);
//! cache.shrink_to(0);
//! assert_eq!((ledger.in_use(), cap.committed_bytes()), (0, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chunks;
mod index;
mod list;
mod order;
mod pin;
mod sessions;
mod state;
#[cfg(test)]
mod tests;
mod zeros;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use pin::{Pin, Pins};

use crate::cap::CommitCap;
use crate::ledger::{Ledger, Owner};
use crate::process::page_bytes;
use crate::region::{HugePages, Region};
use crate::reservation::{Reservation, ReserveError};
use crate::sync::{Mutex, MutexGuard, lock};
use chunks::Geometry;
use state::State;

/// What an entry is found by: a hash of all that its vector depends on, wide enough that two texts do not meet. Its halves must be spread evenly,
/// and, where strangers choose the texts, by a key that they do not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub u64, pub u64);

/// Which entry is evicted first. `bench/record` has them side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// Used longest ago.
    Lru,
    /// Oldest of those not used since the hand last came by.
    Sieve,
    /// Newcomers pass through a small queue first: a scan does not reach the others.
    #[default]
    S3Fifo,
}

impl CachePolicy {
    /// All of them.
    pub const ALL: [CachePolicy; 3] = [CachePolicy::Lru, CachePolicy::Sieve, CachePolicy::S3Fifo];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            CachePolicy::Lru => "lru",
            CachePolicy::Sieve => "sieve",
            CachePolicy::S3Fifo => "s3-fifo",
        }
    }
}

impl FromStr for CachePolicy {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = CachePolicy::ALL.into_iter();
        all.into_iter()
            .find(|policy| policy.name() == name)
            .ok_or("expected lru, sieve or s3-fifo")
    }
}

/// What a cache may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheConfig {
    /// Elements of a vector.
    pub vector_len: usize,
    /// Most bytes of slots; rounded down to whole chunks.
    pub bytes_max: usize,
    /// Most bytes of chunks with a pinned slot, which nobody can take back; rounded down to whole chunks, but one at least.
    pub pinned_bytes_max: usize,
    /// Most bytes of slots of one session; session 0 is everybody's and has no share of its own.
    pub session_bytes_max: usize,
    /// An entry not used for so long is gone.
    pub ttl_ns: u64,
    /// Bytes of the ledger that growing leaves free.
    pub floor_bytes: usize,
    /// Who is evicted.
    pub policy: CachePolicy,
}

impl Default for CacheConfig {
    /// No bytes, no limits within them.
    fn default() -> Self {
        CacheConfig {
            vector_len: 1,
            bytes_max: 0,
            pinned_bytes_max: usize::MAX,
            session_bytes_max: usize::MAX,
            ttl_ns: u64::MAX,
            floor_bytes: 0,
            policy: CachePolicy::default(),
        }
    }
}

/// What came of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It has a slot.
    New,
    /// It had one, which now holds this vector, or, where someone reads it, still the one before.
    Known,
    /// No room: what is there is pinned, or the cache may not grow to its first chunk.
    Full,
}

/// Counts of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes committed, which are the bytes debited.
    pub bytes: usize,
    /// The most they may be now.
    pub target_bytes: usize,
    /// Entries.
    pub entries: usize,
    /// Named sessions with at least one entry.
    pub sessions: usize,
    /// Bytes that cannot be given back: chunks with a pinned slot.
    pub pinned_bytes: usize,
    /// Lookups that found.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Of them, those whose entry was there but could not be pinned: the cap on pins was reached.
    pub misses_unpinnable: u64,
    /// Vectors put in.
    pub insertions: u64,
    /// Vectors not put in, for want of room.
    pub insertions_refused: u64,
    /// Entries that the policy gave up for newcomers.
    pub evictions: u64,
    /// Entries that a session gave up for its own newcomers.
    pub evictions_session: u64,
    /// Entries given up so that bytes could go back.
    pub evictions_shrink: u64,
    /// Entries not used for the time to live.
    pub expirations: u64,
}

/// The cache; cloning shares it. See the [module](self).
#[derive(Clone)]
pub struct VectorCache {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    geometry: Geometry,
    region: Region,
}

impl fmt::Debug for VectorCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VectorCache")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl VectorCache {
    /// Address space that such a cache carves.
    pub fn reserve_bytes(config: &CacheConfig) -> usize {
        let geometry = Geometry::of(config);
        geometry.chunks * geometry.chunk_bytes
    }

    /// Heap bytes of its tables, all allocated by [`new`](Self::new). No other figure includes them.
    pub fn table_bytes(config: &CacheConfig) -> usize {
        let geometry = Geometry::of(config);
        State::table_bytes(&geometry, config.policy)
            + VectorCache::reserve_bytes(config).div_ceil(8 * page_bytes())
    }

    /// Builds the cache: allocates its tables, commits nothing yet. Its bytes will be debited to `owner` and charged to `cap`.
    ///
    /// # Errors
    /// When `reservation` has too little address space left.
    pub fn new(
        reservation: &Reservation,
        cap: &CommitCap,
        ledger: &Ledger,
        owner: Owner,
        config: CacheConfig,
    ) -> Result<VectorCache, ReserveError> {
        let geometry = Geometry::of(&config);
        let region = reservation.carve(VectorCache::reserve_bytes(&config))?;
        region.huge_pages(HugePages::Never);
        let chunks = chunks::Chunks::new(&geometry, cap, ledger, owner, config.floor_bytes);
        let state = Mutex::new(State::new(geometry, &config, chunks));
        Ok(VectorCache {
            shared: Arc::new(Shared {
                state,
                geometry,
                region,
            }),
        })
    }

    /// Finds and pins a vector. `None` also when as much as may be is pinned.
    pub fn find(&self, key: CacheKey, now_ns: u64) -> Option<Pin> {
        let (slot, note) = self.state().find(key, now_ns)?;
        Some(Pin::new(self.clone(), slot, note))
    }

    /// Whether a vector is there. Counts neither as a hit nor as a miss, and nothing is pinned: it may be gone a moment later.
    pub fn holds(&self, key: CacheKey, now_ns: u64) -> bool {
        self.state().holds(key, now_ns)
    }

    /// Puts a copy of `vector` in, for `session` (0: everybody), with a `note` of two numbers that a [`Pin`] will show.
    ///
    /// # Panics
    /// When `vector` is not of the cache's length.
    pub fn insert(
        &self,
        key: CacheKey,
        session: u64,
        now_ns: u64,
        vector: &[f32],
        note: [u32; 2],
    ) -> Inserted {
        assert_eq!(
            vector.len(),
            self.shared.geometry.vector_len,
            "length of a vector"
        );
        let mut state = self.state();
        let (slot, inserted) = state.insert(&self.shared.region, key, session, now_ns, note);
        if let Some(slot) = slot {
            let address = self.address(slot);
            // SAFETY: the slot is committed, as long as `vector`, and unpinned, so nobody reads it; the lock is held, so nobody else writes it.
            unsafe { std::ptr::copy_nonoverlapping(vector.as_ptr(), address.as_ptr(), vector.len()) };
        }
        inserted
    }

    /// Gives chunks back until at most `bytes` are committed, or what is left is pinned; returns the bytes freed, which have been credited. The coldest
    /// entries go. The cache may grow again afterwards.
    pub fn shrink_to(&self, bytes: usize) -> usize {
        self.state().shrink_to(&self.shared.region, bytes)
    }

    /// Sets the most that the cache may commit from now on, and shrinks to it; returns the bytes freed.
    pub fn set_target_bytes(&self, bytes: usize) -> usize {
        let mut state = self.state();
        state.set_target_bytes(bytes);
        state.shrink_to(&self.shared.region, bytes)
    }

    /// Empties every entry that was not used for the time to live; returns how many. Each insertion looks at a few, so this only makes it sooner.
    pub fn expire(&self, now_ns: u64) -> usize {
        self.state().expire_all(now_ns)
    }

    /// Bytes committed at this moment, which are the bytes debited.
    pub fn bytes(&self) -> usize {
        self.state().bytes()
    }

    /// The most bytes that the cache was built for.
    pub fn bytes_max(&self) -> usize {
        self.shared.geometry.chunks * self.shared.geometry.chunk_bytes
    }

    /// Bytes of one entry's slot.
    pub fn slot_bytes(&self) -> usize {
        self.shared.geometry.slot_bytes
    }

    /// Counts.
    pub fn stats(&self) -> CacheStats {
        self.state().stats()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    fn address(&self, slot: u32) -> std::ptr::NonNull<f32> {
        self.shared.geometry.address(&self.shared.region, slot)
    }
}
