//! Refusals and failures: each names who refused and both numbers.

use plimsoll_memory::BudgetError;
use thiserror::Error;

use crate::govern::Level;

/// Why a request was not let in. Nothing of it was read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It could never fit: asking again is no use.
    #[error(
        "the request may need {needed_bytes} bytes ({body_bytes} of them its body); at most {available_bytes} can be given"
    )]
    TooLarge {
        /// The declared body.
        body_bytes: usize,
        /// What the request may need at worst.
        needed_bytes: usize,
        /// What could ever be given.
        available_bytes: usize,
    },
    /// The body alone is over the limit.
    #[error("the body has {body_bytes} bytes; the limit is {body_bytes_max}")]
    BodyTooLarge {
        /// The declared body.
        body_bytes: usize,
        /// The limit.
        body_bytes_max: usize,
    },
    /// Not now.
    #[error("overloaded: {reason}; try again in {retry_after_ms} ms")]
    Overloaded {
        /// What ran out.
        reason: Shortage,
        /// When trying again makes sense, from the measured drain rate.
        retry_after_ms: u64,
    },
    /// The server is going down.
    #[error("the server is draining")]
    Draining,
}

/// What ran out when a request was refused for now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Shortage {
    /// Bytes.
    #[error("the request may need {needed_bytes} bytes and {free_bytes} are free for it at level {}", level.name())]
    Bytes {
        /// What it asked for.
        needed_bytes: usize,
        /// What it could have had when it was refused.
        free_bytes: usize,
        /// The level of the ledger.
        level: Level,
    },
    /// Places.
    #[error("{requests_max} requests are in flight, the most there may be")]
    Requests {
        /// The limit.
        requests_max: usize,
    },
    /// Places in the line before the door.
    #[error("{waiting_max} requests wait already, the most there may be")]
    Waiting {
        /// The limit.
        waiting_max: usize,
    },
    /// Workers: what stands in their line takes longer than a request may wait.
    #[error(
        "the work that waits takes {line_ms} ms, more than the {line_ms_max} ms that a request may wait for workers"
    )]
    Time {
        /// How long the line is, at the measured rate.
        line_ms: u64,
        /// The limit.
        line_ms_max: u64,
    },
    /// It was inside, but had not started when room had to be made.
    #[error(
        "its {held_bytes} bytes were taken back before it had started, as the largest of those that waited"
    )]
    Returned {
        /// What it held.
        held_bytes: usize,
    },
}

/// Why an admitted job has no answer. All it held was given back.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JobError {
    /// It was still waiting, or not finished, at its deadline.
    #[error("the request was not finished within its deadline of {deadline_ms} ms")]
    Deadline {
        /// Milliseconds from submission to the deadline.
        deadline_ms: u64,
    },
    /// It had not started when room had to be made, and was the largest of those that waited.
    #[error("overloaded: {}; try again in {retry_after_ms} ms", Shortage::Returned { held_bytes: *held_bytes })]
    Returned {
        /// What it held.
        held_bytes: usize,
        /// When trying again makes sense, from the measured drain rate.
        retry_after_ms: u64,
    },
    /// Its body told of more than its length had: texts that several inputs share.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// One of its inputs cannot be answered.
    #[error("input {index}: {fault}")]
    Input {
        /// Which.
        index: usize,
        /// Why not.
        fault: InputFault,
    },
    /// A fault of ours: a stage panicked, or an invariant broke. Its objects were discarded.
    #[error("internal error in stage {stage}")]
    Internal {
        /// Where.
        stage: &'static str,
    },
}

/// What is wrong with an input.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InputFault {
    /// It is longer than the model reads and cutting was not asked for.
    #[error("{tokens} tokens; the model reads at most {tokens_max}")]
    TooManyTokens {
        /// Its tokens.
        tokens: usize,
        /// The limit.
        tokens_max: usize,
    },
    /// It has more tokens than the slots priced for it.
    #[error("more tokens than its bytes allow for ({tokens_max})")]
    Expands {
        /// The tokens reserved.
        tokens_max: usize,
    },
    /// It holds a token id that the vocabulary does not have.
    #[error("token id {id}; the vocabulary has {vocab_size}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Ids are below this.
        vocab_size: usize,
    },
    /// Entities and single tokens are not defined for a pair of texts.
    #[error("a pair, for which {task} are not defined")]
    PairNotSupported {
        /// What was asked.
        task: &'static str,
    },
}

impl InputFault {
    /// The error of the input at this place.
    pub(crate) fn of(self, index: usize) -> JobError {
        JobError::Input { index, fault: self }
    }
}

/// Why an engine cannot be built.
#[derive(Debug, Error)]
pub enum StartError {
    /// The budget is too small.
    #[error(
        "the memory limit of {limit_bytes} bytes is too small: {needed_bytes} are needed (weights {weight_bytes}, one longest request {request_bytes}), {shortfall_bytes} more than it allows"
    )]
    LimitTooSmall {
        /// N.
        limit_bytes: usize,
        /// The least N that works.
        needed_bytes: usize,
        /// Of it, weights.
        weight_bytes: usize,
        /// Of it, one longest request.
        request_bytes: usize,
        /// The difference.
        shortfall_bytes: usize,
    },
    /// The tokenizer makes ids that the model has no rows for.
    #[error("the tokenizer has {tokenizer} tokens but the model's embedding table {model}")]
    VocabMismatch {
        /// Ids in the tokenizer.
        tokenizer: usize,
        /// Rows in the model.
        model: usize,
    },
    /// A setting makes no sense.
    #[error("{name} = {value}: {reason}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        value: usize,
        /// Why not.
        reason: &'static str,
    },
    /// The system would not give the memory.
    #[error("memory could not be reserved: {0}")]
    Memory(String),
    /// The ledger refused at start.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// The body had more bytes than were declared or allowed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the body goes on after {body_bytes_max} bytes, the most that was declared or is allowed")]
pub struct BodyTooLong {
    /// What was reserved.
    pub body_bytes_max: usize,
}

/// More inputs than one request may carry.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("more than {inputs_max} inputs")]
pub struct TooManyInputs {
    /// The limit.
    pub inputs_max: usize,
}
