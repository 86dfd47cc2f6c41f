//! WordPiece: the longest vocabulary entry that starts the word, then the longest continuation, and so on.
//!
//! A word that cannot be covered, or that has too many characters, is one unknown token (Wu et al. 2016; as the
//! `tokenizers` crate does it, which gives up at the first gap without trying a shorter start).

use crate::error::short;
use crate::json::ModelJson;
use crate::model::PieceSink;
use crate::scratch::Scratch;
use crate::trie::Trie;
use crate::vocab::{Vocab, limit};
use crate::{EncodeError, TokenizerError};

/// Largest `max_input_chars_per_word` accepted: scratch grows with it.
const WORD_CHARS_MAX: usize = 4096;
/// Largest vocabulary entry accepted.
const TOKEN_BYTES_MAX: usize = 1 << 16;

/// The model: tokens of a word's start and of its continuation, a trie for each.
#[derive(Debug)]
pub(crate) struct WordPiece {
    vocab: Vocab,
    starts: Trie,
    continuations: Trie,
    unknown: u32,
    word_chars_max: usize,
}

impl WordPiece {
    pub(crate) fn from_json(model: &ModelJson) -> Result<Self, TokenizerError> {
        let vocab = Vocab::new(model.vocab.ids()?.iter())?;
        let model = &model.rest;
        let text = |key: &str| {
            model[key]
                .as_str()
                .ok_or_else(|| TokenizerError::Malformed(format!("model.{key} is not a string")))
        };
        let chars_max = model["max_input_chars_per_word"].as_u64().ok_or_else(|| {
            TokenizerError::Malformed("model.max_input_chars_per_word is not a number".into())
        })?;
        Self::new(
            vocab,
            text("unk_token")?,
            text("continuing_subword_prefix")?,
            chars_max as usize,
        )
    }

    pub(crate) fn new(
        vocab: Vocab,
        unknown: &str,
        prefix: &str,
        chars_max: usize,
    ) -> Result<Self, TokenizerError> {
        limit("max_input_chars_per_word", chars_max, WORD_CHARS_MAX)?;
        let longest = vocab.iter().map(|(token, _)| token.len()).max().unwrap_or(0);
        limit("token length", longest, TOKEN_BYTES_MAX)?;
        let unknown = vocab
            .token_to_id(unknown)
            .ok_or_else(|| TokenizerError::MissingToken {
                part: "model",
                token: short(unknown),
            })?;
        let starts: Vec<(&[u8], u32)> = vocab.iter().map(|(token, id)| (token.as_bytes(), id)).collect();
        let continuations: Vec<(&[u8], u32)> = vocab
            .iter()
            .filter_map(|(token, id)| Some((token.strip_prefix(prefix)?.as_bytes(), id)))
            .collect();
        let (starts, continuations) = (Trie::new(&starts)?, Trie::new(&continuations)?);
        Ok(Self {
            vocab,
            starts,
            continuations,
            unknown,
            word_chars_max: chars_max,
        })
    }

    pub(crate) fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The unknown token.
    pub(crate) fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Characters of a word beyond which it is unknown.
    pub(crate) fn word_chars_max(&self) -> usize {
        self.word_chars_max
    }

    /// Words of scratch that [`WordPiece::pieces`] needs for any word of at most `word_chars_max` characters.
    pub(crate) fn pieces_words(&self) -> usize {
        2 * self.word_chars_max
    }

    /// The id of the whole word or its first piece, with that piece's length.
    #[inline]
    pub(crate) fn first(&self, word: &[u8]) -> Option<(u32, usize)> {
        self.starts.longest(word)
    }

    /// The id of a word of one character.
    pub(crate) fn single(&self, c: char) -> u32 {
        let mut utf8 = [0; 4];
        let word = c.encode_utf8(&mut utf8).as_bytes();
        match self.first(word) {
            Some((id, len)) if len == word.len() && self.word_chars_max > 0 => id,
            _ => self.unknown,
        }
    }

    /// Writes `(id, end)` of each piece into `out`, which holds [`WordPiece::pieces_words`]; `None` when the word is unknown.
    #[inline]
    pub(crate) fn pieces<'o>(&self, word: &[u8], out: &'o mut [u32]) -> Option<&'o [u32]> {
        let (mut id, mut end) = self.first(word)?;
        let mut count = 0;
        loop {
            let slot = out.get_mut(count..count + 2)?;
            slot[0] = id;
            slot[1] = end as u32;
            count += 2;
            let rest = word.get(end..)?;
            if rest.is_empty() {
                return out.get(..count);
            }
            let (next, len) = self.continuations.longest(rest)?;
            id = next;
            end += len;
        }
    }

    pub(crate) fn scratch_bytes(&self, _word_bytes: usize) -> usize {
        self.pieces_words() * size_of::<u32>() + crate::scratch::ALIGN_SLACK
    }

    pub(crate) fn encode_word<S: PieceSink>(
        &self,
        word: &str,
        scratch: &mut [u8],
        sink: &mut S,
    ) -> Result<(), EncodeError> {
        let mut scratch = Scratch::new(scratch, self.scratch_bytes(word.len()))?;
        let too_long = word.len() > self.word_chars_max && word.chars().count() > self.word_chars_max;
        let out = scratch.words(self.pieces_words());
        match if too_long {
            None
        } else {
            self.pieces(word.as_bytes(), out)
        } {
            Some(pieces) => {
                for piece in pieces.chunks_exact(2) {
                    sink.piece(piece[0], piece[1] as usize);
                }
            }
            None => sink.piece(self.unknown, word.len()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(Vec<(u32, usize)>);
    impl PieceSink for Pieces {
        fn piece(&mut self, id: u32, end: usize) {
            self.0.push((id, end));
        }
    }

    fn encode(model: &WordPiece, word: &str) -> Vec<(u32, usize)> {
        let mut sink = Pieces(Vec::new());
        let mut scratch = vec![0; model.scratch_bytes(word.len())];
        model.encode_word(word, &mut scratch, &mut sink).unwrap();
        sink.0
    }

    /// Greedy matching written the obvious way.
    fn naive(vocab: &[&str], word: &str) -> Vec<(u32, usize)> {
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < word.len() {
            let prefix = if start > 0 { "##" } else { "" };
            let found = (start + 1..=word.len())
                .rev()
                .filter(|&end| word.is_char_boundary(end))
                .find_map(|end| {
                    let text = format!("{prefix}{}", &word[start..end]);
                    Some((vocab.iter().position(|&token| token == text)? as u32, end))
                });
            let Some(found) = found else {
                return vec![(0, word.len())];
            };
            start = found.1;
            pieces.push(found);
        }
        pieces
    }

    #[test]
    fn longest_match_agrees_with_the_naive_one() {
        let vocab = [
            "[UNK]", "a", "ab", "##b", "##ba", "##a", "中", "##中", "c", "##ca", "b", "##", "#", "##abc",
        ];
        let tokens = vocab.iter().enumerate().map(|(id, &token)| (token, id as u32));
        let model = WordPiece::new(Vocab::new(tokens).unwrap(), "[UNK]", "##", 7).unwrap();
        let letters = ["a", "b", "c", "中", "#"];
        for number in 0..5usize.pow(6) {
            let len = 1 + number % 6;
            let word: String = (0..len as u32)
                .map(|i| letters[number / 5usize.pow(i) % 5])
                .collect();
            assert_eq!(encode(&model, &word), naive(&vocab, &word), "{word}");
        }
        assert_eq!(encode(&model, "aaaaaaaa"), [(0, 8)], "more than 7 characters");
        assert_eq!(encode(&model, "中中中中中中中").len(), 7);
    }

    #[test]
    fn a_missing_unknown_token_is_named() {
        let vocab = Vocab::new([("a", 0)].into_iter()).unwrap();
        let refused = WordPiece::new(vocab, "[UNK]", "##", 100).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tokenizer model names a token that the vocabulary lacks: [UNK]"
        );
    }
}
