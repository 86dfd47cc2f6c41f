//! The Unigram model of SentencePiece: the pieces of a word whose scores add up to the most.
//!
//! Every piece has a score, a logarithm of a probability; Viterbi's algorithm finds the best way to cut the word. Usual
//! implementations keep a node for each byte (the `tokenizers` crate 32 bytes), and a text without spaces is one word:
//! ten hostile megabytes would take 320. But a piece is never longer than the longest piece, so only that many scores
//! are ever read again: they live in a ring on the stack. What remains for each byte is the length of the piece that
//! ends there, one byte, and ids are looked up once more when the path is known. Time is linear in the word.
//!
//! Results equal those of the crate's `Unigram::encode_optimized`, which is what its tokenizers run: scores and sums in
//! f64, the earlier start wins a tie, characters without a piece score 10 less than the worst piece, and neighbouring
//! unknown pieces become one.

use crate::error::short;
use crate::json::ModelJson;
use crate::model::PieceSink;
use crate::trie::{Place, Trie};
use crate::vocab::first_eight;
use crate::{EncodeError, TokenizerError};
use serde_json::Value;
use std::cmp::Reverse;

/// Longest piece in bytes: lengths are kept in one byte.
const PIECE_BYTES_MAX: usize = u8::MAX as usize;
/// Scores kept for a word of any length: more than the longest piece reaches.
const RING: usize = 256;
/// Scores kept for a word shorter than this, which most are: less to clear.
const SMALL_RING: usize = 32;
/// What SentencePiece writes for a space: words begin with it.
pub(crate) const WORD_START: char = '▁';
/// How much less than the worst piece an unknown character scores (`K_UNK_PENALTY`).
const UNKNOWN_PENALTY: f64 = 10.0;
const VOCABULARY_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(RING > PIECE_BYTES_MAX && RING.is_power_of_two() && SMALL_RING.is_power_of_two());

/// Pieces with scores, immutable.
#[derive(Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    scores: Box<[f64]>,
    unknown_score: f64,
    unknown_id: Option<u32>,
    /// Where [`WORD_START`] leads, if any piece begins with it.
    mark: Option<Place>,
    /// One bit for each piece that begins a word: alone it is not cut. Most English words are such a piece.
    whole: Box<[u64]>,
    /// Ids of `<0x00>` to `<0xFF>`, when unknown text is spelled in bytes and all of a text's bytes may have a piece.
    byte_ids: Option<Box<[Option<u32>; 256]>>,
    text: Box<str>,
    /// Where each piece starts in `text`, and the end of the last.
    starts: Box<[u32]>,
}

impl Unigram {
    /// Reads the `model` object of a `tokenizer.json`.
    pub(crate) fn from_json(model: &ModelJson) -> Result<Self, TokenizerError> {
        let malformed = |what: &str| TokenizerError::Malformed(format!("Unigram {what}"));
        let pieces: Vec<(&str, f64)> = model.vocab.scores()?.iter().collect();
        let model = &model.rest;
        let unknown_id = match model.get("unk_id") {
            None | Some(Value::Null) => None,
            Some(id) => Some(
                id.as_u64()
                    .ok_or_else(|| malformed("`unk_id` is not a number of a piece"))?,
            ),
        };
        let byte_fallback = match model.get("byte_fallback") {
            None => false,
            Some(flag) => flag
                .as_bool()
                .ok_or_else(|| malformed("`byte_fallback` is not true or false"))?,
        };
        Self::new(&pieces, unknown_id, byte_fallback)
    }

    /// Ids are positions in `pieces`; of equal pieces the last counts.
    fn new(
        pieces: &[(&str, f64)],
        unknown_id: Option<u64>,
        byte_fallback: bool,
    ) -> Result<Self, TokenizerError> {
        let mut text = String::new();
        let mut starts = vec![0];
        for (piece, _) in pieces {
            too_large("Unigram piece bytes", piece.len(), PIECE_BYTES_MAX)?;
            text.push_str(piece);
            too_large("vocabulary text", text.len(), VOCABULARY_BYTES_MAX)?;
            starts.push(text.len() as u32);
        }
        let trie = Trie::new(&sorted(pieces))?;
        let mut model = Self {
            mark: trie.walk(trie.root(), WORD_START.encode_utf8(&mut [0; 4]).as_bytes()),
            trie,
            scores: pieces.iter().map(|&(_, score)| score).collect(),
            unknown_score: pieces.iter().fold(
                f64::INFINITY,
                |least, &(_, score)| if score < least { score } else { least },
            ) - UNKNOWN_PENALTY,
            unknown_id: unknown_id.map(|id| unknown(id, pieces.len())).transpose()?,
            whole: vec![0; pieces.len().div_ceil(64)].into(),
            byte_ids: None,
            text: text.into_boxed_str(),
            starts: starts.into_boxed_slice(),
        };
        if byte_fallback {
            model.byte_ids = Some(Box::new(std::array::from_fn(|byte| {
                model.token_to_id(&format!("<0x{byte:02X}>"))
            })));
        }
        let mut lens = [0; PIECE_BYTES_MAX + 1];
        for (piece, _) in pieces.iter().filter(|(piece, _)| piece.starts_with(WORD_START)) {
            model.note_whole(piece.as_bytes(), &mut lens[..piece.len() + 1]);
        }
        Ok(model)
    }

    /// Remembers whether this piece, as a word, stays whole.
    fn note_whole(&mut self, piece: &[u8], lens: &mut [u8]) {
        let id = self.trie.find(piece).filter(|id| Some(*id) != self.unknown_id);
        if let (Some(id), Ok(())) = (id, self.best_path(piece, lens))
            && usize::from(lens[piece.len()]) == piece.len()
        {
            self.whole[id as usize / 64] |= 1 << (id % 64);
        }
    }

    /// The piece that [`WORD_START`] and `rest` are, if it is never cut.
    #[inline]
    pub(crate) fn whole_after_mark(&self, rest: &[u8]) -> Option<u32> {
        self.whole(self.mark?, rest)
    }

    /// The piece that `word` is from this place on, if it is never cut.
    fn whole(&self, from: Place, word: &[u8]) -> Option<u32> {
        let id = self.trie.find_from(from, word)?;
        (self.whole[id as usize / 64] >> (id % 64) & 1 == 1).then_some(id)
    }

    /// Bytes that [`encode_word`](Self::encode_word) needs for a word of so many bytes.
    pub(crate) fn scratch_bytes(&self, word_bytes: usize) -> usize {
        word_bytes + 1
    }

    /// The pieces of `word`, in order. A piece that ends where the one before ended covers the same bytes as that one
    /// (the bytes of an unknown character, when the model spells those).
    pub(crate) fn encode_word<S: PieceSink>(
        &self,
        word: &str,
        scratch: &mut [u8],
        sink: &mut S,
    ) -> Result<(), EncodeError> {
        let bytes = word.as_bytes();
        if let Some(id) = self.whole(self.trie.root(), bytes) {
            sink.piece(id, bytes.len());
            return Ok(());
        }
        self.encode_bytes(bytes, scratch, sink)
    }

    /// As [`encode_word`](Self::encode_word), for the bytes of a word that was [looked up](Self::whole_after_mark) before.
    pub(crate) fn encode_bytes<S: PieceSink>(
        &self,
        bytes: &[u8],
        scratch: &mut [u8],
        sink: &mut S,
    ) -> Result<(), EncodeError> {
        let lens = &mut scratch[..bytes.len() + 1];
        self.best_path(bytes, lens)?;
        turn(lens);
        self.emit(bytes, lens, sink)
    }

    /// The text of piece `id`.
    pub(crate) fn token_text(&self, id: u32) -> Option<&str> {
        let start = *self.starts.get(id as usize)? as usize;
        let end = *self.starts.get(id as usize + 1)? as usize;
        self.text.get(start..end)
    }

    /// The id of a piece.
    pub(crate) fn token_to_id(&self, text: &str) -> Option<u32> {
        self.trie.find(text.as_bytes())
    }

    /// How many pieces there are.
    pub(crate) fn vocab_size(&self) -> usize {
        self.scores.len()
    }

    fn best_path(&self, word: &[u8], lens: &mut [u8]) -> Result<(), EncodeError> {
        if word.len() < SMALL_RING {
            self.search::<SMALL_RING>(word, lens)
        } else {
            self.search::<RING>(word, lens)
        }
    }

    /// Viterbi forwards: `lens[end]` becomes the length of the last piece on the best path to `end`.
    #[inline]
    fn search<const SCORES: usize>(&self, word: &[u8], lens: &mut [u8]) -> Result<(), EncodeError> {
        let mut scores = [0.0f64; SCORES];
        lens.fill(0);
        let mut start = 0;
        while let Some(&lead) = word.get(start) {
            let so_far = scores[start % SCORES];
            let char_bytes = utf8_len(lead);
            let (char, rest) = word[start..].split_at(char_bytes);
            let end = start + char_bytes;
            let of_char = self.trie.walk(self.trie.root(), char);
            let id = of_char.and_then(|place| self.trie.id(place));
            let score = so_far + id.map_or(self.unknown_score, |id| self.scores[id as usize]);
            if better(&mut scores[end % SCORES], &mut lens[end], score, char_bytes) && id.is_none() {
                self.unknown_id.ok_or(EncodeError::NoUnknownToken)?;
            }
            let longer = rest.iter().zip(&mut lens[end + 1..]).zip(char_bytes + 1..);
            let mut place = of_char;
            for ((&byte, best_len), len) in longer {
                place = place.and_then(|place| self.trie.step(place, byte));
                let Some(place) = place else { break };
                if let Some(id) = self.trie.id(place) {
                    let score = so_far + self.scores[id as usize];
                    better(&mut scores[(start + len) % SCORES], best_len, score, len);
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Names the pieces; `lens[start]` is the length of the piece that starts there.
    fn emit<S: PieceSink>(&self, word: &[u8], lens: &[u8], sink: &mut S) -> Result<(), EncodeError> {
        let mut start = 0;
        let mut unknown_from = None;
        while start < word.len() {
            let end = start + usize::from(lens[start]);
            match self.trie.find(&word[start..end]) {
                Some(id) if Some(id) != self.unknown_id => {
                    if let Some(from) = unknown_from.take() {
                        self.emit_unknown(&word[from..start], start, sink)?;
                    }
                    sink.piece(id, end);
                }
                _ => {
                    unknown_from.get_or_insert(start);
                }
            }
            start = end;
        }
        match unknown_from {
            Some(from) => self.emit_unknown(&word[from..], word.len(), sink),
            None => Ok(()),
        }
    }

    /// A run of unknown pieces is one: by chance a piece of the vocabulary, or its bytes, or the unknown piece.
    fn emit_unknown<S: PieceSink>(&self, run: &[u8], end: usize, sink: &mut S) -> Result<(), EncodeError> {
        if let Some(id) = self.trie.find(run) {
            sink.piece(id, end);
            return Ok(());
        }
        if let Some(ids) = &self.byte_ids
            && run.iter().all(|&byte| ids[usize::from(byte)].is_some())
        {
            run.iter()
                .filter_map(|&byte| ids[usize::from(byte)])
                .for_each(|id| sink.piece(id, end));
            return Ok(());
        }
        sink.piece(self.unknown_id.ok_or(EncodeError::NoUnknownToken)?, end);
        Ok(())
    }
}

/// Takes the candidate if it is the first or strictly better; says whether it did.
#[inline]
fn better(best: &mut f64, best_len: &mut u8, candidate: f64, len: usize) -> bool {
    let take = *best_len == 0 || candidate > *best;
    if take {
        *best = candidate;
        *best_len = len as u8;
    }
    take
}

/// Turns lengths by end into lengths by start, in place, along the best path.
fn turn(lens: &mut [u8]) {
    let mut end = lens.len() - 1;
    let mut len = lens[end];
    while end > 0 {
        end -= usize::from(len);
        std::mem::swap(&mut lens[end], &mut len);
    }
}

/// Bytes of the character that starts with `lead`.
fn utf8_len(lead: u8) -> usize {
    match lead {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    }
}

/// Keys of the trie: sorted, of equal pieces the last.
fn sorted<'p>(pieces: &[(&'p str, f64)]) -> Vec<(&'p [u8], u32)> {
    let keyed = |(id, &(piece, _)): (usize, &(&'p str, f64))| {
        (first_eight(piece), piece.as_bytes(), Reverse(id as u32))
    };
    let mut keys: Vec<(u64, &[u8], Reverse<u32>)> = pieces.iter().enumerate().map(keyed).collect();
    keys.sort_unstable();
    keys.dedup_by(|later, first| later.1 == first.1);
    keys.into_iter()
        .map(|(_, piece, Reverse(id))| (piece, id))
        .collect()
}

fn unknown(id: u64, size: usize) -> Result<u32, TokenizerError> {
    u32::try_from(id)
        .ok()
        .filter(|&id| (id as usize) < size)
        .ok_or_else(|| TokenizerError::MissingToken {
            part: "model",
            token: short(&format!("unk_id {id} of {size} pieces")),
        })
}

fn too_large(what: &'static str, found: usize, max: usize) -> Result<(), TokenizerError> {
    if found > max {
        Err(TokenizerError::TooLarge { what, found, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
