//! Products with packed weights, in every format and on every instruction set this CPU has, against the oracle: exact up to the
//! rounding of sums, because the oracle multiplies the very numbers that bf16 and 8 bits leave of the operands.

mod oracle;

use oracle::{check, kernels, values};
use plimsoll_kernel::{
    Activation, Crew, Epilogue, Format, Isa, Kernel, LinearShape, Packed, Rows, bf16_to_f32, encoded_words,
    f32_to_bf16, pack, packed_words,
};

/// Formats of rows and of weights.
const FORMATS: [(Format, Format); 5] = [
    (Format::F32, Format::F32),
    (Format::TwoBf16, Format::TwoBf16),
    (Format::F32, Format::Bf16),
    (Format::Bf16, Format::Bf16),
    (Format::Int8, Format::Int8),
];

/// Those that an instruction set can do.
fn formats(kernel: Kernel) -> impl Iterator<Item = (Format, Format)> {
    let can = move |&(rows, weights): &(Format, Format)| match weights {
        Format::TwoBf16 => kernel.packing(Format::F32) == weights,
        _ => rows == Format::F32 || kernel.row_format(weights) == rows,
    };
    FORMATS.into_iter().filter(can)
}

struct Case {
    rows: Format,
    weights: Format,
    shape: LinearShape,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    before: Vec<f32>,
}

impl Case {
    fn new(formats: (Format, Format), rows: usize, inputs: usize, outputs: usize) -> Case {
        Case {
            rows: formats.0,
            weights: formats.1,
            shape: LinearShape {
                rows,
                inputs,
                outputs,
            },
            x: values(rows * inputs, 1),
            w: values(outputs * inputs, 2),
            bias: values(outputs, 3),
            before: values(rows * outputs, 4),
        }
    }

    fn run(&self, kernel: Kernel, epilogue: Epilogue, crew: &Crew) -> Vec<f32> {
        let mut y = self.before.clone();
        self.operands(kernel, |x, w| {
            kernel.product(x, w.bounded(true), Some(&self.bias), &mut y, epilogue, crew);
        });
        y
    }

    /// Calls `product` with X and W, encoded and packed.
    fn operands(&self, kernel: Kernel, product: impl FnOnce(Rows<'_>, Packed<'_>)) {
        let LinearShape {
            rows,
            inputs,
            outputs,
        } = self.shape;
        let mut words = vec![0; packed_words(self.weights, inputs, outputs)];
        // In two parts, as several matrices are packed side by side.
        let cut = outputs / 3 * inputs;
        pack(self.weights, inputs, outputs, &self.w[..cut], 0, &mut words);
        pack(
            self.weights,
            inputs,
            outputs,
            &self.w[cut..],
            outputs / 3,
            &mut words,
        );
        let mut x = vec![u32::MAX; encoded_words(self.rows, inputs, rows)];
        kernel.encode(self.rows, &self.x, inputs, inputs, &mut x, &Crew::alone());
        product(
            Rows::encoded(self.rows, inputs, &x),
            Packed::new(self.weights, inputs, outputs, &words),
        );
    }

    /// The result in double precision, of what the format leaves of the operands.
    fn oracle(&self, isa: Isa, epilogue: Epilogue) -> Vec<f64> {
        let inputs = self.shape.inputs;
        let (x, w) = (
            oracle::seen_rows(isa, self.rows, &self.x, inputs),
            oracle::seen_weights(self.weights, &self.w, inputs),
        );
        let mut want = oracle::linear(&x, &w, Some(&self.bias), self.shape);
        for (want, &before) in want.iter_mut().zip(&self.before) {
            match epilogue {
                Epilogue::Store => {}
                Epilogue::Add => *want += f64::from(before),
                Epilogue::Activate(f) => *want = oracle::activate(f, *want),
            }
        }
        want
    }

    fn check(&self, kernel: Kernel, epilogue: Epilogue) {
        let near = matches!(epilogue, Epilogue::Activate(Activation::Gelu))
            && !matches!(self.weights, Format::F32 | Format::TwoBf16);
        // A product in two bf16 is one to 16 bits.
        let each = if self.rows == Format::TwoBf16 { 1e-5 } else { 4e-7 };
        let rounding = each * self.shape.inputs as f64 + 3e-6;
        let tolerance = rounding + if near { 5e-4 } else { 0.0 };
        let got = self.run(kernel, epilogue, &Crew::alone());
        check(
            kernel.isa(),
            &got,
            &self.oracle(kernel.isa(), epilogue),
            tolerance,
        );
    }
}

#[test]
fn products_of_every_small_shape() {
    for kernel in kernels() {
        for format in formats(kernel) {
            for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17] {
                for inputs in [1, 2, 3, 4, 5, 8, 17, 33] {
                    for outputs in [1, 4, 15, 16, 17, 47, 48, 49, 97] {
                        Case::new(format, rows, inputs, outputs).check(kernel, Epilogue::Store);
                    }
                }
            }
        }
    }
}

#[test]
fn epilogues_at_the_size_of_a_model() {
    let epilogues = [
        Epilogue::Store,
        Epilogue::Add,
        Epilogue::Activate(Activation::Gelu),
        Epilogue::Activate(Activation::Relu),
    ];
    for kernel in kernels() {
        for format in formats(kernel) {
            for epilogue in epilogues {
                Case::new(format, 37, 384, 312).check(kernel, epilogue);
            }
        }
    }
}

/// Bit for bit: what the next product reads does not depend on where floats were rounded.
#[test]
fn a_product_in_bf16_is_a_product_that_is_encoded() {
    let activation = Activation::Gelu;
    for kernel in kernels() {
        for format in formats(kernel) {
            for (rows, outputs) in [(1, 1), (3, 23), (8, 48), (9, 49), (23, 97), (37, 312)] {
                let case = Case::new(format, rows, 70, outputs);
                let y = case.run(kernel, Epilogue::Activate(activation), &Crew::alone());
                let mut want = vec![0; encoded_words(Format::Bf16, outputs, rows)];
                let mut got = vec![u32::MAX; want.len()];
                kernel.encode(Format::Bf16, &y, outputs, outputs, &mut want, &Crew::alone());
                case.operands(kernel, |x, w| {
                    kernel.product_bf16(x, w, Some(&case.bias), &mut got, activation, &Crew::alone());
                });
                assert_eq!(got, want, "{} {format:?} {rows}x{outputs}", kernel.isa().name());
            }
        }
    }
}

/// Batching must never change an answer.
#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for kernel in kernels() {
        for format in formats(kernel) {
            // Inputs that are whole tiles where there are tiles, and others.
            for (rows, inputs) in [(23, 70), (37, 128)] {
                let whole = Case::new(format, rows, inputs, 100).run(kernel, Epilogue::Store, &Crew::alone());
                for row in 0..rows {
                    let mut alone = Case::new(format, 1, inputs, 100);
                    alone.x = values(rows * inputs, 1)[row * inputs..(row + 1) * inputs].to_vec();
                    let got = alone.run(kernel, Epilogue::Store, &Crew::alone());
                    assert_eq!(
                        got,
                        whole[row * 100..(row + 1) * 100],
                        "{} {format:?} row {row}",
                        kernel.isa().name()
                    );
                }
            }
        }
    }
}

/// A crew shares the outputs of few rows and the rows of many.
#[test]
fn a_crew_computes_what_a_leader_alone_does() {
    let kernel = Kernel::detect();
    for format in formats(kernel) {
        for rows in [40, 200] {
            let case = Case::new(format, rows, 96, 500);
            let (gain, shift) = (values(96, 5), values(96, 6));
            let run = |crew: &Crew| {
                let y = case.run(kernel, Epilogue::Add, crew);
                let mut bf16 = vec![u32::MAX; encoded_words(Format::Bf16, 500, rows)];
                case.operands(kernel, |x, w| {
                    kernel.product_bf16(x, w, Some(&case.bias), &mut bf16, Activation::Gelu, crew);
                });
                let mut encoded = vec![0; encoded_words(case.rows, 96, rows)];
                kernel.encode(case.rows, &case.x, 96, 96, &mut encoded, crew);
                let mut normal = case.x.clone();
                kernel.layer_norm(&mut normal, &gain, &shift, 1e-12, crew);
                (y, bf16, encoded, normal)
            };
            let want = run(&Crew::alone());
            let crew = Crew::new(3);
            std::thread::scope(|threads| {
                threads.spawn(|| crew.serve());
                threads.spawn(|| crew.serve());
                for _ in 0..50 {
                    assert_eq!(run(&crew), want);
                }
                crew.dismiss();
            });
        }
    }
}

/// The older 8-bit instruction has 16-bit sums: of two products, and of four where weights are bounded.
#[test]
fn the_largest_8_bit_products_do_not_saturate() {
    for kernel in kernels() {
        let mut case = Case::new((Format::Int8, Format::Int8), 2, 512, 48);
        // Signs that change every so many inputs: those of x and of w the same, opposite, or as it comes.
        for (x, w) in (0..6).flat_map(|x| (0..6).map(move |w| (x, w))) {
            let signs = |every: u32, i: usize| if (i >> every) & 1 == 0 { 1.0 } else { -1.0 };
            let fill = |every, values: &mut [f32]| {
                let values = values.iter_mut().enumerate();
                values.for_each(|(i, value)| *value = signs(every, i));
            };
            fill(x, &mut case.x);
            fill(w, &mut case.w);
            case.check(kernel, Epilogue::Store);
            case.w.iter_mut().for_each(|w| *w = -*w);
            case.check(kernel, Epilogue::Store);
        }
    }
}

/// A file may be packed by somebody who knew no bound: four weights of 127 side by side.
#[test]
fn weights_without_a_bound_are_multiplied_exactly() {
    let (inputs, outputs) = (512, 48);
    let x: Vec<f32> = (0..inputs).map(|i| (i % 128) as f32).collect();
    let ones = vec![1.0; inputs * outputs];
    let mut words = vec![0; packed_words(Format::Int8, inputs, outputs)];
    pack(Format::Int8, inputs, outputs, &ones, 0, &mut words);
    let (weights, columns) = words.split_at_mut(inputs / 4 * outputs);
    weights.fill(u32::from_le_bytes([127; 4]));
    let (scales, sums) = columns.split_at_mut(outputs);
    scales.fill(1.0_f32.to_bits());
    sums.fill((127.0 * inputs as f32).to_bits());
    for kernel in kernels() {
        let mut rows = vec![0; encoded_words(Format::Int8, inputs, 1)];
        kernel.encode(Format::Int8, &x, inputs, inputs, &mut rows, &Crew::alone());
        let seen = oracle::seen_rows(kernel.isa(), Format::Int8, &x, inputs);
        let want = 127.0 * seen.iter().map(|&x| f64::from(x)).sum::<f64>();
        let mut y = vec![0.0; outputs];
        let w = Packed::new(Format::Int8, inputs, outputs, &words);
        let x = Rows::encoded(Format::Int8, inputs, &rows);
        kernel.product(x, w, None, &mut y, Epilogue::Store, &Crew::alone());
        check(kernel.isa(), &y, &vec![want; outputs], want * 1e-6);
    }
}

/// Sums of 8-bit products are whole numbers.
#[test]
fn a_bound_changes_no_bit() {
    for kernel in kernels() {
        let mut case = Case::new((Format::Int8, Format::Int8), 13, 388, 100);
        // Weights of few sizes, so that packing has to scale for the bound.
        case.w.iter_mut().for_each(|w| *w = (*w * 1.9).trunc());
        let y = |bounded: bool| {
            let mut y = case.before.clone();
            case.operands(kernel, |x, w| {
                kernel.product(x, w.bounded(bounded), None, &mut y, Epilogue::Add, &Crew::alone());
            });
            y
        };
        assert_eq!(y(true), y(false), "{}", kernel.isa().name());
    }
}

/// The number that stands beside its row leaves others to scale that may be as small as floats are.
#[test]
fn numbers_too_small_to_scale_are_zeros() {
    for kernel in kernels() {
        for small in [f32::from_bits(1), 1e-38, 1e-30] {
            let mut case = Case::new((Format::Int8, Format::Int8), 1, 40, 48);
            case.x.fill(small);
            case.x[17] = -3.0;
            let y = case.run(kernel, Epilogue::Store, &Crew::alone());
            let wants = case
                .w
                .chunks(40)
                .zip(&case.bias)
                .map(|(w, bias)| f64::from(bias - 3.0 * w[17]));
            check(kernel.isa(), &y, &wants.collect::<Vec<_>>(), 0.02);
        }
    }
}

#[test]
fn empty_rows_and_flat_rows() {
    for kernel in kernels() {
        for format in formats(kernel) {
            assert!(
                Case::new(format, 0, 8, 5)
                    .run(kernel, Epilogue::Store, &Crew::alone())
                    .is_empty()
            );
            let mut case = Case::new(format, 3, 20, 50);
            case.x.fill(0.0);
            case.w.fill(0.0);
            case.check(kernel, Epilogue::Store);
        }
    }
}

#[test]
fn bf16_rounds_to_nearest_even_and_keeps_nan() {
    for (value, want) in [
        (1.0, 0x3f80),
        (1.003_906_3, 0x3f80),
        (1.011_718_8, 0x3f82),
        (-1.0, 0xbf80),
    ] {
        assert_eq!(f32_to_bf16(value), want, "{value}");
    }
    assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
    let xs: Vec<f32> = (0..67)
        .map(|i| f32::from_bits(0x3f80_0000 + i * 0x1357))
        .collect();
    for kernel in kernels() {
        let mut words = vec![0; encoded_words(Format::Bf16, xs.len(), 1)];
        kernel.encode(Format::Bf16, &xs, xs.len(), xs.len(), &mut words, &Crew::alone());
        for (i, &x) in xs.iter().enumerate() {
            let got = (words[i / 2] >> (16 * (i % 2))) as u16;
            assert_eq!(got, f32_to_bf16(x), "{} {x}", kernel.isa().name());
        }
    }
}

#[test]
fn two_bf16_keep_16_bits() {
    let xs: Vec<f32> = values(67, 9).iter().map(|x| x * x * x * 1e3).collect();
    for kernel in kernels() {
        let mut words = vec![u32::MAX; encoded_words(Format::TwoBf16, xs.len(), 1)];
        kernel.encode(
            Format::TwoBf16,
            &xs,
            xs.len(),
            xs.len(),
            &mut words,
            &Crew::alone(),
        );
        let half = |word: usize, i: usize| bf16_to_f32((words[word] >> (16 * (i % 2))) as u16);
        // 16 words of upper halves, then as many of lower ones; zeros behind the row.
        for i in 0..words.len() {
            let word = i / 32 * 32 + i % 32 / 2;
            let (got, want) = (
                half(word, i) + half(word + 16, i),
                xs.get(i).copied().unwrap_or(0.0),
            );
            let most = want.abs() / f32::from(1_u16 << 15) / 4.0;
            assert!(
                (got - want).abs() <= most,
                "{} {want}: {got}",
                kernel.isa().name()
            );
        }
    }
}
