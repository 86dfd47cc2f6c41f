//! The door: bytes are reserved before a byte of the body is read.
//!
//! First come, first served by bytes: while anyone waits nobody overtakes, so a large request cannot starve behind a stream of
//! small ones. A request that could never fit is refused at once; one that does not fit now waits its turn for a moment
//! and is then told when trying again makes sense, from the rate at which bytes have come back lately.
//!
//! Only the exact ledger decides. Memory that the kernel or an allocator reports is never asked: a gate on measured memory
//! can get stuck refusing for ever.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use plimsoll_memory::{Debit, Ledger, Owner};

use crate::clock::{Clock, Nanos};
use crate::error::{Refusal, Shortage};

/// The share of the newest interval in the drain rate.
const DRAIN_WEIGHT: f64 = 0.3;
/// The drain rate is measured over intervals of this length.
const DRAIN_INTERVAL: Nanos = Nanos::from_ms(100);
/// Retry-After is never longer.
const RETRY_MS_MAX: u64 = 30_000;

/// The door of an engine.
pub(crate) struct Gate {
    ledger: Ledger,
    owner: Owner,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    requests_max: usize,
    waiting_max: usize,
}

struct State {
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
    /// Free places in the table of requests.
    free_berths: Vec<u32>,
    drain: Drain,
    draining: bool,
}

struct Waiter {
    id: u64,
    bytes: usize,
    waker: Option<Waker>,
}

/// How fast bytes come back.
struct Drain {
    since: Nanos,
    bytes: u64,
    bytes_per_ms: f64,
}

/// Bytes and a place that were granted.
pub(crate) struct Grant {
    pub(crate) held: Held,
    pub(crate) berth: u32,
}

/// What came of asking to go in.
pub(crate) enum Entry {
    /// Let in.
    Inside(Grant),
    /// In line, under this number.
    InLine(u64),
}

/// A debit that wakes the door when it shrinks or ends.
pub(crate) struct Held {
    debit: Option<Debit>,
    gate: Arc<Gate>,
}

impl Held {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.debit.as_ref().map_or(0, Debit::bytes)
    }

    /// Gives back all above `bytes`. Never grows.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let before = self.bytes();
        if bytes < before {
            if let Some(debit) = &mut self.debit {
                debit.shrink_to(bytes);
            }
            self.gate.came_back(before - bytes);
        }
    }

    /// Takes `bytes` of it out as a debit of their own; `None` when it holds less.
    pub(crate) fn split(&mut self, bytes: usize) -> Option<Held> {
        let part = self.debit.as_mut()?.split(bytes)?;
        Some(Held {
            debit: Some(part),
            gate: Arc::clone(&self.gate),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = self.bytes();
        self.debit = None;
        self.gate.came_back(bytes);
    }
}

impl Gate {
    pub(crate) fn new(
        ledger: Ledger,
        owner: Owner,
        clock: Arc<dyn Clock>,
        requests_max: usize,
        waiting_max: usize,
    ) -> Arc<Gate> {
        Arc::new(Gate {
            ledger,
            owner,
            clock,
            state: Mutex::new(State {
                waiting: VecDeque::with_capacity(waiting_max),
                next_ticket: 0,
                free_berths: (0..requests_max as u32).rev().collect(),
                drain: Drain {
                    since: Nanos(0),
                    bytes: 0,
                    bytes_per_ms: 0.0,
                },
                draining: false,
            }),
            requests_max,
            waiting_max,
        })
    }

    /// The ledger that decides.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Refuses everything from now on.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        state
            .waiting
            .iter_mut()
            .filter_map(|waiter| waiter.waker.take())
            .for_each(Waker::wake);
    }

    /// Requests that wait at the door.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Requests inside.
    pub(crate) fn inside(&self) -> usize {
        self.requests_max - self.lock().free_berths.len()
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, berth: u32) {
        let mut state = self.lock();
        debug_assert!(!state.free_berths.contains(&berth), "berth {berth} left twice");
        state.free_berths.push(berth);
        state.wake_front();
    }

    /// Goes in when nobody waits and the bytes are free, else gets in line (poll with [`Gate::poll_line`]).
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize) -> Result<Entry, Refusal> {
        let mut state = self.lock();
        if state.draining {
            return Err(Refusal::Draining);
        }
        if state.waiting.is_empty()
            && let Some(grant) = self.grant(&mut state, bytes)
        {
            return Ok(Entry::Inside(grant));
        }
        if state.waiting.len() >= self.waiting_max {
            let reason = Shortage::Waiting {
                waiting_max: self.waiting_max,
            };
            return Err(Refusal::Overloaded {
                reason,
                retry_after_ms: self.retry_after_ms(&state, bytes),
            });
        }
        let id = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiter {
            id,
            bytes,
            waker: None,
        });
        Ok(Entry::InLine(id))
    }

    /// Enters when it is `id`'s turn and its bytes are free.
    pub(crate) fn poll_line(self: &Arc<Self>, id: u64, cx: &mut Context<'_>) -> Poll<Result<Grant, Refusal>> {
        let mut state = self.lock();
        if state.draining {
            return Poll::Ready(Err(Refusal::Draining));
        }
        if state.waiting.front().is_some_and(|front| front.id == id) {
            let bytes = state.waiting[0].bytes;
            if let Some(grant) = self.grant(&mut state, bytes) {
                state.waiting.pop_front();
                state.wake_front();
                return Poll::Ready(Ok(grant));
            }
        }
        if let Some(waiter) = state.waiting.iter_mut().find(|waiter| waiter.id == id) {
            waiter.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Leaves the line.
    pub(crate) fn give_up(&self, id: u64) {
        let mut state = self.lock();
        let was_first = state.waiting.front().is_some_and(|front| front.id == id);
        state.waiting.retain(|waiter| waiter.id != id);
        if was_first {
            state.wake_front();
        }
    }

    /// The refusal of a request that has waited long enough.
    pub(crate) fn refusal(&self, needed_bytes: usize) -> Refusal {
        let state = self.lock();
        let reason = if state.free_berths.is_empty() {
            Shortage::Requests {
                requests_max: self.requests_max,
            }
        } else {
            Shortage::Bytes {
                needed_bytes,
                free_bytes: self.free_bytes(),
            }
        };
        Refusal::Overloaded {
            reason,
            retry_after_ms: self.retry_after_ms(&state, needed_bytes),
        }
    }

    fn free_bytes(&self) -> usize {
        self.ledger.limit_bytes().saturating_sub(self.ledger.in_use())
    }

    fn grant(self: &Arc<Self>, state: &mut State, bytes: usize) -> Option<Grant> {
        let berth = *state.free_berths.last()?;
        let debit = self.ledger.try_debit(self.owner, bytes).ok()?;
        state.free_berths.pop();
        Some(Grant {
            held: Held {
                debit: Some(debit),
                gate: Arc::clone(self),
            },
            berth,
        })
    }

    fn came_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let now = self.clock.now();
        let mut state = self.lock();
        state.drain.add(bytes, now);
        state.wake_front();
    }

    /// Milliseconds until the line before a newcomer, and the newcomer, have fitted through at the measured rate.
    fn retry_after_ms(&self, state: &State, bytes: usize) -> u64 {
        let ahead: usize = state.waiting.iter().map(|waiter| waiter.bytes).sum();
        let missing = (ahead + bytes).saturating_sub(self.free_bytes());
        match state.drain.bytes_per_ms {
            rate if rate > 0.0 => ((missing as f64 / rate) as u64).clamp(1, RETRY_MS_MAX),
            _ => 1000,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn wake_front(&mut self) {
        if let Some(waker) = self.waiting.front_mut().and_then(|front| front.waker.take()) {
            waker.wake();
        }
    }
}

impl Drain {
    fn add(&mut self, bytes: usize, now: Nanos) {
        self.bytes += bytes as u64;
        let span = now.since(self.since);
        if span >= DRAIN_INTERVAL.0 {
            let rate = self.bytes as f64 / (span as f64 / 1e6);
            let old = if self.bytes_per_ms > 0.0 {
                self.bytes_per_ms
            } else {
                rate
            };
            self.bytes_per_ms = old + DRAIN_WEIGHT * (rate - old);
            (self.since, self.bytes) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::task::Waker;

    const OWNER: Owner = Owner::new(0, "requests");

    fn gate(limit_bytes: usize, requests_max: usize, waiting_max: usize) -> (Arc<Gate>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        (
            Gate::new(
                Ledger::new(limit_bytes),
                OWNER,
                clock.clone(),
                requests_max,
                waiting_max,
            ),
            clock,
        )
    }

    fn inside(entry: Result<Entry, Refusal>) -> Grant {
        match entry {
            Ok(Entry::Inside(grant)) => grant,
            Ok(Entry::InLine(id)) => panic!("in line as {id}"),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn in_line(entry: Result<Entry, Refusal>) -> u64 {
        match entry {
            Ok(Entry::InLine(id)) => id,
            _ => panic!("not in line"),
        }
    }

    fn poll(gate: &Arc<Gate>, id: u64) -> Poll<Result<Grant, Refusal>> {
        gate.poll_line(id, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nobody_overtakes_a_large_request_that_waits() {
        let (gate, _) = gate(100, 8, 8);
        let first = inside(gate.enter(60));
        let large = in_line(gate.enter(80));
        let small = in_line(gate.enter(10));
        assert!(
            poll(&gate, small).is_pending(),
            "10 bytes are free, but 80 were asked for before"
        );
        gate.leave(first.berth);
        drop(first.held);
        assert!(poll(&gate, small).is_pending());
        assert!(matches!(poll(&gate, large), Poll::Ready(Ok(_))));
        assert_eq!(gate.waiting(), 1);
    }

    #[test]
    fn giving_up_lets_the_next_one_through() {
        let (gate, _) = gate(100, 8, 8);
        let _first = inside(gate.enter(60));
        let large = in_line(gate.enter(80));
        let small = in_line(gate.enter(10));
        gate.give_up(large);
        assert!(matches!(poll(&gate, small), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_full_line_and_a_full_table_are_named() {
        let (gate, _) = gate(100, 1, 1);
        let grant = inside(gate.enter(10));
        let waiting = in_line(gate.enter(10));
        let refused = gate.enter(10);
        assert!(matches!(
            refused,
            Err(Refusal::Overloaded {
                reason: Shortage::Waiting { waiting_max: 1 },
                ..
            })
        ));
        let reason = Shortage::Requests { requests_max: 1 };
        assert!(matches!(gate.refusal(10), Refusal::Overloaded { reason: r, .. } if r == reason));
        gate.give_up(waiting);
        gate.leave(grant.berth);
        drop(grant.held);
        assert_eq!((gate.ledger().in_use(), gate.inside(), gate.waiting()), (0, 0, 0));
    }

    #[test]
    fn retry_after_follows_the_measured_drain() {
        let (gate, clock) = gate(1000, 8, 8);
        // 1,000 bytes every 100 ms: 10 bytes a millisecond.
        for _ in 0..20 {
            let grant = inside(gate.enter(1000));
            clock.advance(Nanos::from_ms(100));
            gate.leave(grant.berth);
            drop(grant.held);
        }
        let _full = inside(gate.enter(1000));
        let Refusal::Overloaded { retry_after_ms, .. } = gate.refusal(500) else {
            panic!("refused for another reason")
        };
        assert_eq!(retry_after_ms, 50);
    }

    #[test]
    fn a_draining_gate_refuses_those_in_line_too() {
        let (gate, _) = gate(100, 8, 8);
        let _first = inside(gate.enter(100));
        let waiting = in_line(gate.enter(10));
        gate.drain();
        assert!(matches!(
            poll(&gate, waiting),
            Poll::Ready(Err(Refusal::Draining))
        ));
        assert!(matches!(gate.enter(1), Err(Refusal::Draining)));
    }
}
