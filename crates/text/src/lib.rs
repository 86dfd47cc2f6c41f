//! Text to token ids and words, into the caller's slices.
//!
//! A server that promises a memory line cannot let its tokenizer allocate: one hostile text would own the heap.
//! So everything here reads the request's own bytes, writes ids and byte offsets into slices that the caller
//! leased beforehand, and needs a scratch slice whose size is known from the length of the text alone.
//!
//! - [`Tokenizer`]: WordPiece, Unigram and byte-level BPE from a Hugging Face `tokenizer.json`, ids and offsets equal to the
//!   `tokenizers` crate's.
//! - [`CharOffsets`]: byte offsets to character offsets.
//! - [`segment`]: words of Chinese text.
#![forbid(unsafe_code)]

mod added;
mod bert;
mod bpe;
mod error;
mod json;
mod model;
mod normalize;
mod offsets;
mod output;
mod pretokenize;
mod scratch;
pub mod segment;
mod template;
mod tokenizer;
mod trie;
mod unicode;
mod unigram;
mod vocab;
mod wordpiece;

pub use error::{DecodeError, EncodeError, TokenizerError};
pub use offsets::CharOffsets;
pub use output::{EncodeOptions, Encoded, TokenSlots, Truncation};
pub use tokenizer::{BertOptions, Tokenizer};
