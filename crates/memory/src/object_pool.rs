//! Objects that are built once and reused by rules.
//!
//! Some things of a request are not plain bytes: state machines, index tables, handles. Reusing such an object is where old requests leak into new ones, so reuse
//! follows a protocol. Frozen fields (set at construction, reached by shared reference only) lie apart from mutable state. A return goes through stages:
//!
//! 1. **Ownership**: the object's stamp (pool, index, generation) must be the one the pool has on record.
//! 2. **Transient fields** are cleared: [`Reusable::clear_transient`] drops what was borrowed from the request.
//! 3. **State** goes back to its first value: [`Reusable::restore`].
//! 4. **Inspection**: an object that still [holds a resource](Reusable::holds_resource), or whose frozen fields changed (a hash, in debug builds), does not
//!    re-enter the pool.
//!
//! An object that fails a stage, that a panic passed through, or that its holder [poisoned](Pooled::poison) is dropped and built anew when it is needed next.
//! A [`Stamp`] kept in a table is checked on first use, so a reference that outlived its request is noticed. Returning twice, or using after the
//! return, does not compile.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::{Mutex, lock};

/// State that can be reset for the next request.
pub trait Reusable: Send + 'static {
    /// Fields that never change after construction.
    type Frozen: Hash + Send + Sync + 'static;

    /// Drops what belongs to the request that ends: leases, wakers, references.
    fn clear_transient(&mut self, frozen: &Self::Frozen);

    /// Puts the rest back to its first value, keeping capacity.
    fn restore(&mut self, frozen: &Self::Frozen);

    /// Whether something of the request is still held; asked after both resets.
    fn holds_resource(&self) -> bool;
}

/// Identity of one use of one object: which pool, which object, which generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    pool: u64,
    index: u32,
    generation: u32,
}

/// What is wrong with a [`Stamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampError {
    /// It was issued by another pool.
    Foreign,
    /// The use it names has ended.
    Stale {
        /// Generation of the stamp.
        generation: u32,
        /// Generation of the object now.
        current: u32,
    },
}

impl fmt::Display for StampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StampError::Foreign => write!(f, "object pool: the stamp is another pool's"),
            StampError::Stale { generation, current } => write!(
                f,
                "object pool: the stamp is of generation {generation}, the object of {current}"
            ),
        }
    }
}

impl std::error::Error for StampError {}

/// Counts of an object pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectPoolStats {
    /// Objects that the pool was built with.
    pub objects: usize,
    /// Objects that are out.
    pub taken: usize,
    /// Objects that did not re-enter: poisoned, panicked, holding a resource or with changed frozen fields.
    pub discarded: u64,
    /// Objects built anew in place of discarded ones.
    pub rebuilt: u64,
    /// Returns whose stamp was not on record.
    pub refused: u64,
}

/// A fixed number of objects, built at start; cloning shares it.
///
/// ```
/// use plimsoll_memory::{ObjectPool, Reusable};
/// struct Words(Vec<u32>);
/// impl Reusable for Words {
///     type Frozen = usize; // the capacity
///     fn clear_transient(&mut self, _: &usize) {}
///     fn restore(&mut self, _: &usize) { self.0.clear() }
///     fn holds_resource(&self) -> bool { false }
/// }
/// let pool = ObjectPool::new(2, |_| (64, Words(Vec::with_capacity(64))));
/// let mut words = pool.take().unwrap();
/// words.0.push(5);
/// let stamp = words.stamp();
/// drop(words);
/// assert!(pool.check(stamp).is_err());
/// assert!(pool.take().unwrap().0.is_empty());
/// ```
pub struct ObjectPool<T: Reusable> {
    shared: Arc<Shared<T>>,
}

type Build<T> = dyn Fn(usize) -> (<T as Reusable>::Frozen, T) + Send + Sync;

struct Shared<T: Reusable> {
    id: u64,
    build: Box<Build<T>>,
    shelf: Mutex<Shelf<T>>,
}

/// Objects that are in, and the record of all. No vector ever grows.
struct Shelf<T: Reusable> {
    free: Vec<Box<Object<T>>>,
    /// Indices of objects that were discarded.
    vacant: Vec<u32>,
    generations: Vec<u32>,
    stats: ObjectPoolStats,
}

struct Object<T: Reusable> {
    stamp: Stamp,
    frozen: T::Frozen,
    frozen_hash: u64,
    state: T,
}

impl<T: Reusable> Clone for ObjectPool<T> {
    fn clone(&self) -> Self {
        ObjectPool {
            shared: self.shared.clone(),
        }
    }
}

impl<T: Reusable> fmt::Debug for ObjectPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPool")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<T: Reusable> ObjectPool<T> {
    /// Builds `objects` objects with `build`, which gets the index of each and is called again when one was discarded.
    pub fn new(objects: usize, build: impl Fn(usize) -> (T::Frozen, T) + Send + Sync + 'static) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let shelf = Shelf {
            free: Vec::with_capacity(objects),
            vacant: (0..objects as u32).rev().collect(),
            generations: vec![0; objects],
            stats: ObjectPoolStats {
                objects,
                ..Default::default()
            },
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let shared = Shared {
            id,
            build: Box::new(build),
            shelf: Mutex::new(shelf),
        };
        let built: Vec<_> = (0..objects as u32).map(|index| shared.build(index, 0)).collect();
        {
            let mut shelf = lock(&shared.shelf);
            shelf.vacant.clear();
            shelf.free.extend(built);
        }
        ObjectPool {
            shared: Arc::new(shared),
        }
    }

    /// Takes an object, or `None` when all are out. Allocates only to rebuild one that was discarded.
    pub fn take(&self) -> Option<Pooled<T>> {
        let mut shelf = lock(&self.shared.shelf);
        let free = shelf.free.pop();
        let vacant = if free.is_none() {
            Some(shelf.vacant.pop()?)
        } else {
            None
        };
        shelf.stats.taken += 1;
        let object = match (free, vacant) {
            (Some(object), _) => object,
            (None, Some(index)) => {
                shelf.stats.rebuilt += 1;
                let generation = shelf.generations[index as usize];
                drop(shelf);
                let rebuilding = Vacancy {
                    shared: &self.shared,
                    index,
                };
                let object = self.shared.build(index, generation);
                std::mem::forget(rebuilding);
                object
            }
            (None, None) => return None,
        };
        Some(Pooled {
            shared: self.shared.clone(),
            object: Some(object),
            poisoned: false,
        })
    }

    /// Checks that the use named by `stamp` goes on.
    pub fn check(&self, stamp: Stamp) -> Result<(), StampError> {
        self.shared.check(&lock(&self.shared.shelf), stamp)
    }

    /// Counts.
    pub fn stats(&self) -> ObjectPoolStats {
        lock(&self.shared.shelf).stats
    }
}

/// Puts an index back when building its object panics.
struct Vacancy<'a, T: Reusable> {
    shared: &'a Shared<T>,
    index: u32,
}

impl<T: Reusable> Drop for Vacancy<'_, T> {
    fn drop(&mut self) {
        let mut shelf = lock(&self.shared.shelf);
        shelf.vacant.push(self.index);
        shelf.stats.taken -= 1;
    }
}

impl<T: Reusable> Shared<T> {
    fn build(&self, index: u32, generation: u32) -> Box<Object<T>> {
        let (frozen, state) = (self.build)(index as usize);
        let stamp = Stamp {
            pool: self.id,
            index,
            generation,
        };
        let frozen_hash = frozen_hash(&frozen);
        Box::new(Object {
            stamp,
            frozen,
            frozen_hash,
            state,
        })
    }

    fn check(&self, shelf: &Shelf<T>, stamp: Stamp) -> Result<(), StampError> {
        if stamp.pool != self.id {
            return Err(StampError::Foreign);
        }
        let current = shelf.generations[stamp.index as usize];
        if stamp.generation != current {
            return Err(StampError::Stale {
                generation: stamp.generation,
                current,
            });
        }
        Ok(())
    }

    /// First stage of a return: false, counted, when the stamp is not on record. From here on the stamp is stale.
    fn begin_return(&self, stamp: Stamp) -> bool {
        let mut shelf = lock(&self.shelf);
        let known = self.check(&shelf, stamp).is_ok();
        if known {
            let generation = &mut shelf.generations[stamp.index as usize];
            *generation = generation.wrapping_add(1);
        } else {
            shelf.stats.refused += 1;
        }
        known
    }

    /// Last stage: the object when it may be used again, `None` when not.
    fn end_return(&self, index: u32, object: Option<Box<Object<T>>>) {
        let mut shelf = lock(&self.shelf);
        shelf.stats.taken -= 1;
        match object {
            Some(mut object) => {
                object.stamp.generation = shelf.generations[index as usize];
                shelf.free.push(object);
            }
            None => {
                shelf.stats.discarded += 1;
                shelf.vacant.push(index);
            }
        }
    }
}

/// Hash of the frozen fields in debug builds, 0 in release builds.
fn frozen_hash<F: Hash>(frozen: &F) -> u64 {
    if !cfg!(debug_assertions) {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    frozen.hash(&mut hasher);
    hasher.finish()
}

/// An object in use. Having one tells you: it went through every stage of a reset, it is yours alone, drop returns it.
pub struct Pooled<T: Reusable> {
    shared: Arc<Shared<T>>,
    /// Absent only while it is being returned.
    object: Option<Box<Object<T>>>,
    poisoned: bool,
}

impl<T: Reusable> Pooled<T> {
    /// The fields that never change.
    pub fn frozen(&self) -> &T::Frozen {
        &self.object().frozen
    }

    /// Identity of this use, for tables that refer to it.
    pub fn stamp(&self) -> Stamp {
        self.object().stamp
    }

    /// Marks the object as unfit for reuse.
    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    fn object(&self) -> &Object<T> {
        self.object.as_ref().expect("present until drop")
    }
}

impl<T: Reusable> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object().state
    }
}

impl<T: Reusable> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.object.as_mut().expect("present until drop").state
    }
}

impl<T: Reusable> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("stamp", &self.stamp())
            .finish_non_exhaustive()
    }
}

/// Ends the return when dropped, with the object only if it was put here: a panicking reset leaves it empty.
struct Ending<'a, T: Reusable> {
    shared: &'a Shared<T>,
    index: u32,
    fit: Option<Box<Object<T>>>,
}

impl<T: Reusable> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        self.shared.end_return(self.index, self.fit.take());
    }
}

impl<T: Reusable> Drop for Pooled<T> {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else {
            return;
        };
        if !self.shared.begin_return(object.stamp) {
            return;
        }
        let mut ending = Ending {
            shared: &self.shared,
            index: object.stamp.index,
            fit: None,
        };
        if self.poisoned || std::thread::panicking() {
            return;
        }
        let Object { frozen, state, .. } = &mut *object;
        state.clear_transient(frozen);
        state.restore(frozen);
        if !object.state.holds_resource() && frozen_hash(&object.frozen) == object.frozen_hash {
            ending.fit = Some(object);
        }
    }
}

#[cfg(test)]
mod tests;
