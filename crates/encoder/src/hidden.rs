//! What comes out of a pass: one view that every head reads.

use std::ops::Range;

/// The last layer's output, packed rows of `width` floats in the order of the batch's tokens; a view into the worker's
/// scratch, so copying it copies no activations.
#[derive(Clone, Copy, Debug)]
pub struct Hidden<'s> {
    rows: &'s [f32],
    width: usize,
}

impl<'s> Hidden<'s> {
    /// Views rows of `width` floats.
    ///
    /// # Panics
    /// When the rows are not whole.
    pub fn new(rows: &'s [f32], width: usize) -> Self {
        assert!(
            width > 0 && rows.len().is_multiple_of(width),
            "{} floats in rows of {width}",
            rows.len()
        );
        Hidden { rows, width }
    }

    /// Rows.
    pub fn tokens(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Floats in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One token's vector.
    ///
    /// # Panics
    /// When `index` is not below [`Hidden::tokens`].
    pub fn token(&self, index: usize) -> &'s [f32] {
        self.rows(index..index + 1)
    }

    /// The vectors of a sequence, `[tokens.len(), width]`.
    ///
    /// # Panics
    /// When the range reaches beyond [`Hidden::tokens`].
    pub fn rows(&self, tokens: Range<usize>) -> &'s [f32] {
        &self.rows[tokens.start * self.width..tokens.end * self.width]
    }
}
