//! Character properties as the `tokenizers` crate sees them.
//!
//! That crate reads its properties from libraries of different Unicode versions. The bits here are copied from them
//! (`bench/peers/src/bin/unicode_table.rs`), so that a code point assigned last year is treated as there, not as it
//! should be: ids must be equal to the ids that the model was trained with.

mod table;

/// Control, format or private use (`unicode_categories`).
pub(crate) const OTHER: u8 = 1;
/// Nonspacing mark (`unicode_categories`).
pub(crate) const MARK_NONSPACING: u8 = 2;
/// ASCII punctuation or a punctuation category (`unicode_categories`).
pub(crate) const PUNCTUATION: u8 = 4;
/// `\w` of the `regex` crate.
pub(crate) const WORD: u8 = 8;
/// `\p{L}` of Oniguruma.
pub(crate) const ONIG_LETTER: u8 = 16;
/// `\p{N}` of Oniguruma.
pub(crate) const ONIG_NUMBER: u8 = 32;
/// `\s` of Oniguruma.
pub(crate) const ONIG_SPACE: u8 = 64;
/// The ideographs that `BertNormalizer` puts spaces around.
pub(crate) const CHINESE: u8 = 128;

/// The property bits of `c`.
#[inline]
pub(crate) fn properties(c: char) -> u8 {
    let page = table::PAGE_OF[(c as usize >> 8) % table::PAGE_OF.len()];
    table::PAGES[usize::from(page) % table::PAGES.len()][c as usize & 0xFF]
}

/// Whether `c` has the property `bit`.
#[inline]
pub(crate) fn has(c: char, bit: u8) -> bool {
    properties(c) & bit != 0
}

/// Decodes the character that starts at `at`, a character boundary below the end of `text`.
#[inline]
pub(crate) fn char_at(text: &str, at: usize) -> char {
    text[at..].chars().next().unwrap_or('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_those_of_the_crate_that_tokenizers_uses() {
        use unicode_categories::UnicodeCategories;
        for c in (0..0x11_0000).filter_map(char::from_u32) {
            assert_eq!(has(c, OTHER), c.is_other(), "{:x}", c as u32);
            assert_eq!(has(c, MARK_NONSPACING), c.is_mark_nonspacing(), "{:x}", c as u32);
            assert_eq!(
                has(c, PUNCTUATION),
                c.is_ascii_punctuation() || c.is_punctuation(),
                "{:x}",
                c as u32
            );
        }
    }

    #[test]
    fn words_and_spaces_of_ascii_are_as_expected() {
        for c in (0..128u8).map(char::from) {
            assert_eq!(has(c, WORD), c.is_ascii_alphanumeric() || c == '_');
            assert_eq!(has(c, ONIG_LETTER), c.is_ascii_alphabetic());
            assert_eq!(has(c, ONIG_NUMBER), c.is_ascii_digit());
            assert_eq!(has(c, ONIG_SPACE), c.is_whitespace());
        }
        assert!(has('中', CHINESE) && !has('か', CHINESE));
    }
}
