//! The encoder's tensors, and what each family calls them.

use crate::config::Config;
use crate::error::LoadError;
use crate::info::Family;
use crate::weights::{Binder, Floats, Group, Matrix, Store};

/// `y = x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Floats,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// Layer normalisation.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) gain: Floats,
    pub(crate) bias: Floats,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
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

    /// The longest row of x that meets 4-bit weights, whose expansion needs scratch; 0 when there are none.
    pub(crate) fn q4_inputs_max(&self) -> usize {
        let layers = self.layers.iter().flat_map(Layer::linears);
        let four_bit = layers.filter(|linear| matches!(linear.weight, Matrix::Q4(_)));
        four_bit.map(|linear| linear.inputs).max().unwrap_or(0)
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
        let mut linear = |name: &str, outputs: usize, inputs: usize| {
            Linear::bind(&format!("{prefix}{name}"), outputs, inputs, Group::Layers, binder)
        };
        let query = linear(names.query, hidden, hidden)?;
        let key = linear(names.key, hidden, hidden)?;
        let value = linear(names.value, hidden, hidden)?;
        let context = linear(names.context, hidden, hidden)?;
        let up = linear(names.up, middle, hidden)?;
        let down = linear(names.down, hidden, middle)?;
        let mut norm = |name: &str| Norm::bind(&format!("{prefix}{name}"), config, Group::Layers, binder);
        let attention_norm = norm(names.attention_norm)?;
        let output_norm = norm(names.output_norm)?;
        Ok(Layer {
            query,
            key,
            value,
            context,
            attention_norm,
            up,
            down,
            output_norm,
        })
    }

    fn linears(&self) -> [&Linear; 6] {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.context,
            &self.up,
            &self.down,
        ]
    }
}

impl Linear {
    pub(crate) fn bind(
        name: &str,
        outputs: usize,
        inputs: usize,
        group: Group,
        binder: &mut Binder,
    ) -> Result<Linear, LoadError> {
        let weight = binder.matrix(&format!("{name}.weight"), [outputs, inputs], group)?;
        let bias = binder.vector(&format!("{name}.bias"), outputs, group)?;
        Ok(Linear {
            weight,
            bias,
            inputs,
            outputs,
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
    Q4(&'a [u8]),
}

impl Matrix {
    pub(crate) fn row<'a>(&self, store: &'a Store, index: usize, width: usize) -> Row<'a> {
        match self {
            Matrix::F32(floats) => Row::F32(&store.floats(floats)[index * width..(index + 1) * width]),
            Matrix::Q4(range) => {
                let bytes = plimsoll_kernel::q4_row_bytes(width).expect("checked when the tensor was bound");
                Row::Q4(&store.blocks(range)[index * bytes..(index + 1) * bytes])
            }
        }
    }
}
