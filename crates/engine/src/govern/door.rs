//! Who may go in: a rule over exact bytes.
//!
//! A tenth of the ledger belongs to small requests, so that a few large ones cannot shut everybody out. A request is small when a quarter of that
//! tenth pays for it: at least four of them always find room, whatever the large ones do.

use super::level::{Level, Marks, Pressure};

/// The part of the ledger that small requests keep, as a divisor.
const SMALL_SHARE: usize = 10;
/// So many small requests fit their part at least.
const SMALL_COUNT_LEAST: usize = 4;

/// Bytes that are debited now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// By all requests.
    pub total_bytes: usize,
    /// Of them, by small ones.
    pub small_bytes: usize,
}

/// The rule, for a ledger of a given limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    limit_bytes: usize,
    resume_bytes: usize,
}

impl Door {
    /// The rule for a ledger of `limit_bytes`.
    pub fn new(limit_bytes: usize, marks: &Marks) -> Door {
        Door {
            limit_bytes,
            resume_bytes: Marks::bytes(marks.resume_percent, limit_bytes),
        }
    }

    /// What small requests keep.
    pub fn small_part_bytes(&self) -> usize {
        self.limit_bytes / SMALL_SHARE
    }

    /// What the longest request may take, ever.
    pub fn longest_bytes(&self) -> usize {
        self.limit_bytes - self.small_part_bytes()
    }

    /// The least limit under which a request of `bytes` is not too long.
    pub fn limit_for(bytes: usize) -> usize {
        bytes + bytes.saturating_sub(1) / (SMALL_SHARE - 1)
    }

    /// Whether a request that may take `bytes` is a small one.
    pub fn is_small(&self, bytes: usize) -> bool {
        bytes <= self.small_part_bytes() / SMALL_COUNT_LEAST
    }

    /// Bytes that a newcomer of `bytes` could take now; it may go in when it needs no more.
    ///
    /// - A small one: what is free. While refusing: what is missing to the resume mark, or what small ones have left of their part.
    /// - A large one: what is free, less what small ones have not used of their part. While refusing: up to the resume mark only. Under pressure
    ///   one request may take ever less: linearly down to the size of a small one.
    pub fn room_bytes(&self, level: Level, pressure: Pressure, in_use: InUse, bytes: usize) -> usize {
        let free = self.limit_bytes.saturating_sub(in_use.total_bytes);
        let below_resume = self.resume_bytes.saturating_sub(in_use.total_bytes);
        let own_part_left = self.small_part_bytes().saturating_sub(in_use.small_bytes);
        if self.is_small(bytes) {
            return match level {
                Level::Refusing => below_resume.max(own_part_left).min(free),
                _ => free,
            };
        }
        let room = free.saturating_sub(own_part_left);
        match level {
            Level::Normal => room,
            Level::Refusing => room.min(below_resume),
            Level::Strained => {
                let smallest = self.small_part_bytes() / SMALL_COUNT_LEAST;
                room.min(pressure.between(self.longest_bytes(), smallest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn door() -> Door {
        Door::new(1000, &Marks::default())
    }

    #[test]
    fn large_requests_leave_a_tenth_and_small_ones_use_it() {
        let used = InUse {
            total_bytes: 850,
            small_bytes: 0,
        };
        assert_eq!(door().room_bytes(Level::Normal, Pressure::NONE, used, 26), 50);
        assert_eq!(door().room_bytes(Level::Normal, Pressure::NONE, used, 25), 150);
        let both = InUse {
            total_bytes: 850,
            small_bytes: 60,
        };
        assert_eq!(door().room_bytes(Level::Normal, Pressure::NONE, both, 100), 110);
    }

    #[test]
    fn refusing_lets_in_up_to_the_resume_mark_and_small_ones_into_their_part() {
        let at = |total_bytes, small_bytes| InUse {
            total_bytes,
            small_bytes,
        };
        let room = |used, bytes| door().room_bytes(Level::Refusing, Pressure::FULL, used, bytes);
        assert_eq!(room(at(700, 0), 100), 50);
        assert_eq!(room(at(900, 0), 100), 0);
        assert_eq!(room(at(900, 0), 20), 100);
        assert_eq!(room(at(900, 90), 20), 10);
        assert_eq!(room(at(900, 900), 20), 0);
    }

    #[test]
    fn the_longest_request_shrinks_linearly() {
        let mut marks = super::super::Watermarks::new(Marks::default());
        marks.observe(600, 1000, crate::Nanos(1));
        let room = |pressure| {
            let used = InUse::default();
            door().room_bytes(Level::Strained, pressure, used, 500)
        };
        assert_eq!(room(marks.pressure(600, 1000)), 900);
        assert_eq!(room(marks.pressure(725, 1000)), 462);
        assert_eq!(room(Pressure::FULL), 25);
    }

    proptest! {
        #[test]
        fn the_parts_hold_whatever_comes(
            limit in 100usize..100_000,
            steps in prop::collection::vec((0usize..3, 0usize..50_000, any::<bool>()), 1..100),
        ) {
            let door = Door::new(limit, &Marks::default());
            let mut inside: Vec<usize> = Vec::new();
            for (level, bytes, leave) in steps {
                let small: usize = inside.iter().filter(|b| door.is_small(**b)).sum();
                let in_use = InUse { total_bytes: inside.iter().sum(), small_bytes: small };
                let room = door.room_bytes(Level::ALL[level], Pressure::FULL, in_use, bytes);
                if bytes <= room {
                    inside.push(bytes);
                }
                let total: usize = inside.iter().sum();
                let small: usize = inside.iter().filter(|b| door.is_small(**b)).sum();
                prop_assert!(total <= limit);
                prop_assert!(total - small <= door.longest_bytes(), "large ones are in the small part");
                if leave {
                    inside.pop();
                }
            }
        }

        #[test]
        fn the_limit_for_a_request_is_the_least(bytes in 1usize..10_000_000) {
            let marks = Marks::default();
            let limit = Door::limit_for(bytes);
            prop_assert!(Door::new(limit, &marks).longest_bytes() >= bytes);
            prop_assert!(Door::new(limit - 1, &marks).longest_bytes() < bytes);
        }
    }
}
