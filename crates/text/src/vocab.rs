//! The tokens of a vocabulary, both ways, in two allocations instead of one for each token.

use crate::TokenizerError;

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
    /// Builds from `(token, id)`. Tokens must be distinct; of two tokens with one id the later names the id.
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
            vocab.spans[id as usize] = (vocab.text.len() as u32, token.len() as u32);
            vocab.text.push_str(token);
        }
        let mut sorted: Vec<u32> = (0..vocab.spans.len() as u32)
            .filter(|&id| vocab.token_text(id).is_some())
            .collect();
        sorted.sort_unstable_by(|&a, &b| vocab.token_text(a).cmp(&vocab.token_text(b)));
        vocab.sorted = sorted;
        Ok(vocab)
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
    fn a_huge_id_is_refused() {
        let refused = Vocab::new([("a", u32::MAX)].into_iter());
        assert!(matches!(
            refused,
            Err(TokenizerError::TooLarge { what: "token id", .. })
        ));
    }
}
