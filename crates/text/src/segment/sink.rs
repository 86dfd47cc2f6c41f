//! Where byte ends go: the caller's slice, with a count that goes on past its end.

use super::SegmentError;

/// Collects ascending byte ends. Counting on when full lets the error name the number that was needed.
pub(super) struct EndSink<'a> {
    ends: &'a mut [u32],
    count: usize,
    /// Where the part being cut starts in the text; ends inside it are pushed relative to it.
    base: usize,
}

impl<'a> EndSink<'a> {
    pub(super) fn new(ends: &'a mut [u32]) -> Self {
        Self {
            ends,
            count: 0,
            base: 0,
        }
    }

    /// The ends that follow count from byte `base` of the text.
    pub(super) fn set_base(&mut self, base: usize) {
        self.base = base;
    }

    /// A word ends at byte `end`, counted from the base. Texts are at most `u32::MAX` bytes, checked at the door.
    #[inline(always)]
    pub(super) fn push(&mut self, end: usize) {
        self.push_if(true, end);
    }

    /// [`push`](Self::push), or nothing, without a branch.
    #[inline(always)]
    pub(super) fn push_if(&mut self, is_end: bool, end: usize) {
        if let Some(slot) = self.ends.get_mut(self.count) {
            *slot = (self.base + end) as u32;
        }
        self.count += usize::from(is_end);
    }

    /// Takes back the last `count` words.
    #[inline(always)]
    pub(super) fn take_back(&mut self, count: usize) {
        self.count -= count;
    }

    /// The word pushed last ends at `end` instead: a mark that follows belongs to it.
    pub(super) fn extend_last(&mut self, end: usize) {
        if let Some(slot) = self.count.checked_sub(1).and_then(|last| self.ends.get_mut(last)) {
            *slot = (self.base + end) as u32;
        }
    }

    pub(super) fn finish(self) -> Result<usize, SegmentError> {
        let available_words = self.ends.len();
        if self.count > available_words {
            return Err(SegmentError::EndsTooSmall {
                needed_words: self.count,
                available_words,
            });
        }
        Ok(self.count)
    }
}
