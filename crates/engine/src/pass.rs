//! One pass of the encoder: sequences of many requests, packed end to end without padding.

use std::ops::Range;

use plimsoll_encoder::{Batch, ModelInfo};

use crate::config::Limits;
use crate::engine::Engine;
use crate::heads::Staging;
use crate::inputs::Input;
use crate::text_stage::{Window, window};
use crate::work::Work;

/// A sequence has at least so many tokens worth counting on: the table of a pass is sized by it.
const SEQUENCE_TOKENS_MIN: usize = 4;

/// What a pass is filled up to when little waits; a longer sequence has one to itself. Products of so many rows run at 96% (f32) to 100% (8 bits) of what
/// those of 512 rows reach, and whoever shares a pass waits for all of it.
const FILL_TOKENS_MIN: usize = 64;

/// What a pass is filled up to at most: with more, products gain nothing, and turns are rare enough.
const FILL_TOKENS_MAX: usize = 256;

/// The most sequences in one pass.
pub(crate) fn sequences_max(limits: &Limits) -> usize {
    limits.batch_tokens_max.div_ceil(SEQUENCE_TOKENS_MIN)
}

/// The tokens up to which sequences share a pass when so many wait for so many workers: half of a worker's share, so that a long line, where everybody waits
/// anyhow, is worked off in fewer turns.
pub(crate) fn fill_tokens(waiting: usize, workers: usize, tokens_max: usize) -> usize {
    let half_share = waiting / (2 * workers);
    half_share.clamp(FILL_TOKENS_MIN, FILL_TOKENS_MAX).min(tokens_max)
}

/// Bytes of the tables of one worker.
pub(crate) fn table_bytes(limits: &Limits, info: &ModelInfo) -> usize {
    let tokens = limits.batch_tokens_max * (size_of::<u32>() + size_of::<u8>());
    let sequences = sequences_max(limits) * (size_of::<u32>() + size_of::<Part>() + size_of::<u32>());
    tokens + sequences + Staging::bytes(limits, info)
}

/// One sequence of a pass and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) job: u32,
    pub(crate) input: usize,
    pub(crate) nth: usize,
    pub(crate) window: Window,
    /// Its rows of the pass.
    pub(crate) rows: Range<usize>,
}

/// The tables of a pass, built once a worker and refilled.
pub(crate) struct Pass {
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Vec<u8>,
    pub(crate) lens: Vec<u32>,
    pub(crate) parts: Vec<Part>,
    /// Jobs with a part in this pass, each once.
    pub(crate) jobs: Vec<u32>,
    /// The job that is being gathered, for whoever must give an account of a panic.
    pub(crate) gathering: Option<u32>,
    pub(crate) tokens_max: usize,
    sequences_max: usize,
}

impl Pass {
    pub(crate) fn new(limits: &Limits) -> Pass {
        let (tokens, sequences) = (limits.batch_tokens_max, sequences_max(limits));
        Pass {
            ids: Vec::with_capacity(tokens),
            types: Vec::with_capacity(tokens),
            lens: Vec::with_capacity(sequences),
            parts: Vec::with_capacity(sequences),
            jobs: Vec::with_capacity(sequences),
            gathering: None,
            tokens_max: tokens,
            sequences_max: sequences,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.types.clear();
        self.lens.clear();
        self.parts.clear();
        self.jobs.clear();
        self.gathering = None;
    }

    /// What the encoder reads.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            types: &self.types,
            lens: &self.lens,
        }
    }

    /// Takes the next sequences of a job while the pass stays below `tokens_max`; the first of a pass whatever its length. Returns true when the job has none
    /// left.
    pub(crate) fn gather(&mut self, engine: &Engine, job: u32, work: &mut Work, tokens_max: usize) -> bool {
        let parts_before = self.parts.len();
        let mut progress = work.progress;
        while progress.next_input < work.inputs.len() {
            let input = work.inputs.get(progress.next_input);
            if input.is_cached() {
                progress.next_input += 1;
                continue;
            }
            let window = window(engine, work, &input, progress.next_window);
            let is_full = self.ids.len() + window.len > tokens_max && !self.ids.is_empty();
            if is_full || self.parts.len() == self.sequences_max {
                break;
            }
            let nth = progress.next_window;
            self.push(
                engine,
                work,
                &input,
                Part {
                    job,
                    input: progress.next_input,
                    nth,
                    window,
                    rows: 0..0,
                },
            );
            progress.next_window += 1;
            if progress.next_window == input.windows as usize {
                (progress.next_input, progress.next_window) = (progress.next_input + 1, 0);
            }
        }
        work.progress = progress;
        // Only the first job of a pass is gathered twice.
        if self.parts.len() > parts_before && self.jobs.first() != Some(&job) {
            self.jobs.push(job);
        }
        progress.next_input == work.inputs.len()
    }

    fn push(&mut self, engine: &Engine, work: &Work, input: &Input, mut part: Part) {
        let (window, start) = (part.window, self.ids.len());
        let content = window.content_start..window.content_start + window.content_len;
        let specials = engine.specials();
        if window.lead_len > 0 {
            self.ids.extend_from_slice(&specials.lead);
        }
        if let Some(prompt) = work.options.prompt.filter(|_| window.prompt_len > 0) {
            self.ids.extend_from_slice(engine.prompt_tokens(prompt));
        }
        self.ids.extend_from_slice(&work.tokens.ids()[content.clone()]);
        if window.len > window.lead_len + window.prompt_len + window.content_len {
            self.ids.extend_from_slice(&specials.tail);
        }
        if input.kind() == crate::inputs::Kind::Pair && engine.reads_types() {
            self.types.extend_from_slice(&work.tokens.types()[content]);
        }
        self.types.resize(self.ids.len(), 0);
        self.lens.push((self.ids.len() - start) as u32);
        part.rows = start..self.ids.len();
        debug_assert_eq!(part.rows.len(), window.len);
        self.parts.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::fill_tokens;

    #[test]
    fn a_pass_grows_with_the_line() {
        let filled = [0, 200, 400, 9000].map(|waiting| fill_tokens(waiting, 2, 512));
        assert_eq!(filled, [64, 64, 100, 256]);
        assert_eq!(fill_tokens(9000, 1, 32), 32);
    }
}
