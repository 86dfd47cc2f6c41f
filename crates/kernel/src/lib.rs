//! The arithmetic of an encoder, on slices: matrix products, softmax, layer normalisation, attention, pooling.
//!
//! A server that keeps below a memory line cannot use kernels that allocate, cache or compile per shape. These do not: every
//! function works on the slices it is given, names the scratch it needs, and leaves nothing behind. Matrices of products are
//! [packed](pack) once, in f32, bf16 or 8 bits; tables are read as they lie in the file, f32 or 4-bit ([Q4_0](q4_row_bytes)).
//!
//! Each kernel is written once, over a small set of vector operations, and compiled for every [instruction set](Isa), from portable
//! Rust to AVX-512 with its 8-bit and bf16 products and AMX. [`Kernel::detect`] asks the CPU once, and times it where its answer tells too little; the value it returns is small and `Copy`.
//! All functions are safe; they panic, naming the lengths, when slices and shapes disagree. No thread is started here: those of a
//! [`Crew`] that the caller brings share a product or an attention.
//!
//! Results differ between instruction sets in the last bits, because sums are taken in another order. On one instruction
//! set a row of a result depends only on its own row of input: batching never changes an answer.
//!
//! ```
//! use plimsoll_kernel::{Epilogue, Kernel, LinearShape};
//! let kernel = Kernel::detect();
//! let (x, w, bias) = ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [0.5, 0.0, -0.5]);
//! let mut y = [0.0; 3];
//! kernel.linear(&x, &w, Some(&bias), &mut y, LinearShape { rows: 1, inputs: 2, outputs: 3 }, Epilogue::Store);
//! assert_eq!(y, [11.5, 17.0, 22.5]);
//! ```

mod act;
mod attention;
mod crew;
mod dot;
mod encode;
mod linear;
mod math;
mod packed;
mod peak;
mod product;
mod q4;
mod rows;
mod simd;

pub use act::Activation;
pub use attention::{AttentionShape, HEAD_DIM_MAX};
pub use crew::Crew;
pub use encode::{Rows, encoded_words};
pub use linear::LinearShape;
pub use packed::{Format, PACKED_FOUR_MAX, Packed, pack, packed_words};
pub use product::Epilogue;
pub use q4::{Q4_BLOCK_BYTES, Q4_BLOCK_WEIGHTS, bf16_to_f32, f16_to_f32, f32_to_bf16, q4_row_bytes};

use std::sync::OnceLock;

use linear::Linear;
use rows::{Join, Pool};
use simd::{Level, Portable};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, on every CPU.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// And VNNI, for 8-bit products.
    Avx512Vnni,
    /// And BF16, for bf16 products.
    Avx512Bf16,
    /// And AMX, for products of tiles of bf16 and of 8-bit numbers.
    Avx512Amx,
}

impl Isa {
    /// Every instruction set, narrowest first, whether this CPU has it or not.
    pub const ALL: [Isa; 6] = [
        Isa::Portable,
        Isa::Avx2,
        Isa::Avx512,
        Isa::Avx512Vnni,
        Isa::Avx512Bf16,
        Isa::Avx512Amx,
    ];

    /// A lower-case name: `portable`, `avx2`, `avx512`, `avx512-vnni`, `avx512-bf16`, `avx512-amx`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512-vnni",
            Isa::Avx512Bf16 => "avx512-bf16",
            Isa::Avx512Amx => "avx512-amx",
        }
    }
}

/// The kernels of one instruction set. Having one tells you: this CPU can run it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    level: Level,
}

impl Kernel {
    /// The widest instruction set of this CPU that pays: bf16 products are slower than those of floats on some that have them (Sapphire
    /// Rapids), which is measured once, in about 0.1 ms.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Kernel> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            Isa::ALL
                .into_iter()
                .rev()
                .filter_map(Self::with)
                .find(Self::pays)
                .unwrap_or_else(Self::portable)
        })
    }

    /// Plain Rust.
    pub const fn portable() -> Self {
        Kernel {
            level: Level::Portable(Portable),
        }
    }

    /// A given instruction set, or `None` when this CPU lacks it.
    pub fn with(isa: Isa) -> Option<Self> {
        let level = match isa {
            Isa::Portable => Some(Level::Portable(Portable)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => simd::Avx2::new().map(Level::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => simd::Avx512::new().map(Level::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => simd::Avx512::new().map(Level::Avx512Vnni),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => simd::Avx512::new().map(Level::Avx512Bf16),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Amx => simd::Avx512::new().map(Level::Avx512Amx),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        };
        level.map(|level| Kernel { level })
    }

    /// Which instruction set this is.
    pub const fn isa(&self) -> Isa {
        match self.level {
            Level::Portable(_) => Isa::Portable,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni(_) => Isa::Avx512Vnni,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16(_) => Isa::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Amx(_) => Isa::Avx512Amx,
        }
    }

    /// What weights of a format are best [packed](pack) in for this CPU, when they are packed for it alone: floats as sums of two bf16 where it multiplies tiles of those.
    pub const fn packing(&self, format: Format) -> Format {
        match format {
            Format::F32 if self.level.has_tiles() => Format::TwoBf16,
            _ => format,
        }
    }

    /// What rows that meet weights of a format are encoded in: bf16 ones stay floats where that is faster.
    pub const fn row_format(&self, weights: Format) -> Format {
        match weights {
            Format::Bf16 if !self.level.multiplies_bf16() => Format::F32,
            _ => weights,
        }
    }

    /// `Y[rows, outputs] = X[rows, inputs] W[outputs, inputs]^T + bias[outputs]`, then the epilogue.
    ///
    /// # Panics
    /// When there are no inputs or a slice is not exactly as long as `shape` says.
    pub fn linear(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
        shape: LinearShape,
        epilogue: Epilogue,
    ) {
        assert_eq!(w.len(), shape.outputs * shape.inputs, "weights");
        assert!(shape.inputs > 0, "a product over no inputs");
        assert_eq!(x.len(), shape.rows * shape.inputs, "x");
        assert_eq!(y.len(), shape.rows * shape.outputs, "y");
        if let Some(bias) = bias {
            assert_eq!(bias.len(), shape.outputs, "bias");
        }
        if !y.is_empty() {
            self.level.run(Linear {
                x,
                w,
                bias,
                y,
                shape,
                epilogue,
            });
        }
    }

    /// `Y[rows, outputs] = X W^T + bias`, then the epilogue, with packed weights; threads of the crew share the rows, or the outputs where rows are few. X is in the
    /// [format of rows](Kernel::row_format) for W; with weights in bf16 it may always be floats.
    ///
    /// # Panics
    /// When X is in another format or differs from W in inputs, or a slice is not as long as they say; with weights in two bf16 where they are no [packing](Kernel::packing).
    pub fn product(
        &self,
        x: Rows<'_>,
        w: Packed<'_>,
        bias: Option<&[f32]>,
        y: &mut [f32],
        epilogue: Epilogue,
        crew: &Crew,
    ) {
        check_product(self, x, w, bias);
        assert_eq!(y.len(), x.rows() * w.outputs(), "y");
        product::product(self.level, x, w, bias, y, epilogue, crew);
    }

    /// `Y[rows, outputs] = f(X W^T + bias)` as rows of [`Format::Bf16`], which the next product reads: they are rounded while they are in
    /// the first-level cache, and floats are never written. f is as in [`Epilogue::Activate`].
    ///
    /// # Panics
    /// As [`Kernel::product`]; Y is [`encoded_words`] long.
    pub fn product_bf16(
        &self,
        x: Rows<'_>,
        w: Packed<'_>,
        bias: Option<&[f32]>,
        y: &mut [u32],
        activation: Activation,
        crew: &Crew,
    ) {
        check_product(self, x, w, bias);
        assert_eq!(y.len(), encoded_words(Format::Bf16, w.outputs(), x.rows()), "y");
        product::product_bf16(self.level, x, w, bias, y, activation, crew);
    }

    /// Encodes rows of `width` floats, the next one `stride` floats on, for a product in `format`.
    ///
    /// # Panics
    /// When `out` is not whole [rows](encoded_words), or x has fewer rows than `out`.
    pub fn encode(
        &self,
        format: Format,
        x: &[f32],
        width: usize,
        stride: usize,
        out: &mut [u32],
        crew: &Crew,
    ) {
        let words = encoded_words(format, width, 1);
        assert!(
            words > 0 && stride >= width && out.len().is_multiple_of(words),
            "{} words in rows of {words}",
            out.len()
        );
        let rows = out.len() / words;
        assert!(
            rows == 0 || x.len() >= (rows - 1) * stride + width,
            "{rows} rows of {stride} in {}",
            x.len()
        );
        encode::encode(self.level, format, x, width, stride, out, crew);
    }

    /// Expands one row of [Q4_0 blocks](q4_row_bytes), for instance of an embedding table.
    ///
    /// # Panics
    /// When `blocks` does not hold exactly `out.len()` weights.
    pub fn q4_row(&self, blocks: &[u8], out: &mut [f32]) {
        assert_eq!(
            Some(blocks.len()),
            q4_row_bytes(out.len()),
            "4-bit row of {} weights",
            out.len()
        );
        self.level.run(q4::Q4Row { blocks, out });
    }

    /// Self-attention of sequences that lie end to end: `softmax(Q K^T / sqrt(head_dim)) V`, head by head.
    ///
    /// A row of `qkv` is a token's query, key and value, each [`AttentionShape::width`] floats; the context replaces the query.
    /// `format` is that of the weights around it: inner products are in bf16 with bf16 and 8 bits where [that pays](Kernel::row_format), else
    /// in floats. `scratch` is [`AttentionShape::scratch_words`] of the longest
    /// sequence for each lane of the crew; its contents do not matter.
    ///
    /// # Panics
    /// When a slice is not exactly as long as the lengths and the shape say, a sequence is empty, or a head wider than 256.
    pub fn attention(
        &self,
        format: Format,
        qkv: &mut [f32],
        lens: &[u32],
        shape: AttentionShape,
        scratch: &mut [u32],
        crew: &Crew,
    ) {
        let (mut rows, mut longest) = (0_usize, 0);
        for &len in lens {
            assert!(len > 0, "an empty sequence");
            rows += len as usize;
            longest = longest.max(len as usize);
        }
        assert!(
            shape.head_dim <= attention::HEAD_DIM_MAX,
            "heads of {}",
            shape.head_dim
        );
        assert_eq!(qkv.len(), rows * 3 * shape.width(), "q, k, v");
        let lane_words = scratch.len() / crew.lanes();
        assert!(lane_words >= shape.scratch_words(longest), "attention scratch");
        if !qkv.is_empty() {
            attention::attention(self.level, format, qkv, lens, shape, scratch, crew);
        }
    }

    /// Softmax of each row of `[n, width]`, in place.
    ///
    /// # Panics
    /// When `width` is zero or does not divide the length.
    pub fn softmax(&self, rows: &mut [f32], width: usize) {
        assert!(
            rows.len().is_multiple_of(width) && width > 0,
            "{} floats in rows of {width}",
            rows.len()
        );
        self.level.run(rows::Softmax { rows, width });
    }

    /// `(x - mean) / sqrt(variance + epsilon) * gain + bias` for each row of `[n, gain.len()]`, in place; the variance is
    /// the biased one, as in `torch.nn.LayerNorm`. Threads of the crew share the rows.
    ///
    /// # Panics
    /// When `gain` is empty, `bias` is not as long, or the rows are not whole.
    pub fn layer_norm(&self, rows: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32, crew: &Crew) {
        let width = gain.len();
        assert!(
            rows.len().is_multiple_of(width) && width > 0,
            "{} floats in rows of {width}",
            rows.len()
        );
        assert_eq!(bias.len(), width, "layer norm bias");
        rows::layer_norm(self.level, rows, gain, bias, epsilon, crew);
    }

    /// Applies an activation function in place.
    pub fn activate(&self, activation: Activation, xs: &mut [f32]) {
        self.level.run(act::Activate { activation, xs });
    }

    /// `y += x`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "add");
        self.level.run(act::Add { y, x });
    }

    /// Sum of products.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "dot");
        self.level.run(rows::Dot { a, b })
    }

    /// Divides by the Euclidean norm, or by 1e-12 where that is larger, as `torch.nn.functional.normalize` does.
    pub fn l2_normalize(&self, xs: &mut [f32]) {
        self.level.run(rows::L2Normalize { xs });
    }

    /// The mean of the rows of `[n, out.len()]`.
    ///
    /// # Panics
    /// When there is no row or the rows are not whole.
    pub fn mean_pool(&self, rows: &[f32], out: &mut [f32]) {
        self.pool(rows, out, Join::Mean);
    }

    /// The maximum of each column of `[n, out.len()]`.
    ///
    /// # Panics
    /// When there is no row or the rows are not whole.
    pub fn max_pool(&self, rows: &[f32], out: &mut [f32]) {
        self.pool(rows, out, Join::Max);
    }

    fn pool(&self, rows: &[f32], out: &mut [f32], join: Join) {
        let width = out.len();
        let whole = width > 0 && !rows.is_empty() && rows.len().is_multiple_of(width);
        assert!(whole, "{} floats in rows of {width}", rows.len());
        self.level.run(Pool { rows, out, join });
    }
}

fn check_product(kernel: &Kernel, x: Rows<'_>, w: Packed<'_>, bias: Option<&[f32]>) {
    assert!(
        w.format() != Format::TwoBf16 || kernel.level.has_tiles(),
        "weights in two bf16 without tiles"
    );
    let wide = (x.format(), w.format()) == (Format::F32, Format::Bf16);
    assert!(
        wide || x.format() == kernel.row_format(w.format()),
        "rows in {} with weights in {}",
        x.format().name(),
        w.format().name()
    );
    assert_eq!(x.inputs(), w.inputs(), "inputs of X and W");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), w.outputs(), "bias");
    }
}
