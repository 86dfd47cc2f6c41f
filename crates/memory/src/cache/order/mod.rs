//! Which entry goes when room is needed: one interface, several policies.
//!
//! | policy | order | survives a scan |
//! |---|---|---|
//! | [`Lru`] | by last use | no: what was asked once pushes out what is asked often |
//! | [`Sieve`] | by insertion; a hand passes over what was used since it last came by (Zhang et al., NSDI 2024) | better |
//! | [`S3Fifo`] | newcomers pass through a small queue and only those used again reach the main one (Yang et al., SOSP 2023) | yes |
//!
//! A pinned entry is never evicted: it is in use, and the policies treat it as used just now. As at most half of the slots are pinned, passing over them
//! costs less than one step an eviction on average.

mod ghost;
mod lru;
mod s3fifo;
mod sieve;

use std::fmt;

#[cfg(test)]
pub(super) use ghost::Ghost;
pub(super) use lru::Lru;
pub(super) use s3fifo::S3Fifo;
pub(super) use sieve::Sieve;

use super::CachePolicy;
use super::list::Links;

/// An order of eviction over slots. A slot is in it from [`insert`](Order::insert) to [`remove`](Order::remove) or
/// [`evict`](Order::evict); its place is in the `links` that every call is handed.
pub(super) trait Order: fmt::Debug + Send {
    /// A slot was filled with what has this hash.
    fn insert(&mut self, links: &mut Links, slot: u32, hash: u64);

    /// It was found.
    fn used(&mut self, links: &mut Links, slot: u32);

    /// It is emptied for another reason than want of room.
    fn remove(&mut self, links: &mut Links, slot: u32);

    /// What is in `old` has moved to `new`.
    fn replace(&mut self, links: &mut Links, old: u32, new: u32);

    /// Takes out the slot that is to be emptied next, `None` when all are `pinned`.
    fn evict(&mut self, links: &mut Links, pinned: &dyn Fn(u32) -> bool) -> Option<u32>;
}

/// The order of `policy` over `slots` slots.
pub(super) fn build(policy: CachePolicy, slots: usize) -> Box<dyn Order> {
    match policy {
        CachePolicy::Lru => Box::new(Lru::default()),
        CachePolicy::Sieve => Box::new(Sieve::new(slots)),
        CachePolicy::S3Fifo => Box::new(S3Fifo::new(slots)),
    }
}

/// Heap bytes of it.
pub(super) fn bytes(policy: CachePolicy, slots: usize) -> usize {
    match policy {
        CachePolicy::Lru => size_of::<Lru>(),
        CachePolicy::Sieve => Sieve::bytes(slots),
        CachePolicy::S3Fifo => S3Fifo::bytes(slots),
    }
}
