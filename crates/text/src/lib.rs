//! Text to token ids and words, into the caller's slices.
//!
//! A server that promises a memory line cannot let its tokenizer allocate: one hostile text would own the heap.
//! So everything here reads the request's own bytes, writes ids and byte offsets into slices that the caller
//! leased beforehand, and needs a scratch slice whose size is known from the length of the text alone.
#![forbid(unsafe_code)]

mod error;
mod model;
mod normalize;
pub mod segment;
mod unigram;

pub use error::{DecodeError, EncodeError, TokenizerError};
