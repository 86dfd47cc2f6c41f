//! Attention in both formats, on every instruction set this CPU has, against the oracle.

mod oracle;

use oracle::{check, kernels, values};
use plimsoll_kernel::{AttentionShape, Crew, Format, Isa, Kernel};
use proptest::prelude::*;

/// Runs it and returns the contexts; keys and values must be as they were.
fn contexts(
    kernel: Kernel,
    format: Format,
    qkv: &[f32],
    lens: &[u32],
    shape: AttentionShape,
    crew: &Crew,
) -> Vec<f32> {
    let longest = lens.iter().copied().max().unwrap_or(0) as usize;
    let mut scratch = vec![u32::MAX; crew.lanes() * shape.scratch_words(longest)];
    let mut got = qkv.to_vec();
    kernel.attention(format, &mut got, lens, shape, &mut scratch, crew);
    let width = shape.width();
    let mut out = Vec::new();
    for (got, before) in got.chunks(3 * width).zip(qkv.chunks(3 * width)) {
        assert_eq!(got[width..], before[width..], "keys and values");
        out.extend(&got[..width]);
    }
    out
}

/// Scores up to about 30, so that softmax is sharp and the running maximum moves.
fn sharp(lens: &[u32], shape: AttentionShape, seed: u64) -> Vec<f32> {
    let rows: u32 = lens.iter().sum();
    let width = shape.width();
    let mut qkv = values(rows as usize * 3 * width, seed);
    for row in qkv.chunks_mut(3 * width) {
        row[..2 * width].iter_mut().for_each(|x| *x *= 4.0);
    }
    qkv
}

#[test]
fn odd_lengths_and_heads() {
    for kernel in kernels() {
        for len in [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33, 47, 48, 49, 65, 97, 130] {
            for (heads, head_dim) in [
                (1, 1),
                (2, 8),
                (3, 16),
                (1, 20),
                (2, 32),
                (1, 33),
                (2, 64),
                (1, 128),
            ] {
                let shape = AttentionShape { heads, head_dim };
                let qkv = sharp(&[len], shape, 12);
                let want = oracle::attention(&qkv, &[len], shape);
                let got = contexts(kernel, Format::F32, &qkv, &[len], shape, &Crew::alone());
                check(kernel.isa(), &got, &want, 2e-5);
            }
        }
    }
}

/// Short enough for Miri, which knows what each pointer may reach.
#[test]
fn few_tokens_without_vectors() {
    let kernel = Kernel::with(Isa::Portable).expect("runs everywhere");
    let shape = AttentionShape {
        heads: 2,
        head_dim: 17,
    };
    let lens = [17, 3];
    let qkv = sharp(&lens, shape, 7);
    let want = oracle::attention(&qkv, &lens, shape);
    for (format, most) in [(Format::F32, 2e-5), (Format::Bf16, 2e-1)] {
        let got = contexts(kernel, format, &qkv, &lens, shape, &Crew::alone());
        check(kernel.isa(), &got, &want, most);
    }
}

#[test]
fn longer_than_a_block_of_keys() {
    let shape = AttentionShape {
        heads: 2,
        head_dim: 16,
    };
    for lens in [&[528][..], &[529], &[1100, 3]] {
        let qkv = sharp(lens, shape, 3);
        let want = oracle::attention(&qkv, lens, shape);
        for kernel in kernels() {
            let got = contexts(kernel, Format::F32, &qkv, lens, shape, &Crew::alone());
            check(kernel.isa(), &got, &want, 2e-5);
            // bf16 keeps eight bits of queries, keys, weights and values; scores here are small, so that their error is.
            let flat: Vec<f32> = qkv.iter().map(|x| x / 4.0).collect();
            let want = oracle::attention(&flat, lens, shape);
            let got = contexts(kernel, Format::Bf16, &flat, lens, shape, &Crew::alone());
            check(kernel.isa(), &got, &want, 5e-3);
        }
    }
}

#[test]
fn a_crew_computes_what_a_leader_alone_does() {
    let kernel = Kernel::detect();
    let shape = AttentionShape {
        heads: 4,
        head_dim: 32,
    };
    for lens in [&[70, 1, 5][..], &[9; 20]] {
        for format in [Format::F32, Format::Bf16] {
            let qkv = sharp(lens, shape, 5);
            let want = contexts(kernel, format, &qkv, lens, shape, &Crew::alone());
            let crew = Crew::new(2);
            std::thread::scope(|threads| {
                threads.spawn(|| crew.serve());
                for _ in 0..50 {
                    assert_eq!(contexts(kernel, format, &qkv, lens, shape, &crew), want);
                }
                crew.dismiss();
            });
        }
    }
}

proptest! {
    #[test]
    fn any_sequences(lens in prop::collection::vec(1..90_u32, 1..4), heads in 1..4_usize, head_dim in 1..70_usize, seed: u64) {
        let shape = AttentionShape { heads, head_dim };
        let rows: u32 = lens.iter().sum();
        let qkv = values(rows as usize * 3 * shape.width(), seed);
        let want = oracle::attention(&qkv, &lens, shape);
        for kernel in kernels() {
            check(kernel.isa(), &contexts(kernel, Format::F32, &qkv, &lens, shape, &Crew::alone()), &want, 1e-5);
            check(kernel.isa(), &contexts(kernel, Format::Bf16, &qkv, &lens, shape, &Crew::alone()), &want, 2e-2);
        }
    }

    /// A sequence's contexts do not depend on what lies beside it.
    #[test]
    fn neighbours_do_not_matter(before in 1..40_u32, len in 1..60_u32, seed: u64) {
        let shape = AttentionShape { heads: 2, head_dim: 24 };
        let qkv = sharp(&[before, len], shape, seed);
        let alone = &qkv[before as usize * 3 * shape.width()..];
        for kernel in kernels() {
            for format in [Format::F32, Format::Bf16] {
                let both = contexts(kernel, format, &qkv, &[before, len], shape, &Crew::alone());
                let one = contexts(kernel, format, alone, &[len], shape, &Crew::alone());
                prop_assert_eq!(&both[before as usize * shape.width()..], &one[..]);
            }
        }
    }

    /// A context is a weighted mean, so where all values of a head agree it is that value.
    #[test]
    fn equal_values_give_that_value(len in 1..100_u32, head_dim in 1..40_usize, seed: u64) {
        let shape = AttentionShape { heads: 1, head_dim };
        let value = values(head_dim, seed);
        let mut qkv = sharp(&[len], shape, seed);
        qkv.chunks_mut(3 * head_dim).for_each(|row| row[2 * head_dim..].copy_from_slice(&value));
        let want: Vec<f64> = (0..len).flat_map(|_| value.iter().map(|&x| f64::from(x))).collect();
        for kernel in kernels() {
            check(kernel.isa(), &contexts(kernel, Format::F32, &qkv, &[len], shape, &Crew::alone()), &want, 2e-6);
        }
    }
}

#[test]
#[should_panic(expected = "attention scratch")]
fn a_wrong_scratch_is_refused() {
    let shape = AttentionShape {
        heads: 1,
        head_dim: 4,
    };
    let mut scratch = vec![0; shape.scratch_words(2) - 1];
    Kernel::detect().attention(
        Format::F32,
        &mut [0.0; 24],
        &[2],
        shape,
        &mut scratch,
        &Crew::alone(),
    );
}
