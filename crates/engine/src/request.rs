//! What a request asks for, free of any wire format.

plimsoll_memory::pod_struct! {
    /// A piece of the request's body, in bytes; inside the engine also a run of elements of another slot.
    pub struct Span {
        /// First byte.
        pub start: u32,
        /// Number of bytes.
        pub len: u32,
    }
}

impl Span {
    /// The byte range in the body.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// A set of tasks; all of them are answered by one encoder pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks(u8);

impl Tasks {
    /// Nothing.
    pub const NONE: Tasks = Tasks(0);
    /// Word segmentation (no encoder needed).
    pub const WORDS: Tasks = Tasks(1);
    /// Token ids and offsets (no encoder needed).
    pub const TOKENS: Tasks = Tasks(2);
    /// One vector a text.
    pub const EMBEDDING: Tasks = Tasks(4);
    /// One vector a token.
    pub const TOKEN_EMBEDDINGS: Tasks = Tasks(8);
    /// The sequence head's raw scores (logits).
    pub const CLASSES: Tasks = Tasks(16);
    /// Entity spans from the token head.
    pub const ENTITIES: Tasks = Tasks(32);
    /// The number of tokens alone (no encoder needed, and no slots for tokens beyond one sequence).
    pub const TOKEN_COUNT: Tasks = Tasks(64);

    /// Both sets together.
    pub const fn with(self, other: Tasks) -> Tasks {
        Tasks(self.0 | other.0)
    }

    /// This set less the other.
    pub const fn without(self, other: Tasks) -> Tasks {
        Tasks(self.0 & !other.0)
    }

    /// True when every task of `other` is in this set.
    pub const fn has(self, other: Tasks) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when this set and `other` share a task.
    pub const fn any(self, other: Tasks) -> bool {
        self.0 & other.0 != 0
    }

    /// True when the encoder has to run.
    pub const fn need_encoder(self) -> bool {
        self.any(Tasks(4 | 8 | 16 | 32))
    }

    /// True when the encoder runs for vectors of texts alone, so that a vector which is known already spares it, and the reading of the text.
    pub const fn are_spared_by_a_vector(self) -> bool {
        self.has(Tasks::EMBEDDING) && !self.any(Tasks(2 | 8 | 16 | 32))
    }

    /// True when the text has to be tokenised.
    pub const fn need_tokens(self) -> bool {
        self.any(Tasks(2 | 4 | 8 | 16 | 32 | 64))
    }
}

/// What happens to a text of more tokens than the model can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The request is refused: the error names the text and both numbers.
    Error,
    /// The end is cut off, and the answer says so.
    CutRight,
    /// The start is cut off, and the answer says so.
    CutLeft,
    /// Entities and tokens: the whole text is read in windows that overlap. One vector or class a text: from the first
    /// window, and the answer says so.
    Windows,
}

/// Which of the model's prompts goes in front of every text, by its index in [`crate::EngineConfig::prompts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptId(pub usize);

/// What a job does with the cache of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// It reads what is there and leaves what it computes.
    #[default]
    On,
    /// It computes anew what is there, and leaves that.
    Refresh,
    /// Neither.
    Off,
}

/// Whose vectors a job reads and leaves: sessions do not see each other's. Made by [`crate::Engine::session`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionId(pub(crate) u64);

impl SessionId {
    /// That of all requests that name no session.
    pub const NONE: SessionId = SessionId(0);
}

/// How a job is done.
#[derive(Clone, Copy, Debug)]
pub struct JobOptions {
    /// What is done.
    pub tasks: Tasks,
    /// What of it was asked for. The rest is done for its sake; under pressure one of these stays.
    pub wanted: Tasks,
    /// What happens to long texts.
    pub overflow: Overflow,
    /// Whether `[CLS]`, `[SEP]` and their like are added.
    pub add_special_tokens: bool,
    /// A prompt in front of every text.
    pub prompt: Option<PromptId>,
    /// Whether vectors of [`Tasks::EMBEDDING`] are scaled to length 1.
    pub normalize: bool,
    /// Keep only the first so many dimensions of each vector.
    pub dimensions: Option<usize>,
    /// What it does with the cache of vectors.
    pub cache: CacheUse,
    /// Whose vectors it may find there.
    pub session: SessionId,
}

impl JobOptions {
    /// The usual way to do `tasks`: special tokens, windows, normalised vectors, no prompt.
    pub fn new(tasks: Tasks) -> JobOptions {
        JobOptions {
            tasks,
            wanted: tasks,
            overflow: Overflow::Windows,
            add_special_tokens: true,
            prompt: None,
            normalize: true,
            dimensions: None,
            cache: CacheUse::On,
            session: SessionId::NONE,
        }
    }
}

/// What is known of a request before its body is read.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// What it will ask for at most.
    pub tasks: Tasks,
    /// The declared length of its body; `None` is priced as the longest.
    pub body_bytes: Option<usize>,
    /// The most inputs that it may carry; `None`: [`Limits::inputs_max`](crate::Limits::inputs_max).
    pub inputs_max: Option<usize>,
}
