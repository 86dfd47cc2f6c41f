//! Forced return: room is made by ending requests that have not started, largest first.
//!
//! Not started are those whose body still comes in and those whose text no worker has taken. Each is told why and when to come again; what a worker
//! has begun is always finished.
//!
//! One that stands in line whole is ended only for others of at most half its size. To end it for one like it would pass the shortage on: both would have
//! come in vain, and it would be refused after it has waited.

use crate::engine::Engine;
use crate::error::JobError;

/// For so many of the smallest who were turned away a request in line must make room, at least, to be ended.
const ENDED_FOR_LEAST: usize = 2;

/// A request that may be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    bytes: usize,
    berth: u32,
}

/// Ends requests until `bytes` are on their way back or all that may be ended are; `turned_away_bytes` is what the smallest needs for whom this is done,
/// `room` is kept for the list. Returns their number and bytes.
pub(crate) fn take_back(
    engine: &Engine,
    bytes: usize,
    turned_away_bytes: usize,
    room: &mut Vec<Candidate>,
) -> (usize, usize) {
    list(engine, turned_away_bytes.saturating_mul(ENDED_FOR_LEAST), room);
    let (mut count, mut taken_bytes) = (0, 0);
    for candidate in room.iter() {
        if taken_bytes >= bytes {
            break;
        }
        if end(engine, *candidate) {
            count += 1;
            taken_bytes += candidate.bytes;
        }
    }
    (count, taken_bytes)
}

/// All that have not started, less those in line that hold fewer than `line_bytes_least`; largest first.
fn list(engine: &Engine, line_bytes_least: usize, room: &mut Vec<Candidate>) {
    room.clear();
    for berth in 0..engine.limits().requests_max as u32 {
        let cell = engine.berths().lock(berth);
        let in_line = cell.work.as_ref().filter(|work| !work.text_taken);
        let bytes = match in_line.map(|work| work.held.bytes()) {
            Some(bytes) if bytes < line_bytes_least => continue,
            Some(bytes) => bytes,
            None => cell.receiving_bytes,
        };
        if bytes > 0 && cell.outcome.is_none() && cell.returned.is_none() {
            room.push(Candidate { bytes, berth });
        }
    }
    room.sort_unstable_by(|a, b| b.cmp(a));
}

/// Ends one, if it still has not started. The place may have passed to another request since it was listed: that one has not started either.
fn end(engine: &Engine, Candidate { bytes, berth }: Candidate) -> bool {
    let error = JobError::Returned {
        held_bytes: bytes,
        retry_after_ms: engine.gate().retry_after_ms(bytes),
    };
    let stood_in_line = engine.queue().remove_text(berth);
    let mut cell = engine.berths().lock(berth);
    if cell.receiving_bytes > 0 {
        cell.returned = Some(error);
        cell.wake();
        return true;
    }
    if !stood_in_line {
        return false;
    }
    let work = cell.work.take_if(|work| !work.text_taken);
    let ended = work.is_some();
    // Before its task is told, which gives the place up: a newcomer there finds all slots back.
    drop(work);
    if ended {
        cell.finish(Err(error));
    }
    ended
}
