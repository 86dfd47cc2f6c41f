//! `config.json`; what sentence-transformers puts beside it is read in [`sentence`].

pub(crate) mod labels;
pub(crate) mod sentence;

use plimsoll_kernel::{Activation, HEAD_DIM_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::LoadError;
use crate::info::{Family, Pooling, Problem};
use labels::LabelNames;

/// Beyond any model of this family; keeps arithmetic on sizes far from overflow.
const SIDE_MAX: usize = 1 << 24;

/// `config.json` in this crate's words.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) family: Family,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) activation: Activation,
    pub(crate) epsilon: f32,
    pub(crate) positions: usize,
    pub(crate) padding_id: u32,
    pub(crate) vocab_size: usize,
    pub(crate) types: usize,
    /// The architecture's last word: `ForSequenceClassification`, `Model`, ...
    pub(crate) purpose: Option<String>,
    pub(crate) labels: Option<LabelNames>,
    pub(crate) problem: Option<String>,
    pub(crate) plimsoll_heads: PlimsollHeads,
}

/// `plimsoll_heads` in `config.json`: heads beside the architecture's own. See the crate documentation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PlimsollHeads {
    pub(crate) sequence_classifier: Option<PlimsollSequence>,
    pub(crate) token_classifier: Option<PlimsollToken>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlimsollSequence {
    pub(crate) id2label: LabelNames,
    #[serde(default)]
    pub(crate) pooling: Option<String>,
    #[serde(default)]
    pub(crate) activation: Option<String>,
    #[serde(default)]
    pub(crate) problem_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlimsollToken {
    pub(crate) id2label: LabelNames,
    /// Rows of labels that a piece has: with more than one, they label its characters.
    #[serde(default)]
    pub(crate) slots: Option<usize>,
}

#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    #[serde(alias = "dim")]
    hidden_size: Option<usize>,
    #[serde(alias = "n_layers")]
    num_hidden_layers: Option<usize>,
    #[serde(alias = "n_heads")]
    num_attention_heads: Option<usize>,
    #[serde(alias = "hidden_dim")]
    intermediate_size: Option<usize>,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    max_position_embeddings: Option<usize>,
    position_embedding_type: Option<String>,
    pad_token_id: Option<u32>,
    vocab_size: Option<usize>,
    type_vocab_size: Option<usize>,
    is_decoder: Option<bool>,
    id2label: Option<LabelNames>,
    problem_type: Option<String>,
    #[serde(default)]
    plimsoll_heads: PlimsollHeads,
}

const FILE: &str = "config.json";

impl Config {
    pub(crate) fn parse(json: &[u8]) -> Result<Config, LoadError> {
        let raw: Raw = parse(FILE, json)?;
        let family = family(raw.model_type.as_deref())?;
        if raw.is_decoder == Some(true) {
            return Err(LoadError::Unsupported("a decoder (is_decoder)".into()));
        }
        if let Some(kind) = raw
            .position_embedding_type
            .as_deref()
            .filter(|kind| *kind != "absolute")
        {
            return Err(LoadError::Unsupported(format!(
                "position_embedding_type {}",
                short(kind)
            )));
        }
        let config = Config {
            family,
            hidden: size("hidden_size", raw.hidden_size)?,
            layers: size("num_hidden_layers", raw.num_hidden_layers)?,
            heads: size("num_attention_heads", raw.num_attention_heads)?,
            intermediate: size("intermediate_size", raw.intermediate_size)?,
            activation: activation(raw.hidden_act.as_deref().unwrap_or("gelu"))?,
            epsilon: raw.layer_norm_eps.unwrap_or(1e-12),
            positions: size("max_position_embeddings", raw.max_position_embeddings)?,
            padding_id: raw.pad_token_id.unwrap_or(if is_roberta(family) { 1 } else { 0 }),
            vocab_size: size("vocab_size", raw.vocab_size)?,
            types: if family == Family::DistilBert {
                0
            } else {
                raw.type_vocab_size.unwrap_or(2)
            },
            purpose: raw
                .architectures
                .and_then(|names| names.into_iter().next())
                .map(|name| purpose(&name)),
            labels: raw.id2label,
            problem: raw.problem_type,
            plimsoll_heads: raw.plimsoll_heads,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LoadError> {
        if !self.hidden.is_multiple_of(self.heads) {
            let reason = format!(
                "hidden_size {} is not a multiple of {} heads",
                self.hidden, self.heads
            );
            return Err(LoadError::Config { file: FILE, reason });
        }
        if self.hidden / self.heads > HEAD_DIM_MAX {
            let reason = format!(
                "heads are {} wide, at most {HEAD_DIM_MAX} are read",
                self.hidden / self.heads
            );
            return Err(LoadError::Config { file: FILE, reason });
        }
        if self.first_position() >= self.positions {
            let reason = format!(
                "{} positions, of which the first {} are never used",
                self.positions,
                self.first_position()
            );
            return Err(LoadError::Config { file: FILE, reason });
        }
        if !(self.epsilon >= 0.0 && self.epsilon < 1.0) {
            let reason = format!("layer_norm_eps {} is not in 0..1", self.epsilon);
            return Err(LoadError::Config { file: FILE, reason });
        }
        Ok(())
    }

    /// The position of a sequence's first token: RoBERTa counts from behind the padding id.
    pub(crate) fn first_position(&self) -> usize {
        if is_roberta(self.family) {
            self.padding_id as usize + 1
        } else {
            0
        }
    }

    /// Tokens that the position table allows.
    pub(crate) fn positions_max(&self) -> usize {
        self.positions - self.first_position()
    }
}

/// Whether positions start behind the padding id.
pub(crate) fn is_roberta(family: Family) -> bool {
    matches!(family, Family::Roberta | Family::XlmRoberta)
}

fn family(model_type: Option<&str>) -> Result<Family, LoadError> {
    match model_type {
        Some("bert") => Ok(Family::Bert),
        Some("distilbert") => Ok(Family::DistilBert),
        Some("roberta" | "camembert") => Ok(Family::Roberta),
        Some("xlm-roberta") => Ok(Family::XlmRoberta),
        Some(other) => Err(LoadError::Unsupported(format!(
            "model_type {} (known: bert, distilbert, roberta, camembert, xlm-roberta)",
            short(other)
        ))),
        None => Err(missing("model_type")),
    }
}

/// `BertForSequenceClassification` -> `ForSequenceClassification`.
fn purpose(architecture: &str) -> String {
    let start = architecture.find("For").or_else(|| architecture.find("Model"));
    short(&architecture[start.unwrap_or(0)..])
}

/// An activation function by its name in `transformers`.
pub(crate) fn activation(name: &str) -> Result<Activation, LoadError> {
    match name {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        _ => Err(LoadError::Unsupported(format!("activation {}", short(name)))),
    }
}

/// The meaning of logits, as `transformers`' text classification pipeline decides it.
pub(crate) fn problem(name: Option<&str>, labels: usize) -> Result<Problem, LoadError> {
    match name {
        Some("regression") => Ok(Problem::Regression),
        Some("multi_label_classification") => Ok(Problem::MultiLabel),
        Some("single_label_classification") | None if labels == 1 => Ok(Problem::Relevance),
        Some("single_label_classification") | None => Ok(Problem::SingleLabel),
        Some(other) => Err(LoadError::Unsupported(format!("problem_type {}", short(other)))),
    }
}

/// A pooling by its name.
pub(crate) fn pooling(name: &str) -> Result<Pooling, LoadError> {
    match name {
        "mean" => Ok(Pooling::Mean),
        "cls" => Ok(Pooling::Cls),
        "lasttoken" | "last-token" | "last_token" => Ok(Pooling::LastToken),
        "max" => Ok(Pooling::Max),
        _ => Err(LoadError::Unsupported(format!("pooling {}", short(name)))),
    }
}

/// Poolings by their names, joined by `+`: their vectors one behind the other.
pub(crate) fn poolings(names: &str) -> Result<Vec<Pooling>, LoadError> {
    names.split('+').map(pooling).collect()
}

fn parse<T: DeserializeOwned>(file: &'static str, json: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(json).map_err(|error| LoadError::Config {
        file,
        reason: short(&error.to_string()),
    })
}

fn size(name: &'static str, value: Option<usize>) -> Result<usize, LoadError> {
    match value {
        None => Err(missing(name)),
        Some(value) if (1..=SIDE_MAX).contains(&value) => Ok(value),
        Some(value) => {
            let reason = format!("{name} is {value}, not in 1..={SIDE_MAX}");
            Err(LoadError::Config { file: FILE, reason })
        }
    }
}

fn missing(name: &'static str) -> LoadError {
    LoadError::Config {
        file: FILE,
        reason: format!("{name} is missing"),
    }
}

fn short(text: &str) -> String {
    text.chars().take(160).collect()
}
