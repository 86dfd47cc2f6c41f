//! The encoder's tensors, and what each family calls them.

use crate::config::Config;
use crate::error::LoadError;
use crate::info::Family;
use crate::weights::{Binder, Floats, Group, Matrix, PackedMatrix, Store};

/// `y = x W^T + b`, perhaps several with one x side by side.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: PackedMatrix,
    pub(crate) bias: Floats,
}

/// Layer normalisation.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) gain: Floats,
    pub(crate) bias: Floats,
}

#[derive(Debug)]
pub(crate) struct Layer {
    /// Query, key and value of a token, side by side.
    pub(crate) projection: Linear,
    pub(crate) context: Linear,
    pub(crate) attention_norm: Norm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) output_norm: Norm,
}

#[derive(Debug)]
pub(crate) struct Embeddings {
    pub(crate) words: Matrix,
    pub(crate) positions: Matrix,
    pub(crate) types: Option<Matrix>,
    pub(crate) norm: Norm,
}

/// Embeddings and layers.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// What stands before the encoder's tensor names: `bert.`, `roberta.`, `distilbert.`, or nothing.
    pub(crate) prefix: String,
    pub(crate) embeddings: Embeddings,
    pub(crate) layers: Vec<Layer>,
}

pub(crate) const WORDS: &str = "embeddings.word_embeddings.weight";

/// Names within a layer.
struct LayerNames {
    layers: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    context: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    output_norm: &'static str,
}

const BERT: LayerNames = LayerNames {
    layers: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    context: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT: LayerNames = LayerNames {
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    context: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

impl Encoder {
    pub(crate) fn bind(config: &Config, binder: &mut Binder) -> Result<Encoder, LoadError> {
        let prefix = binder
            .prefix_of(WORDS)
            .ok_or_else(|| LoadError::MissingTensor { name: WORDS.into() })?;
        let embeddings = Embeddings::bind(config, &prefix, binder)?;
        let names = if config.family == Family::DistilBert {
            &DISTILBERT
        } else {
            &BERT
        };
        let mut layers = Vec::new();
        for index in 0..config.layers {
            let layer = format!("{prefix}{}.{index}.", names.layers);
            layers.push(Layer::bind(config, names, &layer, binder)?);
        }
        Ok(Encoder {
            prefix,
            embeddings,
            layers,
        })
    }
}

impl Embeddings {
    fn bind(config: &Config, prefix: &str, binder: &mut Binder) -> Result<Embeddings, LoadError> {
        let mut table = |name: &str, rows: usize| {
            binder.matrix(
                &format!("{prefix}embeddings.{name}.weight"),
                [rows, config.hidden],
                Group::Embeddings,
            )
        };
        let words = table("word_embeddings", config.vocab_size)?;
        let positions = table("position_embeddings", config.positions)?;
        let types = if config.types > 0 {
            Some(table("token_type_embeddings", config.types)?)
        } else {
            None
        };
        let norm = Norm::bind(
            &format!("{prefix}embeddings.LayerNorm"),
            config,
            Group::Embeddings,
            binder,
        )?;
        Ok(Embeddings {
            words,
            positions,
            types,
            norm,
        })
    }
}

impl Layer {
    fn bind(
        config: &Config,
        names: &LayerNames,
        prefix: &str,
        binder: &mut Binder,
    ) -> Result<Layer, LoadError> {
        let (hidden, middle) = (config.hidden, config.intermediate);
        let mut linear = |names: &[&str], outputs: usize, inputs: usize| {
            let names: Vec<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
            Linear::bind(&names, outputs, inputs, binder)
        };
        let projection = linear(&[names.query, names.key, names.value], hidden, hidden)?;
        let context = linear(&[names.context], hidden, hidden)?;
        let up = linear(&[names.up], middle, hidden)?;
        let down = linear(&[names.down], hidden, middle)?;
        let mut norm = |name: &str| Norm::bind(&format!("{prefix}{name}"), config, Group::Layers, binder);
        let attention_norm = norm(names.attention_norm)?;
        let output_norm = norm(names.output_norm)?;
        Ok(Layer {
            projection,
            context,
            attention_norm,
            up,
            down,
            output_norm,
        })
    }
}

impl Linear {
    fn bind(
        names: &[String],
        outputs_each: usize,
        inputs: usize,
        binder: &mut Binder,
    ) -> Result<Linear, LoadError> {
        Ok(Linear {
            weight: binder.packed(names, outputs_each, inputs, Group::Layers)?,
            bias: binder.biases(names, outputs_each, Group::Layers)?,
        })
    }
}

impl Norm {
    /// Old checkpoints say `gamma` and `beta` for `weight` and `bias`.
    fn bind(name: &str, config: &Config, group: Group, binder: &mut Binder) -> Result<Norm, LoadError> {
        let old = binder.has(&format!("{name}.gamma"));
        let (gain, bias) = if old {
            ("gamma", "beta")
        } else {
            ("weight", "bias")
        };
        let gain = binder.vector(&format!("{name}.{gain}"), config.hidden, group)?;
        let bias = binder.vector(&format!("{name}.{bias}"), config.hidden, group)?;
        Ok(Norm { gain, bias })
    }
}

/// A row of a table of embeddings.
pub(crate) enum Row<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u8]),
    Q4(&'a [u8]),
}

impl Matrix {
    pub(crate) fn row<'a>(&self, store: &'a Store, index: usize, width: usize) -> Row<'a> {
        match self {
            Matrix::F32(floats) => Row::F32(&store.floats(floats)[index * width..(index + 1) * width]),
            Matrix::Bf16(range) => {
                let bytes = width * size_of::<u16>();
                Row::Bf16(&store.blocks(range)[index * bytes..(index + 1) * bytes])
            }
            Matrix::Q4(range) => {
                let bytes = plimsoll_kernel::q4_row_bytes(width).expect("checked when the tensor was bound");
                Row::Q4(&store.blocks(range)[index * bytes..(index + 1) * bytes])
            }
        }
    }
}
