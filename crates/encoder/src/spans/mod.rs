//! From token labels to entities: what `transformers`' `TokenClassificationPipeline` does, on slices.
//!
//! A token head says one label a token; people want "Ada Lovelace, person, 0.99". The rules for getting there are those of
//! the pipeline (`pipelines/token_classification.py`), for models whose labels are plain or `B-`/`I-`. Label sets that also
//! hold `E-`, `S-` or `M-` (BIOES, BMES) are read by their own rules, which the pipeline does not know: `M-` continues like
//! `I-`, `E-` continues and closes, `S-` opens and closes.
//!
//! Where pieces are longer than a character and text has no spaces, a head may label the characters inside pieces instead:
//! [`Characters`] says which of its rows each one reads, [`CharacterLabels::decode`] finds the best legal sequence, [`join`] makes entities of it.
//!
//! ```
//! use plimsoll_encoder::spans::{Aggregation, EntitySpan, Labels, TokenLabels, entities};
//! let labels = Labels::new(["O", "B-PER", "I-PER"].map(String::from).to_vec());
//! // [CLS] Ada Love ##lace wrote [SEP]
//! let tokens = TokenLabels {
//!     labels: &[0, 1, 2, 2, 0, 0],
//!     scores: &[0.9, 0.8, 0.9, 0.7, 0.9, 0.9],
//!     starts: &[0, 0, 4, 8, 13, 0],
//!     ends: &[0, 3, 8, 12, 18, 0],
//!     subwords: &[false, false, false, true, false, false],
//!     probabilities: &[],
//! };
//! let mut out = [EntitySpan::default(); 6];
//! let count = entities(&labels, &tokens, Aggregation::Simple, &mut out)?;
//! let span = out[0];
//! assert_eq!((count, labels.entity(span.label as usize), span.start, span.end), (1, "PER", 0, 12));
//! # Ok::<(), plimsoll_encoder::spans::SpanError>(())
//! ```

mod bmes;
mod characters;
mod group;
mod labels;
mod words;

pub use bmes::{CharacterLabels, Step};
pub use characters::{Character, Characters, Pieces, Taken};
pub use group::{entities, join};
pub use labels::Labels;
pub use words::{is_subword_by_length, is_subword_by_space};

use std::str::FromStr;

plimsoll_memory::pod_struct! {
    /// An entity. Plain data, so that it can live in leased slots.
    pub struct EntitySpan {
        /// Index of its first token's label; [`Labels::entity`] is its name without prefix, [`Labels::name`] with it.
        pub label: u32,
        /// First byte.
        pub start: u32,
        /// End byte.
        pub end: u32,
        /// Mean probability of its tokens, or of its words.
        pub score: f32,
    }
}

/// How tokens are joined (`aggregation_strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Not at all: every token is an entity under its full label.
    None,
    /// Neighbouring tokens of one entity.
    Simple,
    /// Words take their first token's label, then as `Simple`.
    First,
    /// Words take the label with the highest mean probability, then as `Simple`. Needs [`TokenLabels::probabilities`].
    Average,
    /// Words take the label of their most certain token, then as `Simple`.
    Max,
}

impl FromStr for Aggregation {
    type Err = SpanError;

    fn from_str(name: &str) -> Result<Self, SpanError> {
        match name {
            "none" => Ok(Aggregation::None),
            "simple" => Ok(Aggregation::Simple),
            "first" => Ok(Aggregation::First),
            "average" => Ok(Aggregation::Average),
            "max" => Ok(Aggregation::Max),
            _ => Err(SpanError::UnknownAggregation),
        }
    }
}

/// Labelled tokens of one sequence; all slices but `probabilities` are equally long.
///
/// Tokens whose `starts` and `ends` agree are skipped: special tokens stand at 0..0 and have no text.
#[derive(Clone, Copy, Debug)]
pub struct TokenLabels<'a> {
    /// Most probable label of each token.
    pub labels: &'a [u16],
    /// Its probability.
    pub scores: &'a [f32],
    /// First byte of each token.
    pub starts: &'a [u32],
    /// End byte of each token.
    pub ends: &'a [u32],
    /// Whether a token continues the word of the one before it; see [`is_subword_by_length`] and [`is_subword_by_space`].
    /// [`Aggregation::None`] and [`Aggregation::Simple`] do not read it and accept an empty slice.
    pub subwords: &'a [bool],
    /// Probabilities `[tokens, labels]`, read by [`Aggregation::Average`] alone; otherwise it may be empty.
    pub probabilities: &'a [f32],
}

/// Why no entities were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
    /// The slices of [`TokenLabels`] do not fit each other or the labels.
    #[error("{field} of {tokens} tokens has {found} values, needs {expected}")]
    Shape {
        /// The slice.
        field: &'static str,
        /// Tokens.
        tokens: usize,
        /// Its length.
        found: usize,
        /// What it should be.
        expected: usize,
    },
    /// A label beyond the model's.
    #[error("token {token} has label {label}, the model has {labels}")]
    UnknownLabel {
        /// Its index.
        token: usize,
        /// Its label.
        label: usize,
        /// Labels there are.
        labels: usize,
    },
    /// More entities than `out` can hold; `tokens` of them always suffice.
    #[error("entities need more than the {available} spans available")]
    OutputTooSmall {
        /// Length of `out`.
        available: usize,
    },
    /// Not `none`, `simple`, `first`, `average` or `max`.
    #[error("aggregation is none of none, simple, first, average, max")]
    UnknownAggregation,
}
