//! The cache as anyone would write it: lists of keys, walked from end to end.

use crate::cache::order::Ghost;
use crate::cache::{CacheKey, CachePolicy};

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: CacheKey,
    pub(super) session: u64,
    pub(super) used_ns: u64,
    pub(super) mark: u32,
    pub(super) pins: usize,
}

/// An order of eviction, newest first.
#[derive(Debug)]
enum Order {
    Lru(Vec<CacheKey>),
    Sieve {
        keys: Vec<CacheKey>,
        visited: Vec<CacheKey>,
        hand: Option<CacheKey>,
    },
    S3Fifo {
        small: Vec<CacheKey>,
        main: Vec<CacheKey>,
        uses: Vec<CacheKey>,
        ghost: Ghost,
    },
}

pub(super) struct Naive {
    pub(super) entries: Vec<Entry>,
    order: Order,
    /// Keys of all sessions, used last first.
    by_use: Vec<CacheKey>,
    pub(super) chunks: usize,
    pub(super) target_chunks: usize,
    chunk_slots: usize,
    session_max: usize,
    ttl_ns: u64,
}

fn take(keys: &mut Vec<CacheKey>, key: CacheKey) -> bool {
    let place = keys.iter().position(|other| *other == key);
    place.map(|place| keys.remove(place)).is_some()
}

fn to_front(keys: &mut Vec<CacheKey>, key: CacheKey) {
    take(keys, key);
    keys.insert(0, key);
}

impl Naive {
    pub(super) fn new(
        policy: CachePolicy,
        chunks: usize,
        chunk_slots: usize,
        session_max: usize,
        ttl_ns: u64,
    ) -> Naive {
        let order = match policy {
            CachePolicy::Lru => Order::Lru(Vec::new()),
            CachePolicy::Sieve => Order::Sieve {
                keys: Vec::new(),
                visited: Vec::new(),
                hand: None,
            },
            CachePolicy::S3Fifo => Order::S3Fifo {
                small: Vec::new(),
                main: Vec::new(),
                uses: Vec::new(),
                ghost: Ghost::new(chunks * chunk_slots),
            },
        };
        Naive {
            entries: Vec::new(),
            order,
            by_use: Vec::new(),
            chunks: 0,
            target_chunks: chunks,
            chunk_slots,
            session_max,
            ttl_ns,
        }
    }

    pub(super) fn get(&mut self, key: CacheKey) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }

    pub(super) fn pinned(&self) -> usize {
        self.entries.iter().filter(|entry| entry.pins > 0).count()
    }

    pub(super) fn is_old(&self, entry: &Entry, now_ns: u64) -> bool {
        now_ns - entry.used_ns >= self.ttl_ns
    }

    /// The mark of what is found, one pin more on it.
    pub(super) fn find(&mut self, key: CacheKey, now_ns: u64) -> Option<u32> {
        let entry = self.get(key)?.clone();
        if self.is_old(&entry, now_ns) {
            self.expire(key);
            return None;
        }
        self.used(key, now_ns);
        let entry = self.get(key)?;
        entry.pins += 1;
        Some(entry.mark)
    }

    /// Removes what nobody reads.
    pub(super) fn expire(&mut self, key: CacheKey) {
        if self.get(key).is_some_and(|entry| entry.pins == 0) {
            self.forget(key);
            self.remove(key);
        }
    }

    fn used(&mut self, key: CacheKey, now_ns: u64) {
        to_front(&mut self.by_use, key);
        if let Some(entry) = self.get(key) {
            entry.used_ns = now_ns;
        }
        match &mut self.order {
            Order::Lru(keys) => to_front(keys, key),
            Order::Sieve { visited, .. } => visited.push(key),
            Order::S3Fifo { uses, .. } => {
                if uses.iter().filter(|used| **used == key).count() < 3 {
                    uses.push(key);
                }
            }
        }
    }

    /// Whether it is in afterwards.
    pub(super) fn insert(&mut self, key: CacheKey, session: u64, now_ns: u64, mark: u32) -> bool {
        if self.get(key).is_some() {
            self.used(key, now_ns);
            let entry = self.get(key).unwrap();
            if entry.pins == 0 {
                entry.mark = mark;
            }
            return true;
        }
        if !self.keep_share(session) || !self.make_room() {
            return false;
        }
        self.entries.push(Entry {
            key,
            session,
            used_ns: now_ns,
            mark,
            pins: 0,
        });
        self.by_use.insert(0, key);
        match &mut self.order {
            Order::Lru(keys) | Order::Sieve { keys, .. } => keys.insert(0, key),
            Order::S3Fifo {
                small, main, ghost, ..
            } => {
                let known = ghost.take(Ghost::fingerprint(key.1), main.len().max(small.len()));
                if known { main } else { small }.insert(0, key);
            }
        }
        true
    }

    fn keep_share(&mut self, session: u64) -> bool {
        let mine = |naive: &Naive, key: CacheKey| {
            naive
                .entries
                .iter()
                .any(|entry| entry.key == key && entry.session == session)
        };
        let count = self
            .entries
            .iter()
            .filter(|entry| entry.session == session)
            .count();
        if session == 0 || count < self.session_max {
            return true;
        }
        for _ in 0..count {
            let oldest = self.by_use.iter().copied().rfind(|key| mine(self, *key)).unwrap();
            if self.get(oldest).unwrap().pins == 0 {
                self.forget(oldest);
                self.remove(oldest);
                return true;
            }
            to_front(&mut self.by_use, oldest);
        }
        false
    }

    fn make_room(&mut self) -> bool {
        if self.entries.len() < self.chunks * self.chunk_slots {
            return true;
        }
        if self.chunks < self.target_chunks {
            self.chunks += 1;
            return true;
        }
        self.evict()
    }

    /// Evicts one entry by the policy.
    pub(super) fn evict(&mut self) -> bool {
        let Some(key) = self.victim() else {
            return false;
        };
        self.remove(key);
        true
    }

    /// Takes the next victim out of the order.
    fn victim(&mut self) -> Option<CacheKey> {
        let entries = &self.entries;
        let pinned = |key: CacheKey| entries.iter().any(|entry| entry.key == key && entry.pins > 0);
        let looks = match self.order {
            Order::Lru(_) => 1,
            Order::Sieve { .. } => 2,
            Order::S3Fifo { .. } => 5,
        };
        for _ in 0..looks * entries.len() {
            match &mut self.order {
                Order::Lru(keys) => {
                    let key = keys.pop()?;
                    if !pinned(key) {
                        return Some(key);
                    }
                    keys.insert(0, key);
                }
                Order::Sieve { keys, visited, hand } => {
                    let place = hand
                        .and_then(|hand| keys.iter().position(|key| *key == hand))
                        .unwrap_or(keys.len() - 1);
                    let key = keys[place];
                    *hand = place.checked_sub(1).map(|newer| keys[newer]);
                    if !visited.contains(&key) && !pinned(key) {
                        keys.remove(place);
                        return Some(key);
                    }
                    visited.retain(|other| *other != key);
                }
                Order::S3Fifo {
                    small,
                    main,
                    uses,
                    ghost,
                } => {
                    let from_small = main.is_empty() || small.len() * 10 >= small.len() + main.len();
                    if from_small && !small.is_empty() {
                        let key = small.pop()?;
                        if !uses.contains(&key) && !pinned(key) {
                            ghost.add(Ghost::fingerprint(key.1));
                            return Some(key);
                        }
                        uses.retain(|used| *used != key);
                        main.insert(0, key);
                    } else {
                        let key = main.pop()?;
                        if !take(uses, key) && !pinned(key) {
                            return Some(key);
                        }
                        main.insert(0, key);
                    }
                }
            }
        }
        None
    }

    /// Takes a key out of the order, for another reason than want of room.
    fn forget(&mut self, key: CacheKey) {
        match &mut self.order {
            Order::Lru(keys) => drop(take(keys, key)),
            Order::Sieve { keys, hand, .. } => {
                let place = keys.iter().position(|other| *other == key).unwrap();
                if *hand == Some(key) {
                    *hand = place.checked_sub(1).map(|newer| keys[newer]);
                }
                keys.remove(place);
            }
            Order::S3Fifo { small, main, .. } => drop(take(small, key) || take(main, key)),
        }
    }

    /// Takes it out of all else.
    fn remove(&mut self, key: CacheKey) {
        take(&mut self.by_use, key);
        self.entries.retain(|entry| entry.key != key);
        match &mut self.order {
            Order::Lru(_) => {}
            Order::Sieve { visited: marks, .. } | Order::S3Fifo { uses: marks, .. } => {
                marks.retain(|other| *other != key);
            }
        }
    }
}
