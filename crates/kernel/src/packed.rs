//! Weights as products read them: panels of outputs, step by step along the inputs.
//!
//! A product that runs at the speed of the multipliers reads each weight from the first- or second-level cache, once for every
//! few rows, and never waits for a stride. Hugging Face's `[outputs, inputs]` order cannot give that, so matrices are packed once, when
//! a model is loaded or ahead of it in a file. The order is the same for every instruction set: a file packed anywhere maps everywhere. (TwoBf16 is packed at loading, for a CPU with tiles, and stands in no file.)
//!
//! ```text
//! for each panel of 48 outputs (the last one filled up with zeros):
//!     for each step of the inputs:          F32: 1 input, Bf16: 2, Int8: 4, always one 32-bit word
//!         48 words, one an output, the earliest input lowest
//!                                           TwoBf16: 2 inputs, a step of Bf16 and one of what that leaves
//! Int8 only, then:  scale[outputs rounded up to 48]: f32, sum of quantised weights[same]: f32
//! ```
//!
//! Int8 weights are symmetric per output, `w = q * scale` with q in -127..=127; rows of x bring a scale and a zero of their own
//! ([`crate::Kernel::encode`]), and `sum` takes the zero out again. They are [bounded](Packed::bounded) for the sake of instruction sets that multiply bytes
//! into 16-bit sums: about one output in seven has a larger scale for that, by a tenth or two, and no cosine of all-MiniLM-L6-v2 shows it.

use crate::Kernel;
use crate::q4::{bf16_to_f32, f32_to_bf16};
use crate::simd::{Op, Simd, TILE};

/// Outputs of a panel: three vectors of the widest instruction set.
pub(crate) const PANEL: usize = 48;
/// Largest quantised weight.
const QUANTISED_MAX: f32 = 127.0;
/// The most that four 8-bit weights of one sign whose products meet in a 16-bit sum are together: times the largest x, 127, just what that holds. They
/// are two neighbours in a step, the first two or the last, and the two below them in the next; the first of two steps is an even one.
pub const PACKED_FOUR_MAX: u32 = 258;
/// The same before rounding, by a half each.
const FOUR_MAX: f32 = PACKED_FOUR_MAX as f32 - 2.0;

/// What the numbers of a product are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// The upper halves of 32-bit floats; sums are 32-bit floats.
    Bf16,
    /// 8-bit whole numbers: weights with a scale an output, rows with a scale and a zero a row. Sums are exact.
    Int8,
    /// Floats as sums of two bf16, to 16 bits of their 24: what CPUs compute products of floats with that multiply tiles of bf16, in a fraction of the time.
    TwoBf16,
}

impl Format {
    /// Inputs in a 32-bit word.
    pub const fn word_inputs(self) -> usize {
        match self {
            Format::F32 | Format::TwoBf16 => 1,
            Format::Bf16 => 2,
            Format::Int8 => 4,
        }
    }

    /// Words of a row of `inputs` numbers.
    pub const fn row_words(self, inputs: usize) -> usize {
        match self {
            // Whole tiles of either half.
            Format::TwoBf16 => inputs.next_multiple_of(2 * TILE),
            _ => inputs.div_ceil(self.word_inputs()),
        }
    }

    /// A lower-case name: `f32`, `bf16`, `int8`, `two-bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::Int8 => "int8",
            Format::TwoBf16 => "two-bf16",
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
    is_bounded: bool,
    /// Words of what is read next.
    next: &'a [u32],
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
            is_bounded: false,
            next: &[],
        }
    }

    /// The same, with the word whether no four of them are more than [`PACKED_FOUR_MAX`]: [`pack`] packs so, but files may be older than that. With
    /// others, results would be wrong.
    pub fn bounded(self, is_bounded: bool) -> Packed<'a> {
        Packed { is_bounded, ..self }
    }

    /// The same before others: what a product with those reads first is fetched while the last of these are multiplied.
    pub fn before(self, next: Packed<'a>) -> Packed<'a> {
        Packed {
            next: next.words,
            ..self
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

    pub(crate) fn is_bounded(&self) -> bool {
        self.is_bounded
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

    /// Where a panel starts, counted on into the next weights. They may have longer panels: then it is only near.
    #[inline(always)]
    pub(crate) fn fetched(&self, index: usize) -> Option<*const u32> {
        let beyond = match index.checked_sub(self.panels()) {
            Some(beyond) => self.next.get(beyond * self.steps() * PANEL..),
            None => Some(self.panel(index)),
        };
        beyond.filter(|words| !words.is_empty()).map(<[u32]>::as_ptr)
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
    Kernel::detect().level.run(Pack {
        format,
        inputs,
        outputs,
        weights,
        first,
        words,
    });
}

/// See [`pack`].
struct Pack<'a> {
    format: Format,
    inputs: usize,
    outputs: usize,
    weights: &'a [f32],
    first: usize,
    words: &'a mut [u32],
}

/// Steps that are turned at once: a cache line of each row.
const BLOCK: usize = 16;

impl Op for Pack<'_> {
    type Output = ();
    /// ```text
    /// for each panel, for each block of steps:
    ///     each row's words of the block, one row below the other        (reads the weights in their order)
    ///     each step's words, one output beside the other, to the panel  (writes the panel in its order)
    /// ```
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let steps = self.format.row_words(self.inputs);
        let (panels, columns) = self.words.split_at_mut(padded(self.outputs) * steps);
        let (to_scales, to_sums) = columns.split_at_mut(columns.len() / 2);
        let mut scales = [1.0; PANEL];
        let mut block = [[0; BLOCK]; PANEL];
        let mut rest = self.weights;
        let mut output = self.first;
        while !rest.is_empty() {
            let (panel, column) = (output / PANEL, output % PANEL);
            let count = (PANEL - column).min(rest.len() / self.inputs);
            let (part, behind) = rest.split_at(count * self.inputs);
            if self.format == Format::Int8 {
                for (i, weights) in part.chunks_exact(self.inputs).enumerate() {
                    scales[i] = scale_of(weights);
                    to_scales[output + i] = scales[i].to_bits();
                    to_sums[output + i] = sum_of(weights, scales[i]).to_bits();
                }
            }
            let panel = &mut panels[panel * PANEL * steps..(panel + 1) * PANEL * steps];
            for (index, to) in panel.chunks_mut(BLOCK * PANEL).enumerate() {
                let from = index * BLOCK * self.format.word_inputs();
                for ((weights, scale), words) in part.chunks_exact(self.inputs).zip(scales).zip(&mut block) {
                    row_words(self.format, weights.get(from..).unwrap_or_default(), scale, words);
                }
                for (step, to) in to.chunks_exact_mut(PANEL).enumerate() {
                    let to = &mut to[column..column + count];
                    to.iter_mut().zip(&block).for_each(|(to, row)| *to = row[step]);
                }
            }
            (rest, output) = (behind, output + count);
        }
    }
}

#[inline(always)]
fn scale_of(weights: &[f32]) -> f32 {
    let mut largest = 0.0_f32;
    let mut fours = 0.0_f32;
    for eight in weights.chunks(8) {
        let mut two_steps = [0.0; 8];
        two_steps[..eight.len()].copy_from_slice(eight);
        largest = two_steps.iter().fold(largest, |largest, w| largest.max(w.abs()));
        for i in [0, 2] {
            let four = [two_steps[i], two_steps[i + 1], two_steps[i + 4], two_steps[i + 5]];
            let above: f32 = four.iter().map(|w| w.max(0.0)).sum();
            let below: f32 = four.iter().map(|w| w.min(0.0)).sum();
            fours = fours.max(above).max(-below);
        }
    }
    let scale = (largest / QUANTISED_MAX).max(fours / FOUR_MAX);
    if scale > 0.0 { scale } else { 1.0 }
}

#[inline(always)]
fn quantise(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even() as i8
}

#[inline(always)]
fn sum_of(weights: &[f32], scale: f32) -> f32 {
    let whole: i32 = weights.iter().map(|&w| i32::from(quantise(w, scale))).sum();
    whole as f32
}

/// The words of a row's next steps, as many as fit; zeros behind its end.
#[inline(always)]
fn row_words(format: Format, weights: &[f32], scale: f32, words: &mut [u32; BLOCK]) {
    match format {
        Format::F32 => {
            for (word, weight) in words.iter_mut().zip(weights) {
                *word = weight.to_bits();
            }
        }
        Format::Bf16 => {
            let mut halves = [0; 2 * BLOCK];
            for (half, &weight) in halves.iter_mut().zip(weights) {
                *half = f32_to_bf16(weight);
            }
            for (word, [low, high]) in words.iter_mut().zip(halves.as_chunks::<2>().0) {
                *word = u32::from(*low) | u32::from(*high) << 16;
            }
        }
        Format::Int8 => {
            let mut bytes = [0; 4 * BLOCK];
            for (byte, &weight) in bytes.iter_mut().zip(weights) {
                *byte = quantise(weight, scale) as u8;
            }
            for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*four);
            }
        }
        Format::TwoBf16 => {
            let (mut uppers, mut lowers) = ([0; BLOCK], [0; BLOCK]);
            let halves = uppers.iter_mut().zip(&mut lowers);
            for ((upper, lower), &weight) in halves.zip(weights) {
                *upper = f32_to_bf16(weight);
                *lower = f32_to_bf16(weight - bf16_to_f32(*upper));
            }
            let halves = uppers.as_chunks::<2>().0.iter().zip(lowers.as_chunks::<2>().0);
            for (words, (upper, lower)) in words.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                *words = [upper, lower].map(|[first, second]| u32::from(*first) | u32::from(*second) << 16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_goes_on_into_the_next_weights() {
        let [first, next] = [100, 48].map(|outputs| vec![0; packed_words(Format::F32, 8, outputs)]);
        let (first, next) = (
            Packed::new(Format::F32, 8, 100, &first),
            Packed::new(Format::F32, 8, 48, &next),
        );
        assert_eq!(first.fetched(2), Some(first.panel(2).as_ptr()));
        assert_eq!(first.fetched(3), None);
        let both = first.before(next);
        assert_eq!(both.fetched(3), Some(next.panel(0).as_ptr()));
        assert_eq!([both.fetched(4), both.fetched(9)], [None; 2]);
    }
}
