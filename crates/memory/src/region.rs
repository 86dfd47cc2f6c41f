//! Pages on purpose.
//!
//! A [`Region`] is a user's part of the reservation. Committing makes pages usable (`mprotect`), which is the moment when a strict kernel
//! (`vm.overcommit_memory=2`) may refuse: an error here, where nothing is lost, instead of a kill later. Giving back drops the pages at once with
//! `MADV_DONTNEED`; `MADV_FREE` would leave every monitor guessing. Given-back pages keep their protection and their commit charge, so that committing
//! them again cannot fail for charge and does not cut the mapping into pieces (`vm.max_map_count`); they read as zero. A strict kernel counts charges, so
//! under it given-back pages are mapped afresh instead, which gives the charge back too: what is charged is what is committed.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::process::{drop_pages, errno, page_bytes, strict_overcommit};
use crate::reservation::Span;

/// The kernel refused to commit, fill or lock pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitError {
    /// Bytes asked for.
    pub requested_bytes: usize,
    /// The kernel's answer, for instance `ENOMEM`.
    pub errno: i32,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = std::io::Error::from_raw_os_error(self.errno);
        write!(f, "the kernel refused {} bytes: {reason}", self.requested_bytes)
    }
}

impl std::error::Error for CommitError {}

/// Whether the kernel may back a region with huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Never: one touched byte must not become 2 MiB (pools).
    Never,
    /// Where possible: all of it is used anyway (scratch, weights).
    Always,
}

/// A user's part of a [`Reservation`](crate::Reservation), counted page by page. Dropping it gives its pages back.
#[derive(Debug)]
pub struct Region {
    span: Arc<Span>,
    base: NonNull<u8>,
    bytes: usize,
    committed: Mutex<Bitmap>,
    no_huge_pages: AtomicBool,
}

// SAFETY: `Region` itself never dereferences `base`; the page state is behind a lock.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn new(span: Arc<Span>, base: NonNull<u8>, bytes: usize) -> Self {
        let committed = Mutex::new(Bitmap::new(bytes / page_bytes()));
        Region {
            span,
            base,
            bytes,
            committed,
            no_huge_pages: AtomicBool::new(false),
        }
    }

    /// Length in bytes, a whole number of pages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Length in pages.
    pub fn pages(&self) -> usize {
        self.bytes / page_bytes()
    }

    /// First byte. Reading or writing it is sound only while its page is committed.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of this region that are committed.
    pub fn committed_bytes(&self) -> usize {
        self.bitmap().ones * page_bytes()
    }

    /// Makes `pages` readable and writable; fresh pages read as zero. Pages that were committed already are left as they are.
    ///
    /// # Panics
    /// When `pages` is not inside the region.
    pub fn commit(&self, pages: Range<usize>) -> Result<(), CommitError> {
        let mut bitmap = self.bitmap();
        let (address, bytes) = self.locate(&pages);
        // SAFETY: the range lies in our mapping (`locate`); adding access to pages invalidates no reference.
        let status = unsafe { libc::mprotect(address, bytes, libc::PROT_READ | libc::PROT_WRITE) };
        if status != 0 {
            return Err(CommitError {
                requested_bytes: bytes,
                errno: errno(),
            });
        }
        let fresh = bitmap.assign(pages, true);
        self.span.note_commit(fresh * page_bytes());
        Ok(())
    }

    /// Drops the contents of `pages` and returns the bytes that were committed among them, 0 when the kernel refuses.
    /// Crate-private, as no live view may lie there.
    pub(crate) fn give_back(&self, pages: Range<usize>) -> usize {
        self.give_back_under(strict_overcommit(), pages)
    }

    /// As [`give_back`](Self::give_back) for one who commits the pages again at once: they stay accessible, and charged where the system counts what it has promised, so
    /// that this cannot fail.
    pub(crate) fn empty(&self, pages: Range<usize>) -> usize {
        self.give_back_under(false, pages)
    }

    fn give_back_under(&self, strict: bool, pages: Range<usize>) -> usize {
        let mut bitmap = self.bitmap();
        let (address, bytes) = self.locate(&pages);
        // SAFETY: the range lies in our mapping; the caller holds no live view of it, so no reference sees the bytes change.
        if !unsafe { drop_pages(address, bytes) } {
            return 0;
        }
        if strict {
            self.map_afresh(address, bytes);
        }
        let given = bitmap.assign(pages, false) * page_bytes();
        self.span.note_give_back(given);
        given
    }

    /// Puts a mapping without access, and so without charge, in place of pages whose contents were dropped. Where the kernel refuses, they stay charged.
    fn map_afresh(&self, address: *mut libc::c_void, bytes: usize) {
        let (protection, flags) = (
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
        );
        // SAFETY: the range lies in our own mapping (`locate`) and nobody holds a view of it; it stays mapped, only without access until it is committed.
        let mapped = unsafe { libc::mmap(address, bytes, protection, flags, -1, 0) };
        if mapped != libc::MAP_FAILED && self.no_huge_pages.load(Ordering::Relaxed) {
            // SAFETY: advice about backing keeps the contents.
            unsafe { libc::madvise(address, bytes, libc::MADV_NOHUGEPAGE) };
        }
    }

    /// Makes committed `pages` resident now, so that their first use does not fault.
    pub fn populate(&self, pages: Range<usize>) -> Result<(), CommitError> {
        let (address, bytes) = self.locate(&pages);
        // SAFETY: populating keeps the contents; the range lies in our mapping.
        let status = unsafe { libc::madvise(address, bytes, libc::MADV_POPULATE_WRITE) };
        self.check(status, bytes)
    }

    /// Sets the policy for huge pages. A kernel built without them has nothing to set.
    pub fn huge_pages(&self, policy: HugePages) {
        self.no_huge_pages
            .store(policy == HugePages::Never, Ordering::Relaxed);
        let advice = match policy {
            HugePages::Never => libc::MADV_NOHUGEPAGE,
            HugePages::Always => libc::MADV_HUGEPAGE,
        };
        // SAFETY: advice about backing keeps the contents; the range is the whole of our part.
        let status = unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, advice) };
        debug_assert!(
            status == 0 || errno() == libc::EINVAL,
            "madvise: errno {}",
            errno()
        );
    }

    fn check(&self, status: i32, bytes: usize) -> Result<(), CommitError> {
        match status {
            0 => Ok(()),
            _ => Err(CommitError {
                requested_bytes: bytes,
                errno: errno(),
            }),
        }
    }

    fn locate(&self, pages: &Range<usize>) -> (*mut libc::c_void, usize) {
        assert!(
            pages.start <= pages.end && pages.end <= self.pages(),
            "pages {pages:?} of a region of {}",
            self.pages()
        );
        // SAFETY: `pages.start <= self.pages()`, so the address lies in the region or at its end.
        let address = unsafe { self.base.add(pages.start * page_bytes()) };
        (address.as_ptr().cast(), pages.len() * page_bytes())
    }

    fn bitmap(&self) -> MutexGuard<'_, Bitmap> {
        self.committed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.committed_bytes() > 0 {
            self.give_back(0..self.pages());
        }
    }
}

/// One bit a page. Zeroed memory from the allocator, so that the untouched part of a large map costs nothing.
#[derive(Debug)]
struct Bitmap {
    words: Vec<u64>,
    ones: usize,
}

impl Bitmap {
    fn new(bits: usize) -> Self {
        Bitmap {
            words: vec![0; bits.div_ceil(64)],
            ones: 0,
        }
    }

    /// Sets or clears a range and returns how many bits changed.
    fn assign(&mut self, bits: Range<usize>, value: bool) -> usize {
        let mut changed = 0;
        let mut at = bits.start;
        while at < bits.end {
            let (word, low) = (at / 64, at % 64);
            let count = (64 - low).min(bits.end - at);
            let mask = (u64::MAX >> (64 - count)) << low;
            let old = self.words[word];
            let new = if value { old | mask } else { old & !mask };
            changed += (old ^ new).count_ones() as usize;
            self.words[word] = new;
            at += count;
        }
        if value {
            self.ones += changed
        } else {
            self.ones -= changed
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reservation;
    use proptest::prelude::*;

    fn region(pages: usize) -> (Reservation, Region) {
        let reservation = Reservation::new(pages * page_bytes()).unwrap();
        let region = reservation.carve(pages * page_bytes()).unwrap();
        (reservation, region)
    }

    #[test]
    fn overlapping_commits_and_give_backs_count_each_page_once() {
        let page = page_bytes();
        let (reservation, region) = region(8);
        region.commit(0..4).unwrap();
        region.commit(2..6).unwrap();
        assert_eq!(region.committed_bytes(), 6 * page);
        assert_eq!(region.give_back(5..8), page);
        assert_eq!(region.give_back(5..8), 0);
        assert_eq!(
            (region.committed_bytes(), reservation.committed_bytes()),
            (5 * page, 5 * page)
        );
    }

    #[test]
    fn pages_are_zero_when_fresh_and_after_being_given_back() {
        let (_reservation, region) = region(1);
        for _ in 0..2 {
            region.commit(0..1).unwrap();
            // SAFETY: the page is committed and nothing else refers to it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(region.base().as_ptr(), page_bytes()) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(7);
            assert_eq!(region.give_back(0..1), page_bytes());
        }
    }

    #[test]
    fn under_a_strict_kernel_given_back_pages_lose_their_access_and_come_back_zero() {
        let (_reservation, region) = region(4);
        region.huge_pages(HugePages::Never);
        region.commit(0..4).unwrap();
        // SAFETY: the pages are committed and nothing else refers to them.
        unsafe { region.base().as_ptr().write_bytes(7, region.bytes()) };
        assert_eq!(region.give_back_under(true, 1..3), 2 * page_bytes());
        assert!(
            region.populate(1..3).is_err(),
            "no access, so nothing to make resident"
        );
        region.commit(0..4).unwrap();
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(region.base().as_ptr(), region.bytes()) };
        let page = page_bytes();
        assert!(bytes[page..3 * page].iter().all(|byte| *byte == 0));
        assert!(
            bytes[..page]
                .iter()
                .chain(&bytes[3 * page..])
                .all(|byte| *byte == 7)
        );
    }

    #[test]
    fn locked_pages_can_be_given_back() {
        let (_reservation, region) = region(2);
        region.commit(0..2).unwrap();
        region.populate(0..2).unwrap();
        // SAFETY: locking changes no contents.
        let locked = unsafe { libc::mlock(region.base().as_ptr().cast(), region.bytes()) };
        assert_eq!(locked, 0);
        assert_eq!(region.give_back(0..2), 2 * page_bytes());
    }

    #[test]
    #[should_panic(expected = "pages 1..3 of a region of 2")]
    fn pages_outside_the_region_are_refused() {
        let (_reservation, region) = region(2);
        let _ = region.commit(1..3);
    }

    proptest! {
        #[test]
        fn the_bitmap_agrees_with_a_list_of_flags(steps in prop::collection::vec((0usize..200, 0usize..200, any::<bool>()), 0..40)) {
            let (mut bitmap, mut oracle) = (Bitmap::new(200), [false; 200]);
            for (a, b, value) in steps {
                let bits = a.min(b)..a.max(b);
                let expected = oracle[bits.clone()].iter().filter(|flag| **flag != value).count();
                oracle[bits.clone()].fill(value);
                prop_assert_eq!(bitmap.assign(bits, value), expected);
                prop_assert_eq!(bitmap.ones, oracle.iter().filter(|flag| **flag).count());
            }
        }
    }
}
