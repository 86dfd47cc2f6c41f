//! Address space first.
//!
//! One `PROT_NONE` mapping under everything: it costs no memory and no commit charge, so it may be as large as the worst case of every user together.
//! Users carve [`Region`]s out of it and commit pages of those on purpose. One number, [`Reservation::committed_bytes`], then covers them all.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::process::{errno, page_bytes};
use crate::region::Region;

/// Address space could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveError {
    /// The kernel refused the mapping.
    Os {
        /// Bytes asked of the kernel.
        requested_bytes: usize,
        /// Its answer.
        errno: i32,
    },
    /// The reservation has less left than the region needs.
    Full {
        /// Bytes asked of the reservation, rounded up to pages.
        requested_bytes: usize,
        /// Bytes it still has.
        available_bytes: usize,
    },
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ReserveError::Os {
                requested_bytes,
                errno,
            } => {
                let reason = std::io::Error::from_raw_os_error(errno);
                write!(
                    f,
                    "reservation: {requested_bytes} bytes of address space refused: {reason}"
                )
            }
            ReserveError::Full {
                requested_bytes,
                available_bytes,
            } => write!(
                f,
                "reservation: a region needs {requested_bytes} bytes of address space, {available_bytes} available"
            ),
        }
    }
}

impl std::error::Error for ReserveError {}

/// One reserved span of address space; cloning shares it.
///
/// ```
/// let reservation = plimsoll_memory::Reservation::new(1 << 30)?; // a gigabyte of addresses, no memory
/// let region = reservation.carve(1 << 20)?;
/// region.commit(0..2)?;
/// assert_eq!(reservation.committed_bytes(), 2 * plimsoll_memory::process::page_bytes());
/// drop(region);
/// assert_eq!(reservation.committed_bytes(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reservation {
    span: Arc<Span>,
}

static RESERVED: AtomicUsize = AtomicUsize::new(0);
static COMMITTED: AtomicUsize = AtomicUsize::new(0);

/// Bytes reserved and, of them, committed by all reservations of this process.
pub fn totals() -> (usize, usize) {
    (
        RESERVED.load(Ordering::Relaxed),
        COMMITTED.load(Ordering::Relaxed),
    )
}

/// The mapping itself, unmapped when the last region and handle are gone.
#[derive(Debug)]
pub(crate) struct Span {
    base: NonNull<u8>,
    bytes: usize,
    carved: AtomicUsize,
    committed: AtomicUsize,
}

impl Span {
    /// So many more bytes are committed.
    pub(crate) fn note_commit(&self, bytes: usize) {
        self.committed.fetch_add(bytes, Ordering::Relaxed);
        COMMITTED.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many fewer.
    pub(crate) fn note_give_back(&self, bytes: usize) {
        self.committed.fetch_sub(bytes, Ordering::Relaxed);
        COMMITTED.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: `Span` never reads or writes through `base`; it only hands out disjoint parts of it, by an atomic counter.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Reservation {
    /// Reserves `bytes`, rounded up to pages.
    pub fn new(bytes: usize) -> Result<Self, ReserveError> {
        let refused = |errno| ReserveError::Os {
            requested_bytes: bytes,
            errno,
        };
        let bytes = bytes
            .max(1)
            .checked_next_multiple_of(page_bytes())
            .ok_or(refused(libc::ENOMEM))?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let base = match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => base,
            _ => return Err(refused(errno())),
        };
        RESERVED.fetch_add(bytes, Ordering::Relaxed);
        let (carved, committed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Reservation {
            span: Arc::new(Span {
                base,
                bytes,
                carved,
                committed,
            }),
        })
    }

    /// Takes the next `bytes` (rounded up to pages) for one user. Address space is never carved twice: a dropped region leaves a hole.
    pub fn carve(&self, bytes: usize) -> Result<Region, ReserveError> {
        let span = &self.span;
        let wanted = bytes
            .max(1)
            .checked_next_multiple_of(page_bytes())
            .unwrap_or(usize::MAX);
        let end_of = |start: usize| start.checked_add(wanted).filter(|end| *end <= span.bytes);
        let start = span
            .carved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, end_of)
            .map_err(|start| ReserveError::Full {
                requested_bytes: wanted,
                available_bytes: span.bytes - start,
            })?;
        // SAFETY: `start + wanted <= span.bytes`, so the result lies in the mapping.
        let base = unsafe { span.base.add(start) };
        Ok(Region::new(span.clone(), base, wanted))
    }

    /// Address space reserved, in bytes.
    pub fn reserved_bytes(&self) -> usize {
        self.span.bytes
    }

    /// Bytes that all regions together have committed at this moment.
    pub fn committed_bytes(&self) -> usize {
        self.span.committed.load(Ordering::Relaxed)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no region (each holds the `Arc`) is left to use it.
        let status = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        RESERVED.fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert_eq!(status, 0, "munmap: errno {}", errno());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carves_until_full_and_says_what_is_left() {
        let page = page_bytes();
        let reservation = Reservation::new(3 * page).unwrap();
        let first = reservation.carve(page + 1).unwrap();
        assert_eq!(first.bytes(), 2 * page);
        assert_eq!(
            reservation.carve(2 * page).unwrap_err(),
            ReserveError::Full {
                requested_bytes: 2 * page,
                available_bytes: page
            }
        );
        let second = reservation.carve(page).unwrap();
        assert_eq!(
            second.base().as_ptr() as usize,
            first.base().as_ptr() as usize + 2 * page
        );
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        let error = Reservation::new(1 << 60).unwrap_err();
        assert!(matches!(error, ReserveError::Os { requested_bytes, .. } if requested_bytes == 1 << 60));
        assert!(matches!(
            Reservation::new(usize::MAX),
            Err(ReserveError::Os { .. })
        ));
    }
}
