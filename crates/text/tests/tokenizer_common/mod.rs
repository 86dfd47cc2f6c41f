//! The fixtures, and buffers around a tokenizer.
#![allow(dead_code, reason = "each test file uses its part")]

use plimsoll_text::{EncodeError, EncodeOptions, Encoded, TokenSlots, Tokenizer};

/// The fixtures' names.
pub(crate) const NAMES: [&str; 3] = ["wordpiece", "unigram", "bpe"];

/// A file of the fixtures.
pub(crate) fn text_of(file: &str) -> String {
    let path = format!("{}/../../testdata/tokenizer/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A tokenizer of the fixtures.
pub(crate) fn fixture(name: &str) -> Tokenizer {
    Tokenizer::from_json(text_of(&format!("{name}.json")).as_bytes()).expect("the fixture loads")
}

/// The texts of a golden file.
pub(crate) fn golden_texts(name: &str) -> Vec<String> {
    let golden = text_of(&format!("{name}.golden.tsv"));
    golden
        .lines()
        .map(|line| serde_json::from_str(line.split('\t').next().unwrap_or("")).expect("a string"))
        .collect()
}

/// Slots and scratch that grow as needed.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) scratch: Vec<u8>,
    pub(crate) ids: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    pub(crate) ends: Vec<u32>,
    pub(crate) types: Vec<u8>,
}

impl Buffers {
    /// Makes room for texts of `bytes` bytes in all.
    pub(crate) fn reserve(&mut self, tokenizer: &Tokenizer, bytes: usize) {
        let slots = 4 * bytes + 16;
        if self.ids.len() < slots {
            self.ids.resize(slots, 0);
            self.starts.resize(slots, 0);
            self.ends.resize(slots, 0);
            self.types.resize(slots, 0);
        }
        let needed = tokenizer.scratch_bytes(bytes);
        self.scratch.resize(needed.max(self.scratch.len()), 0xEE);
    }

    pub(crate) fn slots(&mut self) -> (TokenSlots<'_>, &mut [u8]) {
        let Self {
            scratch,
            ids,
            starts,
            ends,
            types,
        } = self;
        (
            TokenSlots {
                ids,
                starts,
                ends,
                types,
            },
            scratch,
        )
    }

    pub(crate) fn encode(&mut self, tokenizer: &Tokenizer, text: &str) -> Result<Encoded, EncodeError> {
        self.encode_with(tokenizer, text, None, &EncodeOptions::default())
    }

    /// Without special tokens; returns how many tokens there are.
    pub(crate) fn encode_bare(&mut self, tokenizer: &Tokenizer, text: &str) -> usize {
        let options = EncodeOptions {
            add_special_tokens: false,
            ..EncodeOptions::default()
        };
        let encoded = self.encode_with(tokenizer, text, None, &options);
        encoded.expect("encodes").count
    }

    pub(crate) fn encode_with(
        &mut self,
        tokenizer: &Tokenizer,
        text: &str,
        pair: Option<&str>,
        options: &EncodeOptions,
    ) -> Result<Encoded, EncodeError> {
        self.reserve(tokenizer, text.len() + pair.map_or(0, str::len));
        let (mut out, scratch) = self.slots();
        match pair {
            None => tokenizer.encode(text, options, scratch, &mut out),
            Some(pair) => tokenizer.encode_pair(text, pair, options, scratch, &mut out),
        }
    }
}
