//! Ledger and pools against a naive model: random sequences of debits, leases, returns, trims and panics.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use plimsoll_memory::process::page_bytes;
use plimsoll_memory::{
    BudgetError, Clear, CommitCap, Debit, Lease, Ledger, Owner, Pool, PoolConfig, Reservation,
};
use proptest::prelude::*;

const OWNERS: [Owner; 2] = [Owner::new(0, "even"), Owner::new(1, "odd")];
const CAP_PAGES: usize = 12;
const LEN_PAGES_MAX: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Lease { pool: usize, len_percent: usize },
    Return { which: usize },
    Panic { which: usize },
    Discard { which: usize },
    Truncate { which: usize, len_percent: usize },
    ShrinkDebit { which: usize },
    Trim { pool: usize, idle_pages_max: usize },
    Reclaim { pages: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (pool, which, len_percent) = (0..2usize, any::<usize>(), 0..=100usize);
    prop_oneof![
        6 => (pool.clone(), len_percent.clone()).prop_map(|(pool, len_percent)| Step::Lease { pool, len_percent }),
        4 => which.prop_map(|which| Step::Return { which }),
        1 => which.prop_map(|which| Step::Panic { which }),
        1 => which.prop_map(|which| Step::Discard { which }),
        1 => (which, len_percent).prop_map(|(which, len_percent)| Step::Truncate { which, len_percent }),
        1 => which.prop_map(|which| Step::ShrinkDebit { which }),
        1 => (pool, 0..4usize).prop_map(|(pool, idle_pages_max)| Step::Trim { pool, idle_pages_max }),
        1 => (0..4usize).prop_map(|pages| Step::Reclaim { pages }),
    ]
}

/// What is out, and what every word of it must hold.
struct Held {
    lease: Lease<u32>,
    debit: Debit,
    pool: usize,
    mark: u32,
}

impl Held {
    fn range(&self) -> Range<usize> {
        let start = self.lease.as_ptr() as usize;
        start..start + self.lease.slot_bytes()
    }
}

struct World {
    ledger: Ledger,
    cap: CommitCap,
    reservation: Reservation,
    pools: [Pool<u32>; 2],
    held: Vec<Held>,
    marks: u32,
    discarded: u64,
}

impl World {
    fn new() -> Self {
        let bytes = CAP_PAGES * page_bytes();
        let config = |name, clear| PoolConfig {
            name,
            len_max: LEN_PAGES_MAX * page_bytes() / 4,
            bytes_max: bytes,
            slots_max: usize::MAX,
            clear,
        };
        let configs = [
            config("never", Clear::Never),
            config("on return", Clear::OnReturn),
        ];
        let reserved = configs.iter().map(Pool::<u32>::reserve_bytes).sum();
        let reservation = Reservation::new(reserved).unwrap();
        let cap = CommitCap::new(bytes);
        let pools = configs.map(|config| Pool::new(&reservation, &cap, config).unwrap());
        World {
            ledger: Ledger::new(bytes),
            cap,
            reservation,
            pools,
            held: Vec::new(),
            marks: 0,
            discarded: 0,
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Lease { pool, len_percent } => self.lease(pool, len_percent),
            Step::Trim { pool, idle_pages_max } => {
                self.pools[pool].trim(idle_pages_max * page_bytes());
                let excess = self.pools[pool]
                    .stats()
                    .idle_bytes
                    .saturating_sub(idle_pages_max * page_bytes());
                assert_eq!(excess, 0);
            }
            Step::Reclaim { pages } => {
                let before = self.cap.committed_bytes();
                let freed = self.cap.reclaim(pages * page_bytes());
                assert_eq!(self.cap.committed_bytes(), before - freed);
                let idle: usize = self.pools.iter().map(|pool| pool.stats().idle_bytes).sum();
                assert!(freed >= pages * page_bytes() || idle == 0);
            }
            Step::Return { which } => drop(self.pick(which)),
            Step::Discard { which } => {
                if let Some(held) = self.pick(which) {
                    held.lease.discard();
                    self.discarded += 1;
                }
            }
            Step::Panic { which } => {
                if let Some(held) = self.pick(which) {
                    let ended: Result<(), _> = catch_unwind(AssertUnwindSafe(move || {
                        let _held = held;
                        resume_unwind(Box::new(())) // a panic without its message
                    }));
                    assert!(ended.is_err());
                    self.discarded += 1;
                }
            }
            Step::Truncate { which, len_percent } => {
                if let Some(mut held) = self.pick(which) {
                    let len = held.lease.len() * len_percent / 100;
                    held.lease.truncate(len);
                    assert_eq!(held.lease.len(), len);
                    self.held.push(held);
                }
            }
            Step::ShrinkDebit { which } => {
                if let Some(mut held) = self.pick(which) {
                    held.debit.shrink_to(held.lease.slot_bytes());
                    self.held.push(held);
                }
            }
        }
    }

    /// Takes one out of those held, after looking whether its words are still its own.
    fn pick(&mut self, which: usize) -> Option<Held> {
        let count = self.held.len();
        let held = (count > 0).then(|| self.held.swap_remove(which % count))?;
        assert!(
            held.lease.iter().all(|word| *word == held.mark),
            "a live slot was written by another"
        );
        Some(held)
    }

    /// Debits the slot and one page more, as a worst case that turned out smaller.
    fn lease(&mut self, pool: usize, len_percent: usize) {
        let len = self.pools[pool].len_max() * len_percent / 100;
        let need = self.pools[pool].slot_bytes(len).unwrap();
        let asked = need + page_bytes();
        let in_use: usize = self.held.iter().map(|held| held.debit.bytes()).sum();
        let available_bytes = self.ledger.limit_bytes() - in_use;
        let owner = OWNERS[pool];
        match self.ledger.try_debit(owner, asked) {
            Ok(debit) => {
                assert!(asked <= available_bytes);
                let mut lease = self.pools[pool].lease(len).expect("a debited lease never fails");
                assert_eq!((lease.len(), lease.slot_bytes()), (len, need));
                if pool == 1 {
                    assert!(
                        lease.iter().all(|word| *word == 0),
                        "a cleared pool hands out zeros"
                    );
                }
                self.marks += 1;
                lease.fill(self.marks);
                self.held.push(Held {
                    lease,
                    debit,
                    pool,
                    mark: self.marks,
                });
            }
            Err(error) => {
                let limit_bytes = self.ledger.limit_bytes();
                assert!(asked > available_bytes);
                assert_eq!(
                    error,
                    BudgetError {
                        owner,
                        requested_bytes: asked,
                        available_bytes,
                        limit_bytes
                    }
                );
            }
        }
    }

    fn check(&self) {
        let debited: usize = self.held.iter().map(|held| held.debit.bytes()).sum();
        assert_eq!(self.ledger.in_use(), debited);
        assert_eq!(
            OWNERS
                .map(|owner| self.ledger.in_use_by(owner))
                .iter()
                .sum::<usize>(),
            debited
        );

        let mut committed = 0;
        for (index, pool) in self.pools.iter().enumerate() {
            let stats = pool.stats();
            let mine = self.held.iter().filter(|held| held.pool == index);
            let leased: usize = mine.clone().map(|held| held.lease.slot_bytes()).sum();
            assert_eq!((stats.leased_slots, stats.leased_bytes), (mine.count(), leased));
            assert_eq!(stats.committed_bytes, stats.leased_bytes + stats.idle_bytes);
            assert_eq!(stats.refused, 0);
            committed += stats.committed_bytes;
        }
        assert_eq!(
            (self.cap.committed_bytes(), self.reservation.committed_bytes()),
            (committed, committed)
        );
        assert!(committed <= self.cap.cap_bytes());
        assert_eq!(
            self.pools.iter().map(|pool| pool.stats().discarded).sum::<u64>(),
            self.discarded
        );

        let mut ranges: Vec<_> = self.held.iter().map(Held::range).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(
            ranges.windows(2).all(|pair| pair[0].end <= pair[1].start),
            "live slots overlap"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn ledger_and_pools_agree_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        while let Some(held) = world.pick(0) {
            drop(held);
            world.check();
        }
        prop_assert_eq!(world.ledger.in_use(), 0);
        world.cap.trim_all();
        prop_assert_eq!(world.reservation.committed_bytes(), 0);
    }
}
