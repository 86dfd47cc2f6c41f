//! What the comparisons share: corpora, hostile strings, and both tokenizers side by side.

pub mod corpus;
pub mod generate;
pub mod ours;
