//! All that one request holds, moved as one value from stage to stage. Dropping it gives everything back.

use plimsoll_encoder::spans::{EntitySpan, Step, Taken};
use plimsoll_memory::{Lease, Pins, Pod, cast, cast_mut};

use crate::clock::Nanos;
use crate::engine::Engine;
use crate::error::JobError;
use crate::gate::{Held, InTurn};
use crate::inputs::{Input, InputTable};
use crate::need::{Known, need};
use crate::pools::{self, slot};
use crate::request::{JobOptions, Span, Tasks};

/// What a job owns.
pub(crate) struct Work {
    pub(crate) body: Lease<u8>,
    pub(crate) inputs: InputTable,
    pub(crate) ids: Option<Lease<u32>>,
    pub(crate) tokens: Tokens,
    pub(crate) words: Option<Lease<u32>>,
    pub(crate) labels: Labels,
    pub(crate) features: Features,
    /// Cached vectors that are read until the answer was written.
    pub(crate) pins: Option<Pins>,
    /// The cache was, or will be, asked or told.
    pub(crate) uses_cache: bool,
    pub(crate) options: JobOptions,
    pub(crate) times: Times,
    pub(crate) progress: Progress,
    /// A worker has taken it for the text stage. A late entry in the line must not read it twice.
    pub(crate) text_taken: bool,
    /// Tasks that were asked for and are not done, because memory is short.
    pub(crate) dropped: Tasks,
    /// Its turn in the workers' line, until it is over.
    pub(crate) in_turn: Option<InTurn>,
    /// Last, so that the slots are back before their bytes are.
    pub(crate) held: Held,
}

/// When things happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) submitted: Nanos,
    pub(crate) deadline: Nanos,
    pub(crate) text_begun: Nanos,
    pub(crate) text_done: Nanos,
    pub(crate) pass_begun: Nanos,
    pub(crate) done: Nanos,
}

/// Which sequences are still to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Sequences in all.
    pub(crate) total: usize,
    /// Sequences whose heads ran.
    pub(crate) done: usize,
    /// The next sequence to go into a pass: its input and window.
    pub(crate) next_input: usize,
    pub(crate) next_window: usize,
    /// How far the characters of a text have been counted, where they have labels.
    pub(crate) counted: Counted,
}

/// Tokens of an input whose characters have been counted. Windows are read roughly in order, so that going on from here keeps the
/// count linear in the text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) input: usize,
    /// The first token that has not been counted, in the token slot.
    pub(crate) token: usize,
    /// What those before it have taken.
    pub(crate) taken: Taken,
}

/// Bytes of one token: id, start, end, type.
pub(crate) const TOKEN_BYTES: usize = 13;

/// Token slots as a structure of arrays in one lease: ids, starts, ends, types.
#[derive(Default)]
pub(crate) struct Tokens {
    lease: Option<Lease<u8>>,
    capacity: usize,
}

/// Mutable views of [`Tokens`].
pub(crate) struct TokensMut<'a> {
    pub(crate) ids: &'a mut [u32],
    pub(crate) starts: &'a mut [u32],
    pub(crate) ends: &'a mut [u32],
    pub(crate) types: &'a mut [u8],
}

impl Tokens {
    pub(crate) fn new(lease: Option<Lease<u8>>, capacity: usize) -> Tokens {
        Tokens { lease, capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    fn section(&self, index: usize) -> &[u32] {
        self.lease.as_ref().map_or(&[], |lease| {
            cast(&lease[4 * index * self.capacity..][..4 * self.capacity])
                .expect("slots are aligned to pages")
        })
    }

    pub(crate) fn ids(&self) -> &[u32] {
        self.section(0)
    }

    pub(crate) fn starts(&self) -> &[u32] {
        self.section(1)
    }

    pub(crate) fn ends(&self) -> &[u32] {
        self.section(2)
    }

    pub(crate) fn types(&self) -> &[u8] {
        self.lease
            .as_ref()
            .map_or(&[], |lease| &lease[12 * self.capacity..][..self.capacity])
    }

    pub(crate) fn all_mut(&mut self) -> TokensMut<'_> {
        let bytes: &mut [u8] = self.lease.as_deref_mut().unwrap_or_default();
        let (ids, rest) = bytes.split_at_mut(4 * self.capacity);
        let (starts, rest) = rest.split_at_mut(4 * self.capacity);
        let (ends, types) = rest.split_at_mut(4 * self.capacity);
        TokensMut {
            ids: numbers(ids),
            starts: numbers(starts),
            ends: numbers(ends),
            types: &mut types[..self.capacity],
        }
    }
}

fn numbers<T: Pod>(bytes: &mut [u8]) -> &mut [T] {
    // Without a slot there is nothing, and that lies nowhere.
    if bytes.is_empty() {
        return &mut [];
    }
    cast_mut(bytes).expect("sections of slots are aligned")
}

/// Bytes of one labelled token or character: an entity span, a score, a label.
pub(crate) const LABEL_BYTES: usize = size_of::<EntitySpan>() + 4 + 2;

/// Labels, scores and entity spans of all tokens, or of all characters, in one lease.
#[derive(Default)]
pub(crate) struct Labels {
    lease: Option<Lease<u8>>,
    len: usize,
}

/// Mutable views of [`Labels`]; there is room for as many entities as labels.
pub(crate) struct LabelsMut<'a> {
    pub(crate) entities: &'a mut [EntitySpan],
    pub(crate) scores: &'a mut [f32],
    pub(crate) labels: &'a mut [u16],
}

/// As [`LabelsMut`], with a step or more for each label.
pub(crate) struct SearchMut<'a> {
    pub(crate) steps: &'a mut [Step],
    pub(crate) scores: &'a mut [f32],
    pub(crate) labels: &'a mut [u16],
}

const _: () = assert!(size_of::<Step>() <= size_of::<EntitySpan>());

impl Labels {
    pub(crate) fn new(lease: Option<Lease<u8>>, len: usize) -> Labels {
        Labels { lease, len }
    }

    fn split(&mut self) -> (&mut [u8], &mut [f32], &mut [u16]) {
        let bytes: &mut [u8] = self.lease.as_deref_mut().unwrap_or_default();
        let (entities, rest) = bytes.split_at_mut(size_of::<EntitySpan>() * self.len);
        let (scores, rest) = rest.split_at_mut(4 * self.len);
        (entities, numbers(scores), numbers(&mut rest[..2 * self.len]))
    }

    pub(crate) fn all_mut(&mut self) -> LabelsMut<'_> {
        let (entities, scores, labels) = self.split();
        LabelsMut {
            entities: numbers(entities),
            scores,
            labels,
        }
    }

    /// Before there are entities, their room serves the search for the best labels.
    pub(crate) fn search_mut(&mut self) -> SearchMut<'_> {
        let (entities, scores, labels) = self.split();
        SearchMut {
            steps: numbers(entities),
            scores,
            labels,
        }
    }

    pub(crate) fn entity(&self, index: usize) -> Option<EntitySpan> {
        let bytes = &self.lease.as_ref()?[..size_of::<EntitySpan>() * self.len];
        cast::<EntitySpan>(bytes)?.get(index).copied()
    }
}

/// Vectors and class scores of all inputs, in one lease: embeddings, classes, token vectors.
#[derive(Default)]
pub(crate) struct Features {
    lease: Option<Lease<f32>>,
    /// Embeddings that are computed, their width (0 when none are asked for), and with it their end.
    embeddings: usize,
    embedding_width: usize,
    inputs: usize,
    classes: usize,
    /// Width of a token's vector.
    row_width: usize,
}

impl Features {
    pub(crate) fn new(
        lease: Option<Lease<f32>>,
        embeddings: usize,
        embedding_width: usize,
        inputs: usize,
        classes: usize,
        row_width: usize,
    ) -> Features {
        Features {
            lease,
            embeddings,
            embedding_width,
            inputs,
            classes,
            row_width,
        }
    }

    fn embedding_range(&self, vector: usize) -> std::ops::Range<usize> {
        vector * self.embedding_width..(vector + 1) * self.embedding_width
    }

    fn class_range(&self, input: usize) -> std::ops::Range<usize> {
        let start = self.embeddings * self.embedding_width + input * self.classes;
        start..start + self.classes
    }

    fn row_range(&self, input: &Input) -> std::ops::Range<usize> {
        let rows = self.embeddings * self.embedding_width + self.inputs * self.classes;
        rows + input.rows.range().start * self.row_width..rows + input.rows.range().end * self.row_width
    }

    fn slice(&self, range: std::ops::Range<usize>) -> &[f32] {
        self.lease.as_ref().map_or(&[], |lease| &lease[range])
    }

    fn slice_mut(&mut self, range: std::ops::Range<usize>) -> &mut [f32] {
        self.lease.as_mut().map_or(&mut [], |lease| &mut lease[range])
    }

    /// The embedding of number `vector`, not of an input.
    pub(crate) fn embedding(&self, vector: usize) -> &[f32] {
        self.slice(self.embedding_range(vector))
    }

    pub(crate) fn embedding_mut(&mut self, vector: usize) -> &mut [f32] {
        self.slice_mut(self.embedding_range(vector))
    }

    pub(crate) fn embedding_width(&self) -> usize {
        self.embedding_width
    }

    pub(crate) fn logits(&self, input: usize) -> &[f32] {
        self.slice(self.class_range(input))
    }

    pub(crate) fn logits_mut(&mut self, input: usize) -> &mut [f32] {
        self.slice_mut(self.class_range(input))
    }

    pub(crate) fn rows(&self, input: &Input) -> &[f32] {
        self.slice(self.row_range(input))
    }

    pub(crate) fn rows_mut(&mut self, input: &Input) -> &mut [f32] {
        self.slice_mut(self.row_range(input))
    }
}

impl Work {
    /// Whether there is time left for it.
    ///
    /// # Errors
    /// [`JobError::Deadline`] when there is none.
    pub(crate) fn in_time(&self, now: Nanos) -> Result<(), JobError> {
        let deadline = self.times.deadline;
        if now < deadline {
            return Ok(());
        }
        Err(JobError::Deadline {
            deadline_ms: deadline.since(self.times.submitted) / 1_000_000,
        })
    }

    /// The text of a span of the body.
    ///
    /// # Panics
    /// When it is not UTF-8, which whoever read the body has checked: a fault of ours, answered as one.
    pub(crate) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(&self.body[span.range()]).expect("the reader of the body checks its texts")
    }

    /// Bytes of the slots held now, results not counted.
    pub(crate) fn slot_bytes(&self) -> usize {
        let ids = self.ids.as_ref().map_or(0, Lease::slot_bytes);
        let words = self.words.as_ref().map_or(0, Lease::slot_bytes);
        let tokens = self.tokens.lease.as_ref().map_or(0, Lease::slot_bytes);
        let pins = self.pins.as_ref().map_or(0, Pins::slot_bytes);
        self.body.slot_bytes() + self.inputs.slot_bytes() + ids + words + tokens + pins
    }

    /// What is known, once its body was read, of the inputs that are to be read: all but those whose vectors were found.
    pub(crate) fn known(&self) -> Known {
        let mut known = Known {
            body_bytes: self.body.len(),
            text_bytes: 0,
            inputs: 0,
            ids: 0,
            cut: Known::cut(self.options.tasks),
        };
        for input in self.inputs.iter().filter(|input| !input.is_cached()) {
            known.text_bytes += input.text_bytes();
            known.inputs += 1;
            known.ids += input.ids();
        }
        known
    }

    /// Tokens at worst.
    pub(crate) fn tokens_worst(&self, engine: &Engine) -> usize {
        need(engine.limits(), engine.rates(), self.options.tasks, self.known()).tokens
    }

    /// Bytes that it may still come to need, those that it holds included: what stays debited once its body was read.
    pub(crate) fn bytes_worst(&self, engine: &Engine) -> usize {
        let mut need = need(engine.limits(), engine.rates(), self.options.tasks, self.known());
        (need.body, need.inputs, need.ids) = (0, 0, 0);
        // The price of no body and no inputs is one least slot each; these are held at their own sizes.
        let least = slot::<u8>(1) + slot::<Input>(1);
        self.slot_bytes() + pools::bytes(&need, engine.limits().chunk_bytes) - least
    }

    /// Leases that found their slot warm, and those that did not.
    pub(crate) fn warm_and_cold(&self) -> (u64, u64) {
        let leases = [
            Some(self.body.was_warm()),
            Some(self.inputs.was_warm()),
            self.ids.as_ref().map(Lease::was_warm),
            self.tokens.lease.as_ref().map(Lease::was_warm),
            self.words.as_ref().map(Lease::was_warm),
            self.labels.lease.as_ref().map(Lease::was_warm),
            self.features.lease.as_ref().map(Lease::was_warm),
        ];
        let all = leases.iter().flatten();
        let warm = all.clone().filter(|warm| **warm).count();
        (warm as u64, (all.count() - warm) as u64)
    }

    /// Discards every slot instead of returning it: a stage panicked while it held them.
    pub(crate) fn discard(self) {
        let Work {
            body,
            inputs,
            ids,
            tokens,
            words,
            labels,
            features,
            pins,
            held,
            ..
        } = self;
        body.discard();
        inputs.discard();
        ids.into_iter().for_each(Lease::discard);
        tokens.lease.into_iter().for_each(Lease::discard);
        words.into_iter().for_each(Lease::discard);
        labels.lease.into_iter().for_each(Lease::discard);
        features.lease.into_iter().for_each(Lease::discard);
        pins.into_iter().for_each(Pins::discard);
        drop(held);
    }
}
