//! Chrome's trace events as text.
//!
//! What each request adds is written without `core::fmt`: its eight events took two microseconds, one part in thirty of what a request takes that is answered from the cache. What
//! the events of a request share is written once and copied, numbers are digits and all else is literals. Events that are rare are formatted.

use std::fmt::{Display, Formatter, Result as Written, Write};

use axum::body::Bytes;
use bytes::BytesMut;
use plimsoll_engine::Nanos;
use plimsoll_engine::trace::{Moment, Phase, Stay};

use super::digits::{self, EIGHT_DIGITS};

/// A phase that was shorter is not drawn: nobody sees it, and a request from the cache, whose body is there at once and whose work is a look-up, is half as much text.
const SHORTEST_NS: u64 = 10_000;

/// How a request left.
pub(super) struct Left {
    pub(super) at: Nanos,
    pub(super) phase: Phase,
    pub(super) flushed_bytes: u64,
}

/// A few bytes that are written often. Copied whole, as a copy of known length is a few instructions, and cut to their length.
struct Short<const BYTES: usize> {
    bytes: [u8; BYTES],
    length: usize,
}

impl<const BYTES: usize> Short<BYTES> {
    fn of(parts: &[&[u8]]) -> Short<BYTES> {
        let (mut bytes, mut length) = ([0; BYTES], 0);
        for part in parts {
            bytes[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Short { bytes, length }
    }
}

/// A time in microseconds with its thousandths: at most 20 digits and a point.
type Time = Short<24>;

/// Tells times as text.
#[derive(Default)]
struct Times {
    /// What comes before the last eight digits of whole microseconds, a number that changes every hundred seconds, and its digits.
    above: u64,
    text: [u8; 12],
    length: usize,
}

impl Times {
    fn microseconds(&mut self, Nanos(at): Nanos) -> Time {
        let (whole, [.., a, b, c]) = (at / 1000, digits::eight(at % 1000));
        let (above, below) = (whole / EIGHT_DIGITS, whole % EIGHT_DIGITS);
        let (last, last_length) = match above {
            0 => digits::short(below),
            _ => (digits::eight(below), 8),
        };
        if above != self.above {
            *self = Times::of(above);
        }
        let (mut bytes, length) = ([0; 24], self.length + last_length);
        bytes[..12].copy_from_slice(&self.text);
        bytes[self.length..][..8].copy_from_slice(&last);
        bytes[length..][..4].copy_from_slice(&[b'.', a, b, c]);
        Short {
            bytes,
            length: length + 4,
        }
    }

    fn of(above: u64) -> Times {
        let Short { bytes, length } = Short::<12>::of(&[itoa::Buffer::new().format(above).as_bytes()]);
        match above {
            0 => Times::default(),
            _ => Times {
                above,
                text: bytes,
                length,
            },
        }
    }
}

/// The same, formatted. Whole numbers are written faster than floats.
pub(super) struct Us(pub(super) Nanos);

impl Display for Us {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "{}.{:03}", self.0.0 / 1000, self.0.0 % 1000)
    }
}

/// Text that grows, and is taken away piece by piece.
pub(super) struct Events {
    text: BytesMut,
    times: Times,
    piece_bytes: usize,
}

impl Write for Events {
    fn write_str(&mut self, text: &str) -> Written {
        self.text.write_str(text)
    }
}

impl Events {
    /// Text that is usually taken in pieces of such a length.
    pub(super) fn in_pieces(piece_bytes: usize) -> Events {
        let text = BytesMut::with_capacity(piece_bytes);
        Events {
            text,
            times: Times::default(),
            piece_bytes,
        }
    }

    /// Takes what was written. What comes next lies in the same place, if nobody holds that any more by then: memory that was never touched would cost more than the text.
    pub(super) fn take(&mut self) -> Bytes {
        self.text.split().freeze()
    }

    /// Makes room for a piece.
    pub(super) fn make_room(&mut self) {
        self.text.reserve(self.piece_bytes);
    }

    #[inline(always)]
    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    #[inline(always)]
    fn put_short<const BYTES: usize>(&mut self, short: &Short<BYTES>) {
        let end = self.text.len() + short.length;
        self.text.extend_from_slice(&short.bytes);
        self.text.truncate(end);
    }

    fn put_number(&mut self, number: u64) {
        if number >= EIGHT_DIGITS {
            return self.put(itoa::Buffer::new().format(number));
        }
        let (bytes, length) = digits::short(number);
        self.put_short(&Short { bytes, length });
    }

    /// A request that is inside or left, with its phases.
    pub(super) fn stay(&mut self, number: u64, stay: &Stay, left: Option<&Left>) {
        let mut request = RequestEvents::of(self, number);
        let admitted = request.time(stay.admitted.at);
        request.open("b\",\"name\":\"request\",\"ts\":", &admitted);
        request.arg(",\"args\":{\"request\":", number);
        request.arg(",\"bytes\":", stay.admitted.bytes);
        request.arg(",\"inputs\":", u64::from(stay.inputs));
        request.put("}}");
        let (submitted, writing, left_at) = (
            stay.submitted.map(|moment| moment.at),
            stay.writing.map(|moment| moment.at),
            left.map(|left| left.at),
        );
        let body = ["b\",\"name\":\"body\",\"ts\":", "e\",\"name\":\"body\",\"ts\":"];
        request.phase(body, stay.admitted, submitted.or(left_at));
        if let Some(submitted) = stay.submitted {
            let work = ["b\",\"name\":\"work\",\"ts\":", "e\",\"name\":\"work\",\"ts\":"];
            request.phase(work, submitted, writing.or(left_at));
        }
        if let Some(writing) = stay.writing {
            let answer = [
                "b\",\"name\":\"answer\",\"ts\":",
                "e\",\"name\":\"answer\",\"ts\":",
            ];
            request.phase(answer, writing, left_at);
        }
        if let Some(left) = left {
            let at = request.time(left.at);
            request.open("e\",\"name\":\"request\",\"ts\":", &at);
            request.put(",\"args\":{\"from\":\"");
            request.put(left.phase.name());
            request.arg("\",\"flushed\":", left.flushed_bytes);
            request.put("}}");
        }
    }

    /// A request had sequences in a pass.
    pub(super) fn in_pass(&mut self, at: Nanos, number: u64, pass: u64) {
        let time = self.times.microseconds(at);
        let mut request = RequestEvents::of(self, number);
        request.open("n\",\"name\":\"pass\",\"ts\":", &time);
        request.arg(",\"args\":{\"pass\":", pass);
        request.put("}}");
    }

    /// A span that began and ended.
    pub(super) fn span(
        &mut self,
        track: usize,
        began: Nanos,
        ended: Nanos,
        name: &str,
        args: impl Display,
    ) -> Written {
        write!(
            self,
            ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{track},\"ts\":{},\"dur\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
            Us(began),
            Us(Nanos(ended.since(began)))
        )
    }

    /// Something at one moment.
    pub(super) fn moment(&mut self, track: usize, at: Nanos, name: &str, args: impl Display) -> Written {
        write!(
            self,
            ",\n{{\"ph\":\"i\",\"s\":\"t\",\"pid\":1,\"tid\":{track},\"ts\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
            Us(at)
        )
    }

    /// What is counted, as of now.
    pub(super) fn counter(&mut self, at: Nanos, name: &str, args: impl Display) -> Written {
        write!(
            self,
            ",\n{{\"ph\":\"C\",\"pid\":1,\"ts\":{},\"name\":\"{name}\",\"args\":{{{args}}}}}",
            Us(at)
        )
    }
}

/// Writes the events of one request: beginnings (`b`), ends (`e`) and moments (`n`).
struct RequestEvents<'a> {
    events: &'a mut Events,
    head: Short<72>,
}

impl RequestEvents<'_> {
    fn of(events: &mut Events, number: u64) -> RequestEvents<'_> {
        let head = Short::of(&[
            b",\n{\"pid\":1,\"cat\":\"request\",\"id\":",
            itoa::Buffer::new().format(number).as_bytes(),
            b",\"ph\":\"",
        ]);
        RequestEvents { events, head }
    }

    fn time(&mut self, at: Nanos) -> Time {
        self.events.times.microseconds(at)
    }

    /// A phase: its beginning and, where it is over, its end.
    #[inline(always)]
    fn phase(&mut self, [begins, ends]: [&str; 2], began: Moment, ended: Option<Nanos>) {
        if ended.is_some_and(|ended| ended.since(began.at) < SHORTEST_NS) {
            return;
        }
        let at = self.time(began.at);
        self.open(begins, &at);
        self.arg(",\"args\":{\"bytes\":", began.bytes);
        self.put("}}");
        if let Some(ended) = ended {
            let at = self.time(ended);
            self.open(ends, &at);
            self.put("}");
        }
    }

    /// An event up to its time, of which is given what stands between `"ph":"` and that. Inlined, as all that take literals: a copy of known length is a few instructions.
    #[inline(always)]
    fn open(&mut self, what: &str, at: &Time) {
        self.events.put_short(&self.head);
        self.put(what);
        self.events.put_short(at);
    }

    #[inline(always)]
    fn arg(&mut self, before: &str, number: u64) {
        self.put(before);
        self.events.put_number(number);
    }

    #[inline(always)]
    fn put(&mut self, text: &str) {
        self.events.put(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_formatted() {
        let mut times = Times::default();
        let hundred_seconds = 100_000_000_000;
        let some = [
            0,
            1,
            999,
            1000,
            1500,
            99_999_999_999,
            100_000_000_000,
            123_456_789_012,
            u64::MAX,
        ];
        let around = (1..500).flat_map(|n| [n * hundred_seconds - 1, n * hundred_seconds, n * 7_919_000_013]);
        for at in some.into_iter().chain(around).map(Nanos) {
            let time = times.microseconds(at);
            assert_eq!(time.bytes[..time.length], *Us(at).to_string().as_bytes());
        }
    }
}
