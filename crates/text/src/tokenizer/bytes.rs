//! Byte-level BPE without a normalizer: words are slices of the text.

use super::Tokenizer;
use crate::bpe::Bpe;
use crate::output::Tokens;
use crate::pretokenize::{Splitter, gpt2};
use std::ops::Range;

impl Tokenizer {
    /// The tokens of `text[range]`, between two added tokens that are looked for in the text itself.
    pub(super) fn bytes_segment(
        &self,
        model: &Bpe,
        text: &str,
        range: Range<usize>,
        scratch: &mut [u8],
        tokens: &mut Tokens<'_>,
    ) {
        let segment = &text[range.clone()];
        let mut from = range.start;
        if self.normalized.longest() > 0 {
            for found in self.normalized.matches(&self.added, segment) {
                let (start, end) = (range.start + found.start, range.start + found.end);
                if from < start {
                    self.bytes_piece(model, text, from..start, scratch, tokens);
                }
                tokens.push(found.id, start as u32, end as u32);
                from = end;
            }
        }
        self.bytes_piece(model, text, from..range.end, scratch, tokens);
    }

    fn bytes_piece(
        &self,
        model: &Bpe,
        text: &str,
        range: Range<usize>,
        scratch: &mut [u8],
        tokens: &mut Tokens<'_>,
    ) {
        let Some(Splitter::ByteLevel {
            add_prefix_space,
            use_regex,
        }) = self.splitters.last()
        else {
            return;
        };
        let piece = &text[range.clone()];
        let mut prefixed = *add_prefix_space && !piece.starts_with(' ');
        let mut at = 0;
        while at < piece.len() && !tokens.done() {
            let rest = &piece[at..];
            let next = |i: usize| rest[i..].chars().next().map(|c| (c, i + c.len_utf8()));
            let len = if *use_regex {
                gpt2::word(next, prefixed, true)
            } else {
                None
            }
            .unwrap_or(rest.len());
            let (mut from, before) = (0, tokens.count());
            model.encode_bytes(prefixed, &rest.as_bytes()[..len], scratch, |id, end| {
                let (start, stop) = snap(rest, from, end);
                from = end;
                tokens.push(
                    id,
                    (range.start + at + start) as u32,
                    (range.start + at + stop) as u32,
                );
            });
            tokens.end_word(before);
            prefixed = false;
            at += len;
        }
    }
}

/// Widens `from..end` to whole characters; the empty range of a space that is not in the text becomes the first character.
fn snap(text: &str, from: usize, end: usize) -> (usize, usize) {
    let (mut start, mut stop) = (from, end.max(1));
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(stop) {
        stop += 1;
    }
    (start, stop)
}
