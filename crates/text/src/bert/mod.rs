//! BERT's whole road in one walk: normalise, split and match word by word, without a copy of the text.
//!
//! An ASCII word that ends at a space or at punctuation is lower-cased into a buffer on the stack and matched; its offsets are
//! plain sums. Any other word is collected character by character together with the source bytes of each. Nothing
//! is ever kept of the text but the word at hand, so a text of any length needs the same scratch.

mod class;
mod marks;
mod word;

pub(crate) use class::BertFlags;

use crate::output::Tokens;
use crate::scratch::{ALIGN_SLACK, Scratch};
use crate::unicode::char_at;
use crate::wordpiece::WordPiece;
use class::{Classes, Kind, kind_after};
use word::Word;

/// Longest word that takes the ASCII road.
const ASCII_WORD_MAX: usize = 64;

/// The tables of one tokenizer.
#[derive(Debug)]
pub(crate) struct Bert {
    classes: Classes,
    /// The token of each character of the Basic Multilingual Plane that is a word of its own.
    singles: Vec<u32>,
}

impl Bert {
    pub(crate) fn new(flags: BertFlags, model: &WordPiece) -> Self {
        let mut singles = vec![model.unknown(); 0x1_0000];
        for (token, _) in model.vocab().iter().filter(|(token, _)| token.len() <= 3) {
            let mut chars = token.chars();
            if let (Some(c), None) = (chars.next(), chars.next()) {
                singles[c as usize] = model.single(c);
            }
        }
        Self {
            classes: Classes::new(flags),
            singles,
        }
    }

    /// Bytes of scratch for a text of any length.
    pub(crate) fn scratch_bytes(&self, model: &WordPiece) -> usize {
        Word::scratch_bytes(model.word_chars_max()) + model.pieces_words() * size_of::<u32>() + ALIGN_SLACK
    }

    /// The tokens of `text[from..to]`, offsets counted from the start of `text`.
    pub(crate) fn encode(
        &self,
        model: &WordPiece,
        text: &str,
        range: std::ops::Range<usize>,
        mut scratch: Scratch<'_>,
        tokens: &mut Tokens<'_>,
    ) {
        let word = Word::new(model.word_chars_max(), &mut scratch);
        let pieces = scratch.words(model.pieces_words());
        let mut walk = Walk {
            tables: self,
            model,
            text: &text[..range.end],
            word,
            pieces,
            tokens,
        };
        walk.run(range.start);
    }

    #[inline]
    fn single(&self, model: &WordPiece, c: char) -> u32 {
        self.singles
            .get(c as usize)
            .copied()
            .unwrap_or_else(|| model.single(c))
    }
}

struct Walk<'w, 's, 't> {
    tables: &'w Bert,
    model: &'w WordPiece,
    text: &'w str,
    word: Word<'s>,
    pieces: &'s mut [u32],
    tokens: &'w mut Tokens<'t>,
}

impl Walk<'_, '_, '_> {
    fn run(&mut self, from: usize) {
        let mut at = from;
        while at < self.text.len() && !self.tokens.done() {
            at = match self.word.is_empty() {
                true => self.ascii_word(at).unwrap_or_else(|| self.character(at)),
                false => self.character(at),
            };
        }
        self.flush();
    }

    /// Takes the ASCII word that starts at `at`, if it is one and is not glued to other characters.
    #[inline]
    fn ascii_word(&mut self, at: usize) -> Option<usize> {
        let mut lower = [0u8; ASCII_WORD_MAX];
        let rest = &self.text.as_bytes()[at..];
        let mut len = 0;
        for (slot, &byte) in lower.iter_mut().zip(rest) {
            let folded = self.tables.classes.ascii_word[usize::from(byte)];
            if folded >= 0x80 {
                break;
            }
            *slot = folded;
            len += 1;
        }
        let ends_here = match rest.get(len) {
            None => true,
            Some(&byte) if byte < 0x80 => self.ends_word(char::from(byte)),
            Some(_) => self.ends_word(char_at(self.text, at + len)),
        };
        if len == 0 || len == ASCII_WORD_MAX || len > self.model.word_chars_max() || !ends_here {
            return None;
        }
        let word = &lower[..len];
        let start = at as u32;
        let before = self.tokens.count();
        match self.model.first(word) {
            Some((id, end)) if end == len => self.tokens.push(id, start, start + len as u32),
            Some(_) => self.ascii_pieces(word, start),
            None => self.tokens.push(self.model.unknown(), start, start + len as u32),
        }
        self.tokens.end_word(before);
        Some(at + len)
    }

    fn ascii_pieces(&mut self, word: &[u8], start: u32) {
        let Some(pieces) = self.model.pieces(word, self.pieces) else {
            return self
                .tokens
                .push(self.model.unknown(), start, start + word.len() as u32);
        };
        let mut from = start;
        for piece in pieces.chunks_exact(2) {
            self.tokens.push(piece[0], from, start + piece[1]);
            from = start + piece[1];
        }
    }

    #[inline]
    fn ends_word(&self, c: char) -> bool {
        matches!(self.tables.classes.of(c).kind(), Kind::Space | Kind::Single)
    }

    /// Takes the character at `at`, or the combining marks that start there.
    #[inline]
    fn character(&mut self, at: usize) -> usize {
        let c = char_at(self.text, at);
        let next = at + c.len_utf8();
        let entry = self.tables.classes.of(c);
        let (start, end) = (at as u32, next as u32);
        match entry.kind() {
            Kind::Letter => self.word.push(entry.becomes(), start, end),
            Kind::Space => self.flush(),
            Kind::Single => {
                self.flush();
                self.single(entry.becomes(), start, end);
            }
            Kind::Cleaned | Kind::Dropped => {}
            Kind::Mark | Kind::Kept => return marks::take(self, at),
            Kind::Several => self.several(c, start, end),
        }
        next
    }

    fn several(&mut self, c: char, start: u32, end: u32) {
        let flags = self.tables.classes.flags();
        let apart = flags.sets_apart(c);
        if apart {
            self.flush();
        }
        flags.decompose(c, |d| {
            if !flags.strips(d) {
                flags.lower(d, |l| self.put(l, start, end));
            }
        });
        if apart {
            self.flush();
        }
    }

    /// Takes a normalised character.
    fn put(&mut self, c: char, start: u32, end: u32) {
        match kind_after(c) {
            Kind::Space => self.flush(),
            Kind::Single => {
                self.flush();
                self.single(c, start, end);
            }
            _ => self.word.push(c, start, end),
        }
    }

    /// Takes a character that is a word of its own.
    #[inline]
    fn single(&mut self, c: char, start: u32, end: u32) {
        let before = self.tokens.count();
        self.tokens.push(self.tables.single(self.model, c), start, end);
        self.tokens.end_word(before);
    }

    /// Ends the word at hand.
    fn flush(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let before = self.tokens.count();
        match self
            .word
            .text()
            .and_then(|text| self.model.pieces(text, self.pieces))
        {
            Some(pieces) => {
                let mut offsets = self.word.offsets();
                for piece in pieces.chunks_exact(2) {
                    let (start, end) = offsets.up_to(piece[1]);
                    self.tokens.push(piece[0], start, end);
                }
            }
            None => {
                let (start, end) = self.word.extent();
                self.tokens.push(self.model.unknown(), start, end);
            }
        }
        self.tokens.end_word(before);
        self.word.clear();
    }
}
