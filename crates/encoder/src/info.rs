//! What a loaded model is and can do.

use std::fmt;

use crate::spans::{CharacterLabels, Labels};

/// The architectures that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `bert`.
    Bert,
    /// `distilbert`: BERT without token types and pooler.
    DistilBert,
    /// `roberta` (also `camembert`): positions start behind the padding id.
    Roberta,
    /// `xlm-roberta`: RoBERTa over a multilingual vocabulary.
    XlmRoberta,
}

/// How a sequence's token vectors become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    LastToken,
    /// The maximum of each component.
    Max,
}

impl Pooling {
    /// As text-embeddings-inference names it: `mean`, `cls`, `last-token`, and `max`.
    pub const fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::LastToken => "last-token",
            Pooling::Max => "max",
        }
    }
}

/// How the logits of a sequence head are meant to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// One of the labels is right: softmax.
    SingleLabel,
    /// Each label is right or not: a sigmoid each.
    MultiLabel,
    /// One label that says how well two texts match, or how strongly something holds: a sigmoid.
    Relevance,
    /// Numbers as they are.
    Regression,
}

/// A head over whole sequences.
#[derive(Clone, Debug)]
pub struct SequenceHeadInfo {
    /// Its labels, by index.
    pub labels: Labels,
    /// What its logits mean.
    pub problem: Problem,
    /// Whether it stands beside an encoder that is there to embed (`plimsoll_heads`), instead of being what the model is for.
    pub beside: bool,
}

/// Bytes of weights by what they are for. Mapped bytes are shared with the page cache; converted ones are private memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// Embedding tables.
    pub embeddings: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Heads and pooler.
    pub heads: usize,
    /// The part of the above that was converted or packed at loading and lies in private memory.
    pub converted: usize,
    /// The part of the above that is read where the file has it.
    pub mapped: usize,
}

/// What a loaded model is and can do.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Architecture.
    pub family: Family,
    /// Width of a token's vector.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads in a layer.
    pub heads: usize,
    /// Width of the feed-forward network's middle.
    pub intermediate: usize,
    /// Tokens a sequence may have, specials included: the smaller of what the positions allow and what
    /// `sentence_bert_config.json` says.
    pub tokens_max: usize,
    /// Tokens a sequence may have by its position table alone.
    pub positions_max: usize,
    /// Ids the embedding table has.
    pub vocab_size: usize,
    /// Token types the model has; 0 when it has none.
    pub type_vocab_size: usize,
    /// How [`Model::pool`](crate::Model::pool) joins tokens.
    pub pooling: Pooling,
    /// Whether a prompt's tokens, and the special ones before them, are among those that are joined.
    pub include_prompt: bool,
    /// The file that wants texts lower-cased before the tokenizer reads them, if one does.
    pub lower_case_by: Option<&'static str>,
    /// Whether the model's own pipeline ends with normalisation.
    pub normalize: bool,
    /// The head over sequences, when there is one.
    pub sequence_head: Option<SequenceHeadInfo>,
    /// The labels of the head over tokens, when there is one.
    pub token_head: Option<Labels>,
    /// When that head labels the characters inside pieces, how.
    pub character_labels: Option<CharacterLabels>,
    /// Where the weights are.
    pub weight_bytes: WeightBytes,
    /// Type of most weights as the file has them: `float32`, `float16`, `bfloat16` or `q4_0`.
    pub dtype: &'static str,
    /// What products are computed in: `f32`, `bf16` or `int8`.
    pub format: &'static str,
}

impl ModelInfo {
    /// Whether a text's vector leaves out the tokens of a prompt and the special ones before them.
    pub fn skips_prompt(&self) -> bool {
        !self.include_prompt && matches!(self.pooling, Pooling::Mean | Pooling::Max)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Bert => "bert",
            Family::DistilBert => "distilbert",
            Family::Roberta => "roberta",
            Family::XlmRoberta => "xlm-roberta",
        })
    }
}
