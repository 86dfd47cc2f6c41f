//! Our tokenizer with its buffers, for callers that may allocate.

use plimsoll_text::{EncodeOptions, Encoded, TokenSlots, Tokenizer};

/// One tokenizer and the slices that a server would lease.
pub struct Ours {
    pub tokenizer: Tokenizer,
    scratch: Vec<u8>,
    pub ids: Vec<u32>,
    pub starts: Vec<u32>,
    pub ends: Vec<u32>,
    pub types: Vec<u8>,
}

impl Ours {
    pub fn from_file(path: &str) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tokenizer = Tokenizer::from_json(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            tokenizer,
            scratch: Vec::new(),
            ids: vec![],
            starts: vec![],
            ends: vec![],
            types: vec![],
        }
    }

    /// Encodes one text or a pair; the tokens are in the first `count` places of the slices.
    pub fn encode(&mut self, text: &str, pair: Option<&str>, options: &EncodeOptions) -> Encoded {
        let longest = text.len().max(pair.map_or(0, str::len));
        let slots = 2 * longest + 64;
        if self.ids.len() < 2 * slots {
            for slice in [&mut self.ids, &mut self.starts, &mut self.ends] {
                slice.resize(2 * slots, 0);
            }
            self.types.resize(2 * slots, 0);
        }
        let needed = self.tokenizer.scratch_bytes(longest);
        if self.scratch.len() < needed {
            self.scratch.resize(needed, 0xA5);
        }
        let mut out = TokenSlots {
            ids: &mut self.ids,
            starts: &mut self.starts,
            ends: &mut self.ends,
            types: &mut self.types,
        };
        match pair {
            None => self.tokenizer.encode(text, options, &mut self.scratch, &mut out),
            Some(second) => self
                .tokenizer
                .encode_pair(text, second, options, &mut self.scratch, &mut out),
        }
        .unwrap_or_else(|error| panic!("{error}"))
    }
}
