//! Text to token ids as a Hugging Face `tokenizer.json` says, into the caller's slices.
//!
//! The `tokenizers` crate copies a text at every step (each split is a string, each character carries a pair of offsets),
//! which costs up to a hundred times the text in allocations. Here one word at a time is normalised, split off and
//! matched, in scratch whose size depends on the length of the text up to a bound, and not at all for BERT.
//!
//! Three roads lead through a text; which one is decided at load:
//! BERT's normalizer, pre-tokenizer and WordPiece in one walk ([`crate::bert`]); byte-level BPE on the text's own
//! bytes ([`bytes`]); anything else window by window ([`general`]), with a shortcut for
//! most Unigram words ([`direct`]).
//!
//! Known differences from the crate, all but the last for the sake of bounded memory: a single word of more than
//! [`general::WORD_CHARS_MAX`] characters, or of more than 64 KiB in byte-level BPE, is encoded in parts of that length; a
//! grapheme of more than [`WINDOW_CHARS_MAX`](crate::normalize::WINDOW_CHARS_MAX) characters is normalised in parts;
//! truncation and padding settings in the file are not looked at.

mod bytes;
mod decode;
mod direct;
mod encode;
mod general;
mod load;
mod sink;

use crate::added::{AddedTokens, Matcher};
use crate::bert::{Bert, BertFlags};
use crate::bpe::Bpe;
use crate::normalize::Chain;
use crate::pretokenize::Splitter;
use crate::template::Template;
use crate::unigram::Unigram;
use crate::wordpiece::WordPiece;
use decode::Decoder;
use direct::Direct;
pub use load::BertOptions;

/// An immutable tokenizer, shared by all threads.
///
/// ```
/// use plimsoll_text::{BertOptions, EncodeOptions, TokenSlots, Tokenizer};
/// let vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nwor\n##ld\n!";
/// let tokenizer = Tokenizer::from_vocab_txt(vocab.as_bytes(), BertOptions::default())?;
/// let text = "Hello, World!";
/// let mut scratch = vec![0; tokenizer.scratch_bytes(text.len())];
/// let (mut ids, mut starts, mut ends, mut types) = ([0; 16], [0; 16], [0; 16], [0; 16]);
/// let mut slots = TokenSlots { ids: &mut ids, starts: &mut starts, ends: &mut ends, types: &mut types };
/// let encoded = tokenizer.encode(text, &EncodeOptions::default(), &mut scratch, &mut slots)?;
/// assert_eq!(&ids[..encoded.count], [2, 5, 1, 6, 7, 8, 3]);
/// assert_eq!((starts[4], ends[4]), (10, 12)); // "ld"
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    chain: Chain,
    splitters: Vec<Splitter>,
    added: AddedTokens,
    /// Added tokens that are looked for in the text itself.
    plain: Matcher,
    /// Added tokens that are looked for in the normalised text.
    normalized: Matcher,
    template: Template,
    decoder: Decoder,
    road: Road,
    /// Of BERT's normalizer and pre-tokenizer, whichever road they take.
    bert: Option<BertFlags>,
    direct: Option<Direct>,
}

#[derive(Debug)]
enum Model {
    WordPiece(WordPiece),
    Unigram(Unigram),
    Bpe(Box<Bpe>),
}

#[derive(Debug)]
enum Road {
    Bert(Box<Bert>),
    Bytes,
    General,
}

impl Model {
    /// What `tokenizer.json` calls it.
    fn name(&self) -> &'static str {
        match self {
            Model::WordPiece(_) => "WordPiece",
            Model::Unigram(_) => "Unigram",
            Model::Bpe(_) => "BPE",
        }
    }

    fn token_text(&self, id: u32) -> Option<&str> {
        match self {
            Model::WordPiece(model) => model.vocab().token_text(id),
            Model::Unigram(model) => model.token_text(id),
            Model::Bpe(model) => model.vocab().token_text(id),
        }
    }

    fn token_to_id(&self, text: &str) -> Option<u32> {
        match self {
            Model::WordPiece(model) => model.vocab().token_to_id(text),
            Model::Unigram(model) => model.token_to_id(text),
            Model::Bpe(model) => model.vocab().token_to_id(text),
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            Model::WordPiece(model) => model.vocab().len(),
            Model::Unigram(model) => model.vocab_size(),
            Model::Bpe(model) => model.vocab().len(),
        }
    }

    fn id_end(&self) -> usize {
        match self {
            Model::WordPiece(model) => model.vocab().id_end(),
            Model::Unigram(model) => model.vocab_size(),
            Model::Bpe(model) => model.vocab().id_end(),
        }
    }

    fn scratch_bytes(&self, word_bytes: usize) -> usize {
        match self {
            Model::WordPiece(model) => model.scratch_bytes(word_bytes),
            Model::Unigram(model) => model.scratch_bytes(word_bytes),
            Model::Bpe(model) => model.scratch_bytes(word_bytes),
        }
    }
}

impl Tokenizer {
    /// Bytes of scratch that [`Tokenizer::encode`] needs for any text of `text_bytes` bytes, and
    /// [`Tokenizer::encode_pair`] for any two texts of at most that length each. Never falls as `text_bytes` grows, and stops
    /// growing at the longest word that is held whole.
    pub fn scratch_bytes(&self, text_bytes: usize) -> usize {
        match (&self.road, &self.model) {
            (Road::Bert(bert), Model::WordPiece(model)) => bert.scratch_bytes(model),
            (Road::Bytes, Model::Bpe(model)) => model.scratch_bytes(text_bytes),
            _ => general::scratch_bytes(&self.chain, &self.model, text_bytes),
        }
    }

    /// The text of a token, as the vocabulary spells it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.added
            .get(id)
            .map(|token| token.content.as_str())
            .or_else(|| self.model.token_text(id))
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn token_to_id(&self, text: &str) -> Option<u32> {
        self.added.id_of(text).or_else(|| self.model.token_to_id(text))
    }

    /// One more than the largest id that a text may get: what an embedding table must have rows for. Ids may have gaps.
    pub fn id_end(&self) -> usize {
        let added = self.added.iter().map(|(id, _)| id).max();
        let largest = added.max(self.template.id_max());
        self.model.id_end().max(largest.map_or(0, |id| id as usize + 1))
    }

    /// The largest type of a token, in a text or a pair.
    pub fn type_max(&self) -> u8 {
        self.template.type_max()
    }

    /// The special tokens that [`EncodeOptions::add_special_tokens`](crate::EncodeOptions::add_special_tokens) puts in front of and behind one text.
    pub fn specials_around(&self) -> [Vec<u32>; 2] {
        self.template.around()
    }

    /// Whether a token is special: added by the model, not part of the text.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.is_special(id)
    }

    /// How many special tokens [`EncodeOptions::add_special_tokens`](crate::EncodeOptions::add_special_tokens) adds to one
    /// text, or to a pair.
    pub fn special_token_count(&self, pair: bool) -> usize {
        self.template.special_count(pair)
    }
}
