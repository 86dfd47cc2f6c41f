//! One cap on committed pages for all pools.
//!
//! Pools keep slots committed while idle, because the next request will want them. Left alone, each kind and size would keep its own peak, and the
//! sum of peaks exceeds any budget. So all pools of a process share one [`CommitCap`]: fresh pages are charged to it, and when it is full, idle slots
//! of other sizes and pools are given back first.
//!
//! **Why a debited lease never fails.** Committed bytes are leased, idle or being committed; the first and last are covered by debits, which stay
//! within the cap. Whoever takes idle slots away holds the list's lock until their bytes are credited, and a pass that saw no slot come back while it ran
//! has therefore left nothing idle; so what it could not find does not exist.

use std::sync::{Arc, Weak};

use crate::pool::{Keep, PoolCore};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The cap; cloning shares it.
#[derive(Debug, Clone)]
pub struct CommitCap {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cap: u64,
    /// Whether slots that come back stay committed.
    keeps_idle: bool,
    committed: AtomicU64,
    /// Counts slots that became idle.
    returns: AtomicU64,
    pools: Mutex<Vec<Weak<PoolCore>>>,
}

impl CommitCap {
    /// A cap of `bytes` on the committed pages of the pools that will be built with it.
    pub fn new(bytes: usize) -> Self {
        CommitCap::with(bytes, true)
    }

    /// As [`CommitCap::new`], but nothing stays idle: the pages of a slot are given back with it, as a plain allocation's would be. For measuring what
    /// keeping them is worth.
    pub fn keeping_nothing(bytes: usize) -> Self {
        CommitCap::with(bytes, false)
    }

    fn with(bytes: usize, keeps_idle: bool) -> Self {
        let shared = Shared {
            cap: bytes as u64,
            keeps_idle,
            committed: AtomicU64::new(0),
            returns: AtomicU64::new(0),
            pools: Mutex::new(Vec::new()),
        };
        CommitCap {
            shared: Arc::new(shared),
        }
    }

    /// The cap in bytes.
    pub fn cap_bytes(&self) -> usize {
        self.shared.cap as usize
    }

    /// Bytes that the pools have committed, leased and idle. Never above the cap.
    pub fn committed_bytes(&self) -> usize {
        self.shared.committed.load(Ordering::Relaxed) as usize
    }

    /// Gives back idle slots of any pool, largest first, until at least `bytes` are freed or none is idle; returns the bytes freed.
    /// The time it takes is bounded by `bytes`, apart from the last slot.
    pub fn reclaim(&self, bytes: usize) -> usize {
        self.give_back(&lock(&self.shared.pools), bytes, Keep::Nothing)
    }

    /// As [`reclaim`](Self::reclaim), but idle slots that traffic like the recent one will want again stay: per pool and size the share of its last
    /// 1,024 leases in the most slots that were out at once. What a burst left behind goes, and the next request still finds its slots warm.
    pub fn give_back_excess(&self, bytes: usize) -> usize {
        self.give_back(&lock(&self.shared.pools), bytes, Keep::Warm)
    }

    /// Ends a window of the time over which "at once" is measured; what was out before the window before this one is forgotten.
    pub fn turn_window(&self) {
        let pools = lock(&self.shared.pools);
        pools
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|core| core.turn_window());
    }

    /// Gives back every idle slot of every pool; returns the bytes freed.
    pub fn trim_all(&self) -> usize {
        self.reclaim(usize::MAX)
    }

    /// As [`reclaim`](Self::reclaim), of one pool only.
    pub(crate) fn reclaim_from(&self, core: &PoolCore, bytes: usize) -> usize {
        let _taking = lock(&self.shared.pools);
        let freed = core.give_back_idle(bytes, Keep::Nothing);
        self.release(freed);
        freed
    }

    pub(crate) fn register(&self, core: &Arc<PoolCore>) {
        let mut pools = lock(&self.shared.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(core));
    }

    /// Charges `bytes` of fresh pages, taking idle memory back where needed; the error is what was available.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), usize> {
        if self.try_charge(bytes).is_ok() {
            return Ok(());
        }
        let pools = lock(&self.shared.pools);
        loop {
            let returns = self.shared.returns.load(Ordering::SeqCst);
            let Err(available) = self.try_charge(bytes) else {
                return Ok(());
            };
            let mut freed = self.give_back(&pools, bytes - available, Keep::Warm);
            if freed < bytes - available {
                freed += self.give_back(&pools, bytes - available - freed, Keep::Nothing);
            }
            if self.try_charge(bytes).is_ok() {
                return Ok(());
            }
            if freed == 0 && returns == self.shared.returns.load(Ordering::SeqCst) {
                return Err(available);
            }
        }
    }

    /// Credits pages that were given back or could not be committed.
    pub(crate) fn release(&self, bytes: usize) {
        let before = self.shared.committed.fetch_sub(bytes as u64, Ordering::SeqCst);
        debug_assert!(before >= bytes as u64, "released {bytes} of {before}");
    }

    /// A slot of `core` has become idle.
    pub(crate) fn note_return(&self, core: &PoolCore) {
        self.shared.returns.fetch_add(1, Ordering::SeqCst);
        if !self.shared.keeps_idle {
            self.reclaim_from(core, usize::MAX);
        }
    }

    fn try_charge(&self, bytes: usize) -> Result<(), usize> {
        let sum = |committed: u64| {
            committed
                .checked_add(bytes as u64)
                .filter(|sum| *sum <= self.shared.cap)
        };
        self.shared
            .committed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum)
            .map(|_| ())
            .map_err(|committed| (self.shared.cap - committed) as usize)
    }

    fn give_back(&self, pools: &[Weak<PoolCore>], bytes: usize, keep: Keep) -> usize {
        let mut freed = 0;
        for core in pools.iter().filter_map(Weak::upgrade) {
            if freed >= bytes {
                break;
            }
            let given = core.give_back_idle(bytes - freed, keep);
            self.release(given);
            freed += given;
        }
        freed
    }
}
