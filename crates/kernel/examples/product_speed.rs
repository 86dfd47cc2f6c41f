//! How fast the products of a small BERT are on this CPU, one thread, warm and with weights that no cache holds.
//!
//! `cargo run --release -p plimsoll-kernel --example product_speed`

use std::hint::black_box;
use std::time::{Duration, Instant};

use plimsoll_kernel::{Crew, Epilogue, Format, Kernel, Packed, Rows, encoded_words, pack, packed_words};

/// Inputs and outputs of the products of a layer of 384: Q, K and V together, context, up, down.
const SHAPES: [(usize, usize); 4] = [(384, 1152), (384, 384), (384, 1536), (1536, 384)];

fn main() {
    let kernel = Kernel::detect();
    println!("{}", kernel.isa().name());
    for format in [Format::F32, Format::Bf16, Format::Int8] {
        for rows in [1, 16, 17, 64, 256] {
            let rates = SHAPES.map(|(inputs, outputs)| measure(kernel, format, rows, inputs, outputs));
            println!("{:5} {rows:4} rows: {rates:6.1?} GFLOP/s", format.name());
        }
    }
}

/// Billions of multiplications and additions a second, the best of many.
fn measure(kernel: Kernel, format: Format, rows: usize, inputs: usize, outputs: usize) -> f64 {
    let noise = |seed: usize, len: usize| -> Vec<f32> {
        (0..len)
            .map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 8 & 0xffff) as f32 / 32768.0 - 1.0)
            .collect()
    };
    let mut words = vec![0; packed_words(format, inputs, outputs)];
    pack(
        format,
        inputs,
        outputs,
        &noise(1, inputs * outputs),
        0,
        &mut words,
    );
    let x = noise(7, rows * inputs);
    let row_format = kernel.row_format(format);
    let mut encoded = vec![0; encoded_words(row_format, inputs, rows)];
    kernel.encode(row_format, &x, inputs, inputs, &mut encoded, &Crew::alone());
    let (bias, mut y) = (noise(3, outputs), vec![0.0; rows * outputs]);
    let mut best = Duration::MAX;
    for _ in 0..60 {
        let start = Instant::now();
        let (x, w) = (
            Rows::encoded(row_format, inputs, &encoded),
            Packed::new(format, inputs, outputs, &words),
        );
        kernel.product(
            black_box(x),
            w,
            Some(&bias),
            &mut y,
            Epilogue::Store,
            &Crew::alone(),
        );
        best = best.min(start.elapsed());
        black_box(&mut y);
    }
    2.0 * (rows * inputs * outputs) as f64 / best.as_secs_f64() / 1e9
}
