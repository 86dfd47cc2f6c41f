//! What governs the line: small state machines without threads, locks, I/O or a clock of their own.
//!
//! Each takes the time and the figures as arguments and answers with a decision, so that a simulator can drive them through any schedule, and a
//! test stand at any nanosecond. The [`Engine`](crate::Engine) feeds them from its exact ledger.
//!
//! | type | decides |
//! |---|---|
//! | [`Watermarks`] | the level: normal, strained, refusing; with hysteresis, at most one change a second |
//! | [`Door`] | whether a request of so many bytes may go in at that level; small requests keep a tenth |
//! | [`Drain`] | how fast bytes (or places) come back, and so when trying again makes sense |
//! | [`Order`] | which tasks are dropped at what pressure |
//! | [`Pacer`] | when a reclaim cycle runs, and how much of the time its steps may take |
//! | [`Lengths`] | what the last 1,024 inputs looked like |
//! | [`Ballast`] | how much smaller the budget must be, when the process is larger than its plan |

mod ballast;
mod door;
mod drain;
mod lengths;
mod level;
mod order;
mod pace;

pub use ballast::Ballast;
pub use door::{Door, InUse};
pub use drain::Drain;
pub use lengths::{BUCKETS, Buckets, LENGTHS_KEPT, Lengths};
pub use level::{Change, Level, Marks, Pressure, Watermarks};
pub use order::Order;
pub use pace::{Cause, Cycle, PaceConfig, Pacer};
