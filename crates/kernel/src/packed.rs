//! Weights as products read them: panels of outputs, step by step along the inputs.
//!
//! A product that runs at the speed of the multipliers reads each weight from the first- or second-level cache, once for every
//! few rows, and never waits for a stride. Hugging Face's `[outputs, inputs]` order cannot give that, so matrices are packed once, when
//! a model is loaded or ahead of it in a file. The order is the same for every instruction set: a file packed anywhere maps everywhere.
//!
//! ```text
//! for each panel of 48 outputs (the last one filled up with zeros):
//!     for each step of the inputs:          F32: 1 input, Bf16: 2, Int8: 4, always one 32-bit word
//!         48 words, one an output, the earliest input lowest
//! Int8 only, then:  scale[outputs rounded up to 48]: f32, sum of quantised weights[same]: f32
//! ```
//!
//! Int8 weights are symmetric per output, `w = q * scale` with q in -127..=127; rows of x bring a scale and a zero of their own
//! ([`crate::Kernel::encode`]), and `sum` takes the zero out again.

use crate::q4::f32_to_bf16;

/// Outputs of a panel: three vectors of the widest instruction set.
pub(crate) const PANEL: usize = 48;
/// Largest quantised weight.
const QUANTISED_MAX: f32 = 127.0;

/// What the numbers of a product are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// The upper halves of 32-bit floats; sums are 32-bit floats.
    Bf16,
    /// 8-bit whole numbers: weights signed, with a scale an output; rows unsigned, with a scale and a zero a row. Sums are exact.
    Int8,
}

impl Format {
    /// Inputs in a 32-bit word.
    pub const fn word_inputs(self) -> usize {
        match self {
            Format::F32 => 1,
            Format::Bf16 => 2,
            Format::Int8 => 4,
        }
    }

    /// Words of a row of `inputs` numbers.
    pub const fn row_words(self, inputs: usize) -> usize {
        inputs.div_ceil(self.word_inputs())
    }

    /// A lower-case name: `f32`, `bf16`, `int8`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::Int8 => "int8",
        }
    }
}

/// Outputs rounded up to whole panels.
const fn padded(outputs: usize) -> usize {
    outputs.next_multiple_of(PANEL)
}

/// Words of packed weights.
///
/// ```
/// use plimsoll_kernel::{Format, packed_words};
/// assert_eq!(packed_words(Format::F32, 384, 384), 384 * 384);
/// assert_eq!(packed_words(Format::Int8, 384, 384), 384 * 384 / 4 + 2 * 384);
/// ```
pub const fn packed_words(format: Format, inputs: usize, outputs: usize) -> usize {
    let columns = match format {
        Format::Int8 => 2,
        _ => 0,
    };
    padded(outputs) * (format.row_words(inputs) + columns)
}

/// Weights packed by [`pack`].
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    format: Format,
    inputs: usize,
    outputs: usize,
    words: &'a [u32],
}

impl<'a> Packed<'a> {
    /// Packed weights of a linear layer.
    ///
    /// # Panics
    /// When there are no inputs, or `words` is not [`packed_words`] long.
    pub fn new(format: Format, inputs: usize, outputs: usize, words: &'a [u32]) -> Packed<'a> {
        assert!(inputs > 0, "a product over no inputs");
        assert_eq!(
            words.len(),
            packed_words(format, inputs, outputs),
            "packed weights"
        );
        Packed {
            format,
            inputs,
            outputs,
            words,
        }
    }

    /// What the numbers are.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Columns of X.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of Y.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn steps(&self) -> usize {
        self.format.row_words(self.inputs)
    }

    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// The words of a panel, `[steps, PANEL]`.
    pub(crate) fn panel(&self, index: usize) -> &'a [u32] {
        let len = self.steps() * PANEL;
        &self.words[index * len..(index + 1) * len]
    }

    /// Scales and sums of the outputs of a panel; of Int8 only.
    pub(crate) fn columns(&self, index: usize) -> [&'a [u32]; 2] {
        let start = padded(self.outputs) * self.steps();
        let (scales, sums) = self.words[start..].split_at(padded(self.outputs));
        let part = index * PANEL..(index + 1) * PANEL;
        [&scales[part.clone()], &sums[part]]
    }
}

/// Packs `weights`, `[outputs, inputs]`, whose rows are outputs `first..` of the packed matrix: several matrices may be packed side
/// by side, one product for all. Fresh `words` must be zero.
///
/// # Panics
/// When the rows are not whole or do not fit, or a length is not [`packed_words`].
pub fn pack(format: Format, inputs: usize, outputs: usize, weights: &[f32], first: usize, words: &mut [u32]) {
    assert_eq!(
        words.len(),
        packed_words(format, inputs, outputs),
        "packed weights"
    );
    let rows = weights.len() / inputs;
    assert!(
        weights.len() == rows * inputs && first + rows <= outputs,
        "{rows} rows at {first} of {outputs}"
    );
    let steps = format.row_words(inputs);
    let (panels, columns) = words.split_at_mut(padded(outputs) * steps);
    // Panel by panel, in blocks of steps that stay in the cache until all outputs have passed.
    const BLOCK_STEPS: usize = 32;
    let mut scales = [0.0; PANEL];
    let mut row = 0;
    while row < rows {
        let (panel, column) = ((first + row) / PANEL, (first + row) % PANEL);
        let count = (PANEL - column).min(rows - row);
        let part = &weights[row * inputs..(row + count) * inputs];
        if format == Format::Int8 {
            let (to_scales, to_sums) = columns.split_at_mut(padded(outputs));
            for (i, weights) in part.chunks_exact(inputs).enumerate() {
                let scale = scale_of(weights);
                let sum: f32 = weights.iter().map(|&w| f32::from(quantise(w, scale))).sum();
                scales[i] = scale;
                to_scales[first + row + i] = scale.to_bits();
                to_sums[first + row + i] = sum.to_bits();
            }
        }
        let panel = &mut panels[panel * PANEL * steps..(panel + 1) * PANEL * steps];
        for block in (0..steps).step_by(BLOCK_STEPS) {
            for (i, weights) in part.chunks_exact(inputs).enumerate() {
                for step in block..steps.min(block + BLOCK_STEPS) {
                    let end = inputs.min((step + 1) * format.word_inputs());
                    let group = &weights[step * format.word_inputs()..end];
                    panel[step * PANEL + column + i] = word(format, group, scales[i]);
                }
            }
        }
        row += count;
    }
}

fn scale_of(weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0_f32, |largest, w| largest.max(w.abs()));
    if largest > 0.0 {
        largest / QUANTISED_MAX
    } else {
        1.0
    }
}

fn quantise(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even() as i8
}

#[inline(always)]
fn word(format: Format, group: &[f32], scale: f32) -> u32 {
    match format {
        Format::F32 => group[0].to_bits(),
        Format::Bf16 => {
            let high = group.get(1).map_or(0, |&w| f32_to_bf16(w));
            u32::from(f32_to_bf16(group[0])) | u32::from(high) << 16
        }
        Format::Int8 => {
            let mut bytes = [0; 4];
            for (byte, &w) in bytes.iter_mut().zip(group) {
                *byte = quantise(w, scale) as u8;
            }
            u32::from_le_bytes(bytes)
        }
    }
}
