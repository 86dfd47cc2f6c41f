//! One text or two, special tokens around them, truncated to fit.

use super::{Model, Road, Tokenizer};
use crate::EncodeError;
use crate::output::{EncodeOptions, Encoded, TokenSlots, Tokens, Truncation};
use crate::scratch::Scratch;
use crate::template::Piece;

/// Longest text: offsets have 32 bits.
const TEXT_BYTES_MAX: usize = u32::MAX as usize;

/// What holds for a whole call.
struct Call<'c> {
    tokenizer: &'c Tokenizer,
    /// The template, special tokens left out where they are not asked for.
    template: &'c [Piece],
    add_special_tokens: bool,
    truncation: Truncation,
    count_all: bool,
    special: usize,
    /// Tokens of text that may be given, and how many of these fit the slots.
    allowed: usize,
    room: usize,
}

impl Tokenizer {
    /// Encodes `text` into `out`. Offsets are bytes of `text`.
    ///
    /// # Errors
    /// See [`EncodeError`]; what is in `out` then means nothing.
    pub fn encode(
        &self,
        text: &str,
        options: &EncodeOptions,
        scratch: &mut [u8],
        out: &mut TokenSlots<'_>,
    ) -> Result<Encoded, EncodeError> {
        let call = Call::new(
            self,
            options,
            &self.template.single,
            text.len(),
            scratch.len(),
            out,
        )?;
        let at = call.specials_before_text(0);
        let total = call.encode_text(text, at..at + call.room, call.count_all, scratch, out)?;
        call.finish([total, 0], [total.min(call.room), 0], [text, ""], out)
    }

    /// Encodes two texts as one sequence, as cross-encoders read them. When they are too long together, the longer one gives
    /// way first (`longest_first`). Offsets are bytes of the text that a token is from; the total is always exact.
    ///
    /// # Errors
    /// See [`EncodeError`]; what is in `out` then means nothing.
    pub fn encode_pair(
        &self,
        a: &str,
        b: &str,
        options: &EncodeOptions,
        scratch: &mut [u8],
        out: &mut TokenSlots<'_>,
    ) -> Result<Encoded, EncodeError> {
        let longest = a.len().max(b.len());
        let call = Call::new(self, options, &self.template.pair, longest, scratch.len(), out)?;
        let b_leads = call.template.iter().find_map(|piece| match piece {
            Piece::Text { second, .. } => Some(*second),
            Piece::Special { .. } => None,
        }) == Some(true);
        let texts = if b_leads { [b, a] } else { [a, b] };
        // Most pairs fit: the second text is put right behind the first one's tokens, and both are redone only if they do not.
        let (first_at, between) = (call.specials_before_text(0), call.specials_before_text(1));
        let first = call.encode_text(texts[0], first_at..first_at + call.room, true, scratch, out)?;
        let second_at = between + first.min(call.room);
        let second = call.encode_text(texts[1], second_at..between + call.room, true, scratch, out)?;
        let totals = [first, second];
        if first + second <= call.room {
            return call.finish(totals, totals, texts, out);
        }
        let kept = call.share(totals, texts, b_leads, scratch)?;
        call.encode_text(texts[0], first_at..first_at + kept[0], false, scratch, out)?;
        let second_at = between + kept[0];
        call.encode_text(texts[1], second_at..second_at + kept[1], false, scratch, out)?;
        call.finish(totals, kept, texts, out)
    }

    /// The tokens of one text.
    fn tokens_of(&self, text: &str, scratch: &mut [u8], tokens: &mut Tokens<'_>) -> Result<(), EncodeError> {
        let mut from = 0;
        for found in self.plain.matches(&self.added, text) {
            if from < found.start {
                self.segment(text, from..found.start, scratch, tokens)?;
            }
            if tokens.done() {
                return Ok(());
            }
            tokens.push(found.id, found.start as u32, found.end as u32);
            from = found.end;
        }
        self.segment(text, from..text.len(), scratch, tokens)
    }

    fn segment(
        &self,
        text: &str,
        range: std::ops::Range<usize>,
        scratch: &mut [u8],
        tokens: &mut Tokens<'_>,
    ) -> Result<(), EncodeError> {
        match (&self.road, &self.model) {
            (Road::Bert(bert), Model::WordPiece(model)) => {
                bert.encode(model, text, range, Scratch::unchecked(scratch), tokens);
            }
            (Road::Bytes, Model::Bpe(model)) => self.bytes_segment(model, text, range, scratch, tokens),
            _ => return self.general_segment(text, range, scratch, tokens),
        }
        Ok(())
    }

    /// Takes the spaces at either end of tokens out of their offsets, as byte-level post-processors do: a character of the text for each
    /// that the token spells. So do the crate's offsets in characters; in bytes it takes a byte for each and may land inside of a
    /// character, where a space that is not in the text borrows the place of a wider one.
    fn trim_offsets(
        &self,
        text: &str,
        keeps_prefix: bool,
        out: &mut TokenSlots<'_>,
        range: std::ops::Range<usize>,
    ) {
        for at in range.clone() {
            let (start, end) = (out.starts[at], out.ends[at]);
            let source = text.get(start as usize..end as usize).unwrap_or_default();
            let token = match self.added.get(out.ids[at]) {
                Some(_) => source,
                None => self.token_text(out.ids[at]).unwrap_or_default(),
            };
            let is_space = |c: &char| *c == 'Ġ' || c.is_whitespace();
            let leading = token.chars().take_while(is_space).count();
            let trailing = token.chars().rev().take_while(is_space).count();
            let keeps = keeps_prefix && leading == 1 && (at == range.start || start == 0);
            let skipped = source.chars().take(if keeps { 0 } else { leading });
            let start = start + skipped.map(|c| c.len_utf8() as u32).sum::<u32>();
            let dropped = source.chars().rev().take(trailing);
            let end = end - dropped.map(|c| c.len_utf8() as u32).sum::<u32>();
            (out.starts[at], out.ends[at]) = (start, end.max(start));
        }
    }
}

/// How many tokens two texts keep of `room`, as the `tokenizers` crate shares them out.
fn longest_first(a: usize, b: usize, room: usize) -> (usize, usize) {
    let mut short = a.min(b);
    let mut long = if short > room {
        short
    } else {
        short.max(room - short)
    };
    if short + long > room {
        short = room / 2;
        long = short + room % 2;
    }
    if a > b { (long, short) } else { (short, long) }
}

impl<'c> Call<'c> {
    fn new(
        tokenizer: &'c Tokenizer,
        options: &EncodeOptions,
        template: &'c [Piece],
        text_bytes: usize,
        available: usize,
        out: &TokenSlots<'_>,
    ) -> Result<Self, EncodeError> {
        if text_bytes > TEXT_BYTES_MAX {
            return Err(EncodeError::TextTooLong {
                bytes: text_bytes,
                max: TEXT_BYTES_MAX,
            });
        }
        let needed = tokenizer.scratch_bytes(text_bytes);
        if available < needed {
            return Err(EncodeError::ScratchTooSmall { needed, available });
        }
        let specials = template
            .iter()
            .filter(|piece| matches!(piece, Piece::Special { .. }))
            .count();
        let special = if options.add_special_tokens { specials } else { 0 };
        let tokens_max = options.tokens_max;
        let allowed = tokens_max
            .checked_sub(special)
            .ok_or(EncodeError::NoRoom { tokens_max, special })?;
        let available = out.capacity();
        let fits = available
            .checked_sub(special)
            .ok_or(EncodeError::SlotsTooSmall { available })?;
        Ok(Self {
            tokenizer,
            template,
            add_special_tokens: options.add_special_tokens,
            truncation: options.truncation,
            count_all: options.count_all,
            special,
            allowed,
            room: allowed.min(fits),
        })
    }

    /// Special tokens before the text that stands at place `which` among the texts.
    fn specials_before_text(&self, which: usize) -> usize {
        let (mut texts, mut specials) = (0, 0);
        for piece in self.template {
            match piece {
                Piece::Text { .. } if texts == which => break,
                Piece::Text { .. } => texts += 1,
                Piece::Special { .. } => specials += usize::from(self.add_special_tokens),
            }
        }
        specials
    }

    /// Writes the tokens of `text` to `range` of the slots, those that fit; how many there are.
    fn encode_text(
        &self,
        text: &str,
        range: std::ops::Range<usize>,
        count_all: bool,
        scratch: &mut [u8],
        out: &mut TokenSlots<'_>,
    ) -> Result<usize, EncodeError> {
        let (ids, starts) = (&mut out.ids[range.clone()], &mut out.starts[range.clone()]);
        let mut tokens = Tokens::new(ids, starts, &mut out.ends[range], self.truncation, count_all);
        self.tokenizer.tokens_of(text, scratch, &mut tokens)?;
        Ok(tokens.finish())
    }

    /// How many tokens each of two texts keeps.
    fn share(
        &self,
        totals: [usize; 2],
        texts: [&str; 2],
        b_leads: bool,
        scratch: &mut [u8],
    ) -> Result<[usize; 2], EncodeError> {
        let mut counts = totals;
        // When both must give way and the room is odd, the longer one keeps one more: longer as the crate counts.
        if self.room % 2 == 1 && totals.iter().all(|&total| total >= self.room) {
            for (count, text) in counts.iter_mut().zip(texts) {
                let mut tokens = Tokens::watching(self.truncation, self.allowed + self.special, *count);
                self.tokenizer.tokens_of(text, scratch, &mut tokens)?;
                *count = tokens.watched();
            }
        }
        if b_leads {
            counts.swap(0, 1);
        }
        let (a, b) = longest_first(counts[0], counts[1], self.room);
        Ok(if b_leads { [b, a] } else { [a, b] })
    }

    /// Puts the special tokens around the texts, whose tokens stand in their places already.
    fn finish(
        &self,
        totals: [usize; 2],
        kept: [usize; 2],
        texts: [&str; 2],
        out: &mut TokenSlots<'_>,
    ) -> Result<Encoded, EncodeError> {
        let total = totals[0] + totals[1];
        if total > self.room && self.room < self.allowed {
            return Err(EncodeError::SlotsTooSmall {
                available: self.room + self.special,
            });
        }
        let mut texts = texts.into_iter().zip(kept);
        let mut at = 0;
        for piece in self.template {
            match *piece {
                Piece::Special { id, type_id } if self.add_special_tokens => {
                    (out.ids[at], out.starts[at], out.ends[at], out.types[at]) = (id, 0, 0, type_id);
                    at += 1;
                }
                Piece::Special { .. } => {}
                Piece::Text { type_id, .. } => {
                    let (text, kept) = texts.next().unwrap_or_default();
                    out.types[at..at + kept].fill(type_id);
                    if let Some(keeps_prefix) = self.tokenizer.template.trim {
                        self.tokenizer
                            .trim_offsets(text, keeps_prefix, out, at..at + kept);
                    }
                    at += kept;
                }
            }
        }
        Ok(Encoded {
            count: at,
            total: total + self.special,
            truncated: total > kept[0] + kept[1],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::longest_first;

    /// As `truncate_encodings` of the `tokenizers` crate.
    #[test]
    fn the_longer_text_gives_way_first() {
        assert_eq!(longest_first(10, 3, 8), (5, 3));
        assert_eq!(longest_first(3, 10, 8), (3, 5));
        assert_eq!(longest_first(10, 10, 7), (3, 4));
        assert_eq!(longest_first(11, 10, 7), (4, 3));
        assert_eq!(longest_first(1, 2, 0), (0, 0));
        assert_eq!(longest_first(0, 9, 4), (0, 4));
        assert_eq!(longest_first(4, 4, 7), (3, 4));
    }
}
