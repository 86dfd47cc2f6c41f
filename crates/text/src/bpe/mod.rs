//! Byte-level BPE: bytes joined pair by pair, the earliest learnt pair first.
//!
//! `tokenizer.json` spells each byte as a printable character (GPT-2's alphabet). Here the spelling is undone at load, so
//! that words are the text's own bytes and nothing is rewritten at run time.
//!
//! A word that is one token is looked up at once: at load every token is merged from its bytes, and those that come
//! out whole are known to need no merging. Short words are merged by scanning for the best pair; long ones with a heap, in
//! O(n log n).

mod merge;
mod pairs;

use crate::TokenizerError;
use crate::error::short;
use crate::json::ModelJson;
use crate::scratch::Scratch;
use crate::trie::Trie;
use crate::vocab::{Vocab, limit};
use merge::Symbols;
use pairs::Pairs;
use serde_json::Value;

/// Bytes of one word that are merged at once; a longer word (without a space, a change between letters, digits
/// and signs, or another cut of the pre-tokenizer) is merged in parts of this length.
pub(crate) const WORD_BYTES_MAX: usize = 1 << 16;
/// Largest number of merges accepted.
const MERGES_MAX: usize = 1 << 22;

/// The model.
#[derive(Debug)]
pub(crate) struct Bpe {
    vocab: Vocab,
    /// The token of each byte.
    bytes: [u32; 256],
    pairs: Pairs,
    /// Byte strings of the tokens that come out of merging as themselves.
    whole: Trie,
}

impl Bpe {
    pub(crate) fn from_json(model: &ModelJson) -> Result<Self, TokenizerError> {
        refuse_options(&model.rest)?;
        let vocab = Vocab::new(model.vocab.ids()?.iter())?;
        let model = &model.rest;
        let mut bytes = [0; 256];
        for (byte, id) in (0..=255u8).zip(bytes.iter_mut()) {
            let spelling = char_of(byte).to_string();
            let missing = || TokenizerError::MissingToken {
                part: "byte-level BPE",
                token: spelling.clone(),
            };
            *id = vocab.token_to_id(&spelling).ok_or_else(missing)?;
        }
        let pairs = read_merges(model, &vocab)?;
        let mut bpe = Self {
            vocab,
            bytes,
            pairs,
            whole: Trie::new(&[])?,
        };
        let ignore_merges = model["ignore_merges"].as_bool().unwrap_or(false);
        bpe.whole = bpe.whole_tokens(ignore_merges)?;
        Ok(bpe)
    }

    fn whole_tokens(&self, ignore_merges: bool) -> Result<Trie, TokenizerError> {
        let mut keys: Vec<(Vec<u8>, u32)> = Vec::new();
        let mut scratch = vec![0u8; self.scratch_bytes(WORD_BYTES_MAX)];
        for (token, id) in self.vocab.iter() {
            let Some(bytes) =
                bytes_of(token).filter(|bytes| !bytes.is_empty() && bytes.len() <= WORD_BYTES_MAX)
            else {
                continue;
            };
            let mut merged = Vec::new();
            if !ignore_merges {
                self.merge(false, &bytes, &mut scratch, |id, _| merged.push(id));
            }
            if ignore_merges || merged == [id] {
                keys.push((bytes, id));
            }
        }
        keys.sort_unstable();
        let keys: Vec<(&[u8], u32)> = keys.iter().map(|(key, id)| (key.as_slice(), *id)).collect();
        Trie::new(&keys)
    }

    pub(crate) fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Bytes of scratch for a word of `word_bytes` bytes and the space before it.
    pub(crate) fn scratch_bytes(&self, word_bytes: usize) -> usize {
        Symbols::scratch_bytes(word_bytes.min(WORD_BYTES_MAX) + 1)
    }

    /// The tokens of a word: `each(id, end)`, ends counted in bytes of `word`. With `prefixed` the word starts with a
    /// space that is not in `word`; a token of only that space ends at 0.
    pub(crate) fn encode_bytes(
        &self,
        prefixed: bool,
        word: &[u8],
        scratch: &mut [u8],
        mut each: impl FnMut(u32, usize),
    ) {
        if let Some(id) = self.whole_word(prefixed, word) {
            return each(id, word.len());
        }
        let mut prefixed = prefixed;
        let mut done = 0;
        while let Some(part) = word.get(done..(done + WORD_BYTES_MAX).min(word.len()))
            && (prefixed || !part.is_empty())
        {
            self.merge(prefixed, part, scratch, |id, end| each(id, done + end));
            prefixed = false;
            done += part.len();
        }
    }

    #[inline]
    fn whole_word(&self, prefixed: bool, word: &[u8]) -> Option<u32> {
        let root = self.whole.root();
        let start = if prefixed {
            self.whole.step(root, b' ')?
        } else {
            root
        };
        self.whole.find_from(start, word)
    }

    fn merge(&self, prefixed: bool, word: &[u8], scratch: &mut [u8], mut each: impl FnMut(u32, usize)) {
        let count = word.len() + usize::from(prefixed);
        let mut scratch = Scratch::unchecked(scratch);
        let mut symbols = Symbols::new(count, &mut scratch);
        let lead = prefixed.then_some(b' ');
        for byte in lead.into_iter().chain(word.iter().copied()) {
            symbols.push(self.bytes[usize::from(byte)]);
        }
        symbols.merge_all(&self.pairs);
        symbols.each(|id, end| each(id, end.saturating_sub(usize::from(prefixed))));
    }
}

fn refuse_options(model: &Value) -> Result<(), TokenizerError> {
    for option in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[option].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(TokenizerError::Unsupported {
                part: "model",
                name: format!("BPE with {option}"),
            });
        }
    }
    if model["dropout"].as_f64().is_some_and(|share| share != 0.0) {
        return Err(TokenizerError::Unsupported {
            part: "model",
            name: "BPE with dropout".into(),
        });
    }
    Ok(())
}

fn read_merges(model: &Value, vocab: &Vocab) -> Result<Pairs, TokenizerError> {
    let malformed = |what: &str| TokenizerError::Malformed(format!("model.merges {what}"));
    let merges = model["merges"]
        .as_array()
        .ok_or_else(|| malformed("is not a list"))?;
    limit("merges", merges.len(), MERGES_MAX)?;
    let mut pairs = Pairs::with_capacity(merges.len());
    let id = |token: &str| {
        vocab
            .token_to_id(token)
            .ok_or_else(|| TokenizerError::MissingToken {
                part: "merges",
                token: short(token),
            })
    };
    let mut rank = 0;
    for merge in merges {
        let (left, right) = match merge {
            Value::String(line) if line.starts_with("#version") => continue,
            Value::String(line) => line.split_once(' ').filter(|(_, right)| !right.contains(' ')),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        }
        .ok_or_else(|| malformed("holds an entry that is not a pair"))?;
        pairs.insert((id(left)?, id(right)?), (rank, id(&format!("{left}{right}"))?));
        rank += 1;
    }
    Ok(pairs)
}

/// GPT-2's spelling of a byte.
pub(crate) fn char_of(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + rank).unwrap_or('\u{FFFD}')
}

/// The byte that GPT-2 spells as `c`.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    match c as u32 {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(c as u32 as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 0x7F),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The bytes that a token spells.
fn bytes_of(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn every_byte_has_its_spelling() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!(byte_of('中'), None);
    }

    fn from_json(model: Value) -> Result<Bpe, TokenizerError> {
        Bpe::from_json(&serde_json::from_value(model).unwrap())
    }

    fn model() -> Bpe {
        let mut vocab: Map<String, Value> = (0..=255u8).map(|b| (char_of(b).to_string(), json!(b))).collect();
        let merges = [
            "a b", "b c", "ab c", "a a", "aa a", "Ġ a", "Ġa b", "bc bc", "aaa aaa", "bcbc bc",
        ];
        for (number, merge) in merges.iter().enumerate() {
            vocab.insert(merge.replace(' ', ""), json!(256 + number));
        }
        from_json(json!({"vocab": vocab, "merges": merges})).unwrap()
    }

    /// Merging as its definition says: the best pair of the whole word, leftmost first, again and again.
    fn naive(bpe: &Bpe, word: &[u8]) -> Vec<u32> {
        let mut ids: Vec<u32> = word.iter().map(|&b| bpe.bytes[usize::from(b)]).collect();
        loop {
            let best = (0..ids.len().saturating_sub(1))
                .filter_map(|at| {
                    bpe.pairs
                        .get(ids[at], ids[at + 1])
                        .map(|(rank, id)| (rank, at, id))
                })
                .min();
            let Some((_, at, id)) = best else { return ids };
            ids.splice(at..at + 2, [id]);
        }
    }

    #[test]
    fn merging_agrees_with_the_naive_one() {
        let bpe = model();
        let letters = *b"abcab ac";
        let mut state = 7u64;
        for len in (1..40).chain([200, 500]) {
            for _ in 0..50 {
                let word: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        letters[(state >> 61) as usize]
                    })
                    .collect();
                for prefixed in [false, true] {
                    let mut scratch = vec![0; bpe.scratch_bytes(word.len())];
                    let (mut ids, mut ends) = (Vec::new(), Vec::new());
                    bpe.encode_bytes(prefixed, &word, &mut scratch, |id, end| {
                        ids.push(id);
                        ends.push(end);
                    });
                    let spelled = [if prefixed { b" ".as_slice() } else { b"" }, &word].concat();
                    assert_eq!(
                        ids,
                        naive(&bpe, &spelled),
                        "{:?}",
                        String::from_utf8_lossy(&spelled)
                    );
                    assert!(ends.is_sorted());
                    assert_eq!(ends.last(), Some(&len));
                }
            }
        }
    }

    #[test]
    fn what_is_not_byte_level_is_refused() {
        let refused = from_json(json!({"vocab": {"a": 0}, "merges": []})).unwrap_err();
        assert!(
            matches!(
                refused,
                TokenizerError::MissingToken {
                    part: "byte-level BPE",
                    ..
                }
            ),
            "{refused}"
        );
        let refused = from_json(json!({"dropout": 0.1})).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tokenizer model `BPE with dropout` is not supported"
        );
    }
}
