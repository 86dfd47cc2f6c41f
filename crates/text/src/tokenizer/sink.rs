//! Sources of the pieces of a word that was normalised character by character.

use crate::model::PieceSink;
use crate::normalize::Sourced;
use crate::normalize::queue::Queue;
use crate::output::Tokens;
use crate::pretokenize::Splitter;

/// Turns the ends of pieces into source offsets.
pub(super) struct Sink<'k, 's, 't> {
    chars: &'k Queue<'s>,
    splitter: Option<&'k Splitter>,
    tokens: &'k mut Tokens<'t>,
    /// The character that the last piece ended in, where its bytes end, and the position of the next.
    current: Sourced,
    current_end: usize,
    next: usize,
    /// Where the last piece ended, and the source of its first character.
    from: usize,
    start: u32,
}

impl<'k, 's, 't> Sink<'k, 's, 't> {
    /// For the word at `from` of `chars`; `prefix` was put before it.
    pub(super) fn new(
        chars: &'k Queue<'s>,
        from: usize,
        splitter: Option<&'k Splitter>,
        prefix: Option<char>,
        tokens: &'k mut Tokens<'t>,
    ) -> Self {
        let first = chars.get(from).unwrap_or(Sourced {
            c: '\0',
            start: 0,
            end: 0,
        });
        let mut sink = Self {
            chars,
            splitter,
            tokens,
            current: first,
            current_end: 0,
            next: from,
            from: 0,
            start: first.start,
        };
        match prefix {
            Some(prefix) => sink.current_end = prefix.len_utf8(),
            None => sink.advance(),
        }
        sink
    }

    fn advance(&mut self) {
        if let Some(next) = self.chars.get(self.next) {
            self.current = next;
            let c = self.splitter.map_or(next.c, |splitter| splitter.map(next.c));
            self.current_end += c.len_utf8();
            self.next += 1;
        } else {
            self.current_end = usize::MAX;
        }
    }
}

impl PieceSink for Sink<'_, '_, '_> {
    #[inline]
    fn piece(&mut self, id: u32, end: usize) {
        // A piece that ends where the last one did shares its bytes.
        if end > self.from {
            while self.current_end <= self.from {
                self.advance();
            }
            self.start = self.current.start;
            while self.current_end < end {
                self.advance();
            }
            self.from = end;
        }
        self.tokens.push(id, self.start, self.current.end);
    }
}
