//! One word being collected: its normalised bytes and the source bytes of each of its characters.

use crate::scratch::{Scratch, padded};

/// A growing word of at most `chars_max` characters; a longer one keeps only its extent.
pub(crate) struct Word<'s> {
    bytes: &'s mut [u8],
    /// Source start, source end, and end in `bytes`, of each character.
    chars: &'s mut [u32],
    byte_count: usize,
    char_count: usize,
    start: u32,
    end: u32,
    chars_max: usize,
}

const FIELDS: usize = 3;

impl<'s> Word<'s> {
    pub(crate) fn scratch_bytes(chars_max: usize) -> usize {
        chars_max * FIELDS * size_of::<u32>() + padded(chars_max * 4)
    }

    pub(crate) fn new(chars_max: usize, scratch: &mut Scratch<'s>) -> Self {
        let chars = scratch.words(chars_max * FIELDS);
        let bytes = scratch.bytes(padded(chars_max * 4));
        Self {
            bytes,
            chars,
            byte_count: 0,
            char_count: 0,
            start: 0,
            end: 0,
            chars_max,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, c: char, start: u32, end: u32) {
        if self.char_count == 0 {
            self.start = start;
        }
        self.end = end;
        let at = self.char_count * FIELDS;
        let bytes = self
            .bytes
            .get_mut(self.byte_count..self.byte_count + c.len_utf8());
        if let (Some(slot), Some(bytes)) = (self.chars.get_mut(at..at + FIELDS), bytes) {
            c.encode_utf8(bytes);
            self.byte_count += c.len_utf8();
            slot.copy_from_slice(&[start, end, self.byte_count as u32]);
        }
        self.char_count += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.char_count == 0
    }

    /// The normalised bytes, unless the word is too long to have kept them.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        if self.char_count > self.chars_max {
            None
        } else {
            self.bytes.get(..self.byte_count)
        }
    }

    /// Source bytes from the first character to the last.
    pub(crate) fn extent(&self) -> (u32, u32) {
        (self.start, self.end)
    }

    /// A cursor that turns ascending ends in [`Word::text`] into source offsets.
    pub(crate) fn offsets(&self) -> Offsets<'_> {
        Offsets {
            chars: &self.chars[..self.char_count.min(self.chars_max) * FIELDS],
            at: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.byte_count = 0;
        self.char_count = 0;
    }
}

/// See [`Word::offsets`].
pub(crate) struct Offsets<'w> {
    chars: &'w [u32],
    at: usize,
}

impl Offsets<'_> {
    /// Source start and end of the characters from the last call's up to the one that ends at `end`.
    pub(crate) fn up_to(&mut self, end: u32) -> (u32, u32) {
        let start = self.chars.get(self.at).copied().unwrap_or(0);
        let mut last = start;
        while let Some(slot) = self.chars.get(self.at..self.at + FIELDS)
            && slot[2] <= end
        {
            last = slot[1];
            self.at += FIELDS;
        }
        (start, last)
    }
}
