//! What can go wrong, always with the component and both numbers, never with the text itself.

use thiserror::Error;

/// Why a tokenizer could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is not JSON of the expected shape.
    #[error("tokenizer file is malformed: {0}")]
    Malformed(String),
    /// A component that this crate does not implement; the name is the component's `type`.
    #[error("tokenizer {part} `{name}` is not supported")]
    Unsupported {
        /// Which part of the file: "normalizer", "pre_tokenizer", "model", "post_processor", "decoder".
        part: &'static str,
        /// The component, shortened to 64 bytes.
        name: String,
    },
    /// A size in the file is above what this crate accepts.
    #[error("tokenizer {what} is {found}, at most {max} are accepted")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many the file has.
        found: usize,
        /// How many are accepted.
        max: usize,
    },
    /// A token that a component names is missing from the vocabulary.
    #[error("tokenizer {part} names a token that the vocabulary lacks: {token}")]
    MissingToken {
        /// Which part names it.
        part: &'static str,
        /// The token, shortened to 64 bytes.
        token: String,
    },
}

/// Why a text could not be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The scratch slice is too small for this text.
    #[error("tokenizer scratch needs {needed} bytes, {available} available")]
    ScratchTooSmall {
        /// Bytes that [`Tokenizer::scratch_bytes`](crate::Tokenizer::scratch_bytes) asks for.
        needed: usize,
        /// Bytes that were passed.
        available: usize,
    },
    /// The output slices hold fewer tokens than the text has (and than `tokens_max` allows).
    #[error("token slots hold {available} tokens, the text needs more")]
    SlotsTooSmall {
        /// Tokens that fit.
        available: usize,
    },
    /// `tokens_max` leaves no room for the special tokens.
    #[error("tokens_max is {tokens_max}, the special tokens alone are {special}")]
    NoRoom {
        /// The limit asked for.
        tokens_max: usize,
        /// Special tokens that the tokenizer adds.
        special: usize,
    },
    /// The text is longer than offsets of 32 bits can address.
    #[error("text is {bytes} bytes, at most {max} are accepted")]
    TextTooLong {
        /// Bytes of the text.
        bytes: usize,
        /// Bytes accepted.
        max: usize,
    },
    /// The word needs an unknown token and the vocabulary has none.
    #[error("the vocabulary has no unknown token and the text needs one")]
    NoUnknownToken,
}

/// Why ids could not be turned back into text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The output slice is too small.
    #[error("decoded text needs more than the {available} bytes available")]
    OutputTooSmall {
        /// Bytes that were passed.
        available: usize,
    },
}

/// Shortens a name from a file so that an error never echoes long input.
pub(crate) fn short(name: &str) -> String {
    let mut end = name.len().min(64);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}
