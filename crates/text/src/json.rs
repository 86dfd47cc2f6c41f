//! `tokenizer.json` as it is read: the vocabulary in two allocations, all else as it comes.
//!
//! A vocabulary has tens or hundreds of thousands of entries. A string for each and a tree of them took longer than all else at start.

use crate::TokenizerError;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The parts of a `tokenizer.json` that count; what is missing is null.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct FileJson {
    pub(crate) version: Value,
    pub(crate) model: ModelJson,
    pub(crate) added_tokens: Value,
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    pub(crate) post_processor: Value,
    pub(crate) decoder: Value,
}

/// Its `model` object.
#[derive(Default)]
pub(crate) struct ModelJson {
    pub(crate) vocab: VocabJson,
    /// All but the vocabulary; null when there is no model.
    pub(crate) rest: Value,
}

/// Its `vocab`: an object of ids, or, of Unigram, a list of pairs.
#[derive(Default)]
pub(crate) enum VocabJson {
    #[default]
    Missing,
    Ids(Entries<u32>),
    Scores(Entries<f64>),
}

impl VocabJson {
    pub(crate) fn ids(&self) -> Result<&Entries<u32>, TokenizerError> {
        match self {
            VocabJson::Ids(entries) => Ok(entries),
            _ => Err(TokenizerError::Malformed("model.vocab is not an object".into())),
        }
    }

    pub(crate) fn scores(&self) -> Result<&Entries<f64>, TokenizerError> {
        match self {
            VocabJson::Scores(entries) => Ok(entries),
            _ => Err(TokenizerError::Malformed("model.vocab is not an array".into())),
        }
    }
}

/// Tokens with a number each, in the order of the file.
pub(crate) struct Entries<N> {
    /// The tokens, end to end.
    text: String,
    /// Where each ends in `text`, and its number.
    ends: Vec<(usize, N)>,
}

impl<N: Copy> Entries<N> {
    fn new() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
        }
    }

    /// After the token was appended to `text`.
    fn push(&mut self, number: N) {
        self.ends.push((self.text.len(), number));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, N)> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, &(end, number))| (&self.text[start..end], number))
    }
}

impl<'de> Deserialize<'de> for ModelJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Model;
        impl<'de> Visitor<'de> for Model {
            type Value = ModelJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ModelJson, A::Error> {
                let mut vocab = VocabJson::Missing;
                let mut rest = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "vocab" {
                        vocab = map.next_value()?;
                    } else {
                        rest.insert(key, map.next_value()?);
                    }
                }
                Ok(ModelJson {
                    vocab,
                    rest: Value::Object(rest),
                })
            }
        }
        deserializer.deserialize_map(Model)
    }
}

impl<'de> Deserialize<'de> for VocabJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Vocab;
        impl<'de> Visitor<'de> for Vocab {
            type Value = VocabJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary: ids by token, or pairs of a piece and its score")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabJson, A::Error> {
                let mut entries = Entries::new();
                while map.next_key_seed(Append(&mut entries.text))?.is_some() {
                    let id: u32 = map.next_value()?;
                    if id == u32::MAX {
                        return Err(A::Error::custom("an id of the vocabulary is too large"));
                    }
                    entries.push(id);
                }
                Ok(VocabJson::Ids(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<VocabJson, A::Error> {
                let mut entries = Entries::new();
                while let Some(score) = list.next_element_seed(Pair(&mut entries.text))? {
                    entries.push(score);
                }
                Ok(VocabJson::Scores(entries))
            }
        }
        deserializer.deserialize_any(Vocab)
    }
}

/// Appends a string to another.
struct Append<'t>(&'t mut String);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }

    fn visit_str<E: Error>(self, token: &str) -> Result<(), E> {
        self.0.push_str(token);
        Ok(())
    }
}

/// Appends the piece of a `[piece, score]`; gives the score.
struct Pair<'t>(&'t mut String);

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pair of a piece and its score")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<f64, A::Error> {
        let missing = |count| A::Error::invalid_length(count, &"a piece and its score");
        pair.next_element_seed(Append(self.0))?
            .ok_or_else(|| missing(0))?;
        let score = pair.next_element()?.ok_or_else(|| missing(1))?;
        match pair.next_element::<IgnoredAny>()? {
            None => Ok(score),
            Some(_) => Err(missing(3)),
        }
    }
}
