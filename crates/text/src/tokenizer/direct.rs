//! Unigram words straight from the text, where the normalizers rewrite each character by itself.
//!
//! Most words are of characters that a character map leaves alone or replaces one by one whatever stands around them. Such a
//! word is rendered once, with the source of each byte beside it, and nothing else of the general road is needed; a
//! word of printable ASCII that is a piece is not even copied. A word with any other character takes the general road, up to
//! the next space that nothing reaches across.

use super::general::Out;
use super::{Model, Tokenizer};
use crate::EncodeError;
use crate::model::PieceSink;
use crate::normalize::Chain;
use crate::normalize::precompiled::{Precompiled, is_plain};
use crate::output::Tokens;
use crate::pretokenize::Splitter;
use crate::unigram::{Unigram, WORD_START};
use std::ops::Range;

const BMP: usize = 0x1_0000;

/// Start and end in the text of the character that a byte of a word belongs to: the start where the character starts in
/// the word, the end where it ends.
pub(super) type Span = [u32; 2];

/// What is known about characters.
#[derive(Debug)]
pub(super) struct Direct {
    /// One bit for each character up to U+FFFF: part of a word, and the same in the normalised text.
    unchanged: Box<[u64; BMP / 64]>,
    /// Whether several spaces are one, said to come from the last.
    squeezes: bool,
}

impl Direct {
    /// `None` when some word needs more than its own characters.
    pub(super) fn new(chain: &Chain, splitters: &[Splitter], model: &Model) -> Option<Self> {
        let (
            [
                Splitter::Metaspace {
                    mark, split: true, ..
                },
            ],
            Model::Unigram(_),
        ) = (splitters, model)
        else {
            return None;
        };
        let map = chain.character_map().filter(|_| *mark == WORD_START)?;
        let mut unchanged = Box::new([0; BMP / 64]);
        let in_words = (0..BMP as u32).filter_map(char::from_u32);
        for c in in_words
            .filter(|&c| is_plain(c) && !matches!(c, ' ' | WORD_START) && map.lookup_char(c).is_none())
        {
            unchanged[c as usize / 64] |= 1 << (c as u32 % 64);
        }
        let squeezes = chain.squeezes_spaces();
        Some(Self { unchanged, squeezes })
    }

    #[inline]
    fn is_unchanged(&self, c: char) -> bool {
        let bits = self.unchanged.get(c as usize / 64);
        bits.is_some_and(|bits| bits >> (c as u32 % 64) & 1 == 1)
    }
}

/// A walk over the words of `text[..end]`.
pub(super) struct Words<'w> {
    direct: &'w Direct,
    map: &'w Precompiled,
    model: &'w Unigram,
    text: &'w str,
    end: usize,
}

impl<'w> Words<'w> {
    /// `None` for a tokenizer without a direct road.
    pub(super) fn new(tokenizer: &'w Tokenizer, text: &'w str, end: usize) -> Option<Self> {
        let (Some(direct), Model::Unigram(model)) = (&tokenizer.direct, &tokenizer.model) else {
            return None;
        };
        let map = tokenizer.chain.character_map()?;
        Some(Self {
            direct,
            map,
            model,
            text,
            end,
        })
    }

    /// Where the general road may stop after `from`: at a space after an unchanged character. What is removed at the start of
    /// a piece of text shifts all of its offsets, so that only the general road may follow.
    pub(super) fn next_break(&self, from: usize, is_first: bool) -> usize {
        if is_first && self.map.removes_first(&self.text[from..self.end]) {
            return self.end;
        }
        let spaces = memchr::memchr_iter(b' ', &self.text.as_bytes()[from..self.end]);
        spaces
            .map(|space| from + space)
            .find(|&space| {
                let before = self.text[from..space].chars().next_back();
                before.is_some_and(|c| self.direct.is_unchanged(c))
            })
            .unwrap_or(self.end)
    }

    /// Encodes words from `at` on; where the first word starts that is not for this road. `prefixed`: the mark of a word is put
    /// before the first.
    pub(super) fn encode(
        &self,
        mut at: usize,
        mut prefixed: bool,
        spans: &mut [Span],
        out: &mut Out<'_, '_, '_>,
    ) -> Result<usize, EncodeError> {
        let bytes = &self.text.as_bytes()[..self.end];
        while at < self.end && !out.tokens.done() {
            while self.direct.squeezes && bytes[at..].starts_with(b"  ") {
                at += 1;
            }
            let start = at + usize::from(bytes[at] == b' ');
            let marked = start > at || prefixed;
            let ascii = bytes[start..]
                .iter()
                .take_while(|byte| matches!(byte, b'!'..=b'~'))
                .count();
            let before = out.tokens.count();
            let mut end = start + ascii;
            let ends = bytes.get(end).is_none_or(|&byte| byte == b' ');
            match self.model.whole_after_mark(&bytes[start..end]) {
                Some(id) if marked && ends && ascii > 0 => out.tokens.push(id, at as u32, end as u32),
                _ => match self.render(at, start..end, marked, spans, out.word) {
                    Some((len, word_end)) => {
                        let mut sink = Spans {
                            spans,
                            tokens: out.tokens,
                            from: 0,
                            start: 0,
                        };
                        self.model
                            .encode_bytes(&out.word[..len], out.scratch, &mut sink)?;
                        end = word_end;
                    }
                    None => return Ok(at),
                },
            }
            out.tokens.end_word(before);
            prefixed = false;
            at = end;
        }
        Ok(at)
    }

    /// Writes the word at `at`, whose characters begin with those of `ascii`: its bytes, and where it ends in the text.
    fn render(
        &self,
        at: usize,
        ascii: Range<usize>,
        marked: bool,
        spans: &mut [Span],
        word: &mut [u8],
    ) -> Option<(usize, usize)> {
        let mut put = Render { spans, word, len: 0 };
        if marked {
            let first = self.text[at..self.end].chars().next()?;
            put.char(WORD_START, at, at + first.len_utf8())?;
        }
        put.ascii(&self.text.as_bytes()[ascii.clone()], ascii.start)?;
        let rest = self.text[ascii.end..self.end].char_indices();
        let mut chars = rest.map(|(i, c)| (ascii.end + i, c));
        let end = loop {
            let Some((from, c)) = chars.next() else {
                break self.end;
            };
            let to = from + c.len_utf8();
            if self.direct.is_unchanged(c) {
                put.char(c, from, to)?;
            } else if c == ' ' {
                break from;
            } else {
                let replacement = self.map.lookup_char(c).filter(|_| is_plain(c))?;
                if replacement.is_empty() || replacement.contains([' ', WORD_START]) {
                    return None;
                }
                for c in replacement.chars() {
                    put.char(c, from, to)?;
                }
            }
        };
        // Two spaces in a row are not words of their own.
        (end > ascii.start || end == self.end).then_some((put.len, end))
    }
}

/// A word under construction.
struct Render<'r> {
    spans: &'r mut [Span],
    word: &'r mut [u8],
    len: usize,
}

impl Render<'_> {
    /// Characters of a byte each that stand at `start` of the text; `None` when there is no room.
    fn ascii(&mut self, chars: &[u8], start: usize) -> Option<()> {
        let to = self.len + chars.len();
        self.word.get_mut(self.len..to)?.copy_from_slice(chars);
        for (span, at) in self.spans.get_mut(self.len..to)?.iter_mut().zip(start as u32..) {
            *span = [at, at + 1];
        }
        self.len = to;
        Some(())
    }

    /// `None` when there is no room.
    #[inline]
    fn char(&mut self, c: char, start: usize, end: usize) -> Option<()> {
        let to = self.len + c.len_utf8();
        c.encode_utf8(self.word.get_mut(self.len..to)?);
        self.spans.get_mut(self.len)?[0] = start as u32;
        self.spans.get_mut(to - 1)?[1] = end as u32;
        self.len = to;
        Some(())
    }
}

/// Turns the ends of pieces into source offsets.
struct Spans<'k, 't> {
    spans: &'k [Span],
    tokens: &'k mut Tokens<'t>,
    /// Where the last piece ended, and the source of its first character.
    from: usize,
    start: u32,
}

impl PieceSink for Spans<'_, '_> {
    #[inline]
    fn piece(&mut self, id: u32, end: usize) {
        // A piece that ends where the last one did shares its bytes.
        if end > self.from {
            self.start = self.spans[self.from][0];
            self.from = end;
        }
        self.tokens.push(id, self.start, self.spans[end - 1][1]);
    }
}
