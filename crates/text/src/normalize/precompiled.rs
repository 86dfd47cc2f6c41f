//! The SentencePiece character map (`precompiled_charsmap`).
//!
//! The map is a double array over UTF-8 (keys are one or several characters) whose values point at NUL-terminated
//! replacements. It is applied as the `tokenizers` crate does, oddities included, since models were trained with them:
//! a grapheme shorter than six bytes is replaced as a whole by the *shortest* entry that it starts with (so `"\r\n"`
//! becomes what `"\r"` becomes); otherwise each of its characters is replaced likewise or kept.
//!
//! Finding graphemes costs more than everything else here, so it is avoided where the answer is known: between two
//! [plain](is_plain) characters there is always a boundary.

use crate::TokenizerError;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

/// Graphemes of so many bytes are not looked up whole.
const GRAPHEME_BYTES: usize = 6;
/// A unit with this bit is a value.
const VALUE: u32 = 1 << 31;
const BMP: usize = 0x1_0000;

/// A character map, immutable.
#[derive(Debug)]
pub(crate) struct Precompiled {
    units: Box<[u32]>,
    replacements: Box<str>,
    /// One bit for each character up to U+FFFF: it is replaced when it stands alone.
    replaced: Box<[u64; BMP / 64]>,
}

impl Precompiled {
    /// Reads `{"type": "Precompiled", "precompiled_charsmap": base64}`.
    pub(crate) fn from_json(normalizer: &Value) -> Result<Self, TokenizerError> {
        let text = normalizer.get("precompiled_charsmap").and_then(Value::as_str);
        let map = text
            .and_then(decode_base64)
            .ok_or_else(|| malformed("is not base64"))?;
        Self::from_bytes(&map)
    }

    /// Reads SentencePiece's form: u32 bytes of the array, the array (u32 little endian), the replacements.
    fn from_bytes(map: &[u8]) -> Result<Self, TokenizerError> {
        let (size, rest) = map
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed("has no size"))?;
        let array_bytes = u32::from_le_bytes(*size) as usize / 4 * 4;
        let (array, texts) = rest
            .split_at_checked(array_bytes)
            .ok_or_else(|| malformed("is shorter than its array"))?;
        let units: Box<[u32]> = array
            .as_chunks::<4>()
            .0
            .iter()
            .map(|unit| u32::from_le_bytes(*unit))
            .collect();
        if units.is_empty() {
            return Err(malformed("has an empty array"));
        }
        let replacements =
            std::str::from_utf8(texts).map_err(|_| malformed("has replacements that are not UTF-8"))?;
        let mut precompiled = Self {
            units,
            replacements: replacements.into(),
            replaced: Box::new([0; BMP / 64]),
        };
        precompiled.check_values()?;
        for point in 1..BMP as u32 {
            let alone = char::from_u32(point).map(|char| precompiled.lookup_char(char).is_some());
            precompiled.replaced[point as usize / 64] |= u64::from(alone == Some(true)) << (point % 64);
        }
        Ok(precompiled)
    }

    /// Characters of the longest replacement.
    pub(crate) fn longest_replacement(&self) -> usize {
        self.replacements
            .split('\0')
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// Every value must point at the start of a character, so that no later look-up can fail.
    fn check_values(&self) -> Result<(), TokenizerError> {
        for (place, &unit) in self.units.iter().enumerate() {
            if unit & VALUE == 0 && has_leaf(unit) {
                let value = self
                    .units
                    .get(place ^ offset(unit))
                    .map(|value| (value & !VALUE) as usize);
                if !value.is_some_and(|value| self.replacements.is_char_boundary(value)) {
                    return Err(malformed("has a value outside its replacements"));
                }
            }
        }
        Ok(())
    }

    /// The rewrite of `chunk` as `(character, change)` in order; nothing is allocated.
    ///
    /// A removal belongs to the entry before it. One that has none, at the start of the chunk, comes as `None` with how
    /// many characters go: in the middle of a text they are passed over, at its start the `tokenizers` crate forgets them.
    pub(crate) fn transform(&self, chunk: &str, push: &mut impl FnMut(Option<char>, isize)) {
        let mut out = Rewrite { held: None, push };
        let mut segment = 0;
        let mut plain_before = false;
        for (at, char) in chunk.char_indices() {
            let plain = is_plain(char);
            if plain && plain_before {
                self.segment(&chunk[segment..at], &mut out);
                segment = at;
            }
            plain_before = plain;
        }
        self.segment(&chunk[segment..], &mut out);
        out.finish();
    }

    /// Whether the first character of `text` is removed.
    pub(crate) fn removes_first(&self, text: &str) -> bool {
        let mut removes = false;
        let first = text.graphemes(true).next().unwrap_or_default();
        self.transform(first, &mut |char, _| removes |= char.is_none());
        removes
    }

    /// Rewrites what lies between two boundaries: nearly always one plain character.
    fn segment(&self, segment: &str, out: &mut Rewrite<'_, impl FnMut(Option<char>, isize)>) {
        let mut chars = segment.chars();
        match (chars.next(), chars.as_str().is_empty()) {
            (Some(char), true) => self.char(char, out),
            _ => self.graphemes(segment, out),
        }
    }

    fn graphemes(&self, segment: &str, out: &mut Rewrite<'_, impl FnMut(Option<char>, isize)>) {
        for grapheme in segment.graphemes(true) {
            if grapheme.len() < GRAPHEME_BYTES
                && let Some(replacement) = self.lookup(grapheme.as_bytes())
            {
                out.replace(grapheme.chars().count() as isize, replacement);
                continue;
            }
            for char in grapheme.chars() {
                self.char(char, out);
            }
        }
    }

    fn char(&self, char: char, out: &mut Rewrite<'_, impl FnMut(Option<char>, isize)>) {
        match if self.is_replaced(char) {
            self.lookup_char(char)
        } else {
            None
        } {
            Some(replacement) => out.replace(1, replacement),
            None => out.add(char, 0),
        }
    }

    fn is_replaced(&self, char: char) -> bool {
        match self.replaced.get(char as usize / 64) {
            Some(bits) => bits >> (char as u32 % 64) & 1 == 1,
            None => self.lookup_char(char).is_some(),
        }
    }

    /// The replacement of a character that stands alone.
    pub(crate) fn lookup_char(&self, char: char) -> Option<&str> {
        self.lookup(char.encode_utf8(&mut [0; 4]).as_bytes())
    }

    /// The replacement of the shortest entry that `key` starts with.
    fn lookup(&self, key: &[u8]) -> Option<&str> {
        let mut place = offset(self.units[0]);
        for &byte in key {
            if byte == 0 {
                return None;
            }
            place ^= usize::from(byte);
            let unit = *self.units.get(place)?;
            if unit & (VALUE | 0xff) != u32::from(byte) {
                return None;
            }
            place ^= offset(unit);
            if has_leaf(unit) {
                let text = self
                    .replacements
                    .get((self.units.get(place)? & !VALUE) as usize..)?;
                return text.split('\0').next();
            }
        }
        None
    }
}

fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

fn offset(unit: u32) -> usize {
    (unit as usize >> 10) << ((unit & 1 << 9) >> 6)
}

fn malformed(what: &str) -> TokenizerError {
    TokenizerError::Malformed(format!("precompiled_charsmap {what}"))
}

/// Whether a grapheme always ends between this character and another plain one: neither extends, joins, prepends nor
/// controls, nor is it half of a Hangul syllable (Unicode Annex 29; only ranges whose members all qualify, the common ones).
pub(crate) fn is_plain(char: char) -> bool {
    matches!(char,
        ' '..='~' | '\u{a0}'..='\u{ac}' | '\u{ae}'..='\u{2ff}' | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{52f}'
        | '\u{2010}'..='\u{2027}' | '\u{2070}'..='\u{20c0}' | '\u{2100}'..='\u{2bff}' | '\u{3001}'..='\u{3029}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff01}'..='\u{ff5e}')
}

/// Passes entries on one behind, because a removal changes the entry before it.
struct Rewrite<'p, P> {
    held: Option<(char, isize)>,
    push: &'p mut P,
}

impl<P: FnMut(Option<char>, isize)> Rewrite<'_, P> {
    fn add(&mut self, char: char, change: isize) {
        if let Some((char, change)) = self.held.replace((char, change)) {
            (self.push)(Some(char), change);
        }
    }

    /// `replacement` in the place of `old` characters: what it has more is inserted, what it has less removed.
    fn replace(&mut self, old: isize, replacement: &str) {
        let mut new = 0;
        for char in replacement.chars() {
            self.add(char, isize::from(new >= old));
            new += 1;
        }
        match &mut self.held {
            _ if new >= old => {}
            Some((_, change)) => *change += new - old,
            None => (self.push)(None, old - new),
        }
    }

    fn finish(self) {
        if let Some((char, change)) = self.held {
            (self.push)(Some(char), change);
        }
    }
}

/// Standard base64 with padding; `None` for anything else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let data = bytes
        .strip_suffix(b"==")
        .or_else(|| bytes.strip_suffix(b"="))
        .unwrap_or(bytes);
    if !bytes.len().is_multiple_of(4) || data.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(data.len() / 4 * 3 + 2);
    for group in data.chunks(4) {
        let mut word = 0u32;
        for &digit in group {
            word = word << 6 | u32::from(base64_digit(digit)?);
        }
        word <<= 6 * (4 - group.len());
        out.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
