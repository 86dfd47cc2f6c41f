//! The trace on one axis of time: how much of what, bucket by bucket, and what happened when.

use std::collections::HashMap;

use serde::Serialize;

use super::reading::{Event, Reading};

/// Buckets of a report, and the shortest of them.
const BUCKETS_MAX: f64 = 300.0;
const BUCKET_S_LEAST: f64 = 0.25;

/// Everything over time. Times are seconds since 1970.
#[derive(Default, Serialize)]
pub(super) struct Series {
    /// Where buckets begin.
    pub(super) t: Vec<f64>,
    pub(super) bucket_s: f64,
    /// What counters said last in each bucket, by counter and name.
    pub(super) counters: Vec<Counter>,
    /// Requests that left after their answer, and those that were refused, a second.
    pub(super) answered: Vec<f64>,
    pub(super) refused: Vec<f64>,
    /// Milliseconds from the door to the last byte, of those that left in each bucket.
    pub(super) p50: Vec<Option<f64>>,
    pub(super) p99: Vec<Option<f64>>,
    pub(super) marks: Vec<Mark>,
    /// Refusals by reason.
    pub(super) reasons: Vec<(String, u64)>,
    /// How long stages took: name, how many, milliseconds that half and 99 of 100 ended within.
    pub(super) stages: Vec<Stage>,
}

#[derive(Serialize)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) count: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// One line of a chart.
#[derive(Serialize)]
pub(super) struct Counter {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) values: Vec<Option<f64>>,
}

/// Something that the governor did.
#[derive(Serialize)]
pub(super) struct Mark {
    pub(super) t: f64,
    /// `level`, `reclaim`, `returned` or `evicted`.
    pub(super) kind: String,
    pub(super) text: String,
}

/// Where a time of the trace belongs.
struct Axis {
    zero_s: f64,
    begin_s: f64,
    bucket_s: f64,
    buckets: usize,
}

impl Axis {
    fn at(&self, ts_us: f64) -> f64 {
        self.zero_s + ts_us / 1e6
    }

    fn bucket(&self, ts_us: f64) -> Option<usize> {
        let bucket = (self.at(ts_us) - self.begin_s) / self.bucket_s;
        (bucket >= 0.0).then_some((bucket as usize).min(self.buckets - 1))
    }
}

impl Series {
    pub(super) fn of(reading: &Reading) -> Series {
        let axis = axis(reading);
        let counters = counters(&reading.events, &axis);
        let mut refused = vec![0.0; axis.buckets];
        let mut reasons: HashMap<String, u64> = HashMap::new();
        for event in reading.events.iter().filter(|event| event.name == "refused") {
            *reasons.entry(event.word("reason").to_owned()).or_default() += 1;
            if let Some(bucket) = axis.bucket(event.ts) {
                refused[bucket] += 1.0 / axis.bucket_s;
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.1));
        let mut left = left(&reading.events, &axis);
        let quantile = |times: &mut Vec<f64>, share| quantile(times, share);
        Series {
            t: (0..axis.buckets)
                .map(|bucket| axis.begin_s + bucket as f64 * axis.bucket_s)
                .collect(),
            answered: left
                .iter()
                .map(|times| times.len() as f64 / axis.bucket_s)
                .collect(),
            p50: left.iter_mut().map(|times| quantile(times, 0.5)).collect(),
            p99: left.iter_mut().map(|times| quantile(times, 0.99)).collect(),
            marks: marks(&reading.events, &axis),
            stages: stages(&reading.events),
            bucket_s: axis.bucket_s,
            counters,
            refused,
            reasons,
        }
    }

    /// Requests that were refused.
    pub(super) fn refusals(&self) -> u64 {
        self.reasons.iter().map(|reason| reason.1).sum()
    }

    /// The most that a counter said.
    pub(super) fn most(&self, group: &str, name: &str) -> Option<f64> {
        let is_meant = |counter: &&Counter| counter.group == group && counter.name == name;
        let counter = self.counters.iter().find(is_meant)?;
        counter.values.iter().copied().flatten().reduce(f64::max)
    }
}

fn axis(reading: &Reading) -> Axis {
    let counted = || {
        reading
            .events
            .iter()
            .filter(|event| event.ph == 'C')
            .map(|event| event.ts)
    };
    let (first, last) = (counted().fold(f64::MAX, f64::min), counted().fold(0.0, f64::max));
    let zero_s = (reading.after.unix_ms as f64 - reading.after.now_ms as f64) / 1000.0;
    let span_s = ((last - first) / 1e6).max(BUCKET_S_LEAST);
    // Of one length, so that none shows a part of what others do.
    let buckets = (span_s / BUCKET_S_LEAST).clamp(1.0, BUCKETS_MAX).floor();
    Axis {
        zero_s,
        begin_s: zero_s + first.min(last) / 1e6,
        bucket_s: span_s / buckets,
        buckets: buckets as usize,
    }
}

fn counters(events: &[Event], axis: &Axis) -> Vec<Counter> {
    let mut all: Vec<Counter> = Vec::new();
    for event in events.iter().filter(|event| event.ph == 'C') {
        let Some(bucket) = axis.bucket(event.ts) else {
            continue;
        };
        for (name, value) in &event.args {
            let known = all
                .iter()
                .position(|counter| counter.group == event.name && &counter.name == name);
            let place = known.unwrap_or_else(|| {
                all.push(Counter {
                    group: event.name.clone(),
                    name: name.clone(),
                    values: vec![None; axis.buckets],
                });
                all.len() - 1
            });
            all[place].values[bucket] = value.as_f64();
        }
    }
    all
}

/// Milliseconds that requests took which left after their answer, bucket by bucket.
fn left(events: &[Event], axis: &Axis) -> Vec<Vec<f64>> {
    let mut begun: HashMap<u64, f64> = HashMap::new();
    let mut left = vec![Vec::new(); axis.buckets];
    for event in events.iter().filter(|event| event.name == "request") {
        if event.ph == 'b' {
            begun.insert(event.id, event.ts);
        } else if event.ph == 'e'
            && event.word("from") == "answer"
            && let (Some(began), Some(bucket)) = (begun.remove(&event.id), axis.bucket(event.ts))
        {
            left[bucket].push((event.ts - began) / 1000.0);
        }
    }
    left
}

fn quantile(times: &mut [f64], share: f64) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.max(1) - 1).copied()
}

fn stages(events: &[Event]) -> Vec<Stage> {
    let names = ["text", "encoder", "heads"];
    names
        .iter()
        .filter_map(|name| {
            let spans = events
                .iter()
                .filter(|event| event.ph == 'X' && event.name == *name);
            let mut times: Vec<f64> = spans.map(|event| event.dur / 1000.0).collect();
            Some(Stage {
                name: (*name).to_owned(),
                count: times.len(),
                p50_ms: quantile(&mut times, 0.5)?,
                p99_ms: quantile(&mut times, 0.99)?,
            })
        })
        .collect()
}

fn marks(events: &[Event], axis: &Axis) -> Vec<Mark> {
    let mark = |event: &Event| {
        let mib = |name: &str| event.number(name) / (1 << 20) as f64;
        let text = match event.name.as_str() {
            "level" => format!(
                "{} → {} at {:.1} of {:.1} MiB",
                event.word("from"),
                event.word("to"),
                mib("in_use"),
                mib("limit")
            ),
            "reclaim" => format!(
                "cycle {} ({}): {:.1} → {:.1} → {:.1} MiB, {} µs of work",
                event.number("number"),
                event.word("cause"),
                mib("live_before"),
                mib("marked"),
                mib("live_after"),
                event.number("worked_us")
            ),
            "returned" => format!(
                "{} requests that had not started were ended",
                event.number("requests")
            ),
            "evicted" => format!(
                "{} cached vectors for room, {} to shrink, {} of age",
                event.number("for_room"),
                event.number("to_shrink"),
                event.number("aged")
            ),
            _ => return None,
        };
        Some(Mark {
            t: axis.at(event.ts),
            kind: event.name.clone(),
            text,
        })
    };
    let deeds = events.iter().filter(|event| event.ph != 'C');
    deeds.filter_map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_is_there() {
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [3.0], 0.99), Some(3.0));
        let mut times: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut times, 0.5), Some(50.0));
        assert_eq!(quantile(&mut times, 0.99), Some(99.0));
    }
}
