//! The watermarks: how full the ledger is, as a level that does not flutter.
//!
//! The levels are entered and left at different marks, and no two changes lie closer than [`Marks::change_least`]. That loses nothing: the ledger itself
//! never exceeds its limit, the level only says how to behave below it.

use std::fmt;

use crate::clock::Nanos;

/// How full the ledger is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is served.
    #[default]
    Normal,
    /// Work that is not at the core is dropped, caches and the longest request shrink, idle memory goes back.
    Strained,
    /// Newcomers go in only where they end below [`Marks::resume_percent`]; what has not started is returned, largest first.
    Refusing,
}

impl Level {
    /// All of them, ascending.
    pub const ALL: [Level; 3] = [Level::Normal, Level::Strained, Level::Refusing];

    /// Its name in metrics and log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Normal => "normal",
            Level::Strained => "strained",
            Level::Refusing => "refusing",
        }
    }
}

/// Where levels begin and end, in percent of the ledger's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// From here on strained.
    pub strained_percent: u8,
    /// Below this normal again.
    pub relaxed_percent: u8,
    /// Above this refusing.
    pub refusing_percent: u8,
    /// Below this no longer refusing.
    pub resume_percent: u8,
    /// The least time between two changes.
    pub change_least: Nanos,
}

impl Default for Marks {
    fn default() -> Self {
        Marks {
            strained_percent: 60,
            relaxed_percent: 55,
            refusing_percent: 85,
            resume_percent: 75,
            change_least: Nanos::from_ms(1000),
        }
    }
}

impl Marks {
    /// Marks that are never reached: the level is always normal.
    pub const OFF: Marks = Marks {
        strained_percent: 101,
        relaxed_percent: 101,
        refusing_percent: 101,
        resume_percent: 101,
        change_least: Nanos(0),
    };

    /// `percent` of `limit_bytes`.
    pub fn bytes(percent: u8, limit_bytes: usize) -> usize {
        (limit_bytes as u128 * u128::from(percent) / 100) as usize
    }
}

/// How hard it presses: 0 up to the strained mark, rising linearly to [`Pressure::FULL`] at the refusing mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pressure(u16);

impl Pressure {
    /// None at all.
    pub const NONE: Pressure = Pressure(0);
    /// As much as there can be.
    pub const FULL: Pressure = Pressure(1000);

    /// In thousandths.
    pub const fn permille(self) -> usize {
        self.0 as usize
    }

    /// From `relaxed` at no pressure linearly to `pressed` at full pressure.
    ///
    /// ```
    /// use plimsoll_engine::govern::Pressure;
    /// assert_eq!(Pressure::NONE.between(1000, 200), 1000);
    /// assert_eq!(Pressure::FULL.between(1000, 200), 200);
    /// ```
    pub fn between(self, relaxed: usize, pressed: usize) -> usize {
        let (p, whole) = (u128::from(self.0), 1000);
        ((relaxed as u128 * (whole - p) + pressed as u128 * p) / whole) as usize
    }
}

/// The level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Changes so far, this one included.
    pub number: u64,
    /// When.
    pub at: Nanos,
    /// The level before.
    pub from: Level,
    /// The level now.
    pub to: Level,
    /// Bytes debited at that moment.
    pub in_use_bytes: usize,
    /// The ledger's limit.
    pub limit_bytes: usize,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.in_use_bytes as u128 * 100 / self.limit_bytes.max(1) as u128;
        write!(
            f,
            "level {} @{:.3}s: {} -> {}, {} of {} bytes ({percent}%)",
            self.number,
            self.at.0 as f64 / 1e9,
            self.from.name(),
            self.to.name(),
            self.in_use_bytes,
            self.limit_bytes,
        )
    }
}

/// The level, and when it changed last.
///
/// ```
/// use plimsoll_engine::govern::{Level, Watermarks, Marks};
/// use plimsoll_engine::Nanos;
/// let mut marks = Watermarks::new(Marks::default());
/// let change = marks.observe(90, 100, Nanos::from_ms(5)).unwrap();
/// assert_eq!((change.from, change.to), (Level::Normal, Level::Refusing));
/// assert!(marks.observe(10, 100, Nanos::from_ms(600)).is_none(), "not within a second");
/// assert_eq!(marks.observe(80, 100, Nanos::from_ms(1005)), None, "80% is not below 75%");
/// assert_eq!(marks.observe(10, 100, Nanos::from_ms(1006)).unwrap().to, Level::Normal);
/// ```
#[derive(Clone, Debug)]
pub struct Watermarks {
    marks: Marks,
    level: Level,
    changed: Option<Nanos>,
    changes: u64,
}

impl Watermarks {
    /// At level normal.
    pub fn new(marks: Marks) -> Watermarks {
        Watermarks {
            marks,
            level: Level::Normal,
            changed: None,
            changes: 0,
        }
    }

    /// The level now.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Changes so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Where the levels lie.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Looks at the ledger; says so when that changes the level.
    pub fn observe(&mut self, in_use_bytes: usize, limit_bytes: usize, now: Nanos) -> Option<Change> {
        let to = self.wanted(in_use_bytes, limit_bytes);
        let settled = self
            .changed
            .is_none_or(|changed| now.since(changed) >= self.marks.change_least.0);
        if to == self.level || !settled {
            return None;
        }
        let from = std::mem::replace(&mut self.level, to);
        self.changed = Some(now);
        self.changes += 1;
        Some(Change {
            number: self.changes,
            at: now,
            from,
            to,
            in_use_bytes,
            limit_bytes,
        })
    }

    fn wanted(&self, in_use_bytes: usize, limit_bytes: usize) -> Level {
        let marks = &self.marks;
        let percents = in_use_bytes as u128 * 100;
        let at = |percent: u8| u128::from(percent) * limit_bytes as u128;
        let low = |from: Level| {
            let mark = if from == Level::Normal {
                marks.strained_percent
            } else {
                marks.relaxed_percent
            };
            if percents < at(mark) {
                Level::Normal
            } else {
                Level::Strained
            }
        };
        match self.level {
            Level::Refusing if percents >= at(marks.resume_percent) => Level::Refusing,
            _ if percents > at(marks.refusing_percent) => Level::Refusing,
            from => low(from),
        }
    }

    /// How hard it presses: nothing at level normal, and then by the bytes alone.
    pub fn pressure(&self, in_use_bytes: usize, limit_bytes: usize) -> Pressure {
        let marks = &self.marks;
        let low = Marks::bytes(marks.strained_percent, limit_bytes);
        let high = Marks::bytes(marks.refusing_percent, limit_bytes);
        match self.level {
            Level::Normal => Pressure::NONE,
            Level::Refusing => Pressure::FULL,
            Level::Strained => {
                let above = in_use_bytes.saturating_sub(low) as u128;
                let permille = above * 1000 / high.saturating_sub(low).max(1) as u128;
                Pressure(permille.min(1000) as u16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Nanos = Nanos::from_ms;

    #[test]
    fn each_mark_is_exact_and_levels_are_left_lower_than_entered() {
        let mut marks = Watermarks::new(Marks::default());
        let mut at = |percent: usize, second: u64| {
            marks.observe(percent * 10, 1000, MS(second * 1000));
            marks.level()
        };
        assert_eq!(at(59, 1), Level::Normal);
        assert_eq!(at(60, 2), Level::Strained);
        assert_eq!(at(55, 3), Level::Strained);
        assert_eq!(at(85, 4), Level::Strained);
        assert_eq!(at(86, 5), Level::Refusing);
        assert_eq!(at(75, 6), Level::Refusing);
        assert_eq!(at(74, 7), Level::Strained);
        assert_eq!(at(54, 8), Level::Normal);
    }

    #[test]
    fn pressure_is_linear_between_the_marks() {
        let mut marks = Watermarks::new(Marks::default());
        assert_eq!(
            marks.pressure(700, 1000),
            Pressure::NONE,
            "normal until it is observed"
        );
        marks.observe(700, 1000, MS(1));
        assert_eq!(marks.pressure(600, 1000).permille(), 0);
        assert_eq!(marks.pressure(725, 1000).permille(), 500);
        assert_eq!(marks.pressure(850, 1000), Pressure::FULL);
        assert_eq!(marks.pressure(850, 1000).between(64, 8), 8);
    }

    proptest! {
        #[test]
        fn never_two_changes_in_a_second_and_never_late(steps in prop::collection::vec((0u64..400, 0usize..=1000), 1..200)) {
            let mut marks = Watermarks::new(Marks::default());
            let (mut now, mut last) = (Nanos(0), None);
            for (ms, in_use) in steps {
                now = now.after(MS(ms));
                let before = marks.level();
                let change = marks.observe(in_use, 1000, now);
                if let Some(change) = change {
                    prop_assert!(last.is_none_or(|last| now.since(last) >= MS(1000).0));
                    prop_assert!(change.from == before && change.to == marks.level() && before != change.to);
                    last = Some(now);
                }
                // Once a second has passed the level tells the truth.
                if last.is_none_or(|last| now.since(last) >= MS(1000).0) {
                    match marks.level() {
                        Level::Normal => prop_assert!(in_use < 600),
                        Level::Strained => prop_assert!((550..=850).contains(&in_use)),
                        Level::Refusing => prop_assert!(in_use >= 750),
                    }
                }
            }
        }
    }
}
