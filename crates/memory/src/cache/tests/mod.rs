//! The cache against a naive one, and at its edges.

mod naive;

use naive::Naive;
use proptest::prelude::*;

use super::*;

const OWNER: Owner = Owner::new(3, "cached vectors");
/// Four slots a chunk.
const VECTOR_LEN: usize = 768;
const CHUNK_BYTES: usize = 4 * SLOT_BYTES;
const SLOT_BYTES: usize = VECTOR_LEN * size_of::<f32>();
const CHUNKS: usize = 4;
/// Chunks.
const PINNED_MAX: usize = 2;
const SESSION_MAX: usize = 5;
const TTL_NS: u64 = 50;

fn config(policy: CachePolicy) -> CacheConfig {
    CacheConfig {
        vector_len: VECTOR_LEN,
        bytes_max: CHUNKS * CHUNK_BYTES,
        pinned_bytes_max: PINNED_MAX * CHUNK_BYTES,
        session_bytes_max: SESSION_MAX * SLOT_BYTES,
        ttl_ns: TTL_NS,
        floor_bytes: 0,
        policy,
    }
}

struct Rig {
    ledger: Ledger,
    cap: CommitCap,
    reservation: Reservation,
    cache: VectorCache,
}

fn rig(config: CacheConfig, ledger_bytes: usize) -> Rig {
    let (ledger, cap) = (Ledger::new(ledger_bytes), CommitCap::new(ledger_bytes));
    let reservation = Reservation::new(VectorCache::reserve_bytes(&config)).unwrap();
    let cache = VectorCache::new(&reservation, &cap, &ledger, OWNER, config).unwrap();
    Rig {
        ledger,
        cap,
        reservation,
        cache,
    }
}

/// Halves that collide in the index now and then.
fn key(number: u64) -> CacheKey {
    CacheKey(number / 3, number << 32 | number)
}

impl Rig {
    fn insert(&self, number: u64, session: u64, now_ns: u64, mark: u32) -> Inserted {
        let vector = vec![mark as f32; VECTOR_LEN];
        self.cache
            .insert(key(number), session, now_ns, &vector, [mark, 0])
    }

    #[track_caller]
    fn assert_books_agree(&self) {
        let stats = self.cache.stats();
        let books = [
            self.ledger.in_use(),
            self.ledger.in_use_by(OWNER),
            self.cap.committed_bytes(),
            self.reservation.committed_bytes(),
        ];
        assert_eq!(books, [stats.bytes; 4]);
        assert!(stats.entries * SLOT_BYTES <= stats.bytes);
        assert!(stats.pinned_bytes <= stats.bytes);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Find { number: u64, hold: bool },
    Insert { number: u64, session: u64 },
    Unpin { which: usize },
    Shrink { chunks: usize },
    Target { chunks: usize },
    Pass { ns: u64 },
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let number = || prop_oneof![0..12u64, 0..40u64];
    prop_oneof![
        8 => (number(), prop::bool::weighted(0.3)).prop_map(|(number, hold)| Step::Find { number, hold }),
        8 => (number(), 0..3u64).prop_map(|(number, session)| Step::Insert { number, session }),
        3 => any::<usize>().prop_map(|which| Step::Unpin { which }),
        1 => (0..=CHUNKS).prop_map(|chunks| Step::Shrink { chunks }),
        1 => (0..=CHUNKS).prop_map(|chunks| Step::Target { chunks }),
        2 => (0..20u64).prop_map(|ns| Step::Pass { ns }),
        1 => Just(Step::Expire),
    ]
}

struct World {
    rig: Rig,
    naive: Naive,
    held: Vec<(Pin, u64, u32)>,
    now_ns: u64,
    marks: u32,
}

impl World {
    fn new(policy: CachePolicy) -> World {
        World {
            rig: rig(config(policy), CHUNKS * CHUNK_BYTES),
            naive: Naive::new(policy, CHUNKS, 4, SESSION_MAX, TTL_NS),
            held: Vec::new(),
            now_ns: 0,
            marks: 0,
        }
    }

    fn run(&mut self, step: Step) {
        let cache = self.rig.cache.clone();
        match step {
            Step::Find { number, hold } => self.find(number, hold),
            Step::Insert { number, session } => {
                self.marks += 1;
                for key in cache.state().next_swept(self.now_ns) {
                    self.naive.expire(key);
                }
                let inserted = self.rig.insert(number, session, self.now_ns, self.marks);
                let is_in = self.naive.insert(key(number), session, self.now_ns, self.marks);
                assert_eq!(inserted != Inserted::Full, is_in);
            }
            Step::Unpin { which } if !self.held.is_empty() => {
                let (pin, number, _) = self.held.swap_remove(which % self.held.len());
                drop(pin);
                self.naive.get(key(number)).unwrap().pins -= 1;
            }
            Step::Unpin { .. } => {}
            Step::Shrink { chunks } => self.shrink(chunks, |bytes| cache.shrink_to(bytes)),
            Step::Target { chunks } => {
                self.naive.target_chunks = chunks;
                self.shrink(chunks, |bytes| cache.set_target_bytes(bytes));
            }
            Step::Pass { ns } => self.now_ns += ns,
            Step::Expire => {
                cache.expire(self.now_ns);
                let old = self.naive.entries.iter();
                let old: Vec<_> = old
                    .filter(|entry| self.naive.is_old(entry, self.now_ns))
                    .map(|entry| entry.key)
                    .collect();
                old.into_iter().for_each(|key| self.naive.expire(key));
            }
        }
    }

    fn find(&mut self, number: u64, hold: bool) {
        let before = self.rig.cache.stats();
        let found = self.rig.cache.find(key(number), self.now_ns);
        if self.rig.cache.stats().misses_unpinnable > before.misses_unpinnable {
            assert!(found.is_none() && before.pinned_bytes == PINNED_MAX * CHUNK_BYTES);
            assert_eq!(self.naive.get(key(number)).unwrap().pins, 0);
            return;
        }
        let mark = self.naive.find(key(number), self.now_ns);
        assert_eq!(found.as_ref().map(|pin| pin.note()[0]), mark);
        let Some((pin, mark)) = found.zip(mark) else {
            return;
        };
        assert!(pin.iter().all(|value| *value == mark as f32));
        if hold {
            self.held.push((pin, number, mark));
        } else {
            drop(pin);
            self.naive.get(key(number)).unwrap().pins -= 1;
        }
    }

    /// Chunks in which a held vector lies.
    fn pinned_chunks(&self) -> usize {
        let base = self.rig.cache.shared.region.base().as_ptr() as usize;
        let chunks = self
            .held
            .iter()
            .map(|(pin, ..)| (pin.as_ptr() as usize - base) / CHUNK_BYTES);
        chunks.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Which chunks have readers is the cache's affair; how many entries went, and which, is not.
    fn shrink(&mut self, chunks: usize, shrink: impl FnOnce(usize) -> usize) {
        let before = self.rig.cache.stats();
        let freed = shrink(chunks * CHUNK_BYTES);
        let after = self.rig.cache.stats();
        assert_eq!(freed, before.bytes - after.bytes);
        let evicted = (after.evictions_shrink - before.evictions_shrink) as usize;
        if self.naive.pinned() == 0 {
            assert_eq!(after.bytes, before.bytes.min(chunks * CHUNK_BYTES));
        }
        assert_eq!(evicted, before.entries.saturating_sub(after.bytes / SLOT_BYTES));
        self.naive.chunks = after.bytes / CHUNK_BYTES;
        (0..evicted).for_each(|_| assert!(self.naive.evict()));
    }

    fn check(&self) {
        self.rig.assert_books_agree();
        let stats = self.rig.cache.stats();
        assert_eq!(stats.bytes, self.naive.chunks * CHUNK_BYTES);
        assert_eq!(stats.pinned_bytes, self.pinned_chunks() * CHUNK_BYTES);
        let named = self.naive.entries.iter().map(|entry| entry.session);
        let named: std::collections::BTreeSet<u64> = named.filter(|session| *session != 0).collect();
        assert_eq!(stats.sessions, named.len());
        assert!(stats.pinned_bytes <= PINNED_MAX * CHUNK_BYTES);
        let mut keys = self.rig.cache.state().keys();
        let mut expected: Vec<_> = self.naive.entries.iter().map(|entry| entry.key).collect();
        keys.sort();
        expected.sort();
        assert_eq!(keys, expected);
        for (pin, _, mark) in &self.held {
            assert!(
                pin.iter().all(|value| *value == *mark as f32),
                "a pinned vector was overwritten"
            );
        }
    }
}

proptest! {
    #[test]
    fn it_agrees_with_a_naive_cache(policy in prop::sample::select(&CachePolicy::ALL[..]), steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new(policy);
        for step in steps {
            world.run(step);
            world.check();
        }
        world.held.clear();
        world.rig.cache.shrink_to(0);
        world.rig.assert_books_agree();
        prop_assert_eq!(world.rig.ledger.in_use(), 0);
    }
}

#[test]
fn what_is_read_is_not_evicted_and_a_full_cache_says_so() {
    for policy in CachePolicy::ALL {
        let config = CacheConfig {
            bytes_max: CHUNK_BYTES,
            pinned_bytes_max: usize::MAX,
            ..config(policy)
        };
        let rig = rig(config, CHUNK_BYTES);
        (0..4).for_each(|number| assert_eq!(rig.insert(number, 0, 0, number as u32), Inserted::New));
        let pins: Vec<Pin> = (0..4)
            .map(|number| rig.cache.find(key(number), 0).unwrap())
            .collect();
        assert_eq!(rig.insert(9, 0, 0, 9), Inserted::Full);
        assert_eq!(rig.cache.shrink_to(0), 0, "a chunk with readers stays");
        assert_eq!(rig.cache.expire(TTL_NS), 0, "nor does age matter");
        drop(pins);
        assert_eq!(rig.insert(9, 0, 0, 9), Inserted::New, "{}", policy.name());
        let stats = rig.cache.stats();
        assert_eq!((stats.insertions_refused, stats.evictions), (1, 1));
        rig.assert_books_agree();
    }
}

#[test]
fn growth_stops_at_the_ledgers_floor_and_eviction_goes_on() {
    let config = CacheConfig {
        floor_bytes: CHUNK_BYTES,
        ..config(CachePolicy::Lru)
    };
    let rig = rig(config, 3 * CHUNK_BYTES);
    (0..12).for_each(|number| assert_eq!(rig.insert(number, 0, 0, 0), Inserted::New));
    assert_eq!(
        (rig.cache.bytes(), rig.cache.stats().evictions),
        (2 * CHUNK_BYTES, 4)
    );
    let request = rig
        .ledger
        .try_debit(Owner::new(0, "requests"), CHUNK_BYTES)
        .unwrap();
    assert_eq!(rig.cache.shrink_to(CHUNK_BYTES), CHUNK_BYTES);
    assert_eq!(
        rig.insert(20, 0, 0, 0),
        Inserted::New,
        "by eviction: the request has the bytes"
    );
    assert_eq!(rig.cache.bytes(), CHUNK_BYTES);
    drop(request);
    assert_eq!(rig.insert(21, 0, 0, 0), Inserted::New);
    assert_eq!(rig.cache.bytes(), 2 * CHUNK_BYTES);
}

#[test]
fn a_cache_that_may_not_grow_at_all_serves_nobody() {
    let rig = rig(config(CachePolicy::S3Fifo), CHUNK_BYTES - 1);
    assert_eq!(rig.insert(1, 0, 0, 0), Inserted::Full);
    assert!(rig.cache.find(key(1), 0).is_none());
    let none = config(CachePolicy::S3Fifo);
    let none = CacheConfig {
        bytes_max: CHUNK_BYTES - 1,
        ..none
    };
    assert_eq!(VectorCache::reserve_bytes(&none), 0);
}

#[test]
fn shrinking_keeps_the_hottest_wherever_they_lie() {
    let rig = rig(config(CachePolicy::Lru), CHUNKS * CHUNK_BYTES);
    (0..16).for_each(|number| assert_eq!(rig.insert(number, 0, 0, number as u32), Inserted::New));
    for number in [13, 1, 7, 10] {
        drop(rig.cache.find(key(number), 0).unwrap());
    }
    assert_eq!(rig.cache.shrink_to(CHUNK_BYTES), 3 * CHUNK_BYTES);
    for number in 0..16 {
        let found = rig.cache.find(key(number), 0);
        assert_eq!(found.is_some(), [13, 1, 7, 10].contains(&number), "{number}");
        assert!(found.is_none_or(|pin| pin.iter().all(|value| *value == number as f32)));
    }
}

/// One pinned vector keeps its whole chunk: the cap is of what nobody can take back.
#[test]
fn what_readers_keep_from_being_given_back_is_capped() {
    let rig = rig(config(CachePolicy::Lru), CHUNKS * CHUNK_BYTES);
    (0..16).for_each(|number| assert_eq!(rig.insert(number, 0, 0, 0), Inserted::New));
    let pins: Vec<Option<Pin>> = [0, 4, 8, 12, 1]
        .map(|number| rig.cache.find(key(number), 0))
        .into();
    assert_eq!(
        pins.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, true, false, false, true]
    );
    assert_eq!(rig.cache.stats().misses_unpinnable, 2);
    rig.cache.shrink_to(0);
    assert_eq!(rig.cache.bytes(), PINNED_MAX * CHUNK_BYTES);
}

/// A chunk is what its vectors fill best, not longer than it must be, and never shorter than one.
#[test]
fn chunks_are_short_and_full() {
    for (vector_len, slots, pages) in [
        (384, 8, 3),
        (768, 4, 3),
        (1024, 3, 3),
        (512, 6, 3),
        (16, 192, 3),
        (17000, 1, 17),
    ] {
        let geometry = Geometry::of(&CacheConfig {
            vector_len,
            bytes_max: 1 << 20,
            ..CacheConfig::default()
        });
        assert_eq!(
            (geometry.chunk_slots, geometry.chunk_bytes),
            (slots, pages * page_bytes()),
            "{vector_len}"
        );
    }
}

#[test]
fn pins_hold_until_they_are_dropped() {
    let rig = rig(config(CachePolicy::Sieve), CHUNKS * CHUNK_BYTES);
    let pool_config = crate::PoolConfig {
        name: "pins",
        len_max: 4,
        bytes_max: 1 << 14,
        slots_max: 1,
        clear: crate::Clear::Never,
    };
    let reservation = Reservation::new(crate::Pool::<u32>::reserve_bytes(&pool_config)).unwrap();
    let pool = crate::Pool::<u32>::new(&reservation, &CommitCap::new(1 << 14), pool_config).unwrap();
    let mut pins = Pins::new(&rig.cache, pool.lease(3).unwrap());
    assert!(pins.is_empty());
    (0..2).for_each(|number| assert_eq!(rig.insert(number, 0, 0, number as u32 + 1), Inserted::New));
    for number in [0, 1, 0] {
        pins.push(rig.cache.find(key(number), 0).unwrap());
    }
    assert_eq!((pins.len(), rig.cache.stats().pinned_bytes), (3, CHUNK_BYTES));
    assert_eq!([0, 1, 2].map(|number| pins.vector(number)[0]), [1.0, 2.0, 1.0]);
    drop(pins);
    assert_eq!(
        (rig.cache.stats().pinned_bytes, pool.stats().leased_slots),
        (0, 0)
    );
}

#[test]
fn a_dropped_cache_gives_all_back() {
    let rig = rig(config(CachePolicy::S3Fifo), CHUNKS * CHUNK_BYTES);
    (0..16).for_each(|number| assert_eq!(rig.insert(number, 0, 0, 0), Inserted::New));
    assert_eq!(rig.ledger.in_use(), CHUNKS * CHUNK_BYTES);
    drop(rig.cache);
    let books = [
        rig.ledger.in_use(),
        rig.cap.committed_bytes(),
        rig.reservation.committed_bytes(),
    ];
    assert_eq!(books, [0; 3]);
}

#[test]
fn a_scan_leaves_the_hot_entries_of_s3_fifo_alone() {
    let hot_found_after_a_scan = |policy| {
        let config = CacheConfig {
            session_bytes_max: usize::MAX,
            ttl_ns: u64::MAX,
            ..config(policy)
        };
        let rig = rig(config, CHUNKS * CHUNK_BYTES);
        let ask = |number: u64| {
            let found = rig.cache.find(key(number), 0).is_some();
            if !found {
                rig.insert(number, 0, 0, 0);
            }
            found
        };
        let found = |asked: std::ops::Range<u64>| asked.filter(|number| ask(*number)).count();
        assert_eq!([(); 3].map(|()| found(0..10)), [0, 10, 10]);
        assert_eq!(found(100..200), 0);
        found(0..10)
    };
    assert_eq!(hot_found_after_a_scan(CachePolicy::S3Fifo), 10);
    assert_eq!(hot_found_after_a_scan(CachePolicy::Lru), 0);
}
