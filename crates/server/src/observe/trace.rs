//! W3C trace context: which trace a request belongs to.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace, never 0.
    pub trace_id: u128,
    /// The request's own span, never 0.
    pub span_id: u64,
    /// Its caller's span; 0 where there is none.
    pub parent_id: u64,
    /// Its spans are kept.
    pub sampled: bool,
}

/// Numbers that nobody can guess and no two requests share: a counter under a keyed hash, which the standard library keys with secrets from the system.
#[derive(Default)]
pub(super) struct Ids {
    key: RandomState,
    next: AtomicU64,
}

impl Ids {
    fn next(&self) -> u64 {
        loop {
            let id = self.key.hash_one(self.next.fetch_add(1, Relaxed));
            if id != 0 {
                return id;
            }
        }
    }
}

impl Trace {
    /// The trace that the caller names, whose decision to sample is kept; where it names none, a new one, sampled with the ratio given.
    pub(super) fn of(traceparent: Option<&[u8]>, ids: &Ids, ratio: f64) -> Trace {
        let span_id = ids.next();
        match traceparent.and_then(parse) {
            Some((trace_id, parent_id, sampled)) => Trace {
                trace_id,
                span_id,
                parent_id,
                sampled,
            },
            None => {
                let low = ids.next();
                Trace {
                    trace_id: u128::from(ids.next()) << 64 | u128::from(low),
                    span_id,
                    parent_id: 0,
                    sampled: is_sampled(low, ratio),
                }
            }
        }
    }

    /// The id of one of the request's other spans.
    pub(crate) fn child_id(&self, number: u64) -> u64 {
        // Neighbours of a random number; 0 is no id.
        self.span_id.wrapping_add(number).max(1)
    }
}

/// By the lower half of the trace's id, so that every service decides the same.
fn is_sampled(low: u64, ratio: f64) -> bool {
    ratio >= 1.0 || ((low >> 11) as f64) < ratio * (1u64 << 53) as f64
}

/// As `traceresponse` and `traceparent` have it.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// Trace, parent and whether it is sampled, of a `traceparent` header; `None` for anything that is not exactly one.
fn parse(header: &[u8]) -> Option<(u128, u64, bool)> {
    let text = std::str::from_utf8(header).ok()?;
    let is_known = text.len() == 55;
    let is_newer = text.len() > 55 && !text.starts_with("00") && text.as_bytes()[55] == b'-';
    if !(is_known || is_newer) || text.starts_with("ff") || !text.is_ascii() {
        return None;
    }
    let digits = |range: std::ops::Range<usize>| {
        let digits = &text[range];
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        digits.bytes().all(lower).then_some(digits)
    };
    let dashes = [2, 35, 52].iter().all(|&place| text.as_bytes()[place] == b'-');
    digits(0..2)?;
    let trace_id = u128::from_str_radix(digits(3..35)?, 16).ok()?;
    let parent_id = u64::from_str_radix(digits(36..52)?, 16).ok()?;
    let flags = u8::from_str_radix(digits(53..55)?, 16).ok()?;
    (dashes && trace_id != 0 && parent_id != 0).then_some((trace_id, parent_id, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_trace_goes_on() {
        let trace = Trace::of(Some(HEADER), &Ids::default(), 0.0);
        assert_eq!(trace.trace_id, 0x4bf92f3577b34da6a3ce929d0e0e4736);
        assert_eq!((trace.parent_id, trace.sampled), (0x00f067aa0ba902b7, true));
        let out = trace.to_string();
        assert!(out.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && out.ends_with("-01"));
        assert!(!out.contains("00f067aa0ba902b7"));
    }

    #[test]
    fn what_is_no_traceparent_begins_a_new_trace() {
        let bad: [&[u8]; 8] = [
            b"",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            b"00-4bf92f3577b34da6a3ce929d0e0e473+-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-0f067aa0ba902b7-01".as_bytes(),
        ];
        for header in bad {
            assert_eq!(parse(header), None, "{}", String::from_utf8_lossy(header));
        }
        let newer = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(parse(newer).is_some_and(|(_, _, sampled)| !sampled));
    }

    #[test]
    fn the_ratio_is_kept() {
        let ids = Ids::default();
        let sampled = |ratio| {
            (0..10_000)
                .filter(|_| Trace::of(None, &ids, ratio).sampled)
                .count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((2000..3000).contains(&sampled(0.25)));
    }
}
