//! Offsets in characters, as most callers count.

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
    pub(super) fn before(&mut self, byte: usize) -> usize {
        if byte < self.byte {
            *self = Characters::new(self.text);
        }
        self.count += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.count
    }
}
