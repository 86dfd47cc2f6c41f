//! The cache of vectors with readers that hold on to what they read, and rivals for its bytes.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_engine::{Engine, Nanos, Reclaim};
use plimsoll_memory::{
    CacheConfig, CacheKey, CachePolicy, CommitCap, Inserted, Ledger, Owner, Pin, Reservation, VectorCache,
};

use crate::rng::Rng;

const CACHE: Owner = Owner::new(2, "cached vectors");
const VECTOR_LEN: usize = 256;
const KEYS: usize = 400;
/// The cache grows and shrinks by so much.
const CHUNK_BYTES: usize = 12 * 1024;
const SESSIONS: usize = 4;
const PINS_MAX: usize = 40;

pub(super) struct CacheWorld {
    rng: Rng,
    cache: VectorCache,
    config: CacheConfig,
    ledger: Ledger,
    cap: CommitCap,
    now_ns: u64,
    /// How often each key was put in.
    versions: HashMap<usize, u32>,
    pins: Vec<(usize, Pin, Vec<f32>)>,
    hits: u64,
    insertions: u64,
}

/// What the engine takes bytes back from.
struct Lender(VectorCache);

impl Reclaim for Lender {
    fn name(&self) -> &'static str {
        "vectors"
    }

    fn capacity_bytes(&self) -> usize {
        self.0.bytes_max()
    }

    fn live_bytes(&self) -> usize {
        self.0.bytes()
    }

    fn marked_bytes(&self) -> usize {
        self.0.stats().pinned_bytes
    }

    fn reclaim(&self, goal_bytes: usize, step_bytes: usize) -> usize {
        self.0
            .shrink_to(goal_bytes.max(self.0.bytes().saturating_sub(step_bytes)))
    }
}

impl CacheWorld {
    /// A cache that borrows from the engine's ledger.
    pub(super) fn new(mut rng: Rng, engine: &Engine) -> Result<CacheWorld, String> {
        let bytes_max = (1 + rng.below(8)) * CHUNK_BYTES;
        let config = CacheConfig {
            vector_len: VECTOR_LEN,
            bytes_max,
            pinned_bytes_max: bytes_max / (1 + rng.below(4)),
            session_bytes_max: bytes_max / (1 + rng.below(4)),
            ttl_ns: Nanos::from_ms(1 + rng.below(60_000) as u64).0,
            floor_bytes: rng.below(8192),
            policy: *rng.pick(&CachePolicy::ALL),
        };
        let (ledger, cap) = (engine.ledger().clone(), CommitCap::new(bytes_max));
        let reservation =
            Reservation::new(VectorCache::reserve_bytes(&config)).map_err(|error| error.to_string())?;
        let cache = VectorCache::new(&reservation, &cap, &ledger, CACHE, config)
            .map_err(|error| error.to_string())?;
        engine.register(Arc::new(Lender(cache.clone())));
        Ok(CacheWorld {
            rng,
            cache,
            config,
            ledger,
            cap,
            now_ns: 0,
            versions: HashMap::new(),
            pins: Vec::new(),
            hits: 0,
            insertions: 0,
        })
    }

    /// Some readers and writers come by.
    pub(super) fn step(&mut self, now: Nanos) -> Result<(), String> {
        self.now_ns = now.0;
        for _ in 0..1 + self.rng.below(8) {
            let number = self.rng.below(KEYS);
            match self.rng.below(100) {
                0..45 => self.insert(number),
                45..80 => self.find(number)?,
                80..95 => self.unpin(),
                95 => self.target(),
                96 => {
                    self.cache.shrink_to(self.rng.below(self.config.bytes_max));
                }
                97 => {
                    self.cache.expire(self.now_ns);
                }
                _ => self.target(),
            }
        }
        Ok(())
    }

    /// Readers let go.
    pub(super) fn let_go(&mut self) {
        self.pins.clear();
    }

    /// Whether anyone reads.
    pub(super) fn is_pinned(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Every byte can be had back, and then the cache works as before.
    pub(super) fn settle(&mut self, now: Nanos) -> Result<(), String> {
        self.now_ns = now.0;
        self.let_go();
        self.cache.shrink_to(0);
        let (in_use, committed) = (self.ledger.in_use(), self.cap.committed_bytes());
        if in_use + committed > 0 {
            return Err(format!(
                "an empty cache holds {in_use} bytes of the ledger and {committed} of pages"
            ));
        }
        self.cache.set_target_bytes(self.config.bytes_max);
        self.insert(0);
        self.find(0)?;
        let works = self.is_pinned();
        self.let_go();
        match works || !self.fits_one() {
            true => self.check(),
            false => Err("an idle cache does not give back what was put in".to_owned()),
        }
    }

    /// Vectors that were found, and vectors that were put in.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.hits, self.insertions)
    }

    /// Whether its limits let it hold and pin one vector at all.
    fn fits_one(&self) -> bool {
        CHUNK_BYTES + self.config.floor_bytes <= self.ledger.limit_bytes()
    }

    fn insert(&mut self, number: usize) {
        let version = self.versions.get(&number).copied().unwrap_or(0) + 1;
        let session = self.rng.below(SESSIONS) as u64;
        let inserted = self.cache.insert(
            key(number),
            session,
            self.now_ns,
            &vector(number, version),
            [number as u32, 0],
        );
        if inserted != Inserted::Full {
            self.versions.insert(number, version);
            self.insertions += 1;
        }
    }

    fn find(&mut self, number: usize) -> Result<(), String> {
        let Some(pin) = self.cache.find(key(number), self.now_ns) else {
            return Ok(());
        };
        self.hits += 1;
        let latest = self.versions.get(&number).copied().unwrap_or(0);
        let found = pin[1] as u32;
        if pin[..] != vector(number, found) || found > latest || pin.note()[0] != number as u32 {
            return Err(format!(
                "key {number} found the vector {:?} with note {:?}",
                &pin[..2],
                pin.note()
            ));
        }
        let copy = pin.to_vec();
        if self.pins.len() < PINS_MAX {
            self.pins.push((number, pin, copy));
        }
        Ok(())
    }

    fn unpin(&mut self) {
        if !self.pins.is_empty() {
            let index = self.rng.below(self.pins.len());
            drop(self.pins.swap_remove(index));
        }
    }

    fn target(&mut self) {
        let bytes = self.rng.below(2 * self.config.bytes_max);
        self.cache.set_target_bytes(bytes);
    }

    /// What must hold after every step.
    pub(super) fn check(&self) -> Result<(), String> {
        for (number, pin, copy) in &self.pins {
            if pin[..] != copy[..] {
                return Err(format!("the vector of key {number} changed under its pin"));
            }
        }
        let stats = self.cache.stats();
        let debited = self.ledger.in_use_by(CACHE);
        if debited != stats.bytes {
            return Err(format!(
                "{debited} bytes are debited for {} of the cache",
                stats.bytes
            ));
        }
        if self.cap.committed_bytes() != stats.bytes || stats.bytes > self.cache.bytes_max() {
            return Err(format!(
                "{} bytes are committed for {}",
                self.cap.committed_bytes(),
                stats.bytes
            ));
        }
        if stats.pinned_bytes > self.config.pinned_bytes_max.max(CHUNK_BYTES) {
            return Err(format!(
                "{} bytes are pinned of {}",
                stats.pinned_bytes, self.config.pinned_bytes_max
            ));
        }
        let mut pinned: Vec<*const f32> = self.pins.iter().map(|(_, pin, _)| pin.as_ptr()).collect();
        pinned.sort_unstable();
        pinned.dedup();
        let (least, most) = (pinned.len() * self.cache.slot_bytes(), pinned.len() * CHUNK_BYTES);
        if !(least..=most).contains(&stats.pinned_bytes) {
            return Err(format!(
                "{} bytes are kept by {} slots that are read",
                stats.pinned_bytes,
                pinned.len()
            ));
        }
        Ok(())
    }
}

fn key(number: usize) -> CacheKey {
    let mut spread = Rng::new(number as u64);
    CacheKey(spread.next(), spread.next())
}

/// Tells its key and its version in every element.
fn vector(number: usize, version: u32) -> [f32; VECTOR_LEN] {
    std::array::from_fn(|index| match index {
        0 => number as f32,
        1 => version as f32,
        _ => (number * 31 + version as usize * 7 + index) as f32,
    })
}
