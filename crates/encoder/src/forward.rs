//! The pass: packed tokens through all layers, in place in one arena.
//!
//! ```text
//! h = norm(words[id] + positions[p] + types[t])                        tokens x hidden, the result's own piece
//! for each layer:
//!     for each run of whole sequences of up to CHUNK_TOKENS:           qkv: chunk x 3 hidden
//!         qkv = h W + b;  q = attention(qkv), sequence by sequence
//!         h = norm(h + q W + b)
//!     for each tile of 64 or 128 rows a thread:                        middle: tile x intermediate
//!         middle = gelu(h W + b);  h = norm(h + middle W + b)
//! ```
//!
//! Every layer writes where it read, so memory is O(tokens x hidden) for the result and a constant for the rest (unless one
//! sequence is longer than a chunk). In bf16 and
//! 8 bits, what a product reads is encoded just before, a chunk or tile at a time; the residual stays in floats. Where a CPU has no instruction
//! for bf16 that pays, rows are floats and only weights are bf16.

use plimsoll_kernel::{
    AttentionShape, Crew, Epilogue, Format, Isa, Kernel, Packed, Rows, bf16_to_f32, encoded_words,
};
use plimsoll_memory::{Frame, ScratchReq, ScratchTooSmall};

use crate::arch::{Encoder, Layer, Linear, Norm, Row};
use crate::batch::{Batch, BatchShape};
use crate::config::{Config, is_roberta};
use crate::error::ForwardError;
use crate::weights::{Matrix, Store};

/// Tokens whose queries, keys and values exist at once, unless one sequence is longer: what stays in a second-level cache.
const CHUNK_TOKENS: usize = 128;

/// What a pass reads.
pub(crate) struct Pass<'m> {
    pub(crate) config: &'m Config,
    pub(crate) encoder: &'m Encoder,
    pub(crate) store: &'m Store,
    pub(crate) kernel: Kernel,
    pub(crate) weights: Format,
    /// What rows that meet them are encoded in.
    pub(crate) rows: Format,
    pub(crate) crew: &'m Crew,
}

/// Lengths of the pieces that a pass takes: floats, but words where it says so.
struct Pieces {
    hidden: usize,
    /// Queries, keys and values of a chunk.
    qkv: usize,
    /// A chunk's rows as a product reads them, in words.
    chunk: usize,
    /// In words, for all lanes.
    attention: usize,
    middle: usize,
    /// A tile's rows as the two products of the feed-forward network read them, in words.
    tile: usize,
}

impl Pieces {
    fn new(config: &Config, kernel: Kernel, format: Format, shape: BatchShape, lanes: usize) -> Pieces {
        let chunk = shape.tokens.min(CHUNK_TOKENS.max(shape.tokens_longest));
        let tile = shape.tokens.min(feed_forward_rows(kernel, format, lanes));
        let (middle, tile_words) = match format {
            // Read where they are.
            Format::F32 => (tile * config.intermediate, 0),
            // Rounded as they are computed.
            Format::Bf16 => (
                0,
                encoded_words(format, config.hidden, tile) + encoded_words(format, config.intermediate, tile),
            ),
            // Encoded once a whole row is there.
            Format::Int8 | Format::TwoBf16 => (
                tile * config.intermediate,
                encoded_words(format, config.hidden.max(config.intermediate), tile),
            ),
        };
        let lane = attention_shape(config).scratch_words(shape.tokens_longest);
        Pieces {
            hidden: shape.tokens.saturating_mul(config.hidden),
            qkv: chunk.saturating_mul(3 * config.hidden),
            chunk: chunk.saturating_mul(encoded_words(format, config.hidden, 1)),
            attention: lane.saturating_mul(lanes),
            middle,
            tile: tile_words,
        }
    }
}

/// What attention works in.
struct Attention<'f> {
    qkv: &'f mut [f32],
    words: &'f mut [u32],
    scratch: &'f mut [u32],
}

/// What the feed-forward network works in.
struct FeedForward<'f> {
    middle: &'f mut [f32],
    words: &'f mut [u32],
}

fn attention_shape(config: &Config) -> AttentionShape {
    AttentionShape {
        heads: config.heads,
        head_dim: config.hidden / config.heads,
    }
}

/// Rows of a tile of the feed-forward network, whose middle exists at once: for each thread what stays in a second-level cache beside a panel of weights. Where multiplying is
/// so fast that reading weights from the third-level one takes longer, they are read for twice as many.
fn feed_forward_rows(kernel: Kernel, format: Format, lanes: usize) -> usize {
    let each = match format {
        Format::Bf16 | Format::TwoBf16 if kernel.isa() == Isa::Avx512Amx => 128,
        _ => 64,
    };
    each * lanes
}

/// Bytes that [`Pass::run`] takes with rows in a format and a crew of so many lanes.
pub(crate) fn scratch(
    config: &Config,
    kernel: Kernel,
    format: Format,
    shape: BatchShape,
    lanes: usize,
) -> ScratchReq {
    let pieces = Pieces::new(config, kernel, format, shape, lanes);
    let attention = ScratchReq::of::<f32>(pieces.qkv)
        .and(ScratchReq::of::<u32>(pieces.chunk))
        .and(ScratchReq::of::<u32>(pieces.attention));
    let feed_forward = ScratchReq::of::<f32>(pieces.middle).and(ScratchReq::of::<u32>(pieces.tile));
    ScratchReq::of::<f32>(pieces.hidden)
        .and(attention)
        .and(feed_forward)
}

impl<'m> Pass<'m> {
    /// Runs all layers; the result is `[tokens, hidden]`.
    pub(crate) fn run<'s>(
        &self,
        batch: &Batch<'_>,
        frame: &'s Frame<'_>,
    ) -> Result<&'s mut [f32], ForwardError> {
        self.check(batch)?;
        let shape = batch.shape();
        self.check_scratch(shape, frame)?;
        let pieces = Pieces::new(self.config, self.kernel, self.rows, shape, self.crew.lanes());
        let hidden = frame.take::<f32>(pieces.hidden)?;
        let frame = frame.nested();
        let mut attention = Attention {
            qkv: frame.take(pieces.qkv)?,
            words: frame.take(pieces.chunk)?,
            scratch: frame.take(pieces.attention)?,
        };
        let mut feed_forward = FeedForward {
            middle: frame.take(pieces.middle)?,
            words: frame.take(pieces.tile)?,
        };
        self.embed(batch, hidden);
        let layers = &self.encoder.layers;
        for (index, layer) in layers.iter().enumerate() {
            self.attend(layer, batch.lens, hidden, &mut attention);
            self.feed_forward(layer, layers.get(index + 1), hidden, &mut feed_forward);
        }
        Ok(hidden)
    }

    /// Refuses too small a frame before anything is computed.
    fn check_scratch(&self, shape: BatchShape, frame: &Frame<'_>) -> Result<(), ScratchTooSmall> {
        let needed_bytes = scratch(self.config, self.kernel, self.rows, shape, self.crew.lanes()).bytes();
        let available_bytes = frame.available_bytes();
        if needed_bytes > available_bytes {
            return Err(ScratchTooSmall {
                needed_bytes,
                available_bytes,
            });
        }
        Ok(())
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), ForwardError> {
        let (ids, types) = (batch.ids.len(), batch.types.len());
        let lens = batch
            .lens
            .iter()
            .fold(0_usize, |sum, &len| sum.saturating_add(len as usize));
        if lens != ids || (types != 0 && types != ids) {
            return Err(ForwardError::BatchShape { ids, types, lens });
        }
        let positions_max = self.config.positions_max();
        for (sequence, &len) in batch.lens.iter().enumerate() {
            let tokens = len as usize;
            if tokens == 0 {
                return Err(ForwardError::EmptySequence { sequence });
            }
            if tokens > positions_max {
                return Err(ForwardError::TooLong {
                    sequence,
                    tokens,
                    positions_max,
                });
            }
        }
        let vocab_size = self.config.vocab_size;
        if let Some(index) = batch.ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(ForwardError::UnknownId {
                index,
                id: batch.ids[index],
                vocab_size,
            });
        }
        let type_vocab_size = self.config.types;
        if type_vocab_size > 0
            && let Some(index) = batch
                .types
                .iter()
                .position(|&t| usize::from(t) >= type_vocab_size)
        {
            let token_type = batch.types[index];
            return Err(ForwardError::UnknownType {
                index,
                token_type,
                type_vocab_size,
            });
        }
        Ok(())
    }

    fn embed(&self, batch: &Batch<'_>, hidden: &mut [f32]) {
        let width = self.config.hidden;
        let tables = &self.encoder.embeddings;
        let mut token = 0;
        for &len in batch.lens {
            let mut position = self.config.first_position();
            for _ in 0..len {
                let row = &mut hidden[token * width..(token + 1) * width];
                let id = batch.ids[token];
                // RoBERTa gives padding tokens the padding position and does not count them.
                let is_padding = is_roberta(self.config.family) && id == self.config.padding_id;
                let at = if is_padding { id as usize } else { position };
                position += usize::from(!is_padding);
                self.put_row(&tables.words, id as usize, row);
                self.add_row(&tables.positions, at, row);
                if let Some(types) = &tables.types {
                    self.add_row(types, batch.types.get(token).copied().unwrap_or(0).into(), row);
                }
                token += 1;
            }
        }
        self.normalize(&tables.norm, hidden);
    }

    fn put_row(&self, table: &Matrix, index: usize, out: &mut [f32]) {
        match table.row(self.store, index, out.len()) {
            Row::F32(row) => out.copy_from_slice(row),
            Row::Bf16(row) => out.iter_mut().zip(halves(row)).for_each(|(to, from)| *to = from),
            Row::Q4(blocks) => self.kernel.q4_row(blocks, out),
        }
    }

    fn add_row(&self, table: &Matrix, index: usize, out: &mut [f32]) {
        match table.row(self.store, index, out.len()) {
            Row::F32(row) => self.kernel.add(out, row),
            Row::Bf16(row) => out.iter_mut().zip(halves(row)).for_each(|(to, from)| *to += from),
            Row::Q4(blocks) => {
                // A few blocks at a time, so that no row-sized buffer is needed.
                let mut part = [0.0; plimsoll_kernel::Q4_BLOCK_WEIGHTS];
                let blocks = blocks.chunks_exact(plimsoll_kernel::Q4_BLOCK_BYTES);
                for (block, out) in blocks.zip(out.chunks_exact_mut(part.len())) {
                    self.kernel.q4_row(block, &mut part);
                    self.kernel.add(out, &part);
                }
            }
        }
    }

    fn attend(
        &self,
        layer: &Layer,
        lens: &[u32],
        hidden: &mut [f32],
        Attention { qkv, words, scratch }: &mut Attention<'_>,
    ) {
        let width = self.config.hidden;
        let shape = attention_shape(self.config);
        let (mut lens, mut rest) = (lens, hidden);
        while !lens.is_empty() {
            let (count, tokens) = next_chunk(lens, qkv.len() / (3 * width));
            let (chunk_lens, later) = lens.split_at(count);
            let (rows, behind) = rest.split_at_mut(tokens * width);
            let qkv = &mut qkv[..3 * rows.len()];
            let x = self.encoded(rows, width, words);
            self.product(&layer.projection, Some(&layer.context), x, qkv, Epilogue::Store);
            self.kernel
                .attention(self.weights, qkv, chunk_lens, shape, scratch, self.crew);
            let words = &mut words[..encoded_words(self.rows, width, tokens)];
            self.kernel
                .encode(self.rows, qkv, width, 3 * width, words, self.crew);
            let contexts = Rows::encoded(self.rows, width, words);
            let next = if later.is_empty() {
                &layer.up
            } else {
                &layer.projection
            };
            self.product(&layer.context, Some(next), contexts, rows, Epilogue::Add);
            self.normalize(&layer.attention_norm, rows);
            (lens, rest) = (later, behind);
        }
    }

    fn feed_forward(
        &self,
        layer: &Layer,
        next: Option<&Layer>,
        hidden: &mut [f32],
        FeedForward { middle, words }: &mut FeedForward<'_>,
    ) {
        let Config {
            hidden: width,
            intermediate,
            activation,
            ..
        } = *self.config;
        let tile = feed_forward_rows(self.kernel, self.rows, self.crew.lanes());
        let mut tiles = hidden.chunks_mut(tile * width);
        while let Some(rows) = tiles.next() {
            let count = rows.len() / width;
            let x = if self.rows == Format::Bf16 {
                let (words, middle) = words.split_at_mut(encoded_words(self.rows, width, count));
                let middle = &mut middle[..encoded_words(self.rows, intermediate, count)];
                let (weight, bias) = self.operands(&layer.up, Some(&layer.down));
                let x = self.encoded(rows, width, words);
                self.kernel
                    .product_bf16(x, weight, Some(bias), middle, activation, self.crew);
                Rows::encoded(self.rows, intermediate, middle)
            } else {
                let middle = &mut middle[..count * intermediate];
                let x = self.encoded(rows, width, words);
                self.product(
                    &layer.up,
                    Some(&layer.down),
                    x,
                    middle,
                    Epilogue::Activate(activation),
                );
                self.encoded(middle, intermediate, words)
            };
            let next = match tiles.len() {
                0 => next.map(|next| &next.projection),
                _ => Some(&layer.up),
            };
            self.product(&layer.down, next, x, rows, Epilogue::Add);
            self.normalize(&layer.output_norm, rows);
        }
    }

    /// Rows as a product reads them: floats where they are, else encoded into `words`.
    fn encoded<'x>(&self, rows: &'x [f32], width: usize, words: &'x mut [u32]) -> Rows<'x> {
        if self.rows == Format::F32 {
            return Rows::floats(rows, width);
        }
        let words = &mut words[..encoded_words(self.rows, width, rows.len() / width)];
        self.kernel
            .encode(self.rows, rows, width, width, words, self.crew);
        Rows::encoded(self.rows, width, words)
    }

    /// Weights and bias of a layer that `next` follows.
    fn operands(&self, linear: &Linear, next: Option<&Linear>) -> (Packed<'_>, &[f32]) {
        let weight = self.store.packed(&linear.weight);
        let weight = match next {
            Some(next) => weight.before(self.store.packed(&next.weight)),
            None => weight,
        };
        (weight, self.store.floats(&linear.bias))
    }

    fn product(
        &self,
        linear: &Linear,
        next: Option<&Linear>,
        x: Rows<'_>,
        y: &mut [f32],
        epilogue: Epilogue,
    ) {
        let (weight, bias) = self.operands(linear, next);
        self.kernel.product(x, weight, Some(bias), y, epilogue, self.crew);
    }

    fn normalize(&self, norm: &Norm, rows: &mut [f32]) {
        let (gain, bias) = (self.store.floats(&norm.gain), self.store.floats(&norm.bias));
        self.kernel
            .layer_norm(rows, gain, bias, self.config.epsilon, self.crew);
    }
}

fn halves(row: &[u8]) -> impl Iterator<Item = f32> {
    let (halves, _) = row.as_chunks::<2>();
    halves.iter().map(|half| bf16_to_f32(u16::from_le_bytes(*half)))
}

/// How many of the first sequences fit into `capacity` tokens, and their tokens; at least one, as capacity holds the longest.
fn next_chunk(lens: &[u32], capacity: usize) -> (usize, usize) {
    let mut tokens = 0;
    for (count, &len) in lens.iter().enumerate() {
        if count > 0 && tokens + len as usize > capacity {
            return (count, tokens);
        }
        tokens += len as usize;
    }
    (lens.len(), tokens)
}
