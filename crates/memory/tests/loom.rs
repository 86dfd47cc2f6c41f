//! Every interleaving of a few threads over the ledger and the pools, under loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p plimsoll-memory --test loom --release`
#![cfg(loom)]
#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::thread;
use plimsoll_memory::process::page_bytes;
use plimsoll_memory::{
    CacheConfig, CacheKey, CachePolicy, Clear, CommitCap, Inserted, Ledger, Owner, Pool, PoolConfig,
    Reservation, Ring, VectorCache,
};

const A: Owner = Owner::new(0, "a");
const B: Owner = Owner::new(1, "b");

/// A pool of one- and two-page slots under `cap`.
fn pool(cap: &CommitCap) -> Pool<u8> {
    let bytes = cap.cap_bytes();
    let config = PoolConfig {
        name: "loom",
        len_max: 2 * page_bytes(),
        bytes_max: bytes,
        slots_max: usize::MAX,
        clear: Clear::Never,
    };
    let reservation = Reservation::new(Pool::<u8>::reserve_bytes(&config)).unwrap();
    Pool::new(&reservation, cap, config).unwrap()
}

#[test]
fn debits_never_exceed_the_limit_and_end_at_zero() {
    loom::model(|| {
        let ledger = Ledger::new(100);
        let debit = |owner: Owner, bytes: usize| {
            let ledger = ledger.clone();
            move || {
                let debit = ledger.try_debit(owner, bytes);
                assert!(ledger.in_use() <= 100);
                if let Ok(mut debit) = debit {
                    debit.shrink_to(10);
                }
            }
        };
        let other = thread::spawn(debit(A, 60));
        debit(B, 60)();
        other.join().unwrap();
        assert_eq!(
            (ledger.in_use(), ledger.in_use_by(A), ledger.in_use_by(B)),
            (0, 0, 0)
        );
        assert!(ledger.high_water_bytes() <= 100);
    });
}

#[test]
fn a_full_ledger_gives_its_last_bytes_to_exactly_one() {
    loom::model(|| {
        let ledger = Ledger::new(100);
        let other = {
            let ledger = ledger.clone();
            thread::spawn(move || ledger.try_debit(A, 60).ok())
        };
        let mine = ledger.try_debit(B, 60).ok();
        let theirs = other.join().unwrap();
        assert_eq!(usize::from(mine.is_some()) + usize::from(theirs.is_some()), 1);
        assert_eq!(ledger.in_use(), 60);
    });
}

#[test]
fn two_leases_are_two_slots() {
    loom::model(|| {
        let cap = CommitCap::new(2 * page_bytes());
        let pool = pool(&cap);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || pool.lease(1).unwrap())
        };
        let mine = pool.lease(1).unwrap();
        let theirs = other.join().unwrap();
        assert_ne!(mine.as_ptr(), theirs.as_ptr());
        assert_eq!(cap.committed_bytes(), 2 * page_bytes());
        drop((mine, theirs));
        assert_eq!((pool.stats().idle_slots, pool.stats().leased_slots), (2, 0));
    });
}

/// Two sizes compete for a cap that holds only one of them at a time; a lease that was debited finds its pages in every interleaving.
#[test]
fn a_debited_lease_takes_idle_pages_from_another_size() {
    loom::model(|| {
        let bytes = 2 * page_bytes();
        let (ledger, cap) = (Ledger::new(bytes), CommitCap::new(bytes));
        let pool = pool(&cap);
        drop(pool.lease(1).unwrap()); // one page idle from the start
        let request = |owner: Owner, len: usize| {
            let (ledger, pool) = (ledger.clone(), pool.clone());
            move || {
                if let Ok(_debit) = ledger.try_debit(owner, pool.slot_bytes(len).unwrap()) {
                    drop(pool.lease(len).unwrap());
                }
            }
        };
        let other = thread::spawn(request(A, bytes));
        request(B, 1)();
        other.join().unwrap();
        assert_eq!((ledger.in_use(), pool.stats().leased_slots), (0, 0));
        assert!(cap.committed_bytes() <= bytes);
        assert_eq!(cap.committed_bytes(), pool.stats().committed_bytes);
    });
}

/// While one request looks for idle pages, another returns a large slot to a pool already passed and takes the idle slot of the pool not yet reached.
///
/// Every order with up to six preemptions: all of them would take hours.
#[test]
fn a_slot_that_comes_back_behind_the_search_is_found() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(6);
    model.check(|| {
        let page = page_bytes();
        let (ledger, cap) = (Ledger::new(3 * page), CommitCap::new(3 * page));
        let (first, second) = (pool(&cap), pool(&cap));
        drop(second.lease(1).unwrap());
        let debit = ledger.try_debit(A, 2 * page).unwrap();
        let lease = first.lease(2 * page).unwrap();
        let other = {
            let (ledger, second) = (ledger.clone(), second.clone());
            thread::spawn(move || {
                drop(lease);
                drop(debit);
                let _debit = ledger.try_debit(A, page).unwrap();
                drop(second.lease(1).unwrap());
            })
        };
        let mine = ledger.try_debit(B, page).unwrap();
        drop(first.lease(1).unwrap());
        drop(mine);
        other.join().unwrap();
        assert_eq!(ledger.in_use(), 0);
        let committed = first.stats().committed_bytes + second.stats().committed_bytes;
        assert_eq!(cap.committed_bytes(), committed);
    });
}

#[test]
fn a_lease_beside_a_reclaimer_finds_its_pages() {
    loom::model(|| {
        let bytes = 2 * page_bytes();
        let cap = CommitCap::new(bytes);
        let pool = pool(&cap);
        drop(pool.lease(1).unwrap());
        let reclaimer = {
            let cap = cap.clone();
            thread::spawn(move || cap.trim_all())
        };
        drop(pool.lease(bytes).unwrap());
        reclaimer.join().unwrap();
        assert_eq!(cap.committed_bytes(), pool.stats().committed_bytes);
    });
}

#[test]
fn a_discarded_slot_is_not_leased_before_its_pages_are_gone() {
    loom::model(|| {
        let cap = CommitCap::new(page_bytes());
        let pool = pool(&cap);
        let mut lease = pool.lease(1).unwrap();
        lease[0] = 7;
        let other = thread::spawn(move || lease.discard());
        if let Ok(lease) = pool.lease(1) {
            assert_eq!(lease[0], 0);
        }
        other.join().unwrap();
        assert_eq!(pool.stats().discarded, 1);
    });
}

/// Elements of a vector of half a chunk.
const VECTOR_LEN: usize = 1536;
const KEYS: [CacheKey; 3] = [CacheKey(1, 1), CacheKey(2, 2), CacheKey(3, 3)];

/// A cache of two slots in one chunk, with its books.
fn cache() -> (VectorCache, Ledger, CommitCap) {
    let bytes = 2 * VECTOR_LEN * size_of::<f32>();
    let config = CacheConfig {
        vector_len: VECTOR_LEN,
        bytes_max: bytes,
        policy: CachePolicy::Lru,
        ..CacheConfig::default()
    };
    let (ledger, cap) = (Ledger::new(bytes), CommitCap::new(bytes));
    let reservation = Reservation::new(VectorCache::reserve_bytes(&config)).unwrap();
    let cache = VectorCache::new(&reservation, &cap, &ledger, B, config).unwrap();
    (cache, ledger, cap)
}

fn put(cache: &VectorCache, which: usize) -> Inserted {
    cache.insert(
        KEYS[which],
        0,
        0,
        &vec![which as f32; VECTOR_LEN],
        [which as u32, 0],
    )
}

fn is_whole(vector: &[f32], which: usize) -> bool {
    vector[0] == which as f32 && vector[VECTOR_LEN - 1] == which as f32
}

/// A reader, an inserter that has to evict, and the reader's unpinning meet in every order: what is read stays what it was.
#[test]
fn an_eviction_never_takes_what_is_read() {
    loom::model(|| {
        let (cache, ledger, _) = cache();
        assert_eq!((put(&cache, 0), put(&cache, 1)), (Inserted::New, Inserted::New));
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || {
                let found = cache.find(KEYS[0], 0);
                thread::yield_now();
                assert!(found.as_ref().is_none_or(|pin| is_whole(pin, 0)));
            })
        };
        assert_eq!(put(&cache, 2), Inserted::New, "one of the two can always go");
        reader.join().unwrap();
        let stats = cache.stats();
        assert_eq!(
            (stats.entries, stats.pinned_bytes, ledger.in_use()),
            (2, 0, stats.bytes)
        );
    });
}

/// Two readers of one entry and a shrink: the last reader out lets the pages go, and they go once.
#[test]
fn pages_go_back_when_the_last_reader_has_gone() {
    loom::model(|| {
        let (cache, ledger, cap) = cache();
        assert_eq!(put(&cache, 0), Inserted::New);
        let mine = cache.find(KEYS[0], 0).unwrap();
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || {
                let found = cache.find(KEYS[0], 0);
                assert!(found.is_none_or(|pin| is_whole(&pin, 0)));
            })
        };
        assert_eq!(cache.shrink_to(0), 0, "it is read");
        assert!(is_whole(&mine, 0));
        drop(mine);
        let freed = cache.shrink_to(0);
        reader.join().unwrap();
        assert!(freed + cache.shrink_to(0) > 0);
        assert_eq!((cache.bytes(), ledger.in_use(), cap.committed_bytes()), (0, 0, 0));
    });
}

/// The cache grows into bytes that a request wants: one of them is told no, and the cap holds.
#[test]
fn growth_and_a_debit_share_the_last_bytes() {
    loom::model(|| {
        let (cache, ledger, cap) = cache();
        let request = {
            let ledger = ledger.clone();
            thread::spawn(move || ledger.try_debit(A, 1).is_ok())
        };
        let grew = put(&cache, 0) == Inserted::New;
        let asked = request.join().unwrap();
        assert!(grew || asked);
        assert_eq!(ledger.in_use(), cache.bytes());
        assert_eq!(cap.committed_bytes(), cache.bytes());
    });
}

/// Two writers of one place, of whom one reads while the other is under way: what it reads is one writer's whole record.
#[test]
fn a_ring_never_shows_a_mixture() {
    loom::model(|| {
        let ring = Arc::new(Ring::<2>::new(1));
        let other = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.push(&[1, 1]))
        };
        ring.push(&[2, 2]);
        let mut seen = 0;
        let mut each = |words: &[u64; 2]| {
            assert_eq!(words[0], words[1], "a torn record");
            seen += 1;
        };
        let (next, lost) = ring.read(0, &mut each);
        other.join().unwrap();
        let (next, more) = ring.read(next, &mut each);
        // One that found its place taken was not written; a reader waits for it until half a round has come after it.
        assert!((1..=2).contains(&next));
        assert_eq!(seen + lost + more, next);
    });
}
