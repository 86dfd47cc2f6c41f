//! The engine of Plimsoll: from an admitted request to its answer, every byte owned.
//!
//! A server of models dies when nobody owns the sum of what its requests hold. Here one ledger does: a request's worst case
//! is debited before its body is read ([`Engine::admit`]), and from then on nothing that it needs can fail for memory. Its
//! road, each stage with slots leased from the pool of its kind:
//!
//! ```text
//! admit -> Ticket (body slot) -> parse -> submit -> text stage (words, tokens) -> pass (encoder) -> heads -> Answer (chunks)
//! ```
//!
//! Whatever ends a request, an answer, an error, a deadline, a client that hangs up, a panic, its slots return and its debit
//! is credited, because one value owns them ([`Ticket`], then the job's place, then [`Answer`]).
//!
//! **Invariants.** No I/O: no file, socket, thread or clock is opened here; the server gives threads to [`Worker`]s and a
//! [`Clock`] to the engine. No heap allocation between [`Engine::submit`] and the finished [`Answer`].
#![forbid(unsafe_code)]

mod answer;
mod berth;
mod cached;
mod characters;
mod clock;
mod config;
mod debit;
mod engine;
mod error;
mod gate;
pub mod govern;
mod governor;
mod heads;
mod inputs;
mod line;
mod need;
mod pass;
mod plan;
mod pools;
mod queue;
mod request;
mod returns;
mod text_stage;
mod ticket;
pub mod trace;
mod work;
mod worker;

pub use answer::{Answer, Cached, Chunk, Entity, Moments, Timings, TokensView};
pub use clock::{Clock, ManualClock, Nanos};
pub use config::{CacheSettings, EngineConfig, Layers, Limits, Probe, Prompt, Stage};
pub use engine::{Engine, KindStats};
pub use error::{BodyTooLong, InputFault, JobError, Refusal, Shortage, StartError, TooManyInputs};
pub use governor::{Governed, GovernorStats, LengthStats, Reclaim};
pub use inputs::Inputs;
pub use plan::{BillLine, Plan};
pub use request::{Ask, CacheUse, JobOptions, Overflow, PromptId, SessionId, Span, Tasks};
pub use ticket::{Admission, Job, Ticket};
pub use worker::{Turn, Worker};
