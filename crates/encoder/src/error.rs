//! What can go wrong, for the operator who reads it.

use std::path::PathBuf;

use plimsoll_memory::{MapError, ScratchTooSmall};

/// Why a model cannot be loaded. Names the file or tensor, never more than a short piece of its content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that must be there cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Mapping a file, or memory for converted weights, failed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A JSON file is not what it should be.
    #[error("{file}: {reason}")]
    Config {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A model or module that is not supported.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The weight file is malformed.
    #[error("model.safetensors: {0}")]
    Safetensors(#[from] SafetensorsError),
    /// A tensor that the architecture needs is absent.
    #[error("model.safetensors: no tensor {name}")]
    MissingTensor {
        /// Its name, as the file would have it.
        name: String,
    },
    /// A tensor has another shape than `config.json` says.
    #[error("model.safetensors: {name} has shape {found:?}, config.json needs {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// In the file.
        found: Vec<usize>,
        /// By the configuration.
        expected: Vec<usize>,
    },
}

/// Why bytes are not a safetensors file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// Shorter than its own length field, or than the header it announces.
    #[error("the header needs {needed} bytes, the file has {available}")]
    HeaderTooLong {
        /// Announced.
        needed: u64,
        /// There.
        available: u64,
    },
    /// The header is not the JSON object it should be.
    #[error("the header is malformed: {0}")]
    Header(String),
    /// Two tensors have one name.
    #[error("tensor {0} appears twice")]
    Duplicate(String),
    /// A tensor's bytes do not lie within the file.
    #[error("tensor {name} lies at bytes {start}..{end} of {available}")]
    OutOfBounds {
        /// Its name.
        name: String,
        /// First byte, behind the header.
        start: u64,
        /// End byte.
        end: u64,
        /// Bytes behind the header.
        available: u64,
    },
    /// A tensor's shape and type need another number of bytes than it has.
    #[error("tensor {name} has {found} bytes, its shape {shape:?} of {dtype} needs {expected}")]
    Length {
        /// Its name.
        name: String,
        /// Element type.
        dtype: String,
        /// Dimensions.
        shape: Vec<usize>,
        /// Bytes it has.
        found: u64,
        /// Bytes it needs; `u64::MAX` when that overflows.
        expected: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first} and {second} overlap")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The other.
        second: String,
    },
}

/// Why a pass cannot run. Nothing was computed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The batch's slices do not fit each other.
    #[error("batch: {ids} ids, {types} types, lengths that sum to {lens}")]
    BatchShape {
        /// Ids.
        ids: usize,
        /// Types.
        types: usize,
        /// Sum of the lengths.
        lens: usize,
    },
    /// A sequence has no tokens.
    #[error("sequence {sequence} is empty")]
    EmptySequence {
        /// Its index.
        sequence: usize,
    },
    /// A sequence is longer than the model's positions.
    #[error("sequence {sequence} has {tokens} tokens, the model has positions for {positions_max}")]
    TooLong {
        /// Its index.
        sequence: usize,
        /// Its tokens.
        tokens: usize,
        /// The model's limit.
        positions_max: usize,
    },
    /// An id lies outside of the vocabulary.
    #[error("token {index} has id {id}, the vocabulary has {vocab_size}")]
    UnknownId {
        /// Where in the batch.
        index: usize,
        /// The id.
        id: u32,
        /// The model's vocabulary.
        vocab_size: usize,
    },
    /// A token type that the model does not have.
    #[error("token {index} has type {token_type}, the model has {type_vocab_size}")]
    UnknownType {
        /// Where in the batch.
        index: usize,
        /// The type.
        token_type: u8,
        /// The model's token types.
        type_vocab_size: usize,
    },
    /// The frame has less than [`Model::forward_scratch`](crate::Model::forward_scratch) asks for.
    #[error(transparent)]
    Scratch(#[from] ScratchTooSmall),
}
