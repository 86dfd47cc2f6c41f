//! Forced return: room is made by ending requests that have not started, largest first.
//!
//! Not started are those whose body still comes in and those whose text no worker has taken. Each is told why and when to come again; what a worker
//! has begun is always finished.

use crate::engine::Engine;
use crate::error::JobError;

/// A request that may be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    bytes: usize,
    berth: u32,
}

/// Ends requests until `bytes` are on their way back or all have started; `room` is kept for the list. Returns their number and bytes.
pub(crate) fn take_back(engine: &Engine, bytes: usize, room: &mut Vec<Candidate>) -> (usize, usize) {
    list(engine, room);
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

/// All that have not started, largest first.
fn list(engine: &Engine, room: &mut Vec<Candidate>) {
    room.clear();
    for berth in 0..engine.limits().requests_max as u32 {
        let cell = engine.berths().lock(berth);
        let waiting = cell.work.as_ref().filter(|work| !work.text_taken);
        let bytes = waiting.map_or(cell.receiving_bytes, |work| work.held.bytes());
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
    if ended {
        cell.finish(Err(error));
    }
    drop(cell);
    drop(work);
    ended
}
