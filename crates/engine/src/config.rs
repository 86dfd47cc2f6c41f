//! How an engine is set up, and the limits that follow.

use std::sync::Arc;

use plimsoll_memory::CachePolicy;

use crate::clock::{Clock, Nanos};
use crate::govern::{Marks, Order, PaceConfig};
use crate::plan::BillLine;

/// A stage of a request's road, as the [`Probe`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Tokens and words are made.
    Text,
    /// Sequences are gathered into a pass.
    Batch,
    /// The encoder runs.
    Forward,
    /// Heads read the hidden states.
    Heads,
    /// Entities are put together, the answer is finished.
    Finish,
}

impl Stage {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Text => "text",
            Stage::Batch => "batch",
            Stage::Forward => "forward",
            Stage::Heads => "heads",
            Stage::Finish => "finish",
        }
    }
}

/// Called as each stage begins, on the thread that runs it. Drills and tests inject faults (a panic, a pause) through it.
pub type Probe = Arc<dyn Fn(Stage) + Send + Sync>;

/// A prompt: text that goes in front of every text of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What requests call it.
    pub name: String,
    /// The text, as `"query: "`.
    pub text: String,
}

/// Settings of the cache of vectors. It borrows what requests leave free of their budget, so its bytes are not taken from them; its tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Most bytes of vectors, 0 for no cache; `None`: a quarter of what one longest request leaves of the budget, at most 256 MiB.
    pub bytes_max: Option<usize>,
    /// Who is evicted.
    pub policy: CachePolicy,
    /// A vector not used for so long is gone.
    pub ttl: Nanos,
    /// What one session may hold, in percent; requests without a session share the whole.
    pub session_percent: usize,
    /// Secret of the keys. Strangers who knew it could make two texts share a vector.
    pub secret: [u64; 2],
    /// Model and revision, as part of every key.
    pub model: String,
}

impl CacheSettings {
    /// A cache of at most `bytes_max` bytes with the defaults of the command line, but no secret.
    pub fn new(bytes_max: Option<usize>) -> CacheSettings {
        CacheSettings {
            bytes_max,
            policy: CachePolicy::default(),
            ttl: Nanos::from_ms(3_600_000),
            session_percent: 25,
            secret: [0; 2],
            model: String::new(),
        }
    }
}

/// Which layers work. In service all of them do; they can be switched off to measure what each is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Slots of finished requests are kept for the next ones (L1); otherwise each takes fresh pages and gives them back.
    pub reuse: bool,
    /// Idle memory goes back to the system (L4); otherwise the most that was ever held stays.
    pub give_back: bool,
    /// Who does not fit waits a moment for its turn (G3); otherwise it is refused at once.
    pub waiting: bool,
}

impl Layers {
    /// All of them.
    pub const ALL: Layers = Layers {
        reuse: true,
        give_back: true,
        waiting: true,
    };
}

/// Settings of an engine. Sizes are in bytes unless their name says otherwise.
#[derive(Clone)]
pub struct EngineConfig {
    /// N: the whole process stays below it.
    pub memory_limit_bytes: usize,
    /// What the process holds outside the engine: binary, stacks, connections, allocator remainder, slack.
    pub fixed: Vec<BillLine>,
    /// Threads that run the text stage and the encoder.
    pub workers: usize,
    /// Tokens in one encoder pass, at most.
    pub batch_tokens_max: usize,
    /// A small budget may halve the tokens of a pass down to this, or to one longest sequence if that is more.
    pub batch_tokens_least: usize,
    /// The longest body; `None`: 2,000,000 or what the budget gives, whichever is less.
    pub body_bytes_max: Option<usize>,
    /// Texts in one request, at most.
    pub inputs_max: usize,
    /// A small budget may halve the texts of a request down to this.
    pub inputs_least: usize,
    /// Requests in flight.
    pub requests_max: usize,
    /// Requests that wait at the door for bytes.
    pub waiting_max: usize,
    /// Tokens in a sequence; `None`: what the model reads.
    pub tokens_max: Option<usize>,
    /// Tokens that neighbouring windows of a long text share.
    pub window_overlap_tokens: usize,
    /// Prompts, addressed by index.
    pub prompts: Vec<Prompt>,
    /// The cache of vectors.
    pub cache: CacheSettings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fault injection.
    pub probe: Option<Probe>,
    /// The longest that a request may have to wait for workers; `None`: its deadline alone ends it.
    pub line_max: Option<Nanos>,
    /// Where the levels of the ledger lie.
    pub marks: Marks,
    /// What is dropped first under pressure.
    pub drop_order: Order,
    /// When memory is reclaimed.
    pub pace: PaceConfig,
    /// Which layers work.
    pub layers: Layers,
    /// Whether what happens is kept for a diagnosis; see [`trace`](crate::trace).
    pub trace: bool,
}

impl EngineConfig {
    /// Settings for `memory_limit_bytes` with the defaults of the command line, but no cache.
    pub fn new(memory_limit_bytes: usize, clock: Arc<dyn Clock>) -> EngineConfig {
        EngineConfig {
            memory_limit_bytes,
            fixed: Vec::new(),
            workers: 1,
            batch_tokens_max: 2048,
            batch_tokens_least: 2048,
            body_bytes_max: None,
            inputs_max: 2048,
            inputs_least: 2048,
            requests_max: 512,
            waiting_max: 512,
            tokens_max: None,
            window_overlap_tokens: 64,
            prompts: Vec::new(),
            cache: CacheSettings::new(Some(0)),
            clock,
            probe: None,
            line_max: None,
            marks: Marks::default(),
            drop_order: Order::default(),
            pace: PaceConfig::default(),
            layers: Layers::ALL,
            trace: false,
        }
    }
}

/// The limits that requests meet, settled at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in a body.
    pub body_bytes_max: usize,
    /// Texts in a request.
    pub inputs_max: usize,
    /// Tokens in a sequence, specials and prompt included.
    pub tokens_max: usize,
    /// Tokens in a pass.
    pub batch_tokens_max: usize,
    /// Requests in flight.
    pub requests_max: usize,
    /// Requests waiting at the door.
    pub waiting_max: usize,
    /// How long a request may wait at the door.
    pub admission_wait: Nanos,
    /// Bytes of an answer chunk.
    pub chunk_bytes: usize,
}
