//! Memory with owners.
//!
//! A server dies of memory when nobody owns the sum: many small buffers, each harmless, come and go without anyone adding them up. Here every
//! byte of the request path is added up before it is used, and belongs to exactly one value whose drop gives it back.
//!
//! | module | what it holds | layer |
//! |---|---|---|
//! | [`reservation`], [`region`] | address space first, pages on purpose, pages given back | L4 |
//! | [`ledger`] | the exact sum: debit before use, credit on drop | |
//! | [`pool`], [`lease`], [`cap`] | leased slots of plain data, one pool for each kind of work, one cap on committed pages for all | L1 |
//! | [`object_pool`] | objects built once, reset in stages, refused when stale, foreign or poisoned | G4 |
//! | [`cache`] | vectors of recent texts: pinned while read, evicted by a policy, bounded by all three of the above | L2 |
//! | [`scratch`] | one arena a worker for activations and temporaries | L3 |
//! | [`mapping`] | weights: mapped files, embedded bytes, converted copies; read-only | |
//! | [`read_file`] | small files: read whole, none longer than its reader expects | |
//! | [`alloc`] | the allocator that counts, and that notices a sealed thread allocating | |
//! | [`profile`], [`ring`] | samples with stacks for a diagnosis: who made what is alive, who uses the CPU | |
//! | [`process`], [`limits`] | what the kernel says: resident bytes, cgroup and host limits | |
//! | [`pod`] | plain data: types that any bytes may become | |
//!
//! **Invariants.** The ledger never exceeds its limit. Committed bytes never exceed their cap, and a lease that was debited never fails for want of
//! idle memory held elsewhere. No two live leases overlap. A slot or object that a panic passed through is never handed out again as it was.
//! Leasing, returning, debiting, crediting and taking scratch allocate nothing.
//!
//! ```
//! use plimsoll_memory::{Clear, CommitCap, Ledger, Owner, Pool, PoolConfig, Reservation};
//!
//! const TOKENS: Owner = Owner::new(0, "tokens");
//! let config = PoolConfig { name: "tokens", len_max: 8192, bytes_max: 1 << 20, slots_max: usize::MAX, clear: Clear::Never };
//! let reservation = Reservation::new(Pool::<u32>::reserve_bytes(&config))?;
//! let cap = CommitCap::new(1 << 20);
//! let ledger = Ledger::new(1 << 20);
//! let pool = Pool::<u32>::new(&reservation, &cap, config)?;
//!
//! let debit = ledger.try_debit(TOKENS, pool.slot_bytes(512)?)?; // first the promise ...
//! let mut ids = pool.lease(512)?; // ... then the bytes
//! ids[0] = 101;
//! assert_eq!((ids.len(), ledger.in_use(), cap.committed_bytes()), (512, 4096, 4096));
//! drop(ids); // the slot first, then its debit
//! drop(debit);
//! assert_eq!((ledger.in_use(), pool.stats().idle_bytes), (0, 4096));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("plimsoll-memory speaks Linux's mmap, madvise and cgroups");

pub mod alloc;
pub mod cache;
pub mod cap;
mod class;
mod file;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod mapping;
pub mod object_pool;
pub mod pod;
pub mod pool;
pub mod process;
pub mod profile;
pub mod region;
pub mod reservation;
pub mod ring;
pub mod scratch;
mod sizing;
mod sync;

pub use alloc::{CountingAllocator, PipelineScope};
pub use cache::{CacheConfig, CacheKey, CachePolicy, CacheStats, Inserted, Pin, Pins, VectorCache};
pub use cap::CommitCap;
pub use file::read_file;
pub use lease::{Lease, LeaseError};
pub use ledger::{BudgetError, Debit, Ledger, Owner};
pub use mapping::{MapError, MappedSlice, Mapping, OwnedMapping, Prefetch};
pub use object_pool::{ObjectPool, Pooled, Reusable, Stamp, StampError};
pub use pod::{Pod, cast, cast_mut};
pub use pool::{Clear, Pool, PoolConfig, PoolStats};
pub use region::{CommitError, HugePages, Region};
pub use reservation::{Reservation, ReserveError};
pub use ring::Ring;
pub use scratch::{Frame, Scratch, ScratchError, ScratchReq, ScratchTooSmall};
