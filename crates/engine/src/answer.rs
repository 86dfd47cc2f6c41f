//! An answer in its compact form: offsets into the request's own body and `f32`, in the slots where the stages wrote them.
//!
//! It is turned into text piece by piece while the client reads, through [`CHUNKS`] leased chunks, so that the bytes of an
//! answer are bounded whatever its length. A chunk that was flushed comes back by being dropped; the answer is told
//! through its task's waker.

use std::sync::Arc;
use std::task::{Context, Poll};

use plimsoll_memory::Lease;

use crate::clock::Nanos;
use crate::engine::Engine;
use crate::gate::Held;
use crate::inputs::{Input, Kind};
use crate::need::CHUNKS;
use crate::request::Tasks;
use crate::ticket::Place;
use crate::trace::Moment;
use crate::work::Work;

/// A finished job. Owns all its slots until it is dropped, which is when the last of it was written.
pub struct Answer {
    work: Option<Work>,
    place: Place,
}

/// Tokens of one input. Offsets are bytes of the input's text; special tokens have 0, 0.
#[derive(Clone, Copy, Debug)]
pub struct TokensView<'a> {
    /// Vocabulary ids.
    pub ids: &'a [u32],
    /// First byte of each.
    pub starts: &'a [u32],
    /// End byte of each.
    pub ends: &'a [u32],
}

/// A named entity. Offsets are bytes of the input's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entity<'a> {
    /// Its label, as `PER`.
    pub label: &'a str,
    /// First byte.
    pub start: usize,
    /// End byte.
    pub end: usize,
    /// Probability.
    pub score: f32,
}

/// What the cache of vectors did for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Nothing: it was not asked, cannot spare these tasks, or there is none.
    Off,
    /// It had none of the vectors.
    Miss,
    /// It had some.
    Partial,
    /// It had all: neither tokenizer nor encoder ran.
    Hit,
}

/// Where the time went, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for a worker, before the text stage and before the first pass.
    pub queue_ns: u64,
    /// Segmentation and tokens.
    pub tokenize_ns: u64,
    /// From the first pass to the finished answer.
    pub inference_ns: u64,
}

/// When a job went from stage to stage; 0 for a stage that it did without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// It came into the workers' line.
    pub submitted: Nanos,
    /// A worker began to read its texts.
    pub text_begun: Nanos,
    /// They were read.
    pub text_done: Nanos,
    /// Its first sequence went into a pass.
    pub pass_begun: Nanos,
    /// It was finished.
    pub done: Nanos,
}

impl Answer {
    pub(crate) fn new(mut work: Work, place: Place) -> Answer {
        let engine = &place.engine;
        let chunk_bytes = engine.chunk_slot_bytes();
        let chunks: [_; CHUNKS] = std::array::from_fn(|_| {
            let chunk = engine
                .pools()
                .chunks
                .lease(engine.limits().chunk_bytes)
                .expect("these bytes were debited");
            Some((
                chunk,
                work.held.split(chunk_bytes).expect("both chunks were debited"),
            ))
        });
        let mut cell = engine.berths().lock(place.id);
        cell.writing = true;
        cell.chunks = chunks;
        cell.owner.stay.writing = Some(Moment {
            at: engine.now(),
            bytes: (work.held.bytes() + CHUNKS * chunk_bytes) as u64,
        });
        drop(cell);
        Answer {
            work: Some(work),
            place,
        }
    }

    fn work(&self) -> &Work {
        self.work
            .as_ref()
            .expect("an answer holds its work until it is dropped")
    }

    fn input(&self, index: usize) -> Input {
        self.work().inputs.get(index)
    }

    /// Inputs answered.
    pub fn len(&self) -> usize {
        self.work().inputs.len()
    }

    /// True when the request had no inputs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The (first) text of an input; empty when it came in as ids.
    pub fn text(&self, index: usize) -> &str {
        let input = self.input(index);
        if input.kind() == Kind::Ids {
            ""
        } else {
            self.work().text(input.first)
        }
    }

    /// The second text of a pair.
    pub fn second(&self, index: usize) -> Option<&str> {
        let input = self.input(index);
        (input.kind() == Kind::Pair).then(|| self.work().text(input.second))
    }

    /// Any span of the body, for what a route keeps beside its inputs.
    pub fn span(&self, span: crate::Span) -> &[u8] {
        &self.work().body[span.range()]
    }

    /// The tokens of an input.
    pub fn tokens(&self, index: usize) -> TokensView<'_> {
        let range = self.input(index).tokens.range();
        let tokens = &self.work().tokens;
        TokensView {
            ids: &tokens.ids()[range.clone()],
            starts: &tokens.starts()[range.clone()],
            ends: &tokens.ends()[range],
        }
    }

    /// Tokens of an input that were read, specials and prompt included.
    pub fn token_count(&self, index: usize) -> usize {
        let input = self.input(index);
        let prompt = self.work().options.prompt.filter(|_| input.kind() == Kind::Text);
        input.tokens.len as usize + prompt.map_or(0, |id| self.place.engine.prompt_tokens(id).len())
    }

    /// Tokens of an input before anything was cut, specials included.
    pub fn token_total(&self, index: usize) -> usize {
        self.input(index).token_total as usize
    }

    /// True when a task that was asked for has not read the whole input.
    pub fn truncated(&self, index: usize) -> bool {
        self.input(index).truncated != 0
    }

    /// Ascending byte ends of an input's words, which tile its text.
    pub fn words(&self, index: usize) -> &[u32] {
        let range = self.input(index).words.range();
        self.work().words.as_ref().map_or(&[], |words| &words[range])
    }

    /// Number of entities of an input.
    pub fn entity_count(&self, index: usize) -> usize {
        self.input(index).entities.len as usize
    }

    /// One entity of an input.
    pub fn entity(&self, index: usize, nth: usize) -> Option<Entity<'_>> {
        let span = self.input(index).entities;
        if nth >= span.len as usize {
            return None;
        }
        let raw = self.work().labels.entity(span.start as usize + nth)?;
        let label = self.place.engine.entity_label(raw.label as usize);
        Some(Entity {
            label,
            start: raw.start as usize,
            end: raw.end as usize,
            score: raw.score,
        })
    }

    /// The vector of an input. One that was found in the cache is read where it lies there.
    pub fn embedding(&self, index: usize) -> &[f32] {
        let (work, input) = (self.work(), self.input(index));
        match &work.pins {
            Some(pins) if input.is_cached() => pins.vector(input.vector as usize),
            _ => work.features.embedding(input.vector as usize),
        }
    }

    /// What the cache of vectors did for this job.
    pub fn cache(&self) -> Cached {
        let cached = self.work().inputs.iter().filter(Input::is_cached).count();
        match () {
            () if !self.work().uses_cache => Cached::Off,
            () if cached == 0 => Cached::Miss,
            () if cached == self.len() => Cached::Hit,
            () => Cached::Partial,
        }
    }

    /// One vector for each token that was read, row after row.
    pub fn token_embeddings(&self, index: usize) -> &[f32] {
        self.work().features.rows(&self.input(index))
    }

    /// The sequence head's raw scores.
    pub fn logits(&self, index: usize) -> &[f32] {
        self.work().features.logits(index)
    }

    /// Tasks that were asked for and not done, because memory was short.
    pub fn dropped(&self) -> Tasks {
        self.work().dropped
    }

    /// Where the time went.
    pub fn timings(&self) -> Timings {
        let times = &self.work().times;
        let pass_begun = if times.pass_begun.0 == 0 {
            times.done
        } else {
            times.pass_begun
        };
        Timings {
            queue_ns: times.text_begun.since(times.submitted) + pass_begun.since(times.text_done),
            tokenize_ns: times.text_done.since(times.text_begun),
            inference_ns: times.done.since(pass_begun),
        }
    }

    /// When the job went from stage to stage.
    pub fn moments(&self) -> Moments {
        let times = &self.work().times;
        Moments {
            submitted: times.submitted,
            text_begun: times.text_begun,
            text_done: times.text_done,
            pass_begun: times.pass_begun,
            done: times.done,
        }
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.work().body.len()
    }

    /// Takes a free chunk to write into; when all are on their way, the task is woken as one comes back.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Chunk> {
        let mut cell = self.place.engine.berths().lock(self.place.id);
        match cell.chunks.iter_mut().find_map(Option::take) {
            Some((lease, held)) => Poll::Ready(Chunk {
                len: lease.len(),
                full: Some((lease, held)),
                engine: Arc::clone(&self.place.engine),
                berth: self.place.id,
                generation: cell.generation,
            }),
            None => {
                cell.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A leased piece of answer on its way to the client. Its bytes are shown by [`AsRef`]; [`Chunk::truncate`] says how many
/// count. Dropping it gives it back to its answer, or, when the answer is done, to the pool.
pub struct Chunk {
    full: Option<(Lease<u8>, Held)>,
    len: usize,
    engine: Arc<Engine>,
    berth: u32,
    generation: u32,
}

impl Chunk {
    /// The bytes to write into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.full.as_mut().map_or(&mut [], |(lease, _)| lease)
    }

    /// Only the first `len` bytes count.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.full.as_ref().map_or(&[], |(lease, _)| &lease[..self.len])
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let Some((lease, held)) = self.full.take() else {
            return;
        };
        let mut cell = self.engine.berths().lock(self.berth);
        if cell.writing
            && cell.generation == self.generation
            && let Some(free) = cell.chunks.iter().position(Option::is_none)
        {
            cell.chunks[free] = Some((lease, held));
            cell.owner.flushed_bytes += self.len as u64;
            cell.wake();
            return;
        }
        drop(cell);
        drop((lease, held));
    }
}
