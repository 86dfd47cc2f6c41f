//! Leased slots, one pool for each kind of work.
//!
//! Millions of short-lived buffers are the same few shapes over and over. A [`Pool`] keeps slots of one element type in power-of-two sizes, committed
//! on first use and kept while idle; a [`Lease`] owns one slot until it is dropped, wherever that happens: at the end, on cancel, deadline, disconnect,
//! or in a panic, when the slot's pages are dropped with it instead of being reused.
//!
//! The smallest slot is one page. Smaller ones would share pages, and then neither committing nor giving back could follow a single lease;
//! a page for a short lease costs less than that. Sizes are powers of two, so a lease takes at most twice its length (one page at least), and
//! [`Pool::slot_bytes`] says exactly how much: what admission debits is what the lease takes.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::cap::CommitCap;
use crate::class::{Class, SlotId};
use crate::lease::{Lease, LeaseError};
use crate::pod::Pod;
use crate::process::page_bytes;
use crate::profile;
use crate::region::HugePages;
use crate::reservation::{Reservation, ReserveError};
use crate::sizing::Sizing;
use crate::sync::{Mutex, lock};

/// What a slot holds when it is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// Zeros: what was leased is cleared when it returns. For kinds that are read before they are fully written, and for secrets.
    OnReturn,
    /// Whatever the last user of this pool left, or zeros: returning is O(1). For kinds that are written before they are read.
    Never,
}

/// What a pool is for and how much it may hold.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// Name in errors and metrics.
    pub name: &'static str,
    /// Longest lease, in elements.
    pub len_max: usize,
    /// Most bytes of slots that may be out at once; leases that sum to at most this never find the pool exhausted.
    pub bytes_max: usize,
    /// Most slots that may be out at once, whatever their size; `usize::MAX` when only bytes bound them. Saves address space.
    pub slots_max: usize,
    /// What a leased slot holds.
    pub clear: Clear,
}

/// Counts of a pool, or of one size of its slots. Read size by size, so exact whenever no lease is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Slots that are out.
    pub leased_slots: usize,
    /// Their bytes.
    pub leased_bytes: usize,
    /// Of those that are out, how many were out at the last [mark](Pool::mark).
    pub marked_slots: usize,
    /// Their bytes.
    pub marked_bytes: usize,
    /// Slots that are committed and waiting.
    pub idle_slots: usize,
    /// Their bytes.
    pub idle_bytes: usize,
    /// Committed bytes: leased and idle.
    pub committed_bytes: usize,
    /// Leases served from an idle slot.
    pub hits: u64,
    /// Leases that committed fresh pages.
    pub misses: u64,
    /// Slots whose pages were dropped because a panic passed through or the holder said so.
    pub discarded: u64,
    /// Returns refused for a wrong generation; anything but 0 means that memory was corrupted.
    pub refused: u64,
}

/// A pool of slots of `T`; cloning shares it.
///
/// See the [crate's example](crate).
pub struct Pool<T> {
    core: Arc<PoolCore>,
    element: PhantomData<fn() -> T>,
}

/// Pages are given back in spans of at most so many bytes, one longer slot apart, so that no call into the kernel takes long.
const GIVE_BACK_SPAN_BYTES: usize = 2 << 20;

/// The pool without its element type.
#[derive(Debug)]
pub(crate) struct PoolCore {
    pub(crate) config: PoolConfig,
    /// Its number among the kinds that profiles tell apart.
    profile_kind: u8,
    cap: CommitCap,
    /// Sizes ascending, each twice the one before.
    pub(crate) classes: Box<[Class]>,
    sizing: Mutex<Sizing>,
}

/// Which idle slots stay when memory is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None.
    Nothing,
    /// Those that traffic like the recent one will want again.
    Warm,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool {
            core: self.core.clone(),
            element: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.core.config)
            .finish_non_exhaustive()
    }
}

impl<T: Pod> Pool<T> {
    /// Address space that a pool of this configuration carves: `bytes_max` for each size (less where `slots_max` bounds it first), as
    /// any one size may need it.
    pub fn reserve_bytes(config: &PoolConfig) -> usize {
        let sizes = slot_sizes::<T>(config);
        sizes
            .map(|slot_bytes| region_bytes(config, slot_bytes))
            .fold(0, usize::saturating_add)
    }

    /// Heap bytes that the bookkeeping of such a pool may come to touch: two words a slot, a bit a page, and the sizes of recent leases. No other figure of a pool includes them.
    pub fn bookkeeping_bytes(config: &PoolConfig) -> usize {
        let of_size = |slot_bytes| {
            let bytes = region_bytes(config, slot_bytes);
            bytes / slot_bytes * 8 + (bytes / page_bytes()).div_ceil(64) * 8
        };
        slot_sizes::<T>(config)
            .map(of_size)
            .fold(Sizing::heap_bytes(), usize::saturating_add)
    }

    /// Builds the pool: allocates its bookkeeping, commits nothing yet.
    pub fn new(reservation: &Reservation, cap: &CommitCap, config: PoolConfig) -> Result<Self, ReserveError> {
        let class = |slot_bytes| {
            let region = reservation.carve(region_bytes(&config, slot_bytes))?;
            region.huge_pages(HugePages::Never);
            Ok(Class::new(region, slot_bytes))
        };
        let classes = slot_sizes::<T>(&config)
            .map(class)
            .collect::<Result<_, ReserveError>>()?;
        let core = Arc::new(PoolCore {
            config,
            profile_kind: profile::kind(config.name),
            cap: cap.clone(),
            classes,
            sizing: Mutex::new(Sizing::new()),
        });
        cap.register(&core);
        Ok(Pool {
            core,
            element: PhantomData,
        })
    }

    /// Leases `len` elements; no heap. Contents: zeros under [`Clear::OnReturn`], unspecified under [`Clear::Never`].
    ///
    /// # Errors
    /// [`LeaseError::TooLong`] above the longest lease. The others cannot happen while leases stay within their debits, `bytes_max` and the cap, except
    /// that a kernel without memory may refuse pages.
    pub fn lease(&self, len: usize) -> Result<Lease<T>, LeaseError> {
        let core = &self.core;
        let class = core.class_of::<T>(len)?;
        let (slot, warm) = core.take(class)?;
        lock(&core.sizing).leased(class);
        // Initialised memory of the slot's own: committed by `take`, zero or `Pod` values of an earlier lease.
        let address = core.classes[class].address(slot.index).cast::<T>();
        Ok(Lease {
            core: core.clone(),
            address,
            len,
            dirty_len: len,
            class,
            slot,
            warm,
            discard: false,
            sampled: profile::lease_born(
                core.profile_kind,
                address.as_ptr().cast(),
                core.classes[class].slot_bytes(),
            ),
        })
    }

    /// The exact bytes that a lease of `len` elements takes: what to debit for it.
    pub fn slot_bytes(&self, len: usize) -> Result<usize, LeaseError> {
        Ok(self.core.classes[self.core.class_of::<T>(len)?].slot_bytes())
    }

    /// Commits `slots` idle slots for leases of `len` and makes them resident, so that the first requests find them warm.
    pub fn warm(&self, len: usize, slots: usize) -> Result<(), LeaseError> {
        let leases = (0..slots)
            .map(|_| self.lease(len))
            .collect::<Result<Vec<_>, _>>()?;
        for lease in &leases {
            let populated = self.core.classes[lease.class].populate(lease.slot.index);
            populated.map_err(|error| LeaseError::Commit {
                pool: self.name(),
                error,
            })?;
        }
        Ok(())
    }

    /// Gives back idle slots, largest first, until at most `idle_bytes_max` stay idle; returns the bytes freed.
    pub fn trim(&self, idle_bytes_max: usize) -> usize {
        let excess = self.stats().idle_bytes.saturating_sub(idle_bytes_max);
        if excess == 0 {
            0
        } else {
            self.core.cap.reclaim_from(&self.core, excess)
        }
    }

    /// Marks the leases that are out: [`PoolStats::marked_slots`] counts those of them that still are, none that came after. Two counts of leases cannot tell whether
    /// they counted the same ones; this can. A mark takes the place of the one before.
    pub fn mark(&self) {
        self.core.classes.iter().for_each(|class| class.lists().mark());
    }

    /// Counts over all sizes.
    pub fn stats(&self) -> PoolStats {
        let mut sum = PoolStats::default();
        for (_, stats) in self.stats_by_size() {
            sum.leased_slots += stats.leased_slots;
            sum.leased_bytes += stats.leased_bytes;
            sum.marked_slots += stats.marked_slots;
            sum.marked_bytes += stats.marked_bytes;
            sum.idle_slots += stats.idle_slots;
            sum.idle_bytes += stats.idle_bytes;
            sum.committed_bytes += stats.committed_bytes;
            sum.hits += stats.hits;
            sum.misses += stats.misses;
            sum.discarded += stats.discarded;
            sum.refused += stats.refused;
        }
        sum
    }

    /// Slot sizes in bytes, ascending, with the counts of each.
    pub fn stats_by_size(&self) -> impl Iterator<Item = (usize, PoolStats)> {
        self.core
            .classes
            .iter()
            .map(|class| (class.slot_bytes(), class_stats(class)))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.core.config.name
    }

    /// Longest lease, in elements.
    pub fn len_max(&self) -> usize {
        self.core.config.len_max
    }
}

/// Powers of two from one page to the longest lease.
fn slot_sizes<T: Pod>(config: &PoolConfig) -> impl Iterator<Item = usize> {
    const { assert!(size_of::<T>() > 0) };
    let longest = config.len_max.saturating_mul(size_of::<T>()).max(page_bytes());
    let largest = longest
        .checked_next_power_of_two()
        .unwrap_or(1 << (usize::BITS - 1));
    (page_bytes().trailing_zeros()..=largest.trailing_zeros()).map(|shift| 1 << shift)
}

/// At least one slot of the size, else as many as `bytes_max` pays for and `slots_max` allows.
fn region_bytes(config: &PoolConfig, slot_bytes: usize) -> usize {
    (config.bytes_max / slot_bytes)
        .min(config.slots_max)
        .max(1)
        .saturating_mul(slot_bytes)
}

fn class_stats(class: &Class) -> PoolStats {
    let committed_bytes = class.committed_bytes();
    let lists = class.lists();
    PoolStats {
        leased_slots: lists.leased_slots as usize,
        leased_bytes: lists.leased_slots as usize * class.slot_bytes(),
        marked_slots: lists.marked_slots as usize,
        marked_bytes: lists.marked_slots as usize * class.slot_bytes(),
        idle_slots: lists.idle_slots as usize,
        idle_bytes: lists.idle_slots as usize * class.slot_bytes(),
        committed_bytes,
        hits: lists.hits,
        misses: lists.misses,
        discarded: lists.discarded,
        refused: lists.refused,
    }
}

impl PoolCore {
    fn class_of<T: Pod>(&self, len: usize) -> Result<usize, LeaseError> {
        let PoolConfig {
            name: pool, len_max, ..
        } = self.config;
        if len > len_max {
            return Err(LeaseError::TooLong { pool, len, len_max });
        }
        let slot_bytes = (len * size_of::<T>()).next_power_of_two().max(page_bytes());
        Ok((slot_bytes.trailing_zeros() - page_bytes().trailing_zeros()) as usize)
    }

    /// An idle slot (true: it was warm), else a cold one with pages charged and committed.
    fn take(&self, class: usize) -> Result<(SlotId, bool), LeaseError> {
        let class = &self.classes[class];
        let index = {
            let mut lists = class.lists();
            if let Some(index) = lists.pop_idle() {
                lists.hits += 1;
                return Ok((lists.stamp(index), true));
            }
            let exhausted = LeaseError::Exhausted {
                pool: self.config.name,
                slot_bytes: class.slot_bytes(),
                slots: lists.slots(),
            };
            lists.pop_cold().ok_or(exhausted)?
        };
        let committed = self.commit(class, index);
        let mut lists = class.lists();
        if let Err(error) = committed {
            lists.push_cold(index);
            return Err(error);
        }
        lists.misses += 1;
        Ok((lists.stamp(index), false))
    }

    fn commit(&self, class: &Class, index: u32) -> Result<(), LeaseError> {
        let (pool, requested_bytes) = (self.config.name, class.slot_bytes());
        self.cap
            .charge(requested_bytes)
            .map_err(|available_bytes| LeaseError::CapReached {
                pool,
                requested_bytes,
                available_bytes,
            })?;
        class.commit(index).map_err(|error| {
            self.cap.release(requested_bytes);
            LeaseError::Commit { pool, error }
        })
    }

    /// Takes a slot back. Its holder is gone; a discarded slot loses its pages before anyone can lease it.
    pub(crate) fn put(&self, class: usize, slot: SlotId, discard: bool) {
        let class = &self.classes[class];
        if !class.lists().unstamp(slot) {
            return;
        }
        lock(&self.sizing).returned();
        if discard {
            return self.put_discarded(class, slot.index);
        }
        class.lists().push_idle(slot.index);
        self.cap.note_return(self);
    }

    fn put_discarded(&self, class: &Class, index: u32) {
        let freed = class.give_back(index..index + 1);
        let mut lists = class.lists();
        lists.discarded += 1;
        if freed > 0 {
            lists.push_cold(index);
            self.cap.release(freed);
            return;
        }
        // The kernel kept the pages: nobody may see what is in them.
        // SAFETY: the slot is committed and in neither list, so it is ours alone until it is pushed.
        unsafe { class.address(index).write_bytes(0, class.slot_bytes()) };
        lists.push_idle(index);
        // A cap that keeps nothing idle asks for the lists at once.
        drop(lists);
        self.cap.note_return(self);
    }

    pub(crate) fn turn_window(&self) {
        lock(&self.sizing).turn();
    }

    /// Gives back idle slots, largest first, until at least `bytes` are freed; the caller holds the cap's list and credits it.
    pub(crate) fn give_back_idle(&self, bytes: usize, keep: Keep) -> usize {
        let mut freed = 0;
        for (size, class) in self.classes.iter().enumerate().rev() {
            let warm_slots = match keep {
                Keep::Nothing => 0,
                Keep::Warm => lock(&self.sizing).slots(size, class.slot_bytes()),
            };
            while freed < bytes {
                let wanted = (bytes - freed).div_ceil(class.slot_bytes());
                let span = (GIVE_BACK_SPAN_BYTES / class.slot_bytes()).max(1);
                // Held until the slots are in a list again: a debited lease must never find them in none.
                let mut lists = class.lists();
                let Some(run) = lists.pop_excess_run(warm_slots, wanted.min(span)) else {
                    break;
                };
                let given = class.give_back(run.clone());
                if given == 0 {
                    run.for_each(|index| lists.push_idle(index));
                    break;
                }
                run.for_each(|index| lists.push_cold(index));
                freed += given;
            }
        }
        freed
    }
}

impl Drop for PoolCore {
    fn drop(&mut self) {
        // Every lease holds the core, so all that is committed is idle.
        self.cap
            .release(self.classes.iter().map(Class::committed_bytes).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_with_a_stale_stamp_is_refused_and_counted() {
        let config = PoolConfig {
            name: "stale",
            len_max: 1,
            bytes_max: page_bytes(),
            slots_max: usize::MAX,
            clear: Clear::Never,
        };
        let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config)).unwrap();
        let cap = CommitCap::new(page_bytes());
        let pool = Pool::<u8>::new(&reservation, &cap, config).unwrap();
        let stale = pool.lease(1).unwrap().slot;
        let lease = pool.lease(1).unwrap();
        for discard in [false, true] {
            pool.core.put(0, stale, discard);
        }
        let stats = pool.stats();
        assert_eq!((stats.refused, stats.leased_slots, stats.idle_slots), (2, 1, 0));
        assert_eq!(stats.committed_bytes, lease.slot_bytes());
    }
}
