//! Tables that begin as zeros.
//!
//! Fresh pages are zeros already. A table that is not written to at start touches none of them: a cache of a gigabyte starts as fast as one
//! of a megabyte, and what was billed for its tables becomes resident as vectors come in.

/// A type of which zeros are a value.
///
/// # Safety
/// All bytes zero must be a valid value.
pub(super) unsafe trait Zeros: Copy {}

// SAFETY: a number.
unsafe impl Zeros for u32 {}

/// So many zeros.
pub(super) fn zeros<T: Zeros>(count: usize) -> Box<[T]> {
    // SAFETY: all bytes are zero, which is a value of `T`.
    unsafe { Box::new_zeroed_slice(count).assume_init() }
}
