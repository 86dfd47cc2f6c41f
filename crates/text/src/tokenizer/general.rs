//! Any normalizers, any pre-tokenizers: window by window through a buffer that holds the word at hand.

use super::direct::Words;
use super::sink::Sink;
use super::{Model, Tokenizer};
use crate::EncodeError;
use crate::model::PieceSink as _;
use crate::normalize::queue::Queue;
use crate::normalize::{Chain, Chars, SOURCED_WORDS, WINDOW_CHARS_MAX, Walk};
use crate::output::Tokens;
use crate::pretokenize::{Cut, View};
use crate::scratch::{ALIGN_SLACK, Scratch, padded};
use crate::unicode::{WORD, has};
use std::ops::Range;

/// Characters of a normalised word that are encoded at once; a longer word is encoded in parts of this length.
pub(super) const WORD_CHARS_MAX: usize = 1 << 15;
/// Bytes of a normalised character at most.
const CHAR_BYTES: usize = 4;

/// Sizes of the buffers for a text of some length.
struct Plan {
    window_words: usize,
    buffer_chars: usize,
    word_bytes: usize,
}

impl Plan {
    fn new(chain: &Chain, text_bytes: usize) -> Self {
        let all = chain.chars_max(text_bytes);
        let window = chain.chars_max(text_bytes.min(WINDOW_CHARS_MAX));
        Self {
            window_words: chain.walk_words(text_bytes),
            buffer_chars: all.min(WORD_CHARS_MAX.saturating_add(window)),
            word_bytes: padded((all.min(WORD_CHARS_MAX) + 1) * CHAR_BYTES),
        }
    }
}

pub(super) fn scratch_bytes(chain: &Chain, model: &Model, text_bytes: usize) -> usize {
    let plan = Plan::new(chain, text_bytes);
    (plan.window_words + plan.buffer_chars * SOURCED_WORDS) * size_of::<u32>()
        + plan.word_bytes
        + model.scratch_bytes(plan.word_bytes)
        + ALIGN_SLACK
}

impl Tokenizer {
    /// The tokens of `text[range]`, between two added tokens that are looked for in the text itself.
    pub(super) fn general_segment(
        &self,
        text: &str,
        range: Range<usize>,
        scratch: &mut [u8],
        tokens: &mut Tokens<'_>,
    ) -> Result<(), EncodeError> {
        let plan = Plan::new(&self.chain, text.len());
        let mut scratch = Scratch::unchecked(scratch);
        let now = scratch.words(plan.window_words / 2);
        let other = scratch.words(plan.window_words / 2);
        let buffer = scratch.words(plan.buffer_chars * SOURCED_WORDS);
        let word = scratch.bytes(plan.word_bytes);
        let scratch = scratch.rest();
        let mut out = Out {
            word,
            scratch,
            tokens,
        };
        let words = Words::new(self, text, range.end);
        let mut at = range.start;
        loop {
            let mut end = range.end;
            if let Some(words) = &words {
                let first = text[at..end].chars().next();
                let prefixed = at == range.start && first.is_some_and(|c| self.prefix(c, at).is_some());
                let pairs = buffer.len() / 2 * 2;
                at = words.encode(
                    at,
                    prefixed,
                    bytemuck::cast_slice_mut(&mut buffer[..pairs]),
                    &mut out,
                )?;
                end = words.next_break(at, at == range.start);
            }
            if at == range.end || out.tokens.done() {
                return Ok(());
            }
            let is_first = at == range.start;
            let (now, other) = (Chars::new(now), Chars::new(other));
            let mut segment = Segment {
                tokenizer: self,
                walk: Walk::new(&self.chain, text, at..end, now, other, is_first),
                buffer: Queue::new(buffer),
                out: &mut out,
                fresh: is_first,
                before: None,
                wait: 0,
            };
            segment.run()?;
            at = end;
        }
    }

    /// The character that is put before a piece.
    fn prefix(&self, first: char, source: usize) -> Option<char> {
        self.splitters.last()?.prefix(first, source as u32)
    }
}

/// Where words go.
pub(super) struct Out<'o, 's, 't> {
    pub(super) word: &'s mut [u8],
    pub(super) scratch: &'s mut [u8],
    pub(super) tokens: &'o mut Tokens<'t>,
}

struct Segment<'g, 's, 'o, 't, 'b> {
    tokenizer: &'g Tokenizer,
    walk: Walk<'g, 's>,
    /// Normalised characters that are not encoded yet.
    buffer: Queue<'s>,
    out: &'g mut Out<'o, 'b, 't>,
    /// Whether the next word is the first of its piece.
    fresh: bool,
    /// The normalised character before the buffer.
    before: Option<char>,
    /// Characters to gather before looking again for the end of a word: twice as many each time, so that a long word
    /// is read a constant number of times.
    wait: usize,
}

/// An added token in the buffer.
struct Found {
    id: u32,
    start: usize,
    end: usize,
}

/// The part of the buffer that may be split now.
struct Ready {
    to: usize,
    /// Whether the piece ends there.
    ends: bool,
    token: Option<Found>,
}

impl Segment<'_, '_, '_, '_, '_> {
    fn run(&mut self) -> Result<(), EncodeError> {
        loop {
            if self.buffer.len() < WORD_CHARS_MAX && self.walk.next_window() {
                for sourced in self.walk.window().iter() {
                    self.buffer.push(sourced);
                }
            }
            let at_end = self.walk.is_at_end();
            if !at_end && self.buffer.len() < self.wait {
                continue;
            }
            let ready = self.ready(at_end);
            let mut used = self.split(&ready)?;
            if let Some(found) = &ready.token
                && used == ready.to
            {
                let (start, end) = self.source(found);
                self.out.tokens.push(found.id, start, end);
                used = found.end;
                self.fresh = true;
            }
            if used == 0 && (at_end || self.buffer.len() >= WORD_CHARS_MAX) && self.buffer.len() > 0 {
                used = self.force(ready.to)?;
            }
            self.before = used
                .checked_sub(1)
                .and_then(|at| self.buffer.get(at))
                .map(|s| s.c)
                .or(self.before);
            self.wait = if used == 0 {
                (2 * self.buffer.len()).min(WORD_CHARS_MAX)
            } else {
                0
            };
            self.buffer.drop_front(used);
            if self.out.tokens.done() || (at_end && self.buffer.len() == 0) {
                return Ok(());
            }
        }
    }

    /// Encodes what is there as one word, since no more fits.
    fn force(&mut self, to: usize) -> Result<usize, EncodeError> {
        let len = to.clamp(1, WORD_CHARS_MAX);
        let prefix = if std::mem::replace(&mut self.fresh, false) {
            self.prefix(self.tokenizer.splitters.len().saturating_sub(1), 0)
        } else {
            None
        };
        self.word(0, len, prefix)?;
        Ok(len)
    }

    fn source(&self, found: &Found) -> (u32, u32) {
        let first = self.buffer.get(found.start);
        let last = self.buffer.get(found.end - 1);
        (first.map_or(0, |s| s.start), last.map_or(0, |s| s.end))
    }

    /// How far the buffer may be split: up to the next added token, or up to where one could still begin.
    fn ready(&self, at_end: bool) -> Ready {
        let len = self.buffer.len();
        let longest = self.tokenizer.normalized.longest();
        if longest == 0 {
            return Ready {
                to: len,
                ends: at_end,
                token: None,
            };
        }
        if let Some(found) = self.find() {
            let undecided = !at_end && found.end == len;
            return Ready {
                to: found.start,
                ends: !undecided,
                token: (!undecided).then_some(found),
            };
        }
        if at_end {
            return Ready {
                to: len,
                ends: true,
                token: None,
            };
        }
        let mut to = len.saturating_sub(longest);
        while to > 0 && self.buffer.get(to - 1).is_some_and(|s| s.c.is_whitespace()) {
            to -= 1;
        }
        Ready {
            to,
            ends: false,
            token: None,
        }
    }

    /// The first added token in the buffer.
    fn find(&self) -> Option<Found> {
        let mut at = 0;
        while at < self.buffer.len() {
            let Some((id, end)) = self.longest_token(at) else {
                at += 1;
                continue;
            };
            let char_at = |at: usize| self.buffer.get(at).map(|s| s.c);
            let previous = at.checked_sub(1).map_or(self.before, char_at);
            let token = self.tokenizer.added.get(id)?;
            let joins = |c: Option<char>| c.is_some_and(|c| has(c, WORD));
            if token.single_word && (joins(previous) || joins(char_at(end))) {
                at = end;
                continue;
            }
            let mut found = Found { id, start: at, end };
            while token.lstrip && found.start > 0 && char_at(found.start - 1).is_some_and(char::is_whitespace)
            {
                found.start -= 1;
            }
            while token.rstrip && char_at(found.end).is_some_and(char::is_whitespace) {
                found.end += 1;
            }
            return Some(found);
        }
        None
    }

    fn longest_token(&self, from: usize) -> Option<(u32, usize)> {
        let mut at = self.tokenizer.normalized.start();
        let mut found = None;
        let mut position = from;
        while let Some(sourced) = self.buffer.get(position) {
            for &byte in sourced.c.encode_utf8(&mut [0; CHAR_BYTES]).as_bytes() {
                match self.tokenizer.normalized.step(at, byte) {
                    Some(next) => at = next,
                    None => return found,
                }
            }
            position += 1;
            if let Some(id) = self.tokenizer.normalized.id(at) {
                found = Some((id, position));
            }
        }
        found
    }

    /// Encodes the words of the ready part that are complete; how many characters they were.
    fn split(&mut self, ready: &Ready) -> Result<usize, EncodeError> {
        let fresh = std::mem::replace(&mut self.fresh, false);
        let (used, still_fresh) = self.level(0, 0..ready.to, ready.ends, fresh)?;
        self.fresh = still_fresh;
        Ok(used)
    }

    /// Splits a piece by pre-tokenizer `level` and the following ones.
    fn level(
        &mut self,
        level: usize,
        piece: Range<usize>,
        ends: bool,
        fresh: bool,
    ) -> Result<(usize, bool), EncodeError> {
        let splitters = &self.tokenizer.splitters;
        let is_last = level + 1 >= splitters.len();
        let (mut at, mut fresh) = (piece.start, fresh);
        while at < piece.end && !self.out.tokens.done() {
            let prefix = if fresh && is_last {
                self.prefix(level, at)
            } else {
                None
            };
            let view = View {
                chars: &self.buffer,
                from: at,
                to: piece.end,
                ends,
            };
            let cut = match splitters.get(level) {
                Some(splitter) => splitter.cut(&view, prefix.is_some()),
                None if ends => Cut::Word(view.len()),
                None => Cut::More,
            };
            match cut {
                Cut::More => break,
                Cut::Skip(count) => at += count,
                Cut::Word(count) if is_last => {
                    for part in parts(at, count) {
                        self.word(part.0, part.1, if part.0 == at { prefix } else { None })?;
                    }
                    at += count;
                    fresh = false;
                }
                Cut::Word(count) => {
                    self.level(level + 1, at..at + count, true, true)?;
                    at += count;
                }
            }
        }
        Ok((at - piece.start, fresh))
    }

    fn prefix(&self, level: usize, at: usize) -> Option<char> {
        let first = self.buffer.get(at)?;
        self.tokenizer.splitters.get(level)?.prefix(first.c, first.start)
    }

    /// Encodes one word.
    fn word(&mut self, from: usize, count: usize, prefix: Option<char>) -> Result<(), EncodeError> {
        let splitter = self.tokenizer.splitters.last();
        let mut len = 0;
        let mut put = |c: char| {
            let slot = &mut self.out.word[len..];
            len += c.encode_utf8(slot).len();
        };
        prefix.into_iter().for_each(&mut put);
        let map = |c: char| splitter.map_or(c, |splitter| splitter.map(c));
        (from..from + count)
            .filter_map(|at| self.buffer.get(at))
            .for_each(|s| put(map(s.c)));
        let before = self.out.tokens.count();
        let mut sink = Sink::new(&self.buffer, from, splitter, prefix, self.out.tokens);
        let Ok(word) = std::str::from_utf8(&self.out.word[..len]) else {
            return Ok(());
        };
        let encoded = match &self.tokenizer.model {
            Model::WordPiece(model) => model.encode_word(word, self.out.scratch, &mut sink),
            Model::Unigram(model) => model.encode_word(word, self.out.scratch, &mut sink),
            Model::Bpe(model) => {
                model.encode_bytes(false, word.as_bytes(), self.out.scratch, |id, end| {
                    sink.piece(id, end)
                });
                Ok(())
            }
        };
        self.out.tokens.end_word(before);
        encoded
    }
}

/// Parts of a word of `count` characters at `at` that are encoded at once.
fn parts(at: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    let starts = (0..count.max(1)).step_by(WORD_CHARS_MAX);
    starts.map(move |start| (at + start, (count - start).min(WORD_CHARS_MAX)))
}
