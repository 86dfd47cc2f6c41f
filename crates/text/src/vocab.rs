//! The tokens of a vocabulary, both ways, in two allocations instead of one for each token.

use crate::TokenizerError;
use crate::error::short;

/// Most bytes that all tokens together may have.
const TEXT_BYTES_MAX: usize = 256 << 20;
/// Largest id accepted: a table by id is built, and a hostile file must not choose its size.
const ID_MAX: usize = 16 << 20;

/// Tokens by id and ids by token.
#[derive(Debug, Default)]
pub(crate) struct Vocab {
    text: String,
    /// `(start, len)` in `text` by id; `len` is `ABSENT` where no token has the id.
    spans: Vec<(u32, u32)>,
    /// Ids in the order of their tokens.
    sorted: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Vocab {
    /// Builds from `(token, id)`. Of equal tokens the last counts.
    ///
    /// # Errors
    /// When there is too much of it, or an id has two tokens: it would name one and could stand for the other.
    pub(crate) fn new<'a>(
        tokens: impl Iterator<Item = (&'a str, u32)> + Clone,
    ) -> Result<Self, TokenizerError> {
        let bytes: usize = tokens.clone().map(|(token, _)| token.len()).sum();
        limit("vocabulary text", bytes, TEXT_BYTES_MAX)?;
        let largest = tokens.clone().map(|(_, id)| id as usize).max();
        limit("token id", largest.unwrap_or(0), ID_MAX)?;
        let mut vocab = Self {
            text: String::with_capacity(bytes),
            spans: vec![(0, ABSENT); largest.map_or(0, |id| id + 1)],
            sorted: Vec::new(),
        };
        for (token, id) in tokens {
            if let Some(other) = vocab.token_text(id).filter(|other| *other != token) {
                let (other, token) = (short(other), short(token));
                let reason = format!("two tokens have the id {id}: {other} and {token}");
                return Err(TokenizerError::Malformed(reason));
            }
            vocab.spans[id as usize] = (vocab.text.len() as u32, token.len() as u32);
            vocab.text.push_str(token);
        }
        vocab.sort();
        Ok(vocab)
    }

    /// Fills `sorted`, and takes out what an equal token replaced.
    fn sort(&mut self) {
        let present = (0..self.spans.len() as u32).filter_map(|id| Some((id, self.token_text(id)?)));
        let mut tokens: Vec<(u64, &str, u32)> = present
            .map(|(id, token)| (first_eight(token), token, id))
            .collect();
        let start = |id: u32| self.spans[id as usize].0;
        tokens.sort_unstable_by(|a, b| {
            let by_text = (a.0, a.1).cmp(&(b.0, b.1));
            by_text.then_with(|| start(b.2).cmp(&start(a.2)))
        });
        let mut replaced = Vec::new();
        tokens.dedup_by(|earlier, last| {
            let is_equal = earlier.1 == last.1;
            replaced.extend(is_equal.then_some(earlier.2));
            is_equal
        });
        self.sorted = tokens.into_iter().map(|(_, _, id)| id).collect();
        for id in replaced {
            self.spans[id as usize].1 = ABSENT;
        }
    }

    /// One more than the largest id.
    pub(crate) fn id_end(&self) -> usize {
        self.spans.len()
    }

    /// The token of `id`.
    pub(crate) fn token_text(&self, id: u32) -> Option<&str> {
        let &(start, len) = self.spans.get(id as usize)?;
        if len == ABSENT {
            return None;
        }
        Some(&self.text[start as usize..start as usize + len as usize])
    }

    /// The id of `token`.
    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        let at = self
            .sorted
            .binary_search_by(|&id| self.token_text(id).cmp(&Some(token)))
            .ok()?;
        Some(self.sorted[at])
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Every `(token, id)`, in the order of the tokens.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> + Clone {
        self.sorted
            .iter()
            .filter_map(|&id| Some((self.token_text(id)?, id)))
    }
}

/// The first eight bytes as a number, which decides nearly every comparison of two tokens.
pub(crate) fn first_eight(token: &str) -> u64 {
    let mut first = [0; 8];
    let len = token.len().min(8);
    first[..len].copy_from_slice(&token.as_bytes()[..len]);
    u64::from_be_bytes(first)
}

/// An error when `found` is above `max`.
pub(crate) fn limit(what: &'static str, found: usize, max: usize) -> Result<(), TokenizerError> {
    if found > max {
        Err(TokenizerError::TooLarge { what, found, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_ids_find_each_other() {
        let vocab = Vocab::new([("b", 3), ("a", 0), ("", 1), ("中", 7)].into_iter()).unwrap();
        assert_eq!(vocab.len(), 4);
        assert_eq!(vocab.token_text(7), Some("中"));
        assert_eq!(vocab.token_text(2), None);
        assert_eq!(vocab.token_text(8), None);
        for (token, id) in [("b", 3), ("a", 0), ("", 1), ("中", 7)] {
            assert_eq!(vocab.token_to_id(token), Some(id));
        }
        assert_eq!(vocab.token_to_id("c"), None);
    }

    #[test]
    fn of_equal_tokens_the_last_counts() {
        let vocab = Vocab::new(
            [
                ("a", 2),
                ("longer than eight", 1),
                ("a", 0),
                ("longer than eight", 3),
            ]
            .into_iter(),
        )
        .unwrap();
        assert_eq!(
            vocab.iter().collect::<Vec<_>>(),
            [("a", 0), ("longer than eight", 3)]
        );
        assert_eq!((vocab.token_text(2), vocab.token_text(1)), (None, None));
    }

    #[test]
    fn a_huge_id_is_refused() {
        let refused = Vocab::new([("a", u32::MAX)].into_iter());
        assert!(matches!(
            refused,
            Err(TokenizerError::TooLarge { what: "token id", .. })
        ));
    }
}
