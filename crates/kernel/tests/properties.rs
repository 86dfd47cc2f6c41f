//! Any shape, any values: the kernels agree with the oracle, and laws that need no oracle hold.

mod oracle;

use oracle::{check, kernels, values};
use plimsoll_kernel::{Crew, Epilogue, LinearShape};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn linear(rows in 1..40_usize, inputs in 1..140_usize, outputs in 1..40_usize, seed: u64) {
        let shape = LinearShape { rows, inputs, outputs };
        let (x, w, bias) = (values(rows * inputs, seed), values(outputs * inputs, !seed), values(outputs, seed ^ 1));
        let want = oracle::linear(&x, &w, Some(&bias), shape);
        for kernel in kernels() {
            let mut y = vec![f32::NAN; rows * outputs];
            kernel.linear(&x, &w, Some(&bias), &mut y, shape, Epilogue::Store);
            check(kernel.isa(), &y, &want, 5e-5);
        }
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_order(row in prop::collection::vec(-1e3_f32..1e3, 1..80)) {
        for kernel in kernels() {
            let mut soft = row.clone();
            kernel.softmax(&mut soft, row.len());
            prop_assert!((soft.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            for i in 1..row.len() {
                if row[i - 1] > row[i] {
                    prop_assert!(soft[i - 1] >= soft[i]);
                }
            }
        }
    }

    #[test]
    fn layer_norm_ignores_shift_and_scale(width in 2..90_usize, shift in -4.0_f32..4.0, seed: u64) {
        let row = values(width, seed);
        let (gain, bias) = (values(width, seed ^ 1), values(width, seed ^ 2));
        let moved: Vec<f32> = row.iter().map(|x| x * 3.0 + shift).collect();
        let want = oracle::layer_norm(&row, &gain, &bias, 1e-12);
        for kernel in kernels() {
            let mut got = moved.clone();
            kernel.layer_norm(&mut got, &gain, &bias, 1e-12, &Crew::alone());
            check(kernel.isa(), &got, &want, 1e-3);
        }
    }
}
