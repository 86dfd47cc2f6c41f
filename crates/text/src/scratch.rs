//! Typed slices cut from the caller's scratch bytes.

use crate::EncodeError;

/// Bytes lost at most to bring an arbitrary slice to the alignment of `u32`.
pub(crate) const ALIGN_SLACK: usize = 3;

/// What is left of the caller's scratch.
pub(crate) struct Scratch<'s> {
    rest: &'s mut [u8],
}

impl<'s> Scratch<'s> {
    /// Takes over `bytes` when it holds at least `needed`.
    pub(crate) fn new(bytes: &'s mut [u8], needed: usize) -> Result<Self, EncodeError> {
        if bytes.len() < needed {
            return Err(EncodeError::ScratchTooSmall {
                needed,
                available: bytes.len(),
            });
        }
        Ok(Self::unchecked(bytes))
    }

    /// Takes over `bytes`, whose length was checked before.
    pub(crate) fn unchecked(bytes: &'s mut [u8]) -> Self {
        let mut scratch = Self { rest: bytes };
        scratch.align();
        scratch
    }

    /// Skips to the alignment of `u32`, at most [`ALIGN_SLACK`] bytes.
    fn align(&mut self) {
        let skip = self
            .rest
            .as_ptr()
            .align_offset(align_of::<u32>())
            .min(self.rest.len());
        self.bytes(skip);
    }

    /// The next `count` words of 32 bits.
    pub(crate) fn words(&mut self, count: usize) -> &'s mut [u32] {
        let bytes = self.bytes(count * size_of::<u32>());
        bytemuck::cast_slice_mut(bytes)
    }

    /// The next `count` bytes; take words first, or keep `count` a multiple of four.
    pub(crate) fn bytes(&mut self, count: usize) -> &'s mut [u8] {
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(count);
        self.rest = rest;
        taken
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'s mut [u8] {
        self.rest
    }
}

/// `bytes` rounded up to whole words of 32 bits.
pub(crate) const fn padded(bytes: usize) -> usize {
    bytes.div_ceil(4) * 4
}
