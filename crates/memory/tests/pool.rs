//! Pools and leases as their users see them.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use plimsoll_memory::process::page_bytes;
use plimsoll_memory::{
    Clear, CommitCap, Lease, LeaseError, Ledger, Owner, Pod, Pool, PoolConfig, Reservation,
};

fn config(len_max: usize, bytes_max: usize, clear: Clear) -> PoolConfig {
    PoolConfig {
        name: "test",
        len_max,
        bytes_max,
        slots_max: usize::MAX,
        clear,
    }
}

fn pool<T: Pod>(cap: &CommitCap, config: PoolConfig) -> Pool<T> {
    let reservation = Reservation::new(Pool::<T>::reserve_bytes(&config)).unwrap();
    Pool::new(&reservation, cap, config).unwrap()
}

/// A pool of bytes with a cap of its own.
fn alone(pages_max: usize, clear: Clear) -> (CommitCap, Pool<u8>) {
    let bytes = pages_max * page_bytes();
    let cap = CommitCap::new(bytes);
    let pool = pool(&cap, config(bytes, bytes, clear));
    (cap, pool)
}

#[test]
fn a_lease_takes_the_next_power_of_two_in_pages() {
    let page = page_bytes();
    let cap = CommitCap::new(64 * page);
    let pool = pool::<u32>(&cap, config(4 * page, 64 * page, Clear::Never));
    for (len, pages) in [
        (0, 1),
        (1, 1),
        (page / 4, 1),
        (page / 4 + 1, 2),
        (page, 4),
        (4 * page, 16),
    ] {
        assert_eq!(pool.slot_bytes(len), Ok(pages * page), "{len}");
        let lease = pool.lease(len).unwrap();
        assert_eq!((lease.len(), lease.slot_bytes()), (len, pages * page));
    }
    let too_long = LeaseError::TooLong {
        pool: "test",
        len: 4 * page + 1,
        len_max: 4 * page,
    };
    assert_eq!(pool.slot_bytes(4 * page + 1), Err(too_long));
    assert_eq!(pool.lease(4 * page + 1).unwrap_err(), too_long);
}

#[test]
fn a_mark_tells_the_same_leases_from_as_many_others() {
    let (_cap, pool) = alone(8, Clear::Never);
    let marked = || (pool.stats().marked_slots, pool.stats().marked_bytes);
    let (kept, short) = (pool.lease(1).unwrap(), pool.lease(1).unwrap());
    assert_eq!(marked(), (0, 0), "nobody has marked");
    pool.mark();
    assert_eq!(marked(), (2, 2 * kept.slot_bytes()));
    // Its slot goes to another lease, of the same size, at the same place.
    let address = short.as_ptr();
    drop(short);
    let other = pool.lease(1).unwrap();
    assert_eq!((other.as_ptr(), pool.stats().leased_slots), (address, 2));
    assert_eq!(marked(), (1, kept.slot_bytes()));
    pool.mark();
    assert_eq!(marked().0, 2, "the other was out at the second mark");
    other.discard();
    drop(kept);
    assert_eq!(marked(), (0, 0));
}

#[test]
fn slots_are_reused_and_counted() {
    let (cap, pool) = alone(8, Clear::Never);
    let (first, second) = (pool.lease(10).unwrap(), pool.lease(10).unwrap());
    assert_ne!(first.as_ptr(), second.as_ptr());
    let address = second.as_ptr();
    drop(first);
    drop(second);
    assert_eq!(pool.lease(20).unwrap().as_ptr(), address);
    let stats = pool.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.leased_slots, stats.idle_slots),
        (1, 2, 0, 2)
    );
    assert_eq!(
        (stats.committed_bytes, cap.committed_bytes()),
        (2 * page_bytes(), 2 * page_bytes())
    );
}

#[test]
fn cleared_pools_hand_out_zeros_even_after_truncation() {
    let (_cap, pool) = alone(1, Clear::OnReturn);
    for _ in 0..3 {
        let mut lease = pool.lease(1000).unwrap();
        assert!(lease.iter().all(|byte| *byte == 0));
        lease.fill(9);
        lease.truncate(10);
        lease.truncate(20);
        assert_eq!(lease.len(), 10);
    }
}

#[test]
fn uncleared_pools_hand_out_what_the_last_user_left() {
    let (_cap, pool) = alone(1, Clear::Never);
    pool.lease(3).unwrap().copy_from_slice(b"abc");
    assert_eq!(*pool.lease(3).unwrap(), *b"abc");
}

#[test]
fn a_panic_discards_the_slot_and_its_contents() {
    let (cap, pool) = alone(1, Clear::Never);
    let mut lease = pool.lease(100).unwrap();
    lease.fill(1);
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _held = lease;
        panic!("in a stage");
    }));
    assert!(panicked.is_err());
    let stats = pool.stats();
    assert_eq!((stats.discarded, stats.leased_slots, stats.idle_slots), (1, 0, 0));
    assert_eq!((stats.committed_bytes, cap.committed_bytes()), (0, 0));
    assert!(pool.lease(100).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn a_holder_may_discard() {
    let (cap, pool) = alone(1, Clear::OnReturn);
    pool.lease(1).unwrap().discard();
    assert_eq!((pool.stats().discarded, cap.committed_bytes()), (1, 0));
}

#[test]
fn more_than_bytes_max_is_exhausted() {
    let (_cap, pool) = alone(2, Clear::Never);
    let held = [pool.lease(1).unwrap(), pool.lease(1).unwrap()];
    let exhausted = LeaseError::Exhausted {
        pool: "test",
        slot_bytes: page_bytes(),
        slots: 2,
    };
    assert_eq!(pool.lease(1).unwrap_err(), exhausted);
    drop(held);
    assert!(pool.lease(1).is_ok());
}

#[test]
fn fresh_pages_push_out_idle_ones_of_other_sizes_and_pools() {
    let page = page_bytes();
    let cap = CommitCap::new(8 * page);
    let bytes = pool::<u8>(&cap, config(8 * page, 8 * page, Clear::Never));
    let words = pool::<u32>(&cap, config(page, 8 * page, Clear::Never));
    drop(bytes.lease(8 * page).unwrap());
    drop(words.lease(page / 4).unwrap()); // pushes the large slot out
    assert_eq!(
        (bytes.stats().committed_bytes, words.stats().idle_bytes),
        (0, page)
    );
    drop((0..8).map(|_| bytes.lease(1).unwrap()).collect::<Vec<_>>());
    assert_eq!(
        (bytes.stats().idle_bytes, words.stats().idle_bytes),
        (8 * page, 0)
    );
    let whole = bytes.lease(8 * page).unwrap();
    assert_eq!((bytes.stats().idle_slots, cap.committed_bytes()), (0, 8 * page));
    let reached = LeaseError::CapReached {
        pool: "test",
        requested_bytes: page,
        available_bytes: 0,
    };
    assert_eq!(words.lease(1).unwrap_err(), reached);
    drop(whole);
    assert!(words.lease(1).is_ok());
}

#[test]
fn trimming_gives_back_down_to_a_line() {
    let page = page_bytes();
    let (cap, pool) = alone(16, Clear::Never);
    let leases: Vec<_> = (0..8).map(|_| pool.lease(1).unwrap()).collect();
    assert_eq!(pool.trim(0), 0);
    drop(leases);
    assert_eq!(pool.trim(8 * page), 0);
    assert_eq!(pool.trim(3 * page), 5 * page);
    assert_eq!(
        (pool.stats().idle_bytes, cap.committed_bytes()),
        (3 * page, 3 * page)
    );
    assert_eq!(cap.reclaim(1), page);
    assert_eq!(cap.trim_all(), 2 * page);
    assert_eq!((pool.stats().idle_slots, cap.committed_bytes()), (0, 0));
}

#[test]
fn neighbours_and_strangers_all_go_back() {
    let page = page_bytes();
    let (cap, pool) = alone(8, Clear::Never);
    let mut leases: Vec<_> = (0..8).map(|_| Some(pool.lease(1).unwrap())).collect();
    for slot in [0, 1, 5, 4, 7, 2, 3, 6] {
        leases[slot] = None;
    }
    assert_eq!(cap.reclaim(3 * page), 3 * page);
    assert_eq!(
        (pool.stats().idle_bytes, cap.committed_bytes()),
        (5 * page, 5 * page)
    );
    assert_eq!(cap.reclaim(usize::MAX), 5 * page);
    let again: Vec<_> = (0..8).map(|_| pool.lease(1).unwrap()).collect();
    let mut addresses: Vec<_> = again.iter().map(|lease| lease.as_ptr()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8);
}

#[test]
fn bookkeeping_is_two_words_a_slot_a_bit_a_page_and_the_recent_leases() {
    let page = page_bytes();
    let config = config(2 * page, 128 * page, Clear::Never);
    assert_eq!(Pool::<u8>::reserve_bytes(&config), 2 * 128 * page);
    assert_eq!(
        Pool::<u8>::bookkeeping_bytes(&config),
        (128 + 64) * 8 + 2 * 128 / 8 + 1024
    );
}

#[test]
fn warm_slots_wait_committed() {
    let (_cap, pool) = alone(8, Clear::Never);
    pool.warm(page_bytes() + 1, 3).unwrap();
    assert_eq!(pool.stats().idle_bytes, 6 * page_bytes());
    assert!(pool.warm(page_bytes() + 1, 5).is_err());
    drop(pool.lease(2 * page_bytes()).unwrap());
    assert_eq!(pool.stats().hits, 4); // three warm slots were taken again by the failed attempt
}

#[test]
fn a_dropped_pool_credits_the_cap_when_its_last_lease_ends() {
    let (cap, pool) = alone(4, Clear::Never);
    drop(pool.lease(1).unwrap());
    let lease = pool.lease(2 * page_bytes()).unwrap();
    drop(pool);
    assert_eq!(cap.committed_bytes(), 3 * page_bytes());
    drop(lease);
    assert_eq!((cap.committed_bytes(), cap.trim_all()), (0, 0));
}

#[test]
fn leases_can_be_stored_sent_and_shared_as_bytes() {
    fn owner<T: AsRef<[u8]> + Send + Sync + 'static>(owner: T) -> T {
        owner
    }
    let (_cap, pool) = alone(2, Clear::Never);
    let mut table: Vec<Option<Lease<u8>>> = vec![Some(owner(pool.lease(5).unwrap())), None];
    table[0].as_mut().unwrap().copy_from_slice(b"hello");
    let lease = table[0].take().unwrap();
    let sent = std::thread::spawn(move || lease.as_ref().to_vec())
        .join()
        .unwrap();
    assert_eq!((sent.as_slice(), pool.stats().leased_slots), (&b"hello"[..], 0));
}

plimsoll_memory::pod_struct! {
    /// A struct of a crate that forbids unsafe code.
    struct Span { start: u32, len: u32, score: f32 }
}

#[test]
fn structs_of_safe_crates_can_be_leased() {
    let page = page_bytes();
    let cap = CommitCap::new(page);
    let pool = pool::<Span>(&cap, config(page / 12, page, Clear::OnReturn));
    let mut spans = pool.lease(page / 12).unwrap();
    assert_eq!(spans[0], Span::default());
    spans[page / 12 - 1] = Span {
        start: 1,
        len: 2,
        score: 0.5,
    };
}

/// Requests of all sizes on several threads, with no more debited than the cap allows: no lease may ever fail, whatever is idle elsewhere.
#[test]
fn a_debited_lease_never_fails_under_contention() {
    const REQUEST: Owner = Owner::new(0, "request");
    let page = page_bytes();
    let cap_bytes = 16 * page;
    let (ledger, cap) = (Ledger::new(cap_bytes), CommitCap::new(cap_bytes));
    let pools =
        [Clear::Never, Clear::OnReturn].map(|clear| pool::<u8>(&cap, config(8 * page, cap_bytes, clear)));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (ledger, cap, pools) = (&ledger, &cap, &pools);
            scope.spawn(move || {
                let mut random = thread * 7919 + 1;
                for _ in 0..5_000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let pool = &pools[(random >> 33) as usize % 2];
                    let len = (random >> 40) as usize % (8 * page);
                    let Ok(_debit) = ledger.try_debit(REQUEST, pool.slot_bytes(len).unwrap()) else {
                        continue;
                    };
                    let mut lease = pool.lease(len).unwrap();
                    if let Some(byte) = lease.first_mut() {
                        *byte = thread as u8 + 1;
                        assert!(cap.committed_bytes() <= cap_bytes);
                    }
                    match random >> 60 {
                        0 => lease.discard(),
                        1 => drop((lease, cap.reclaim(page))),
                        _ => assert!(lease.first().is_none_or(|byte| *byte == thread as u8 + 1)),
                    }
                }
            });
        }
    });
    assert_eq!(ledger.in_use(), 0);
    assert_eq!(
        pools
            .each_ref()
            .map(|pool| (pool.stats().leased_slots, pool.stats().refused)),
        [(0, 0); 2]
    );
    cap.trim_all();
    assert_eq!(cap.committed_bytes(), 0);
}

#[test]
fn slots_max_bounds_every_size_and_saves_address_space() {
    let few = PoolConfig {
        slots_max: 2,
        ..config(1 << 16, 1 << 20, Clear::Never)
    };
    assert!(
        Pool::<u8>::reserve_bytes(&few) < Pool::<u8>::reserve_bytes(&config(1 << 16, 1 << 20, Clear::Never))
    );
    let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&few)).unwrap();
    let pool = Pool::<u8>::new(&reservation, &CommitCap::new(1 << 20), few).unwrap();
    for len in [1, 1 << 16] {
        let leases = [pool.lease(len).unwrap(), pool.lease(len).unwrap()];
        assert!(matches!(
            pool.lease(len),
            Err(LeaseError::Exhausted { slots: 2, .. })
        ));
        drop(leases);
    }
}

#[test]
fn what_a_burst_left_goes_and_what_traffic_needs_stays() {
    let page = page_bytes();
    let (cap, pool) = alone(64, Clear::Never);
    let burst: Vec<_> = (0..32).map(|_| pool.lease(1).unwrap()).collect();
    assert!(burst.iter().all(|lease| !lease.was_warm()));
    drop(burst);
    assert_eq!(
        cap.give_back_excess(usize::MAX),
        0,
        "so many were out at once in this window"
    );
    cap.turn_window();
    cap.turn_window();
    assert_eq!(
        cap.give_back_excess(3 * page),
        3 * page,
        "no more than was asked for"
    );
    assert_eq!(cap.give_back_excess(usize::MAX), 27 * page);
    assert_eq!(pool.stats().idle_slots, 2);
    assert!(pool.lease(1).unwrap().was_warm());
}

#[test]
fn a_shift_of_the_sizes_strands_nothing() {
    let page = page_bytes();
    let (cap, pool) = alone(64, Clear::Never);
    (0..2000).for_each(|_| drop(pool.lease(page).unwrap()));
    (0..2000).for_each(|_| drop(pool.lease(16 * page).unwrap()));
    assert_eq!(cap.committed_bytes(), 17 * page);
    assert_eq!(
        cap.give_back_excess(usize::MAX),
        page,
        "nobody asked for a page lately"
    );
    assert!(pool.lease(16 * page).unwrap().was_warm());
}
