//! The exact sum.
//!
//! Admission that looks at measured memory gets stuck or comes too late, because allocators and caches keep what they had. So the promise comes
//! first: whoever will use bytes debits their worst case here, and what is debited never exceeds the limit. A [`Debit`] may shrink, never grow, and
//! credits what is left of it when dropped. One compare-and-swap loop over one word decides; nothing is allocated.

use std::fmt;
use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// How many owners a ledger tells apart.
pub const OWNERS_MAX: usize = 32;

/// Who uses bytes: an index that the program assigns, with a name for people.
///
/// ```
/// # use plimsoll_memory::Owner;
/// const BODIES: Owner = Owner::new(0, "bodies");
/// assert_eq!(BODIES.name(), "bodies");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    index: u8,
    name: &'static str,
}

impl Owner {
    /// Owner number `index`, below [`OWNERS_MAX`]. Owners of one ledger need different indices to be counted apart.
    pub const fn new(index: u8, name: &'static str) -> Self {
        assert!((index as usize) < OWNERS_MAX, "a ledger tells 32 owners apart");
        Owner { index, name }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Its index.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// The ledger has too little left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetError {
    /// Who asked.
    pub owner: Owner,
    /// Bytes asked for.
    pub requested_bytes: usize,
    /// Bytes that this request could have had: the limit less what is in use and less the floor it had to leave.
    pub available_bytes: usize,
    /// The limit.
    pub limit_bytes: usize,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BudgetError {
            owner,
            requested_bytes,
            available_bytes,
            limit_bytes,
        } = self;
        let name = owner.name;
        write!(
            f,
            "{name} needs {requested_bytes} bytes, {available_bytes} of {limit_bytes} available"
        )
    }
}

impl std::error::Error for BudgetError {}

/// A limit and what is debited from it; cloning shares it.
///
/// ```
/// # use plimsoll_memory::{Ledger, Owner};
/// const BODIES: Owner = Owner::new(0, "bodies");
/// let ledger = Ledger::new(1000);
/// let mut debit = ledger.try_debit(BODIES, 800)?;
/// assert_eq!(ledger.try_debit(BODIES, 300).unwrap_err().available_bytes, 200);
/// debit.shrink_to(100);
/// assert_eq!((ledger.in_use(), ledger.high_water_bytes()), (100, 800));
/// drop(debit);
/// assert_eq!(ledger.in_use(), 0);
/// # Ok::<(), plimsoll_memory::BudgetError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ledger {
    book: Arc<Book>,
}

#[derive(Debug)]
struct Book {
    limit: AtomicU64,
    in_use: AtomicU64,
    high_water: AtomicU64,
    /// Added to after `in_use` and taken from before it, so that their sum never exceeds it.
    by_owner: [AtomicU64; OWNERS_MAX],
}

impl Ledger {
    /// A ledger with nothing in use.
    pub fn new(limit_bytes: usize) -> Self {
        let book = Book {
            limit: AtomicU64::new(limit_bytes as u64),
            in_use: AtomicU64::new(0),
            high_water: AtomicU64::new(0),
            by_owner: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Ledger { book: Arc::new(book) }
    }

    /// Debits `bytes`, or says what was available. Zero bytes always succeed.
    pub fn try_debit(&self, owner: Owner, bytes: usize) -> Result<Debit, BudgetError> {
        self.try_debit_leaving(owner, bytes, 0)
    }

    /// As [`try_debit`](Self::try_debit), only if `floor_bytes` stay free after it: what ordinary requests leave for the small ones (health,
    /// metrics, diagnosis), which pass a smaller floor or none.
    pub fn try_debit_leaving(
        &self,
        owner: Owner,
        bytes: usize,
        floor_bytes: usize,
    ) -> Result<Debit, BudgetError> {
        let book = &*self.book;
        let limit = book.limit.load(Ordering::Relaxed);
        let ceiling = limit.saturating_sub(floor_bytes as u64);
        let sum = |in_use: u64| match bytes {
            0 => Some(in_use),
            _ => in_use.checked_add(bytes as u64).filter(|sum| *sum <= ceiling),
        };
        // Relaxed: the words guard no other data, and atomicity alone keeps the sum.
        match book
            .in_use
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum)
        {
            Ok(before) => {
                book.high_water
                    .fetch_max(before + bytes as u64, Ordering::Relaxed);
                book.by_owner[owner.index()].fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(Debit {
                    ledger: self.clone(),
                    owner,
                    bytes,
                })
            }
            Err(in_use) => Err(BudgetError {
                owner,
                requested_bytes: bytes,
                available_bytes: ceiling.saturating_sub(in_use) as usize,
                limit_bytes: limit as usize,
            }),
        }
    }

    /// Bytes debited at this moment.
    pub fn in_use(&self) -> usize {
        self.book.in_use.load(Ordering::Relaxed) as usize
    }

    /// Bytes debited by one owner. Over all owners these sum to [`in_use`](Self::in_use) whenever no debit or credit is under way.
    pub fn in_use_by(&self, owner: Owner) -> usize {
        self.book.by_owner[owner.index()].load(Ordering::Relaxed) as usize
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.book.limit.load(Ordering::Relaxed) as usize
    }

    /// Moves the limit. Debits that exist stay; a limit below them refuses new ones until enough was credited.
    pub fn set_limit_bytes(&self, limit_bytes: usize) {
        self.book.limit.store(limit_bytes as u64, Ordering::Relaxed);
    }

    /// The most that was ever debited at once.
    pub fn high_water_bytes(&self) -> usize {
        self.book.high_water.load(Ordering::Relaxed) as usize
    }

    fn credit(&self, owner: Owner, bytes: usize) {
        let book = &*self.book;
        book.by_owner[owner.index()].fetch_sub(bytes as u64, Ordering::Relaxed);
        let before = book.in_use.fetch_sub(bytes as u64, Ordering::Release);
        debug_assert!(before >= bytes as u64, "credited {bytes} of {before}");
    }
}

/// Bytes promised to one owner. Having one tells you: its bytes count against the limit until it shrinks or is dropped.
#[derive(Debug)]
#[must_use = "a debit that is dropped is credited at once"]
pub struct Debit {
    ledger: Ledger,
    owner: Owner,
    bytes: usize,
}

impl Debit {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Who holds them.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Credits all above `bytes`. Holding less already, it changes nothing: a debit never grows.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(excess) = self.bytes.checked_sub(bytes) {
            self.bytes = bytes;
            self.ledger.credit(self.owner, excess);
        }
    }

    /// Takes another debit of the same ledger in; all of it is that one's owner's then.
    ///
    /// # Panics
    /// When it is another ledger's.
    pub fn join(&mut self, mut other: Debit) {
        let book = &*self.ledger.book;
        assert!(
            Arc::ptr_eq(&self.ledger.book, &other.ledger.book),
            "debits of two ledgers"
        );
        book.by_owner[self.owner.index()].fetch_sub(self.bytes as u64, Ordering::Relaxed);
        book.by_owner[other.owner.index()].fetch_add(self.bytes as u64, Ordering::Relaxed);
        self.owner = other.owner;
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Moves `bytes` into a debit of their own, to be credited at another time; `None` when this one holds less.
    pub fn split(&mut self, bytes: usize) -> Option<Debit> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(Debit {
            ledger: self.ledger.clone(),
            owner: self.owner,
            bytes,
        })
    }
}

impl Drop for Debit {
    fn drop(&mut self) {
        self.ledger.credit(self.owner, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner::new(0, "a");
    const B: Owner = Owner::new(31, "b");

    #[test]
    fn the_last_byte_is_given_and_not_one_more() {
        let ledger = Ledger::new(10);
        let all = ledger.try_debit(A, 10).unwrap();
        let error = ledger.try_debit(B, 1).unwrap_err();
        assert_eq!(error.to_string(), "b needs 1 bytes, 0 of 10 available");
        assert_eq!(ledger.try_debit(B, 0).unwrap().bytes(), 0);
        drop(all);
        assert!(ledger.try_debit(B, 10).is_ok());
        assert!(ledger.try_debit(B, usize::MAX).is_err());
        assert_eq!((ledger.in_use(), ledger.high_water_bytes()), (0, 10));
    }

    #[test]
    fn joined_debits_are_the_last_ones_owners() {
        let ledger = Ledger::new(100);
        let mut debit = ledger.try_debit(A, 30).unwrap();
        debit.join(ledger.try_debit(B, 20).unwrap());
        assert_eq!((debit.bytes(), debit.owner()), (50, B));
        assert_eq!((ledger.in_use_by(A), ledger.in_use_by(B)), (0, 50));
        debit.join(ledger.try_debit(B, 10).unwrap());
        assert_eq!(ledger.in_use_by(B), 60);
        drop(debit);
        assert_eq!((ledger.in_use(), ledger.in_use_by(B)), (0, 0));
    }

    #[test]
    fn a_floor_is_left_for_the_privileged() {
        let ledger = Ledger::new(100);
        let ordinary = ledger.try_debit_leaving(A, 90, 10).unwrap();
        let error = ledger.try_debit_leaving(A, 1, 10).unwrap_err();
        assert_eq!((error.available_bytes, error.limit_bytes), (0, 100));
        assert!(ledger.try_debit(B, 10).is_ok());
        drop(ordinary);
        assert!(ledger.try_debit_leaving(A, 1, 101).is_err());
    }

    #[test]
    fn split_and_shrink_keep_the_sum() {
        let ledger = Ledger::new(100);
        let mut whole = ledger.try_debit(A, 60).unwrap();
        let part = whole.split(20).unwrap();
        assert_eq!(
            (whole.bytes(), part.bytes(), part.owner(), ledger.in_use()),
            (40, 20, A, 60)
        );
        assert!(whole.split(41).is_none());
        whole.shrink_to(50);
        assert_eq!(whole.bytes(), 40);
        whole.shrink_to(1);
        assert_eq!(
            (ledger.in_use(), ledger.in_use_by(A), ledger.in_use_by(B)),
            (21, 21, 0)
        );
        drop(whole);
        assert_eq!(ledger.in_use(), 20);
        drop(part);
        assert_eq!(ledger.in_use(), 0);
    }

    #[test]
    fn a_lowered_limit_refuses_until_credited() {
        let ledger = Ledger::new(100);
        let debit = ledger.try_debit(A, 80).unwrap();
        ledger.set_limit_bytes(50);
        assert_eq!(ledger.try_debit(A, 1).unwrap_err().available_bytes, 0);
        drop(debit);
        assert_eq!(ledger.try_debit(A, 50).unwrap().bytes(), 50);
    }
}
