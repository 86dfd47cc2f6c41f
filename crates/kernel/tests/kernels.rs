//! Every kernel, on every instruction set this CPU has, against the oracle over odd sizes.

mod oracle;

use oracle::{check, kernels, values};
use plimsoll_kernel::{
    Activation, Crew, Epilogue, Format, Isa, Kernel, LinearShape, bf16_to_f32, f16_to_f32,
};

const SIZES: [usize; 14] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 70];

#[test]
fn linear_of_every_small_shape() {
    for kernel in kernels() {
        for rows in [1, 2, 3, 4, 5, 7, 8, 13] {
            for inputs in SIZES {
                for outputs in [1, 2, 3, 4, 5, 9, 33] {
                    check_linear(
                        kernel,
                        LinearShape {
                            rows,
                            inputs,
                            outputs,
                        },
                        Epilogue::Store,
                    );
                }
            }
        }
    }
}

#[test]
fn linear_larger_than_its_blocks() {
    for kernel in kernels() {
        for epilogue in [
            Epilogue::Store,
            Epilogue::Add,
            Epilogue::Activate(Activation::Gelu),
        ] {
            check_linear(
                kernel,
                LinearShape {
                    rows: 259,
                    inputs: 65,
                    outputs: 51,
                },
                epilogue,
            );
            check_linear(
                kernel,
                LinearShape {
                    rows: 5,
                    inputs: 1537,
                    outputs: 13,
                },
                epilogue,
            );
        }
    }
}

fn check_linear(kernel: Kernel, shape: LinearShape, epilogue: Epilogue) {
    let LinearShape {
        rows,
        inputs,
        outputs,
    } = shape;
    let (x, w) = (values(rows * inputs, 1), values(outputs * inputs, 2));
    let bias = values(outputs, 3);
    let before = values(rows * outputs, 4);
    for bias in [None, Some(&bias[..])] {
        let mut want = oracle::linear(&x, &w, bias, shape);
        for (want, &before) in want.iter_mut().zip(&before) {
            match epilogue {
                Epilogue::Store => {}
                Epilogue::Add => *want += f64::from(before),
                Epilogue::Activate(f) => *want = oracle::activate(f, *want),
            }
        }
        let mut got = before.clone();
        kernel.linear(&x, &w, bias, &mut got, shape, epilogue);
        check(kernel.isa(), &got, &want, 4e-6 * (inputs as f64).sqrt());
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for kernel in kernels() {
        let (x, w) = (values(300 * 72, 1), values(21 * 72, 2));
        let mut together = vec![0.0; 300 * 21];
        let shape = LinearShape {
            rows: 300,
            inputs: 72,
            outputs: 21,
        };
        kernel.linear(&x, &w, None, &mut together, shape, Epilogue::Store);
        let mut alone = vec![0.0; 300 * 21];
        for (x, y) in x.chunks(72).zip(alone.chunks_mut(21)) {
            kernel.linear(x, &w, None, y, LinearShape { rows: 1, ..shape }, Epilogue::Store);
        }
        assert_eq!(together, alone, "{}", kernel.isa().name());
    }
}

#[test]
fn four_bit_rows_equal_their_expansion() {
    for kernel in kernels() {
        for inputs in [32, 64, 384] {
            let (blocks, w) = oracle::q4_blocks(inputs, 5);
            let mut row = vec![0.0; inputs];
            kernel.q4_row(&blocks, &mut row);
            assert_eq!(row, w, "{}", kernel.isa().name());
        }
    }
}

#[test]
fn half_floats_are_exact() {
    for (bits, value) in [
        (0x0000, 0.0),
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x7bff, 65504.0),
        (0x0400, 6.103_515_6e-5),
    ] {
        assert_eq!(f16_to_f32(bits), value);
    }
    assert_eq!(f16_to_f32(0x03ff), 1023.0 * 2.0_f32.powi(-24));
    assert_eq!(f16_to_f32(0x8000).to_bits(), (-0.0_f32).to_bits());
    assert_eq!(f16_to_f32(0xfc00), f32::NEG_INFINITY);
    assert!(f16_to_f32(0x7e00).is_nan());
    assert_eq!(bf16_to_f32(0x4049), 3.140625);
    // Every instruction set reads scales alike: a block whose nibbles are all 9 holds its scale.
    for kernel in kernels() {
        for bits in (0..0x7c00_u16).step_by(7) {
            let mut block = [0x99_u8; 18];
            block[..2].copy_from_slice(&bits.to_le_bytes());
            let mut out = [0.0; 32];
            kernel.q4_row(&block, &mut out);
            assert_eq!(out, [f16_to_f32(bits); 32], "{} {bits:#x}", kernel.isa().name());
        }
    }
}

#[test]
fn activations_over_a_fine_grid() {
    let xs: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 / 4000.0).collect();
    let cases = [
        (Activation::Gelu, 2e-6),
        (Activation::GeluTanh, 2e-6),
        (Activation::Relu, 0.0),
        (Activation::Tanh, 3e-7),
    ];
    for kernel in kernels() {
        for (activation, tolerance) in cases {
            let mut got = xs.clone();
            kernel.activate(activation, &mut got);
            let want: Vec<f64> = xs
                .iter()
                .map(|&x| oracle::activate(activation, f64::from(x)))
                .collect();
            check(kernel.isa(), &got, &want, tolerance);
        }
    }
}

#[test]
fn activations_at_the_extremes() {
    for kernel in kernels() {
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Relu,
            Activation::Tanh,
        ] {
            let mut xs = [1e4, -1e4, 0.0, f32::NAN, 1e4, -1e4, 0.0];
            kernel.activate(activation, &mut xs);
            let top = if activation == Activation::Tanh { 1.0 } else { 1e4 };
            let bottom = if activation == Activation::Tanh { -1.0 } else { 0.0 };
            let name = kernel.isa().name();
            assert!(
                (xs[0] - top).abs() <= 1e-3 && (xs[4] - top).abs() <= 1e-3,
                "{name} {activation:?} {xs:?}"
            );
            assert!(
                (xs[1] - bottom).abs() <= 1e-2 && (xs[5] - bottom).abs() <= 1e-2,
                "{name} {activation:?} {xs:?}"
            );
            assert_eq!((xs[2], xs[6]), (0.0, 0.0), "{name} {activation:?}");
            assert!(xs[3].is_nan(), "{name} {activation:?} hides a NaN");
        }
    }
}

#[test]
fn softmax_of_odd_widths() {
    for kernel in kernels() {
        for width in SIZES {
            let mut rows: Vec<f32> = values(3 * width, 8).iter().map(|x| x * 30.0).collect();
            let wide: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
            let want: Vec<f64> = wide.chunks(width).flat_map(oracle::softmax).collect();
            kernel.softmax(&mut rows, width);
            check(kernel.isa(), &rows, &want, 1e-6);
        }
        let mut rows = [1000.0, 1000.0, -1000.0, -2e38, -2e38, -2e38];
        kernel.softmax(&mut rows, 3);
        check(
            kernel.isa(),
            &rows,
            &[0.5, 0.5, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
            1e-6,
        );
    }
}

#[test]
fn layer_norm_of_odd_widths() {
    for kernel in kernels() {
        for width in SIZES {
            let mut rows: Vec<f32> = values(3 * width, 9).iter().map(|x| x * 5.0 + 2.0).collect();
            let (gain, bias) = (values(width, 10), values(width, 11));
            let want: Vec<f64> = rows
                .chunks(width)
                .flat_map(|row| oracle::layer_norm(row, &gain, &bias, 1e-12))
                .collect();
            kernel.layer_norm(&mut rows, &gain, &bias, 1e-12, &Crew::alone());
            // A row of one value has no variance: 0 / sqrt(1e-12) is 0 only if the mean is exact, and it is.
            check(kernel.isa(), &rows, &want, 5e-6);
        }
    }
}

#[test]
fn pooling_normalising_adding() {
    for kernel in kernels() {
        for width in SIZES {
            for rows in [1, 2, 5] {
                let xs = values(rows * width, 15);
                let column = |d: usize| xs.iter().skip(d).step_by(width).map(|&x| f64::from(x));
                let mut out = vec![f32::NAN; width];
                kernel.mean_pool(&xs, &mut out);
                let mean: Vec<f64> = (0..width).map(|d| column(d).sum::<f64>() / rows as f64).collect();
                check(kernel.isa(), &out, &mean, 1e-6);
                kernel.max_pool(&xs, &mut out);
                let max: Vec<f64> = (0..width)
                    .map(|d| column(d).fold(f64::NEG_INFINITY, f64::max))
                    .collect();
                check(kernel.isa(), &out, &max, 0.0);
            }
            let (a, b) = (values(width, 16), values(width, 17));
            let dot: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            check(kernel.isa(), &[kernel.dot(&a, &b)], &[dot], 1e-5);
            let mut sum = a.clone();
            kernel.add(&mut sum, &b);
            assert_eq!(sum, a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<_>>());
            let norm = a.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let mut unit = a.clone();
            kernel.l2_normalize(&mut unit);
            let want: Vec<f64> = a.iter().map(|&x| f64::from(x) / norm).collect();
            check(kernel.isa(), &unit, &want, 1e-6);
        }
        let mut zero = [0.0; 5];
        kernel.l2_normalize(&mut zero);
        assert_eq!(zero, [0.0; 5]);
    }
}

#[test]
fn detection_takes_the_widest_that_pays() {
    let widest: Vec<Isa> = kernels().iter().map(Kernel::isa).collect();
    let found = Kernel::detect();
    let left_out = widest.iter().rev().take_while(|&&isa| isa != found.isa());
    assert!(
        left_out.clone().all(|&isa| isa == Isa::Avx512Bf16),
        "{:?} of {widest:?}",
        found.isa()
    );
    assert_eq!(Kernel::detect().isa(), found.isa());
    assert_eq!(Kernel::portable().isa(), Isa::Portable);
}

/// Rows stay floats where bf16 has no instruction; other formats are what they are everywhere.
#[test]
fn rows_are_bf16_where_that_is_an_instruction() {
    for kernel in kernels() {
        let native = matches!(kernel.isa(), Isa::Avx512Bf16 | Isa::Avx512Amx);
        let want = if native { Format::Bf16 } else { Format::F32 };
        assert_eq!(kernel.row_format(Format::Bf16), want, "{}", kernel.isa().name());
        assert_eq!(kernel.row_format(Format::F32), Format::F32);
        let floats = match kernel.isa() {
            Isa::Avx512Amx => Format::TwoBf16,
            _ => Format::F32,
        };
        assert_eq!(kernel.packing(Format::F32), floats);
        assert_eq!(kernel.packing(Format::Int8), Format::Int8);
        assert_eq!(kernel.row_format(Format::Int8), Format::Int8);
    }
}

#[test]
#[should_panic(expected = "weights")]
fn short_weights_are_refused() {
    let shape = LinearShape {
        rows: 1,
        inputs: 2,
        outputs: 2,
    };
    Kernel::detect().linear(&[0.0; 2], &[0.0; 3], None, &mut [0.0; 2], shape, Epilogue::Store);
}
