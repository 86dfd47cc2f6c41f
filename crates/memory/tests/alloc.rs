//! The counting allocator, and with it the claim that leasing, returning, debiting and taking scratch allocate nothing.

use std::hint::black_box;

use plimsoll_memory::alloc::{self, Counts};
use plimsoll_memory::process::resident_bytes;
use plimsoll_memory::{
    Clear, CommitCap, CountingAllocator, Ledger, ObjectPool, Owner, PipelineScope, Pool, PoolConfig,
    Reservation, Reusable, Scratch,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// What `work` allocates on this thread.
fn counts_of(work: impl FnOnce()) -> Counts {
    let before = alloc::thread_counts();
    work();
    alloc::thread_counts().since(before)
}

#[test]
fn each_way_of_allocating_is_counted_once() {
    let counts = |allocations, allocated_bytes, frees, freed_bytes| Counts {
        allocations,
        allocated_bytes,
        frees,
        freed_bytes,
    };
    assert_eq!(
        counts_of(|| drop(black_box(Box::new([1u8; 40])))),
        counts(1, 40, 1, 40)
    );
    assert_eq!(
        counts_of(|| drop(black_box(vec![0u32; 10]))),
        counts(1, 40, 1, 40)
    );
    let mut bytes = Vec::new();
    let grown = counts_of(|| {
        bytes = black_box(Vec::<u8>::with_capacity(10));
        bytes.reserve_exact(30);
    });
    assert_eq!(
        (grown, grown.live_bytes()),
        (counts(2, 40, 1, 10), bytes.capacity() as u64)
    );
}

#[test]
fn totals_hold_what_every_thread_did() {
    let before = alloc::total_counts();
    let threads: Vec<_> = (0..20)
        .map(|_| std::thread::spawn(|| (0..100).for_each(|_| drop(black_box(Box::new([0u8; 64]))))))
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let during = alloc::total_counts().since(before);
    assert!(during.allocations >= 2_000 && during.frees >= 2_000, "{during:?}");
    assert!(during.allocated_bytes >= 20 * 100 * 64, "{during:?}");
}

#[test]
fn a_sealed_thread_is_caught_allocating() {
    std::thread::spawn(|| {
        let before = alloc::violations();
        let kept = black_box(Box::new(1u8));
        alloc::seal();
        assert!(alloc::is_sealed());
        drop(kept); // freeing is allowed
        assert_eq!(alloc::thread_violations(), 0);
        drop(black_box(Box::new(2u8)));
        alloc::unseal();
        drop(black_box(Box::new(3u8)));
        assert_eq!(alloc::thread_violations(), 1);
        assert_eq!(alloc::violations() - before, 1);
    })
    .join()
    .unwrap();
}

/// One test, as the pipeline's counts belong to the whole process.
#[test]
fn pipeline_spans_count_apart_and_the_road_allocates_nothing() {
    let (before, bytes_before) = (alloc::pipeline_allocations(), alloc::pipeline_allocated_bytes());
    let outer = PipelineScope::enter();
    drop(PipelineScope::enter());
    drop(black_box(Box::new([0u8; 24])));
    std::thread::spawn(|| drop(black_box(Box::new(1u8))))
        .join()
        .unwrap();
    drop(outer);
    let spawned_here = alloc::pipeline_allocations() - before;
    assert!(spawned_here >= 1 && alloc::pipeline_allocated_bytes() - bytes_before >= 24);
    drop(black_box(Box::new(2u8)));
    assert_eq!(alloc::pipeline_allocations() - before, spawned_here);

    let road = Road::new();
    let before = alloc::pipeline_allocations();
    for len in [1, 5_000, 60_000, 1, 5_000, 60_000] {
        road.request(len);
    }
    assert_eq!(alloc::pipeline_allocations(), before);
}

struct Words([u32; 4]);

impl Reusable for Words {
    type Frozen = u32;
    fn clear_transient(&mut self, _: &u32) {}
    fn restore(&mut self, first: &u32) {
        self.0 = [*first; 4];
    }
    fn holds_resource(&self) -> bool {
        false
    }
}

struct Road {
    ledger: Ledger,
    cap: CommitCap,
    pool: Pool<u8>,
    words: ObjectPool<Words>,
    scratch: std::cell::RefCell<Scratch>,
}

impl Road {
    fn new() -> Self {
        let bytes = 1 << 17;
        let config = PoolConfig {
            name: "road",
            len_max: 65_536,
            bytes_max: bytes,
            slots_max: usize::MAX,
            clear: Clear::OnReturn,
        };
        let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config)).unwrap();
        let cap = CommitCap::new(bytes);
        let pool = Pool::new(&reservation, &cap, config).unwrap();
        let scratch = std::cell::RefCell::new(Scratch::new(8192).unwrap());
        let words = ObjectPool::new(1, |_| (1, Words([1; 4])));
        Road {
            ledger: Ledger::new(bytes),
            cap,
            pool,
            words,
            scratch,
        }
    }

    /// Everything that a request does with memory: fresh pages, reuse, trimming, refusals.
    fn request(&self, len: usize) {
        const REQUEST: Owner = Owner::new(0, "request");
        let _scope = PipelineScope::enter();
        let mut debit = self.ledger.try_debit(REQUEST, 1 << 17).unwrap();
        assert!(self.ledger.try_debit(REQUEST, 1).is_err());
        debit.shrink_to(self.pool.slot_bytes(len).unwrap());
        let part = debit.split(1).unwrap();
        let mut lease = self.pool.lease(len).unwrap();
        lease.fill(1);
        assert!(self.pool.lease(65_537).is_err());
        let mut words = self.words.take().unwrap();
        words.0[0] = 2;
        let mut scratch = self.scratch.borrow_mut();
        let frame = scratch.frame();
        frame.take::<f32>(100).unwrap()[0] = 1.0;
        frame.nested().take_zeroed::<u64>(100).unwrap()[0] = 1;
        drop((words, lease, part, debit));
        self.pool.trim(8192);
        self.cap.reclaim(1);
        assert!(self.pool.stats().leased_slots == 0 && resident_bytes().is_some());
    }
}
