//! What writers read, and where their chunks come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use plimsoll_encoder::Problem;
use plimsoll_engine::{Answer, Chunk, Entity, Span, TokensView};

use crate::app::App;

/// A piece of answer to write into.
pub trait ChunkBytes: AsRef<[u8]> + Send + Sync + 'static {
    /// All of it.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Only the first `len` bytes count.
    fn truncate(&mut self, len: usize);
}

/// An answer as the writers see it, with the model's names for what is in it.
pub trait Source: Send + Sync + 'static {
    /// Where the text goes.
    type Chunk: ChunkBytes;

    /// The next free chunk; the task is woken when one comes back.
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Self::Chunk>;
    /// Inputs answered.
    fn inputs(&self) -> usize;
    /// The (first) text of an input.
    fn text(&self, index: usize) -> &str;
    /// The second text of a pair, or nothing.
    fn second(&self, index: usize) -> &str;
    /// Its tokens.
    fn tokens(&self, index: usize) -> TokensView<'_>;
    /// Tokens that were read.
    fn token_count(&self, index: usize) -> usize;
    /// Tokens of the whole input.
    fn token_total(&self, index: usize) -> usize;
    /// Whether something has not read the whole input.
    fn truncated(&self, index: usize) -> bool;
    /// Ascending byte ends of words that tile the text.
    fn words(&self, index: usize) -> &[u32];
    /// Its entities, one by one.
    fn entity(&self, index: usize, nth: usize) -> Option<Entity<'_>>;
    /// Its vector.
    fn embedding(&self, index: usize) -> &[f32];
    /// A vector for each token that was read, row after row.
    fn token_embeddings(&self, index: usize) -> &[f32];
    /// Width of a token's vector.
    fn hidden(&self) -> usize;
    /// The sequence head's raw scores.
    fn logits(&self, index: usize) -> &[f32];
    /// What they mean.
    fn problem(&self) -> Problem;
    /// The name of a class.
    fn class_label(&self, class: usize) -> &str;
    /// The text of a vocabulary entry.
    fn token_text(&self, id: u32) -> &str;
    /// Whether a vocabulary entry is a special token.
    fn is_special(&self, id: u32) -> bool;
    /// The text of token ids, written into `out`; its length, or `None` where it does not fit.
    fn decode(&self, ids: &[u32], skip_special_tokens: bool, out: &mut [u8]) -> Option<usize>;
    /// What the model is called.
    fn model_name(&self) -> &str;
    /// A piece of the request's body, for what comes back as it was.
    fn body(&self, span: Span) -> &[u8];
    /// The kinds of entities that it knows.
    fn entity_kinds(&self) -> &[String];
    /// What tells this answer from others.
    fn stamp(&self) -> Stamp;
}

/// A number that no other answer of this process has, and when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The number.
    pub number: u64,
    /// Seconds since 1970.
    pub unix_s: u64,
}

impl Stamp {
    /// A stamp of now, for an answer of a process that started at `started_unix_s`.
    fn now(started_unix_s: u64) -> Stamp {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Stamp {
            number: started_unix_s << 24 ^ NEXT.fetch_add(1, Ordering::Relaxed),
            unix_s: now.map_or(started_unix_s, |now| now.as_secs()),
        }
    }
}

impl ChunkBytes for Chunk {
    fn bytes_mut(&mut self) -> &mut [u8] {
        Chunk::bytes_mut(self)
    }

    fn truncate(&mut self, len: usize) {
        Chunk::truncate(self, len);
    }
}

/// An answer of the engine.
pub struct Served {
    answer: Answer,
    app: Arc<App>,
    stamp: Stamp,
}

impl Served {
    /// An answer to be written.
    pub fn new(answer: Answer, app: Arc<App>) -> Self {
        let stamp = Stamp::now(app.metrics.started_unix_s());
        Served { answer, app, stamp }
    }

    /// The answer.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }
}

impl Source for Served {
    type Chunk = Chunk;

    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Chunk> {
        self.answer.poll_chunk(cx)
    }

    fn inputs(&self) -> usize {
        self.answer.len()
    }

    fn text(&self, index: usize) -> &str {
        self.answer.text(index)
    }

    fn second(&self, index: usize) -> &str {
        self.answer.second(index).unwrap_or_default()
    }

    fn tokens(&self, index: usize) -> TokensView<'_> {
        self.answer.tokens(index)
    }

    fn token_count(&self, index: usize) -> usize {
        self.answer.token_count(index)
    }

    fn token_total(&self, index: usize) -> usize {
        self.answer.token_total(index)
    }

    fn truncated(&self, index: usize) -> bool {
        self.answer.truncated(index)
    }

    fn words(&self, index: usize) -> &[u32] {
        self.answer.words(index)
    }

    fn entity(&self, index: usize, nth: usize) -> Option<Entity<'_>> {
        self.answer.entity(index, nth)
    }

    fn embedding(&self, index: usize) -> &[f32] {
        self.answer.embedding(index)
    }

    fn token_embeddings(&self, index: usize) -> &[f32] {
        self.answer.token_embeddings(index)
    }

    fn hidden(&self) -> usize {
        self.app.engine.model().info().hidden
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.answer.logits(index)
    }

    fn problem(&self) -> Problem {
        self.app
            .engine
            .model()
            .info()
            .sequence_head
            .as_ref()
            .map_or(Problem::SingleLabel, |head| head.problem)
    }

    fn class_label(&self, class: usize) -> &str {
        self.app
            .engine
            .model()
            .info()
            .sequence_head
            .as_ref()
            .map_or("", |head| head.labels.name(class))
    }

    fn token_text(&self, id: u32) -> &str {
        self.app.engine.tokenizer().token_text(id).unwrap_or_default()
    }

    fn is_special(&self, id: u32) -> bool {
        self.app.engine.tokenizer().is_special(id)
    }

    fn decode(&self, ids: &[u32], skip_special_tokens: bool, out: &mut [u8]) -> Option<usize> {
        self.app
            .engine
            .tokenizer()
            .decode(ids, skip_special_tokens, out)
            .ok()
    }

    fn model_name(&self) -> &str {
        &self.app.model_name
    }

    fn body(&self, span: Span) -> &[u8] {
        self.answer.span(span)
    }

    fn entity_kinds(&self) -> &[String] {
        &self.app.abilities.entities
    }

    fn stamp(&self) -> Stamp {
        self.stamp
    }
}
