//! The pass: packed tokens through all layers, in place in one arena.
//!
//! ```text
//! h = norm(words[id] + positions[p] + types[t])                        tokens x hidden, the result's own piece
//! for each layer:
//!     for each run of whole sequences of up to CHUNK_TOKENS:           q, k, v: chunk x hidden
//!         q, k, v = h W + b;  q = attention(q, k, v) sequence by sequence
//!         h = norm(h + q W + b)
//!     for each tile of FEED_FORWARD_ROWS rows:                         middle: tile x intermediate
//!         middle = gelu(h W + b);  h = norm(h + middle W + b)
//! ```
//!
//! Every layer writes where it read, so memory is O(tokens x hidden) for the result and a constant for the rest (unless one
//! sequence is longer than a chunk). Attention's and the feed-forward network's temporaries take turns in the same bytes.

use plimsoll_kernel::{AttentionShape, Epilogue, Kernel, LinearShape, q4_panel_len};
use plimsoll_memory::{Frame, ScratchReq, ScratchTooSmall};

use crate::arch::{Encoder, Layer, Linear, Norm, Row};
use crate::batch::{Batch, BatchShape};
use crate::config::{Config, is_roberta};
use crate::error::ForwardError;
use crate::weights::{Matrix, Store};

/// Tokens whose queries, keys and values exist at once, unless one sequence is longer.
const CHUNK_TOKENS: usize = 256;
/// Rows whose feed-forward middle exists at once.
const FEED_FORWARD_ROWS: usize = 128;

/// What a pass reads.
pub(crate) struct Pass<'m> {
    pub(crate) config: &'m Config,
    pub(crate) encoder: &'m Encoder,
    pub(crate) store: &'m Store,
    pub(crate) kernel: Kernel,
}

/// Lengths of the pieces that a pass takes, in floats.
struct Pieces {
    hidden: usize,
    panel: usize,
    /// Of q, of k and of v.
    projection: usize,
    attention: usize,
    middle: usize,
}

impl Pieces {
    fn new(config: &Config, encoder: &Encoder, shape: BatchShape) -> Pieces {
        let chunk = shape.tokens.min(CHUNK_TOKENS.max(shape.tokens_longest));
        Pieces {
            hidden: shape.tokens.saturating_mul(config.hidden),
            panel: q4_panel_len(encoder.q4_inputs_max()),
            projection: chunk.saturating_mul(config.hidden),
            attention: attention_shape(config, shape.tokens_longest).scratch_len(),
            middle: shape.tokens.min(FEED_FORWARD_ROWS) * config.intermediate,
        }
    }
}

fn attention_shape(config: &Config, len: usize) -> AttentionShape {
    AttentionShape {
        len,
        heads: config.heads,
        head_dim: config.hidden / config.heads,
    }
}

/// Bytes that [`Pass::run`] takes.
pub(crate) fn scratch(config: &Config, encoder: &Encoder, shape: BatchShape) -> ScratchReq {
    let pieces = Pieces::new(config, encoder, shape);
    let attention = ScratchReq::of::<f32>(pieces.projection)
        .times(3)
        .and(ScratchReq::of::<f32>(pieces.attention));
    let feed_forward = ScratchReq::of::<f32>(pieces.middle);
    ScratchReq::of::<f32>(pieces.hidden)
        .and(ScratchReq::of::<f32>(pieces.panel))
        .and(attention.or(feed_forward))
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
        let pieces = Pieces::new(self.config, self.encoder, shape);
        let hidden = frame.take::<f32>(pieces.hidden)?;
        let temporaries = frame.nested();
        let panel = temporaries.take::<f32>(pieces.panel)?;
        self.embed(batch, hidden);
        for layer in &self.encoder.layers {
            self.attend(layer, batch.lens, hidden, &pieces, panel, &temporaries.nested())?;
            self.feed_forward(layer, hidden, &pieces, panel, &temporaries.nested())?;
        }
        Ok(hidden)
    }

    /// Refuses too small a frame before anything is computed.
    fn check_scratch(&self, shape: BatchShape, frame: &Frame<'_>) -> Result<(), ScratchTooSmall> {
        let needed_bytes = scratch(self.config, self.encoder, shape).bytes();
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
            Row::Q4(blocks) => self.kernel.q4_row(blocks, out),
        }
    }

    fn add_row(&self, table: &Matrix, index: usize, out: &mut [f32]) {
        match table.row(self.store, index, out.len()) {
            Row::F32(row) => self.kernel.add(out, row),
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
        pieces: &Pieces,
        panel: &mut [f32],
        frame: &Frame<'_>,
    ) -> Result<(), ScratchTooSmall> {
        let width = self.config.hidden;
        let q = frame.take::<f32>(pieces.projection)?;
        let k = frame.take::<f32>(pieces.projection)?;
        let v = frame.take::<f32>(pieces.projection)?;
        let scratch = frame.take::<f32>(pieces.attention)?;
        let (mut lens, mut rest) = (lens, hidden);
        while !lens.is_empty() {
            let (count, tokens) = next_chunk(lens, pieces.projection / width);
            let (chunk_lens, later) = lens.split_at(count);
            let (rows, behind) = rest.split_at_mut(tokens * width);
            let (q, k, v) = (&mut q[..rows.len()], &mut k[..rows.len()], &mut v[..rows.len()]);
            self.apply(&layer.query, rows, q, Epilogue::Store, panel);
            self.apply(&layer.key, rows, k, Epilogue::Store, panel);
            self.apply(&layer.value, rows, v, Epilogue::Store, panel);
            let mut start = 0;
            for &len in chunk_lens {
                let shape = attention_shape(self.config, len as usize);
                let part = start..start + len as usize * width;
                start = part.end;
                let scratch = &mut scratch[..shape.scratch_len()];
                self.kernel
                    .attention(&mut q[part.clone()], &k[part.clone()], &v[part], shape, scratch);
            }
            self.apply(&layer.context, q, rows, Epilogue::Add, panel);
            self.normalize(&layer.attention_norm, rows);
            (lens, rest) = (later, behind);
        }
        Ok(())
    }

    fn feed_forward(
        &self,
        layer: &Layer,
        hidden: &mut [f32],
        pieces: &Pieces,
        panel: &mut [f32],
        frame: &Frame<'_>,
    ) -> Result<(), ScratchTooSmall> {
        let middle = frame.take::<f32>(pieces.middle)?;
        for rows in hidden.chunks_mut(FEED_FORWARD_ROWS * self.config.hidden) {
            let count = rows.len() / self.config.hidden;
            let middle = &mut middle[..count * self.config.intermediate];
            self.apply(
                &layer.up,
                rows,
                middle,
                Epilogue::Activate(self.config.activation),
                panel,
            );
            self.apply(&layer.down, middle, rows, Epilogue::Add, panel);
            self.normalize(&layer.output_norm, rows);
        }
        Ok(())
    }

    fn apply(&self, linear: &Linear, x: &[f32], y: &mut [f32], epilogue: Epilogue, panel: &mut [f32]) {
        let shape = LinearShape {
            rows: x.len() / linear.inputs,
            inputs: linear.inputs,
            outputs: linear.outputs,
        };
        let bias = Some(self.store.floats(&linear.bias));
        match &linear.weight {
            Matrix::F32(w) => self
                .kernel
                .linear(x, self.store.floats(w), bias, y, shape, epilogue),
            Matrix::Q4(range) => {
                let panel = &mut panel[..q4_panel_len(linear.inputs)];
                self.kernel
                    .linear_q4(x, self.store.blocks(range), bias, y, shape, epilogue, panel);
            }
        }
    }

    fn normalize(&self, norm: &Norm, rows: &mut [f32]) {
        let (gain, bias) = (self.store.floats(&norm.gain), self.store.floats(&norm.bias));
        self.kernel.layer_norm(rows, gain, bias, self.config.epsilon);
    }
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
