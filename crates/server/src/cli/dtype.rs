//! `--dtype`.

use clap::ValueEnum;
use plimsoll_encoder::Format;

/// What products are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// What suits the weights.
    #[default]
    Auto,
    /// 32-bit floats; also `float32`, as text-embeddings-inference names it.
    #[value(alias = "float32")]
    F32,
    /// bfloat16, half the memory; within 0.0005 of the cosine of f32.
    #[value(alias = "bfloat16")]
    Bf16,
    /// 8-bit numbers, a quarter of the memory; within 0.005.
    Int8,
}

impl Dtype {
    /// The format, or `None` for what suits the weights.
    pub fn format(self) -> Option<Format> {
        match self {
            Dtype::Auto => None,
            Dtype::F32 => Some(Format::F32),
            Dtype::Bf16 => Some(Format::Bf16),
            Dtype::Int8 => Some(Format::Int8),
        }
    }

    /// A format by its name.
    pub fn format_named(name: &str) -> Option<Format> {
        let formats = Dtype::value_variants().iter().filter_map(|dtype| dtype.format());
        formats.into_iter().find(|format| format.name() == name)
    }
}
