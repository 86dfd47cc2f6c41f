//! What BERT's normalizer and pre-tokenizer together make of each character.
//!
//! The `tokenizers` crate cleans, spaces out ideographs, decomposes, strips accents, lower-cases and splits in six passes over
//! the text. Each pass looks at one character at a time, decomposition apart; so their composition is a table.

use crate::unicode::{CHINESE, MARK_NONSPACING, OTHER, PUNCTUATION, has};
use std::ops::Range;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// The switches of `BertNormalizer`, its accent default resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BertFlags {
    pub(crate) clean_text: bool,
    pub(crate) handle_chinese_chars: bool,
    pub(crate) strip_accents: bool,
    pub(crate) lowercase: bool,
}

/// How a character of the text acts on the words around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Becomes one character of a word.
    Letter,
    /// Ends a word.
    Space,
    /// Removed before decomposition: combining marks on either side of it still meet.
    Cleaned,
    /// Becomes one character that is a word of its own.
    Single,
    /// Becomes no character, and keeps combining marks on either side of it apart.
    Dropped,
    /// Combining marks, all of which are stripped.
    Mark,
    /// Combining marks that are not all stripped, or a character that ends in such: the order of marks counts.
    Kept,
    /// Becomes several characters, each to be looked at.
    Several,
}

const KINDS: [Kind; 8] = [
    Kind::Letter,
    Kind::Space,
    Kind::Cleaned,
    Kind::Single,
    Kind::Dropped,
    Kind::Mark,
    Kind::Kept,
    Kind::Several,
];

/// A kind and, for `Letter` and `Single`, the character it becomes, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(u32);

impl Entry {
    fn new(kind: Kind, becomes: char) -> Self {
        Self((kind as u32) << 24 | becomes as u32)
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        KINDS[(self.0 >> 24) as usize % KINDS.len()]
    }

    #[inline]
    pub(crate) fn becomes(self) -> char {
        char::from_u32(self.0 & 0xFF_FFFF).unwrap_or('\u{FFFD}')
    }
}

/// How a character acts once it is normalised: the pre-tokenizer's view.
#[inline]
pub(crate) fn kind_after(c: char) -> Kind {
    if c.is_whitespace() {
        Kind::Space
    } else if has(c, PUNCTUATION) {
        Kind::Single
    } else {
        Kind::Letter
    }
}

impl BertFlags {
    /// Whether `clean_text` removes `c`.
    pub(crate) fn cleans(self, c: char) -> bool {
        self.clean_text && !matches!(c, '\t' | '\n' | '\r') && (c == '\0' || c == '\u{FFFD}' || has(c, OTHER))
    }

    /// Whether `c` is set apart as an ideograph.
    pub(crate) fn sets_apart(self, c: char) -> bool {
        self.handle_chinese_chars && has(c, CHINESE)
    }

    /// Calls `each` with the characters that `c` decomposes into, before accents are stripped.
    pub(crate) fn decompose(self, c: char, each: impl FnMut(char)) {
        let mut each = each;
        if self.strip_accents {
            decompose_canonical(c, each)
        } else {
            each(c)
        }
    }

    /// Whether `c`, already decomposed, is stripped.
    pub(crate) fn strips(self, c: char) -> bool {
        self.strip_accents && has(c, MARK_NONSPACING)
    }

    /// Calls `each` with the lower case of `c` if that is asked for.
    pub(crate) fn lower(self, c: char, each: impl FnMut(char)) {
        let mut each = each;
        if self.lowercase {
            c.to_lowercase().for_each(each)
        } else {
            each(c)
        }
    }

    /// Writes the entries of a range.
    fn classify_all(self, range: Range<char>, entries: &mut [Entry]) {
        for c in range {
            entries[c as usize] = self.classify(c);
        }
    }

    /// The entry of `c`, from the rules.
    pub(crate) fn classify(self, c: char) -> Entry {
        if self.cleans(c) {
            return Entry::new(Kind::Cleaned, c);
        }
        if c.is_whitespace() {
            return Entry::new(Kind::Space, c);
        }
        let (mut survivors, mut last, mut keeps_marks, mut starts_with_mark, mut first) =
            (0, c, false, false, true);
        self.decompose(c, |d| {
            let class = if self.strip_accents {
                canonical_combining_class(d)
            } else {
                0
            };
            starts_with_mark |= first && class != 0;
            first = false;
            if self.strips(d) {
                return;
            }
            keeps_marks |= class != 0;
            self.lower(d, |l| {
                survivors += 1;
                last = l;
            });
        });
        let apart = self.sets_apart(c);
        match (survivors, kind_after(last)) {
            _ if keeps_marks => Entry::new(Kind::Kept, c),
            _ if starts_with_mark => Entry::new(Kind::Mark, c),
            (0, _) => Entry::new(Kind::Dropped, c),
            (1, Kind::Space) => Entry::new(Kind::Space, c),
            (1, Kind::Letter) if !apart => Entry::new(Kind::Letter, last),
            (1, _) => Entry::new(Kind::Single, last),
            _ => Entry::new(Kind::Several, c),
        }
    }
}

/// Most of the Basic Multilingual Plane: in each of these ranges all characters have the kind of the first, and stay themselves. Ideographs of
/// extension A, ideographs, syllables of Hangul, private use.
const ALIKE: [(char, char); 4] = [
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{AC00}', '\u{D7A3}'),
    ('\u{E000}', '\u{F8FF}'),
];

/// The entries of the Basic Multilingual Plane; the rest is classified as it comes.
#[derive(Debug)]
pub(crate) struct Classes {
    flags: BertFlags,
    basic: Vec<Entry>,
    /// The lower-case byte of an ASCII letter (what may stand in a word), or 0x80.
    pub(crate) ascii_word: [u8; 256],
}

impl Classes {
    pub(crate) fn new(flags: BertFlags) -> Self {
        let mut basic = vec![flags.classify('\u{FFFD}'); 0x1_0000];
        let mut rest = '\0';
        for (first, last) in ALIKE {
            flags.classify_all(rest..first, &mut basic);
            let kind = flags.classify(first).kind();
            for c in first..=last {
                basic[c as usize] = Entry::new(kind, c);
            }
            rest = char::from_u32(last as u32 + 1).unwrap_or(last);
        }
        flags.classify_all(rest..'\u{10000}', &mut basic);
        let mut ascii_word = [0x80; 256];
        for (byte, word) in ascii_word.iter_mut().enumerate().take(128) {
            let entry = basic[byte];
            if entry.kind() == Kind::Letter && entry.becomes().is_ascii() {
                *word = entry.becomes() as u8;
            }
        }
        Self {
            flags,
            basic,
            ascii_word,
        }
    }

    pub(crate) fn flags(&self) -> BertFlags {
        self.flags
    }

    /// The entry of `c`.
    #[inline]
    pub(crate) fn of(&self, c: char) -> Entry {
        match self.basic.get(c as usize) {
            Some(&entry) => entry,
            None => self.flags.classify(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_what_the_rules_say() {
        for flags in 0..16 {
            let flags = BertFlags {
                clean_text: flags & 1 > 0,
                handle_chinese_chars: flags & 2 > 0,
                strip_accents: flags & 4 > 0,
                lowercase: flags & 8 > 0,
            };
            let classes = Classes::new(flags);
            for c in '\0'..'\u{10100}' {
                assert_eq!(classes.of(c), flags.classify(c), "{c:?} {flags:?}");
            }
        }
    }
}
