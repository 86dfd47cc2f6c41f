//! Encoders of the BERT family over mapped weights.
#![forbid(unsafe_code)]

mod batch;
mod error;
mod hidden;
mod info;
pub mod spans;

pub use batch::{Batch, BatchShape};
pub use error::{ForwardError, LoadError, SafetensorsError};
pub use hidden::Hidden;
pub use info::{Family, ModelInfo, Pooling, Problem, SequenceHeadInfo, WeightBytes};
