//! Clients that do not take their answers: those that are still there, and those that left while this was read.

use std::collections::HashMap;

use super::reading::{Event, Reading, Request};
use super::verdict::{Finding, bytes, span};

/// A client that is waited for takes at least so much a second, or it is slow.
const READER_BYTES_PER_S_LEAST: f64 = 16.0 * 1024.0;
/// The sockets between take so much of any answer at once, whether or not it is read.
const SOCKETS_BYTES: f64 = 64.0 * 1024.0;
/// What is younger is not judged.
const YOUNG_MS: u64 = 1000;
/// Clients that are named one by one.
const NAMED: usize = 5;

/// Bytes a second that a client took while this was read. Sockets take the first of any answer at once, so that does not count where it was before.
pub(super) fn taken_per_s(reading: &Reading, request: &Request) -> f64 {
    let mut before = reading.before.requests.iter();
    let before = before.find(|one| one.number == request.number && one.writing_ms.is_some());
    let (since, taken) = match before {
        Some(before) => (reading.before.now_ms, before.flushed_bytes),
        None => (request.writing_ms.unwrap_or(request.admitted_ms), 0),
    };
    let ms = reading.after.now_ms.saturating_sub(since).max(1);
    (request.flushed_bytes - taken) as f64 * 1000.0 / ms as f64
}

/// A client that does not take its answer.
pub(super) fn is_slow(reading: &Reading, request: &Request) -> bool {
    let old = |since| reading.after.now_ms.saturating_sub(since) > YOUNG_MS;
    request.phase == "answer"
        && request.writing_ms.is_some_and(old)
        && taken_per_s(reading, request) < READER_BYTES_PER_S_LEAST
}

/// A rate for people: the mean of some.
pub(super) fn rate(each: impl Iterator<Item = f64>) -> String {
    let rates: Vec<f64> = each.collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    match mean {
        ..1.0 => "nothing".to_owned(),
        _ => format!("{}/s", bytes(mean as u64)),
    }
}

/// An answer that was not taken, or hardly.
struct Answer {
    number: u64,
    /// For what.
    tasks: String,
    held_bytes: u64,
    flushed_bytes: u64,
    /// For how long it was written.
    ms: f64,
    taken_per_s: f64,
    /// The client left, or was sent away.
    left: bool,
}

impl Answer {
    fn says(&self) -> String {
        let (holds, took) = match self.left {
            true => ("held", "had taken"),
            false => ("holds", "took"),
        };
        format!(
            "request {}{} {holds} {}; its client {took} {} in {}{}",
            self.number,
            self.tasks,
            bytes(self.held_bytes),
            bytes(self.flushed_bytes),
            span(self.ms),
            if self.left { " and is gone" } else { "" }
        )
    }
}

/// Answers that are being written still.
fn waiting(reading: &Reading) -> Vec<Answer> {
    let requests = reading.after.requests.iter();
    let slow = requests.filter(|request| is_slow(reading, request));
    let answers = slow.map(|request| Answer {
        number: request.number,
        tasks: match request.tasks.is_empty() {
            true => " (no named task)".to_owned(),
            false => format!(" ({})", request.tasks.join(", ")),
        },
        held_bytes: request.held_bytes,
        flushed_bytes: request.flushed_bytes,
        ms: (reading.after.now_ms - request.writing_ms.unwrap_or(reading.after.now_ms)) as f64,
        taken_per_s: taken_per_s(reading, request),
        left: false,
    });
    answers.collect()
}

/// An answer whose writing has begun.
#[derive(Clone, Copy)]
struct Begun {
    at_us: f64,
    held_bytes: u64,
}

/// Answers that were being written as this reading began, or were begun in it, by their requests.
fn begun(reading: &Reading) -> HashMap<u64, Begun> {
    // The events begin a moment after the state was read: what was not being written then may have begun in between.
    let before = reading.before.requests.iter().map(|request| {
        let begun = Begun {
            at_us: request.writing_ms.unwrap_or(reading.before.now_ms) as f64 * 1000.0,
            held_bytes: request.held_bytes,
        };
        (request.number, begun)
    });
    let begins = |event: &&Event| event.ph == 'b' && event.name == "answer";
    let since = reading.events.iter().filter(begins).map(|event| {
        let begun = Begun {
            at_us: event.ts,
            held_bytes: event.number("bytes") as u64,
        };
        (event.id, begun)
    });
    before.chain(since).collect()
}

/// Answers whose clients left while this was read, or were sent away.
fn gone(reading: &Reading) -> Vec<Answer> {
    let begun = begun(reading);
    let ends = |event: &&Event| event.ph == 'e' && event.name == "request" && event.word("from") == "answer";
    let slow = reading.events.iter().filter(ends).filter_map(|event| {
        let begun = begun.get(&event.id)?;
        let (ms, flushed_bytes) = ((event.ts - begun.at_us) / 1000.0, event.number("flushed"));
        let taken_per_s = (flushed_bytes - SOCKETS_BYTES).max(0.0) * 1000.0 / ms;
        let is_slow = ms > YOUNG_MS as f64 && taken_per_s < READER_BYTES_PER_S_LEAST;
        is_slow.then(|| Answer {
            number: event.id,
            tasks: String::new(),
            held_bytes: begun.held_bytes,
            flushed_bytes: flushed_bytes as u64,
            ms,
            taken_per_s,
            left: true,
        })
    });
    slow.collect()
}

/// Who does not read, first those that still hold something.
pub(super) fn readers(reading: &Reading) -> Option<Finding> {
    let (waiting, gone) = (waiting(reading), gone(reading));
    let all = || waiting.iter().chain(&gone);
    let longest_ms = all().map(|answer| answer.ms).max_by(f64::total_cmp)?;
    let held_bytes = |answers: &[Answer]| answers.iter().map(|answer| answer.held_bytes).sum::<u64>();
    let who = |answers: &[Answer], one: &str, many: &str| match answers.len() {
        1 => format!("One client {one}"),
        n => format!("{n} clients {many}"),
    };
    let mut says = Vec::new();
    if !waiting.is_empty() {
        says.push(format!(
            "{}: {} stay held, {} a client is taken.",
            who(&waiting, "does not read its answer", "do not read their answers"),
            bytes(held_bytes(&waiting)),
            rate(waiting.iter().map(|answer| answer.taken_per_s)),
        ));
    }
    if !gone.is_empty() {
        says.push(format!(
            "{} and left meanwhile: {} were held.",
            who(&gone, "did not read its answer", "did not read their answers"),
            bytes(held_bytes(&gone)),
        ));
    }
    says.push(format!("The longest was waited for {}.", span(longest_ms)));
    Some(Finding {
        rule: "readers",
        says: says.join(" "),
        evidence: all().take(NAMED).map(Answer::says).collect(),
    })
}
