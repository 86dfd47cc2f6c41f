//! Time as an argument.
//!
//! The engine never asks the operating system what time it is: whoever builds it hands it a [`Clock`]. A server hands it the
//! monotonic clock, a drill a clock that it moves by hand, so that every deadline can be tested at its exact nanosecond.

use std::sync::atomic::{AtomicU64, Ordering};

/// A point in time, in nanoseconds since the clock's own start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// A span of `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    /// `self + span`, or the end of time.
    pub fn after(self, span: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(span.0))
    }

    /// Nanoseconds from `earlier` to `self`, 0 when `earlier` is later.
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the time. Monotonic: a later call never gives an earlier time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Nanos;
}

/// A clock that stands still until it is moved.
///
/// ```
/// use plimsoll_engine::{Clock, ManualClock, Nanos};
/// let clock = ManualClock::default();
/// clock.advance(Nanos::from_ms(3));
/// assert_eq!(clock.now(), Nanos(3_000_000));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, span: Nanos) {
        self.0.fetch_add(span.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::SeqCst))
    }
}
