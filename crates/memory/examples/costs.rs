//! What the parts cost, in nanoseconds an operation on one thread: a quick look, not a benchmark record.
//!
//! `cargo run --release -p plimsoll-memory --example costs`

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

use plimsoll_memory::{
    Clear, CommitCap, CountingAllocator, Ledger, Owner, Pool, PoolConfig, Reservation, Scratch,
};

const REQUEST: Owner = Owner::new(0, "request");

/// Best of five rounds.
fn cost(name: &str, mut work: impl FnMut()) {
    const CALLS: u32 = 200_000;
    let round = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| work());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    let best = (0..5).map(round).fold(f64::INFINITY, f64::min);
    println!("{best:8.1} ns  {name}");
}

fn allocate_and_free(allocator: &impl GlobalAlloc) {
    let layout = Layout::new::<[u64; 32]>();
    // SAFETY: the layout is not empty, and what was allocated with it is freed with it.
    unsafe { allocator.dealloc(black_box(allocator.alloc(layout)), layout) };
}

/// Leases, returns and trims 4,096 slots of a page.
fn cost_of_burst(pool: &Pool<u8>) {
    const SLOTS: usize = 4096;
    let start = Instant::now();
    let mut leases: Vec<_> = (0..SLOTS).map_while(|_| pool.lease(1).ok()).collect();
    let leased = start.elapsed();
    leases.iter_mut().for_each(|lease| lease[0] = 1);
    drop(leases);
    let start = Instant::now();
    let freed = pool.trim(0);
    let per_slot = |elapsed: std::time::Duration| elapsed.as_nanos() as f64 / SLOTS as f64;
    println!(
        "{:8.1} ns  lease a fresh slot, in a burst of {SLOTS}",
        per_slot(leased)
    );
    println!(
        "{:8.1} ns  give a slot back, trimming {freed} bytes",
        per_slot(start.elapsed())
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = PoolConfig {
        name: "costs",
        len_max: 1 << 20,
        bytes_max: 1 << 24,
        slots_max: usize::MAX,
        clear: Clear::Never,
    };
    let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config))?;
    let cap = CommitCap::new(1 << 24);
    let pool = Pool::<u8>::new(&reservation, &cap, config)?;
    let ledger = Ledger::new(1 << 24);
    let mut scratch = Scratch::new(1 << 20)?;

    cost("debit and credit", || {
        drop(black_box(ledger.try_debit(REQUEST, 4096)))
    });
    cost("lease and return, idle slot", || {
        drop(black_box(pool.lease(4096)))
    });
    cost("lease, touch one page, give back", || {
        let mut lease = pool.lease(4096).expect("within the cap");
        lease[0] = 1;
        drop(lease);
        pool.trim(0);
    });
    cost_of_burst(&pool);
    cost("frame with two pieces", || {
        let frame = scratch.frame();
        black_box((frame.take::<f32>(1024).is_ok(), frame.take::<f32>(1024).is_ok()));
    });
    cost("system: allocate and free 256 bytes", || {
        allocate_and_free(&System)
    });
    cost("counting: allocate and free 256 bytes", || {
        allocate_and_free(&CountingAllocator)
    });
    Ok(())
}
