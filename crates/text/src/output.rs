//! Where tokens go: the caller's slices, and what was cut off.

/// Which end of a text is dropped when it has too many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncation {
    /// The beginning is dropped, the last tokens stay.
    Left,
    /// The end is dropped, the first tokens stay.
    #[default]
    Right,
}

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add the special tokens of the model (`[CLS]`, `</s>`, ...).
    pub add_special_tokens: bool,
    /// Most tokens to give, special tokens included.
    pub tokens_max: usize,
    /// Which end is dropped beyond `tokens_max`.
    pub truncation: Truncation,
    /// Read the whole text even when `tokens_max` is reached, so that [`Encoded::total`] is exact.
    pub count_all: bool,
}

impl Default for EncodeOptions {
    /// Special tokens, no limit but the slots, exact totals.
    fn default() -> Self {
        Self {
            add_special_tokens: true,
            tokens_max: usize::MAX,
            truncation: Truncation::Right,
            count_all: true,
        }
    }
}

/// The caller's slices for tokens, one entry a token in each; the shortest counts.
#[derive(Debug)]
pub struct TokenSlots<'a> {
    /// Token ids.
    pub ids: &'a mut [u32],
    /// Byte offset in the text at which each token starts; 0 for special tokens.
    pub starts: &'a mut [u32],
    /// Byte offset in the text at which each token ends; 0 for special tokens.
    pub ends: &'a mut [u32],
    /// Token type (segment) ids: 0 for the first text, what the model's template says for the second.
    pub types: &'a mut [u8],
}

impl TokenSlots<'_> {
    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.ids
            .len()
            .min(self.starts.len())
            .min(self.ends.len())
            .min(self.types.len())
    }
}

/// What an encoding gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens written, special tokens included.
    pub count: usize,
    /// Tokens without truncation, special tokens included; exact with [`EncodeOptions::count_all`], else at least `count`.
    pub total: usize,
    /// Whether tokens were dropped.
    pub truncated: bool,
}

/// The tokens of one text: keeps the first or the last `room` of them and counts the rest, in one pass.
pub(crate) struct Tokens<'t> {
    ids: &'t mut [u32],
    starts: &'t mut [u32],
    ends: &'t mut [u32],
    at: usize,
    count: usize,
    stop: usize,
    ring: bool,
    watch: Watch,
}

/// What is found out about the words beside their tokens.
#[derive(Debug, Clone, Copy)]
enum Watch {
    Nothing,
    /// The count after the first word that reaches `limit`.
    First {
        limit: usize,
        found: Option<usize>,
    },
    /// Of `total` tokens, those from the last word on that leaves at least `limit`.
    Last {
        limit: usize,
        total: usize,
        found: usize,
    },
}

impl Tokens<'_> {
    /// Keeps nothing and finds how many tokens the `tokenizers` crate makes of a text with `total` tokens when it is to
    /// truncate to `limit`: it stops after the word that reaches the limit, from whichever end.
    pub(crate) fn watching(truncation: Truncation, limit: usize, total: usize) -> Self {
        let mut tokens = Self::new(&mut [], &mut [], &mut [], Truncation::Right, true);
        tokens.watch = match truncation {
            Truncation::Right => Watch::First { limit, found: None },
            Truncation::Left => Watch::Last {
                limit,
                total,
                found: total,
            },
        };
        tokens
    }

    /// What [`Tokens::watching`] found.
    pub(crate) fn watched(&self) -> usize {
        match self.watch {
            Watch::First { found, .. } => found.unwrap_or(self.count),
            Watch::Last { found, .. } => found,
            Watch::Nothing => self.count,
        }
    }

    /// Tokens so far.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Says that the tokens from `first` on are those of one word.
    #[inline]
    pub(crate) fn end_word(&mut self, first: usize) {
        if !matches!(self.watch, Watch::Nothing) {
            self.note_word(first);
        }
    }

    #[cold]
    fn note_word(&mut self, first: usize) {
        match &mut self.watch {
            Watch::First { limit, found } if found.is_none() && self.count >= *limit => {
                *found = Some(self.count)
            }
            Watch::Last { limit, total, found } if *total - first >= *limit => *found = *total - first,
            _ => {}
        }
    }
}

impl<'t> Tokens<'t> {
    /// Three slices of one length, the room. `count_all` reads on when the room is full.
    pub(crate) fn new(
        ids: &'t mut [u32],
        starts: &'t mut [u32],
        ends: &'t mut [u32],
        truncation: Truncation,
        count_all: bool,
    ) -> Self {
        let ring = truncation == Truncation::Left;
        let stop = if ring || count_all { usize::MAX } else { ids.len() };
        Self {
            ids,
            starts,
            ends,
            at: 0,
            count: 0,
            stop,
            ring,
            watch: Watch::Nothing,
        }
    }

    /// The next token.
    #[inline]
    pub(crate) fn push(&mut self, id: u32, start: u32, end: u32) {
        if self.at >= self.ids.len() && self.ring {
            self.at = 0;
        }
        if let (Some(i), Some(s), Some(e)) = (
            self.ids.get_mut(self.at),
            self.starts.get_mut(self.at),
            self.ends.get_mut(self.at),
        ) {
            (*i, *s, *e) = (id, start, end);
            self.at += 1;
        }
        self.count += 1;
    }

    /// Whether further tokens could change nothing.
    #[inline]
    pub(crate) fn done(&self) -> bool {
        self.count > self.stop
    }

    /// Brings the kept tokens into order; how many tokens were pushed.
    pub(crate) fn finish(self) -> usize {
        if self.ring && self.count > self.ids.len() {
            self.ids.rotate_left(self.at);
            self.starts.rotate_left(self.at);
            self.ends.rotate_left(self.at);
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(truncation: Truncation, room: usize, pushed: u32) -> (Vec<u32>, usize) {
        let (mut ids, mut starts, mut ends) = (vec![99; room], vec![0; room], vec![0; room]);
        let mut tokens = Tokens::new(&mut ids, &mut starts, &mut ends, truncation, true);
        (0..pushed).for_each(|id| tokens.push(id, id, id + 1));
        let count = tokens.finish();
        assert!(ids.iter().zip(&ends).all(|(id, end)| *id == 99 || end - 1 == *id));
        (ids, count)
    }

    #[test]
    fn either_end_is_kept() {
        assert_eq!(keep(Truncation::Right, 3, 5), (vec![0, 1, 2], 5));
        assert_eq!(keep(Truncation::Left, 3, 5), (vec![2, 3, 4], 5));
        assert_eq!(keep(Truncation::Left, 3, 6), (vec![3, 4, 5], 6));
        assert_eq!(keep(Truncation::Left, 3, 2), (vec![0, 1, 99], 2));
        assert_eq!(keep(Truncation::Left, 0, 2), (vec![], 2));
    }
}
