//! Byte offsets to character offsets and back, in one walk over the text.

/// A cursor over a text that turns ascending byte offsets into character offsets.
///
/// Each step costs as many bytes as the offset moved; going back starts again at the beginning of the text, so a
/// caller that asks in ascending order (tokens, words, spans) pays for the text once.
///
/// ```
/// use plimsoll_text::CharOffsets;
/// let mut offsets = CharOffsets::new("naïve 中文");
/// assert_eq!(offsets.char_of(2), 2); // before the ï
/// assert_eq!(offsets.char_of(4), 3); // after it: two bytes, one character
/// assert_eq!(offsets.char_of(7), 6);
/// assert_eq!(offsets.byte_of(7), 10); // after the 中
/// ```
#[derive(Debug, Clone)]
pub struct CharOffsets<'a> {
    text: &'a str,
    bytes: usize,
    chars: usize,
}

impl<'a> CharOffsets<'a> {
    /// A cursor at the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: 0,
            chars: 0,
        }
    }

    /// How many characters start before byte `byte`; the end of the text beyond it.
    pub fn char_of(&mut self, byte: usize) -> usize {
        let byte = byte.min(self.text.len());
        if byte < self.bytes {
            (self.bytes, self.chars) = (0, 0);
        }
        let passed = &self.text.as_bytes()[self.bytes..byte];
        self.chars += passed.iter().filter(|&&b| !is_continuation(b)).count();
        self.bytes = byte;
        self.chars
    }

    /// The byte at which character `char` starts; the length of the text beyond it.
    pub fn byte_of(&mut self, char: usize) -> usize {
        while !self.text.is_char_boundary(self.bytes) {
            self.bytes += 1;
        }
        if char < self.chars {
            (self.bytes, self.chars) = (0, 0);
        }
        let rest = &self.text[self.bytes..];
        let skip = char - self.chars;
        match rest.char_indices().nth(skip) {
            Some((at, _)) => {
                self.bytes += at;
                self.chars = char;
            }
            None => {
                self.chars += rest.chars().count();
                self.bytes = self.text.len();
            }
        }
        self.bytes
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_with_counting() {
        let text = "aé中😀\u{301}z";
        for (count, (at, _)) in text.char_indices().enumerate() {
            let mut offsets = CharOffsets::new(text);
            assert_eq!(offsets.char_of(at), count);
            assert_eq!(offsets.byte_of(count), at);
            assert_eq!(
                offsets.byte_of(count + 1),
                at + text[at..].chars().next().unwrap().len_utf8()
            );
            assert_eq!(offsets.char_of(at), count, "going back");
        }
        let mut offsets = CharOffsets::new(text);
        assert_eq!(offsets.char_of(usize::MAX), 6);
        assert_eq!(offsets.byte_of(usize::MAX), text.len());
        assert_eq!(CharOffsets::new("").char_of(3), 0);
    }
}
