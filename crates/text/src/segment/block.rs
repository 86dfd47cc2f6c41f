//! jieba's character classes: what `re_han_default` joins into one block, and how characters become codes.
//!
//! A block holds only ASCII and characters of U+4E00..=U+9FD5, so each of its characters is one byte or three.

use super::words::WORDS;

/// First and last character of jieba's Han range, `[\u4E00-\u9FD5]`.
pub(super) const HAN_FIRST: u32 = 0x4E00;
pub(super) const HAN_LAST: u32 = 0x9FD5;

const BLOCK: u8 = 1;
const ALNUM: u8 = 2;

/// Classes of ASCII bytes: `[a-zA-Z0-9+#&\._%\-]` and, within it, `[a-zA-Z0-9]`.
static ASCII_CLASS: [u8; 128] = {
    let mut class = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            class[byte] = BLOCK | ALNUM;
        } else if matches!(byte as u8, b'+' | b'#' | b'&' | b'.' | b'_' | b'%' | b'-') {
            class[byte] = BLOCK;
        }
        byte += 1;
    }
    class
};

/// jieba's `re_eng`: `[a-zA-Z0-9]`.
#[inline]
pub(super) fn is_alnum(byte: u8) -> bool {
    ASCII_CLASS
        .get(usize::from(byte))
        .is_some_and(|class| class & ALNUM != 0)
}

/// Whether an ASCII byte belongs into a block.
#[inline]
pub(super) fn is_block_ascii(byte: u8) -> bool {
    ASCII_CLASS
        .get(usize::from(byte))
        .is_some_and(|class| class & BLOCK != 0)
}

/// Whether a Han character of jieba's range starts at `at`.
#[inline]
pub(super) fn is_han_at(text: &[u8], at: usize) -> bool {
    let Some(&[lead @ 0xE4..=0xE9, second, third]) = text.get(at..).and_then(|rest| rest.first_chunk())
    else {
        return false;
    };
    code_point(lead, second, third).wrapping_sub(HAN_FIRST) <= HAN_LAST - HAN_FIRST
}

/// Where the block that starts at `at` ends; `at` itself when no block starts there.
#[inline]
pub(super) fn block_end(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at) {
            Some(&byte) if byte < 0x80 && is_block_ascii(byte) => at += 1,
            Some(_) if is_han_at(text, at) => at += 3,
            _ => return at,
        }
    }
}

/// Bytes of the character that `lead` starts, in valid UTF-8.
#[inline]
pub(super) fn width(lead: u8) -> usize {
    match lead {
        ..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    }
}

/// Code and width of the block character that starts at `at`.
#[inline(always)]
pub(super) fn code_at(text: &[u8], at: usize) -> (u16, usize) {
    match text[at..] {
        [lead @ 0x80..=0xFF, second, third, ..] => (WORDS.han_code(code_point(lead, second, third)), 3),
        [lead, ..] => (WORDS.ascii_code(lead), 1),
        [] => (0, 1),
    }
}

/// Code and width of the character that ends at `end` (above 0), in valid UTF-8. The code is 0 outside of blocks.
#[inline(always)]
pub(super) fn code_before(text: &[u8], end: usize) -> (u16, usize) {
    match text[..end] {
        [.., lead @ 0xE0..=0xEF, second, third] => (WORDS.han_code(code_point(lead, second, third)), 3),
        [.., last @ 0..=0x7F] => (WORDS.ascii_code(last), 1),
        [.., 0xC0..=0xDF, _] => (0, 2),
        _ => (0, 4),
    }
}

/// The code point of a character of three UTF-8 bytes.
#[inline(always)]
fn code_point(lead: u8, second: u8, third: u8) -> u32 {
    let bits = |byte: u8| u32::from(byte & 0x3F);
    u32::from(lead & 0x0F) << 12 | bits(second) << 6 | bits(third)
}
