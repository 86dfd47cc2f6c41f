//! What becomes of tensors that do not lie in the file as they are read: converted to floats, or packed for products.

use std::ops::Range;

use plimsoll_kernel::{Format, Kernel, Q4_BLOCK_BYTES, Q4_BLOCK_WEIGHTS, bf16_to_f32, f16_to_f32, pack};
use plimsoll_memory::{cast, cast_mut};

/// Tensors to convert, and where to: end to end, or packed one below the other.
#[derive(Debug)]
pub(super) struct Conversion {
    pub(super) from: Vec<(Range<usize>, Encoding)>,
    /// Format, inputs and outputs.
    pub(super) packed: Option<(Format, usize, usize)>,
    pub(super) to: Range<usize>,
}

/// How a tensor's values are written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    F32,
    F16,
    Bf16,
    Q4,
}

impl Conversion {
    pub(super) fn run(&self, file: &[u8], to: &mut [u8]) {
        const ALIGNED: &str = "multiples of 64 in a page are aligned";
        let Some((format, inputs, outputs)) = self.packed else {
            let mut rest = cast_mut::<f32>(to).expect(ALIGNED);
            for (from, encoding) in &self.from {
                let (part, behind) = rest.split_at_mut(encoding.values(from.len()));
                convert(*encoding, &file[from.clone()], part);
                rest = behind;
            }
            return;
        };
        let words = cast_mut::<u32>(to).expect(ALIGNED);
        let mut first = 0;
        for (from, encoding) in &self.from {
            let bytes = &file[from.clone()];
            let rows = encoding.values(bytes.len()) / inputs;
            match cast::<f32>(bytes).filter(|_| *encoding == Encoding::F32) {
                Some(weights) => pack(format, inputs, outputs, weights, first, words),
                None => pack_converted(format, inputs, outputs, *encoding, bytes, first, words),
            }
            first += rows;
        }
    }
}

/// Converts some rows at a time and packs them.
fn pack_converted(
    format: Format,
    inputs: usize,
    outputs: usize,
    encoding: Encoding,
    bytes: &[u8],
    first: usize,
    words: &mut [u32],
) {
    const ROWS: usize = 48;
    let row_bytes = bytes.len() / (encoding.values(bytes.len()) / inputs);
    let mut rows = vec![0.0; ROWS * inputs];
    for (index, part) in bytes.chunks(ROWS * row_bytes).enumerate() {
        let rows = &mut rows[..part.len() / row_bytes * inputs];
        convert(encoding, part, rows);
        pack(format, inputs, outputs, rows, first + index * ROWS, words);
    }
}

impl Encoding {
    /// Values in so many bytes.
    fn values(self, bytes: usize) -> usize {
        match self {
            Encoding::F32 => bytes / 4,
            Encoding::F16 | Encoding::Bf16 => bytes / 2,
            Encoding::Q4 => bytes / Q4_BLOCK_BYTES * Q4_BLOCK_WEIGHTS,
        }
    }
}

fn convert(encoding: Encoding, from: &[u8], to: &mut [f32]) {
    let halves = || {
        from.as_chunks::<2>()
            .0
            .iter()
            .map(|half| u16::from_le_bytes(*half))
    };
    match encoding {
        Encoding::F32 => {
            let words = from
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| f32::from_le_bytes(*word));
            to.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        }
        Encoding::F16 => to
            .iter_mut()
            .zip(halves())
            .for_each(|(to, from)| *to = f16_to_f32(from)),
        Encoding::Bf16 => to
            .iter_mut()
            .zip(halves())
            .for_each(|(to, from)| *to = bf16_to_f32(from)),
        Encoding::Q4 => Kernel::detect().q4_row(from, to),
    }
}
