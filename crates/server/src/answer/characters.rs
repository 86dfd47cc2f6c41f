//! Offsets in characters, as most callers count.

use std::ops::Range;

use super::{Out, Source};

/// Turns byte offsets into character offsets; cheap when they ascend.
pub(super) struct Characters<'a> {
    text: &'a str,
    byte: usize,
    count: usize,
}

impl<'a> Characters<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Characters {
            text,
            byte: 0,
            count: 0,
        }
    }

    /// Characters before `byte`, which is a character boundary.
    fn before(&mut self, byte: usize) -> usize {
        if byte < self.byte {
            *self = Characters::new(self.text);
        }
        self.count += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.count
    }
    /// Writes `,"start":n,"end":m` of a piece that begins and ends between characters.
    pub(super) async fn span<S: Source>(&mut self, piece: Range<usize>, out: &mut Out<'_, S>) {
        out.raw(",\"start\":").await;
        out.uint(self.before(piece.start)).await;
        out.raw(",\"end\":").await;
        out.uint(self.before(piece.end)).await;
    }
}
