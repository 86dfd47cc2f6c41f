//! The last three minutes, a value a second: what the page's curves show as soon as it opens.

use std::collections::VecDeque;

use serde::Serialize;

use crate::http::problem::Reason;

/// Seconds that are remembered.
pub(super) const SECONDS_KEPT: usize = 180;
/// A minute of them.
const MINUTE: usize = 60;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) answers: u64,
    pub(crate) texts: u64,
    pub(crate) tokens: u64,
    pub(crate) refusals: [u64; Reason::ALL.len()],
}

/// One second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    /// Of the ledger, the most that was in use, in thousandths.
    pub(super) level_permille: u16,
    /// How long it lasted: a busy machine is late.
    pub(super) lasted_s: f32,
    /// Of the answers of the last seconds, in microseconds; 0 when there were none.
    pub(super) p50_us: u32,
    pub(super) p99_us: u32,
    /// At its end.
    pub(super) totals: Totals,
}

/// The seconds.
#[derive(Debug)]
pub(super) struct Past(VecDeque<Second>);

/// What the curves are drawn from: a value for each second, oldest first.
#[derive(Debug, Default, Serialize)]
pub(super) struct Curves {
    level_permille: Vec<u16>,
    answers_per_s: Vec<f32>,
    refusals_per_s: Vec<f32>,
    p50_us: Vec<u32>,
    p99_us: Vec<u32>,
}

/// What happened in the last minute, or since the start where that is less.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct LastMinute {
    seconds: f32,
    answers: u64,
    texts: u64,
    tokens: u64,
    refusals: [u64; Reason::ALL.len()],
}

impl Past {
    pub(super) const BYTES: usize = SECONDS_KEPT * size_of::<Second>();

    pub(super) fn new() -> Past {
        Past(VecDeque::with_capacity(SECONDS_KEPT))
    }

    pub(super) fn push(&mut self, second: Second) {
        if self.0.len() == SECONDS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(second);
    }

    pub(super) fn last(&self) -> Second {
        self.0.back().copied().unwrap_or_default()
    }

    pub(super) fn curves(&self) -> Curves {
        let mut curves = Curves::default();
        let mut before = self.0.front().map(|first| first.totals).unwrap_or_default();
        for second in &self.0 {
            curves.push(second, &before);
            before = second.totals;
        }
        curves
    }

    /// The newest second alone.
    pub(super) fn newest(&self) -> Curves {
        let mut curves = Curves::default();
        let mut newest = self.0.iter().rev();
        if let (Some(second), before) = (newest.next(), newest.next()) {
            let before = before.map_or(second.totals, |before| before.totals);
            curves.push(second, &before);
        }
        curves
    }

    pub(super) fn last_minute(&self) -> LastMinute {
        let recent = self.0.len().min(MINUTE);
        let before = self.0.len().checked_sub(MINUTE + 1).map(|index| self.0[index]);
        let (now, before) = (self.last().totals, before.unwrap_or_default().totals);
        LastMinute {
            seconds: self.0.iter().rev().take(recent).map(|s| s.lasted_s).sum(),
            answers: now.answers - before.answers,
            texts: now.texts - before.texts,
            tokens: now.tokens - before.tokens,
            refusals: std::array::from_fn(|reason| now.refusals[reason] - before.refusals[reason]),
        }
    }
}

impl Curves {
    fn push(&mut self, second: &Second, before: &Totals) {
        let rate = |count: u64| (count as f32 / second.lasted_s.max(0.001) * 10.0).round() / 10.0;
        let refusals = |totals: &Totals| totals.refusals.iter().sum::<u64>();
        self.level_permille.push(second.level_permille);
        self.answers_per_s
            .push(rate(second.totals.answers - before.answers));
        self.refusals_per_s
            .push(rate(refusals(&second.totals) - refusals(before)));
        self.p50_us.push(second.p50_us);
        self.p99_us.push(second.p99_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(answers: u64) -> Second {
        Second {
            lasted_s: 1.0,
            totals: Totals {
                answers,
                ..Totals::default()
            },
            ..Second::default()
        }
    }

    #[test]
    fn rates_are_differences_and_the_oldest_second_is_forgotten() {
        let mut past = Past::new();
        (1..=SECONDS_KEPT as u64 + 20).for_each(|number| past.push(second(3 * number)));
        let curves = past.curves();
        assert_eq!(curves.answers_per_s.len(), SECONDS_KEPT);
        assert!(curves.answers_per_s[1..].iter().all(|rate| *rate == 3.0));
        assert_eq!(past.newest().answers_per_s, [3.0]);
        let minute = past.last_minute();
        assert_eq!((minute.answers, minute.seconds), (180, 60.0));
    }

    #[test]
    fn a_young_server_counts_from_its_start() {
        let mut past = Past::new();
        assert_eq!(past.last_minute(), LastMinute::default());
        past.push(second(5));
        past.push(second(7));
        assert_eq!((past.last_minute().answers, past.last_minute().seconds), (7, 2.0));
    }
}
