//! What goes into a pass: packed tokens, and the sizes that its memory follows from.

/// Sequences laid end to end, without padding.
///
/// ```
/// use plimsoll_encoder::{Batch, BatchShape};
/// let batch = Batch { ids: &[101, 7592, 102, 101, 102], types: &[], lens: &[3, 2] };
/// assert_eq!(batch.shape(), BatchShape { tokens: 5, sequences: 2, tokens_longest: 3 });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Token ids of all sequences, specials included.
    pub ids: &'a [u32],
    /// Token types (segment ids) beside `ids`, or empty when all are 0. Models without token types ignore them.
    pub types: &'a [u8],
    /// Tokens of each sequence; they sum to `ids.len()`.
    pub lens: &'a [u32],
}

impl Batch<'_> {
    /// The sizes of this batch.
    pub fn shape(&self) -> BatchShape {
        BatchShape {
            tokens: self.ids.len(),
            sequences: self.lens.len(),
            tokens_longest: self.lens.iter().copied().max().unwrap_or(0) as usize,
        }
    }
}

/// The sizes that the scratch of a pass follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Tokens of all sequences.
    pub tokens: usize,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens of the longest sequence.
    pub tokens_longest: usize,
}
