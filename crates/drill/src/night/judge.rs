//! What came of a night, and whether it kept the promises.

use std::time::Duration;

use super::causes::Outcomes;
use super::plan::Causes;
use super::steady::{Ending, Sample};
use super::watch::Moment;
use crate::line::cgroup::{Counters, Reading};
use crate::line::health::Health;
use crate::line::judge::Verdict;

/// Hot hits that count as recovered.
const RECOVERED_SHARE: f64 = 0.9;
/// Over how long it has to last, and over how many hot requests.
const RECOVERED_SPAN: Duration = Duration::from_millis(500);
const RECOVERED_HOT: usize = 60;
/// How finely its beginning is looked for.
const RECOVERED_STEP: Duration = Duration::from_millis(100);
/// Requests that are answered in time, where a time is asked.
const IN_TIME_SHARE: f64 = 0.99;
/// What may be refused of calm traffic for the sake of its times, where one is asked.
const REFUSED_SHARE_MAX: f64 = 0.1;
/// How long recovery may take.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// Who serves in a night.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The server.
    Plimsoll,
    /// The same without its layers.
    Twin,
}

impl Who {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Who::Plimsoll => "plimsoll",
            Who::Twin => "twin",
        }
    }
}

/// The steady traffic of a part of the night.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// Requests.
    pub asked: usize,
    /// Of them, answered.
    pub served: usize,
    /// Refused.
    pub refused: usize,
    /// Not answered in time, or not at all.
    pub failed: usize,
    /// Times of what was answered, in milliseconds: half of them, 99 of 100.
    pub p50_ms: Option<f64>,
    /// See `p50_ms`.
    pub p99_ms: Option<f64>,
    /// The same of texts that had to be computed.
    pub computed_p99_ms: Option<f64>,
    /// Of requests for texts that were asked for before, the share found in the cache.
    pub hot_share: Option<f64>,
}

impl Part {
    /// Of samples that were due from `from` up to `to`.
    pub fn of(samples: &[Sample], from: Duration, to: Duration) -> Part {
        let within = samples
            .iter()
            .filter(|sample| sample.due >= from && sample.due < to);
        let mut part = Part::default();
        let (mut all, mut computed) = (Vec::new(), Vec::new());
        let (mut hot, mut hits) = (0, 0);
        for sample in within {
            part.asked += 1;
            match sample.ending {
                Ending::Served { hit } => {
                    part.served += 1;
                    hot += usize::from(sample.hot);
                    hits += usize::from(sample.hot && hit);
                    all.push(sample.took);
                    if !hit {
                        computed.push(sample.took);
                    }
                }
                Ending::Refused => part.refused += 1,
                Ending::Failed => part.failed += 1,
            }
        }
        part.hot_share = (hot > 0).then(|| hits as f64 / hot as f64);
        part.p50_ms = quantile_ms(&mut all, 0.5);
        part.p99_ms = quantile_ms(&mut all, 0.99);
        part.computed_p99_ms = quantile_ms(&mut computed, 0.99);
        part
    }

    /// Of its requests, the share that was refused; 0 where there were none.
    pub fn refused_share(&self) -> f64 {
        self.refused as f64 / self.asked.max(1) as f64
    }
}

fn quantile_ms(times: &mut [Duration], share: f64) -> Option<f64> {
    times.sort_unstable();
    let rank = (times.len() as f64 * share).ceil() as usize;
    times.get(rank.max(1) - 1).map(|took| took.as_secs_f64() * 1e3)
}

/// When the calm was back, after `from`: the end of the first stretch of half a second, with sixty hot requests in it at least, in which 90% of the
/// hot were answered from the cache and, where `p99_ms_max` is asked of calm parts, 99 of 100 of all in that time, so that what the causes left in line has been
/// worked off.
pub fn recovered(samples: &[Sample], from: Duration, p99_ms_max: Option<f64>) -> Option<Duration> {
    let mut later: Vec<&Sample> = samples.iter().filter(|sample| sample.due >= from).collect();
    later.sort_by_key(|sample| sample.due);
    let first_due = |after: Duration| later.partition_point(|sample| sample.due < after);
    // As many hot requests as are due before each.
    let hot_before: Vec<usize> = later
        .iter()
        .scan(0, |hot, sample| {
            Some(std::mem::replace(hot, *hot + usize::from(sample.hot)))
        })
        .collect();
    let mut begins = from;
    loop {
        let first = first_due(begins);
        let enough =
            hot_before.partition_point(|hot| *hot < hot_before.get(first).unwrap_or(&0) + RECOVERED_HOT);
        let last = first_due(begins + RECOVERED_SPAN).max(enough);
        // What came after it shows that the stretch is over.
        if last >= later.len() {
            return None;
        }
        if is_calm(&later[first..last], p99_ms_max) {
            let ended = later[first..last]
                .iter()
                .map(|sample| sample.due + sample.took)
                .max();
            return Some(ended.unwrap_or(from) - from);
        }
        begins += RECOVERED_STEP;
    }
}

fn is_calm(row: &[&Sample], p99_ms_max: Option<f64>) -> bool {
    let is_hit = |sample: &&&Sample| sample.ending == Ending::Served { hit: true };
    let in_time = |sample: &&&Sample| p99_ms_max.is_none_or(|bound| sample.took.as_secs_f64() * 1e3 <= bound);
    let hot = row.iter().filter(|sample| sample.hot);
    let at_least = |share: f64, part: usize, whole: usize| part as f64 >= share * whole as f64;
    at_least(RECOVERED_SHARE, hot.clone().filter(is_hit).count(), hot.count())
        && at_least(IN_TIME_SHARE, row.iter().filter(in_time).count(), row.len())
}

/// Events that a garbage-collected service would call full collections: everything stands back for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Watermarks crossed.
    pub levels: u64,
    /// Reclaim cycles.
    pub cycles: u64,
    /// Requests ended before they had started, to make room.
    pub returned: u64,
}

/// How a server died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// After 3 a.m.
    pub at: Duration,
    /// How the process ended.
    pub status: String,
    /// The kernel's own words, where they may be read.
    pub kernel: Vec<String>,
}

/// All that was measured in one night.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who served.
    pub who: Who,
    /// What happened.
    pub causes: Causes,
    /// Requests a second of the steady traffic.
    pub rate: f64,
    /// Before 3 a.m.
    pub before: Part,
    /// While the causes worked.
    pub during: Part,
    /// Once it had recovered.
    pub after: Part,
    /// What came of the causes.
    pub outcomes: Outcomes,
    /// From the end of the causes until the calm was back: see [`recovered`].
    pub recovery: Option<Duration>,
    /// What the kernel counted.
    pub counters: Counters,
    /// The most that was held and could not be reclaimed.
    pub peak: Reading,
    /// What was held before the traffic, and after it.
    pub idle: Reading,
    /// See `idle`; `None` when nobody was left.
    pub settled: Option<Reading>,
    /// What `/health` did.
    pub health: Health,
    /// How it died, if it did.
    pub death: Option<Death>,
    /// What it did about memory; `None` when it would not say.
    pub events: Option<Events>,
    /// Leases that found their slot warm, and those that did not, by the bucket of the request's length.
    pub leases: Vec<(&'static str, u64, u64)>,
    /// The night as it passed, and when 3 a.m. was and when the causes ended on its clock.
    pub moments: Vec<Moment>,
    /// See `moments`.
    pub three: Duration,
    /// See `moments`.
    pub over: Duration,
}

impl Facts {
    /// Whether it lives and answers nobody: at its limit a process may be so busy with getting back the pages of its own program that the kernel finds no
    /// reason to kill it.
    pub fn hangs(&self) -> bool {
        self.death.is_none() && self.events.is_none()
    }
}

/// Judges a night of the server. `p99_ms_max` is asked of the calm parts, where it is given.
pub fn judge(facts: &Facts, p99_ms_max: Option<f64>) -> Vec<Verdict> {
    let verdict = |asked, holds, measured, bound| Verdict {
        asked,
        holds,
        measured,
        bound,
    };
    let kills = facts.counters.kills as f64;
    let mute: u64 = facts.outcomes.all().iter().map(|(_, outcome)| outcome.mute).sum();
    let asked = facts.health.fresh > 0 && facts.health.kept > 0;
    let recovery = facts.recovery.map_or(f64::INFINITY, |took| took.as_secs_f64());
    let recovery_max = RECOVERY_MAX.as_secs_f64();
    let mut verdicts = vec![
        verdict("kills", kills == 0.0 && facts.death.is_none(), kills, 0.0),
        verdict(
            "health checks without an answer",
            asked && facts.health.failed() == 0,
            facts.health.failed() as f64,
            0.0,
        ),
        verdict(
            "refusals without a reason or Retry-After",
            mute == 0,
            mute as f64,
            0.0,
        ),
        verdict(
            "seconds until the calm was back",
            recovery <= recovery_max,
            recovery,
            recovery_max,
        ),
    ];
    let hangs = f64::from(u8::from(facts.hangs()));
    verdicts.push(verdict("hangs at its end", hangs == 0.0, hangs, 0.0));
    if let Some(bound) = p99_ms_max {
        for (asked, part) in [("p99 ms before", &facts.before), ("p99 ms after", &facts.after)] {
            let p99 = part.p99_ms.unwrap_or(f64::INFINITY);
            verdicts.push(verdict(asked, p99 <= bound, p99, bound));
            let refused = part.refused_share();
            verdicts.push(verdict(
                "share refused beside it",
                refused <= REFUSED_SHARE_MAX,
                refused,
                REFUSED_SHARE_MAX,
            ));
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(due_ms: u64, took_ms: u64, hot: bool, ending: Ending) -> Sample {
        Sample {
            due: Duration::from_millis(due_ms),
            took: Duration::from_millis(took_ms),
            hot,
            ending,
        }
    }

    const HIT: Ending = Ending::Served { hit: true };
    const MISS: Ending = Ending::Served { hit: false };

    #[test]
    fn a_part_counts_what_was_due_in_it() {
        let samples = [
            sample(0, 9, true, HIT),
            sample(10, 1, true, HIT),
            sample(20, 3, true, MISS),
            sample(30, 5, false, MISS),
            sample(40, 7, true, Ending::Refused),
            sample(50, 7, false, Ending::Failed),
            sample(60, 9, false, MISS),
        ];
        let part = Part::of(&samples, Duration::from_millis(10), Duration::from_millis(60));
        assert_eq!((part.asked, part.served, part.refused, part.failed), (5, 3, 1, 1));
        assert_eq!(
            (part.p50_ms, part.p99_ms, part.computed_p99_ms),
            (Some(3.0), Some(5.0), Some(5.0))
        );
        assert_eq!(part.hot_share, Some(0.5));
        assert_eq!(Part::of(&[], Duration::ZERO, Duration::MAX).p99_ms, None);
    }

    #[test]
    fn recovery_is_a_row_of_hits_after_the_causes() {
        let end = Duration::from_millis(1000);
        // Hits before the end of the causes do not count, nor do texts that nobody asked for before.
        let early = (0..40).map(|n| sample(n, 1, true, HIT));
        let cold = (0..40).map(|n| sample(1000 + n, 1, false, HIT));
        let misses = (0..30).map(|n| sample(2000 + n, 1, true, MISS));
        let hits = (0..70).map(|n| sample(3000 + 10 * n, 5, true, HIT));
        let samples: Vec<Sample> = early.chain(cold).chain(misses.clone()).chain(hits).collect();
        // The first stretch that begins after the misses has sixty hits in it.
        assert_eq!(
            recovered(&samples, end, None),
            Some(Duration::from_millis(2590 + 5))
        );
        assert_eq!(recovered(&misses.collect::<Vec<_>>(), end, None), None);
    }

    #[test]
    fn recovery_waits_for_answers_in_time_where_a_time_is_asked() {
        let late = (0..100).map(|n| sample(10 * n, 50, true, HIT));
        let prompt = (100..200).map(|n| sample(10 * n, 5, true, HIT));
        let samples: Vec<Sample> = late.chain(prompt).collect();
        let recovered = |bound| recovered(&samples, Duration::ZERO, bound);
        assert_eq!(recovered(None), Some(Duration::from_millis(640)));
        assert_eq!(recovered(Some(12.0)), Some(Duration::from_millis(1590 + 5)));
        assert_eq!(recovered(Some(1.0)), None);
    }

    fn good() -> Facts {
        Facts {
            who: Who::Plimsoll,
            causes: Causes::ALL,
            rate: 20.0,
            before: Part::default(),
            during: Part::default(),
            after: Part {
                p99_ms: Some(13.0),
                ..Part::default()
            },
            outcomes: Outcomes::default(),
            recovery: Some(Duration::from_secs(2)),
            counters: Counters::default(),
            peak: Reading::default(),
            idle: Reading::default(),
            settled: None,
            health: Health {
                fresh: 4,
                kept: 4,
                ..Health::default()
            },
            death: None,
            events: Some(Events::default()),
            leases: Vec::new(),
            moments: Vec::new(),
            three: Duration::ZERO,
            over: Duration::ZERO,
        }
    }

    fn failing(facts: &Facts, p99_ms_max: Option<f64>) -> Vec<&'static str> {
        let verdicts = judge(facts, p99_ms_max);
        verdicts
            .into_iter()
            .filter(|verdict| !verdict.holds)
            .map(|verdict| verdict.asked)
            .collect()
    }

    #[test]
    fn a_good_night_passes_and_each_fault_is_named() {
        assert!(failing(&good(), None).is_empty());
        assert_eq!(failing(&good(), Some(12.0)), ["p99 ms before", "p99 ms after"]);
        let refusing = Facts {
            before: Part {
                asked: 100,
                refused: 11,
                p99_ms: Some(1.0),
                ..Part::default()
            },
            ..good()
        };
        assert_eq!(failing(&refusing, Some(13.0)), ["share refused beside it"]);
        let mut bad = good();
        bad.counters.kills = 1;
        bad.health.kept_failed = 1;
        bad.outcomes.scan.mute = 2;
        bad.recovery = Some(Duration::from_secs(61));
        assert_eq!(failing(&bad, None).len(), 4);
        bad.recovery = None;
        assert_eq!(failing(&bad, None).len(), 4);
        // A group without kills and a server that is gone is no good night either.
        let mut gone = good();
        gone.death = Some(Death {
            at: Duration::ZERO,
            status: String::new(),
            kernel: Vec::new(),
        });
        assert_eq!(failing(&gone, None), ["kills"]);
        let mut silent = good();
        silent.events = None;
        assert_eq!(failing(&silent, None), ["hangs at its end"]);
    }
}
