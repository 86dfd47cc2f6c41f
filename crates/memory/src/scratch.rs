//! One arena a worker for activations and temporaries.
//!
//! The size of a pass is known before it starts, so its memory is one block, taken piece by piece and released at once. Each operation states its need as a
//! [`ScratchReq`] beside the function that uses it: with exactly that many bytes it succeeds, with one byte less it is refused. Pieces are views into
//! the arena, so layers hand them on instead of copying.
//!
//! A [`Frame`] gives disjoint pieces that live as long as the frame is borrowed. A nested frame serves temporaries: it takes from where its parent
//! stopped, and dropping it releases them while the parent's pieces live on.

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

use crate::pod::Pod;
use crate::process::page_bytes;
use crate::region::{CommitError, HugePages, Region};
use crate::reservation::{Reservation, ReserveError};

/// Alignment of every piece: a cache line, and the widest vector.
pub const SCRATCH_ALIGN_BYTES: usize = 64;

/// Bytes of scratch that an operation needs, counted in whole pieces of [`SCRATCH_ALIGN_BYTES`].
///
/// ```
/// # use plimsoll_memory::{Scratch, ScratchReq};
/// let need = ScratchReq::of::<f32>(100).and(ScratchReq::of::<u8>(3));
/// assert_eq!(need.bytes(), 448 + 64);
/// let mut scratch = Scratch::new(need.bytes())?;
/// let frame = scratch.frame();
/// let (hidden, flags) = (frame.take::<f32>(100)?, frame.take::<u8>(3)?); // both live
/// hidden[99] = 1.0;
/// flags[0] = 1;
/// assert!(frame.take::<u8>(1).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScratchReq {
    bytes: usize,
}

impl ScratchReq {
    /// Nothing.
    pub const NONE: ScratchReq = ScratchReq { bytes: 0 };

    /// One piece of `len` elements. A size beyond the address space saturates, and no scratch can serve it.
    pub const fn of<T: Pod>(len: usize) -> ScratchReq {
        match len
            .saturating_mul(size_of::<T>())
            .checked_next_multiple_of(SCRATCH_ALIGN_BYTES)
        {
            Some(bytes) => ScratchReq { bytes },
            None => ScratchReq { bytes: usize::MAX },
        }
    }

    /// Both at once.
    pub const fn and(self, other: ScratchReq) -> ScratchReq {
        ScratchReq {
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// One or the other, or one after the other.
    pub const fn or(self, other: ScratchReq) -> ScratchReq {
        if self.bytes > other.bytes { self } else { other }
    }

    /// `count` times at once.
    pub const fn times(self, count: usize) -> ScratchReq {
        ScratchReq {
            bytes: self.bytes.saturating_mul(count),
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        self.bytes
    }
}

/// The arena has too little left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchTooSmall {
    /// Bytes that the piece needs.
    pub needed_bytes: usize,
    /// Bytes that are left.
    pub available_bytes: usize,
}

impl fmt::Display for ScratchTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScratchTooSmall {
            needed_bytes,
            available_bytes,
        } = self;
        write!(
            f,
            "scratch: a piece needs {needed_bytes} bytes, {available_bytes} available"
        )
    }
}

impl std::error::Error for ScratchTooSmall {}

/// Why an arena could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScratchError {
    /// No address space.
    Reserve(ReserveError),
    /// No pages.
    Commit(CommitError),
}

impl fmt::Display for ScratchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScratchError::Reserve(error) => write!(f, "scratch: {error}"),
            ScratchError::Commit(error) => write!(f, "scratch: {error}"),
        }
    }
}

impl std::error::Error for ScratchError {}

/// An arena of a fixed number of bytes, all committed. Owned by one worker; moving it to another thread is fine, sharing is not.
#[derive(Debug)]
pub struct Scratch {
    region: Region,
    bytes: usize,
    top: Cell<usize>,
    high_water: Cell<usize>,
    /// How many frames are alive.
    depth: Cell<usize>,
}

impl Scratch {
    /// An arena with a reservation of its own.
    pub fn new(bytes: usize) -> Result<Self, ScratchError> {
        let reservation = Reservation::new(bytes).map_err(ScratchError::Reserve)?;
        Self::carve(&reservation, bytes)
    }

    /// An arena of `bytes` in a shared reservation (which gives whole pages).
    pub fn carve(reservation: &Reservation, bytes: usize) -> Result<Self, ScratchError> {
        let region = reservation.carve(bytes).map_err(ScratchError::Reserve)?;
        region.commit(0..region.pages()).map_err(ScratchError::Commit)?;
        let zero = || Cell::new(0);
        Ok(Scratch {
            region,
            bytes,
            top: zero(),
            high_water: zero(),
            depth: zero(),
        })
    }

    /// Sets whether huge pages may back the arena. As all of it is used, they save time; until it was used, they cost up to its size at the first touch.
    pub fn huge_pages(&self, policy: HugePages) {
        self.region.huge_pages(policy);
    }

    /// Makes every page resident now.
    pub fn populate(&self) -> Result<(), CommitError> {
        self.region.populate(0..self.region.pages())
    }

    /// Starts a pass with the whole arena.
    pub fn frame(&mut self) -> Frame<'_> {
        // Frames of an earlier borrow are over, even those that were forgotten.
        self.top.set(0);
        self.depth.set(1);
        Frame {
            scratch: self,
            depth: 1,
            start: 0,
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most that was ever taken at once.
    pub fn high_water_bytes(&self) -> usize {
        self.high_water.get()
    }

    /// Drops the contents of the pages beyond `bytes`, to be filled with zeros when used next; returns the bytes given back.
    pub fn give_back_beyond(&mut self, bytes: usize) -> Result<usize, CommitError> {
        let pages = bytes.div_ceil(page_bytes()).min(self.region.pages())..self.region.pages();
        let given = self.region.empty(pages.clone());
        // Given-back pages stay usable; committing them again keeps the count true to what may become resident.
        self.region.commit(pages)?;
        Ok(given)
    }
}

/// A span of a pass. Having one tells you: what it takes is yours alone while the frame is borrowed, and is released when the frame is dropped.
#[derive(Debug)]
pub struct Frame<'a> {
    scratch: &'a Scratch,
    depth: usize,
    start: usize,
}

impl Frame<'_> {
    /// Takes `len` elements, aligned to [`SCRATCH_ALIGN_BYTES`], disjoint from every other living piece. Contents unspecified.
    ///
    /// # Errors
    /// When fewer than [`ScratchReq::of::<T>(len)`](ScratchReq::of) bytes are left.
    ///
    /// # Panics
    /// While a nested frame is alive: its pieces lie where this one would be.
    #[expect(clippy::mut_from_ref, reason = "each call returns another part of the arena")]
    pub fn take<T: Pod>(&self, len: usize) -> Result<&mut [T], ScratchTooSmall> {
        self.assert_innermost();
        let scratch = self.scratch;
        let (start, needed_bytes) = (scratch.top.get(), ScratchReq::of::<T>(len).bytes());
        let available_bytes = scratch.bytes - start;
        if needed_bytes > available_bytes {
            return Err(ScratchTooSmall {
                needed_bytes,
                available_bytes,
            });
        }
        scratch.top.set(start + needed_bytes);
        scratch
            .high_water
            .set(scratch.high_water.get().max(start + needed_bytes));
        // SAFETY: `start <= bytes <= region.bytes()`.
        let address: NonNull<T> = unsafe { scratch.region.base().add(start) }.cast();
        // SAFETY: the bytes from `start` to `start + needed_bytes` are committed and initialised (zero pages or `Pod` values). They start at a multiple of 64 from a
        // page, so they are aligned. They are disjoint from every living piece: `top` never goes below a living piece, because only dropping a frame (or
        // borrowing the scratch anew) lowers it, to where that frame started, and pieces of that frame or of frames nested in it borrow it.
        Ok(unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), len) })
    }

    /// As [`take`](Self::take), filled with zeros.
    pub fn take_zeroed<T: Pod>(&self, len: usize) -> Result<&mut [T], ScratchTooSmall> {
        let piece = self.take::<T>(len)?;
        crate::pod::as_bytes_mut(piece).fill(0);
        Ok(piece)
    }

    /// A frame for temporaries, which this frame's pieces outlive.
    ///
    /// # Panics
    /// While another frame nested in this one is alive.
    pub fn nested(&self) -> Frame<'_> {
        self.assert_innermost();
        self.scratch.depth.set(self.depth + 1);
        Frame {
            scratch: self.scratch,
            depth: self.depth + 1,
            start: self.scratch.top.get(),
        }
    }

    /// Bytes that are left to take.
    pub fn available_bytes(&self) -> usize {
        self.scratch.bytes - self.scratch.top.get()
    }

    fn assert_innermost(&self) {
        assert_eq!(
            self.depth,
            self.scratch.depth.get(),
            "a frame is idle while one nested in it lives"
        );
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.scratch.top.set(self.start);
        self.scratch.depth.set(self.depth - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_enough_passes_and_one_byte_less_does_not() {
        let need = ScratchReq::of::<f32>(17)
            .and(ScratchReq::of::<u16>(1))
            .and(ScratchReq::of::<u8>(64));
        assert_eq!(need.bytes(), 128 + 64 + 64);
        let run = |bytes| {
            let mut scratch = Scratch::new(bytes).unwrap();
            let frame = scratch.frame();
            frame.take::<f32>(17)?;
            frame.take::<u16>(1)?;
            frame.take::<u8>(64).map(|piece| piece.len())
        };
        assert_eq!(run(need.bytes()), Ok(64));
        assert_eq!(
            run(need.bytes() - 1),
            Err(ScratchTooSmall {
                needed_bytes: 64,
                available_bytes: 63
            })
        );
    }

    #[test]
    fn nested_frames_release_and_leave_the_parents_pieces_alone() {
        let mut scratch = Scratch::new(4096).unwrap();
        let frame = scratch.frame();
        let kept = frame.take::<u64>(8).unwrap();
        kept.fill(7);
        for _ in 0..3 {
            let inner = frame.nested();
            let first = inner.take::<u64>(100).unwrap();
            let second = inner.nested();
            second.take::<u8>(64).unwrap().fill(9);
            first.fill(1);
        }
        assert_eq!(frame.available_bytes(), 4096 - 64);
        let later = frame.take::<u64>(8).unwrap();
        later.fill(2);
        assert!(kept.iter().all(|word| *word == 7));
        drop(frame);
        assert_eq!(scratch.high_water_bytes(), 64 + 832 + 64);
    }

    #[test]
    fn pieces_are_aligned_and_zeroed_on_request() {
        let mut scratch = Scratch::new(1024).unwrap();
        for _ in 0..2 {
            let frame = scratch.frame();
            frame.take::<u8>(1).unwrap();
            let zeros = frame.take_zeroed::<f32>(3).unwrap();
            assert_eq!(
                (zeros.as_ptr() as usize % SCRATCH_ALIGN_BYTES, &*zeros),
                (0, &[0.0; 3][..])
            );
            zeros.fill(5.0);
        }
    }

    #[test]
    #[should_panic(expected = "a frame is idle while one nested in it lives")]
    fn a_frame_does_not_take_under_a_nested_one() {
        let mut scratch = Scratch::new(1024).unwrap();
        let frame = scratch.frame();
        let _inner = frame.nested();
        let _ = frame.take::<u8>(1);
    }

    #[test]
    fn forgotten_frames_do_not_outlive_the_next_pass() {
        let mut scratch = Scratch::new(128).unwrap();
        std::mem::forget(scratch.frame().nested());
        assert_eq!(scratch.frame().take::<u8>(128).unwrap().len(), 128);
    }

    #[test]
    fn sizes_beyond_the_address_space_saturate_and_are_refused() {
        let mut scratch = Scratch::new(64).unwrap();
        let error = scratch.frame().take::<u64>(usize::MAX).unwrap_err();
        assert_eq!(
            error,
            ScratchTooSmall {
                needed_bytes: usize::MAX,
                available_bytes: 64
            }
        );
        assert_eq!(
            ScratchReq::of::<u64>(usize::MAX)
                .and(ScratchReq::of::<u8>(1))
                .bytes(),
            usize::MAX
        );
        assert_eq!(
            ScratchReq::NONE.or(ScratchReq::of::<u8>(65)).times(2).bytes(),
            256
        );
    }

    #[test]
    fn pages_beyond_a_line_go_back_and_stay_usable() {
        let mut scratch = Scratch::new(4 * page_bytes()).unwrap();
        scratch.frame().take::<u8>(4 * page_bytes()).unwrap().fill(1);
        assert_eq!(scratch.give_back_beyond(page_bytes() + 1), Ok(2 * page_bytes()));
        let frame = scratch.frame();
        let bytes = frame.take::<u8>(4 * page_bytes()).unwrap();
        assert_eq!(
            (bytes[0], bytes[2 * page_bytes() - 1], bytes[2 * page_bytes()]),
            (1, 1, 0)
        );
    }
}
