//! When the process is larger than its plan.
//!
//! Measured memory never decides on a request: it lags, and an allocator or the page cache may keep it high for ever. But if the process outgrows its
//! line, by a fault of the plan, the budget of requests shrinks slowly until it is below it again, and grows back as slowly.

/// The most that is taken away, as a divisor of the budget.
const MOST: usize = 2;
/// A step, as a divisor of the budget.
const STEP: usize = 100;

/// How much is taken from the budget.
///
/// ```
/// use plimsoll_engine::govern::Ballast;
/// let mut ballast = Ballast::new(1000);
/// assert_eq!(ballast.weigh(900, 800), 990, "over the line: one hundredth less");
/// assert_eq!(ballast.weigh(750, 800), 990, "close to it: stays");
/// assert_eq!(ballast.weigh(600, 800), 1000, "well below: back");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ballast {
    budget_bytes: usize,
    taken_steps: usize,
}

impl Ballast {
    /// Nothing is taken from `budget_bytes` yet.
    pub fn new(budget_bytes: usize) -> Ballast {
        Ballast {
            budget_bytes,
            taken_steps: 0,
        }
    }

    /// Looks at a reading (call it once a second); returns the budget from now on.
    pub fn weigh(&mut self, resident_bytes: usize, line_bytes: usize) -> usize {
        if resident_bytes > line_bytes {
            self.taken_steps = (self.taken_steps + 1).min(STEP / MOST);
        } else if resident_bytes < line_bytes - line_bytes / 10 {
            self.taken_steps = self.taken_steps.saturating_sub(1);
        }
        self.budget_bytes - self.budget_bytes / STEP * self.taken_steps
    }

    /// Whether anything is taken.
    pub fn is_down(&self) -> bool {
        self.taken_steps > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn half_is_always_left_and_all_comes_back(budget in 0usize..1 << 40, readings in prop::collection::vec(0usize..2000, 0..200)) {
            let mut ballast = Ballast::new(budget);
            for reading in readings {
                let left = ballast.weigh(reading, 1000);
                prop_assert!(left <= budget && left >= budget / 2);
            }
            for _ in 0..STEP / MOST {
                ballast.weigh(0, 1000);
            }
            prop_assert!(!ballast.is_down());
            prop_assert_eq!(ballast.weigh(0, 1000), budget);
        }
    }
}
