//! From the door to the queue: [`Admission`] waits for bytes, [`Ticket`] holds them while the body comes in, [`Job`] waits for
//! the answer. Dropping any of them gives everything back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use plimsoll_memory::Lease;

use crate::answer::Answer;
use crate::clock::Nanos;
use crate::engine::Engine;
use crate::error::{BodyTooLong, JobError, Refusal};
use crate::gate::{Entry, Grant, Held};
use crate::inputs::{InputTable, Inputs};
use crate::need::Known;
use crate::pools::lease;
use crate::request::{Ask, JobOptions};
use crate::text_stage;
use crate::trace::Moment;

/// Waits for its turn at the door. Resolves to a [`Ticket`] or a [`Refusal`].
///
/// It does not know the time: whoever polls it decides when it has waited long enough ([`Admission::wait`] says how long is
/// meant) and asks [`Admission::give_up`] for the refusal.
pub struct Admission {
    engine: Arc<Engine>,
    known: Known,
    bytes: usize,
    state: State,
}

enum State {
    Refused(Option<Refusal>),
    Inside(Option<Grant>),
    InLine(u64),
    Over,
}

impl Admission {
    pub(crate) fn new(engine: Arc<Engine>, ask: Ask) -> Admission {
        let limits = engine.limits();
        let body_bytes = ask.body_bytes.unwrap_or(limits.body_bytes_max);
        let inputs_max = ask.inputs_max.unwrap_or(limits.inputs_max);
        let known = Known::before_the_body(limits, ask.tasks, body_bytes, inputs_max);
        let bytes = engine.price(ask.tasks, known);
        let state = match engine
            .check_size(body_bytes, bytes)
            .and_then(|()| engine.gate().enter(bytes))
        {
            Ok(Entry::Inside(grant)) => State::Inside(Some(grant)),
            Ok(Entry::InLine(id)) => State::InLine(id),
            Err(refusal) => {
                engine.tell_refused(&refusal, bytes);
                State::Refused(Some(refusal))
            }
        };
        Admission {
            engine,
            known,
            bytes,
            state,
        }
    }

    /// How long it is meant to wait.
    pub fn wait(&self) -> Nanos {
        self.engine.limits().admission_wait
    }

    /// Leaves the line and says why there was no room, and when there may be.
    pub fn give_up(self) -> Refusal {
        if let State::Refused(Some(refusal)) = &self.state {
            return refusal.clone();
        }
        let refusal = self.engine.gate().waited_in_vain(self.bytes);
        self.engine.tell_refused(&refusal, self.bytes);
        refusal
    }
}

impl Future for Admission {
    type Output = Result<Ticket, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let grant = match &mut this.state {
            State::Refused(refusal) => refusal.take().map(Err),
            State::Inside(grant) => grant.take().map(Ok),
            State::InLine(id) => match this.engine.gate().poll_line(*id, cx) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => return Poll::Pending,
            },
            State::Over => None,
        };
        if !matches!(&this.state, State::InLine(_)) || matches!(grant, Some(Ok(_))) {
            this.state = State::Over;
        }
        let grant = grant.expect("an admission is not polled after it resolved");
        Poll::Ready(grant.map(|grant| Ticket::new(Arc::clone(&this.engine), grant, this.known)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        match &mut self.state {
            State::InLine(id) => self.engine.gate().give_up(*id),
            State::Inside(grant) => {
                if let Some(grant) = grant.take() {
                    drop(grant.held);
                    self.engine.gate().leave(grant.berth);
                }
            }
            State::Refused(_) | State::Over => {}
        }
    }
}

/// A place in the table of requests, given up on drop.
pub(crate) struct Place {
    pub(crate) engine: Arc<Engine>,
    pub(crate) id: u32,
    /// A worker will give the place up.
    left_to_worker: bool,
}

impl Place {
    fn new(engine: Arc<Engine>, id: u32) -> Place {
        Place {
            engine,
            id,
            left_to_worker: false,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left_to_worker {
            self.engine.vacate(self.id);
        }
    }
}

/// Having a ticket tells you: the bytes are reserved, the body slot is yours alone, and nothing that this request needs can
/// fail for memory from here on.
pub struct Ticket {
    slots: Option<Slots>,
    known: Known,
    place: Place,
}

/// What a ticket holds.
struct Slots {
    body: Lease<u8>,
    body_bytes: usize,
    inputs: InputTable,
    ids: Option<Lease<u32>>,
    ids_used: usize,
    held: Held,
}

impl Ticket {
    fn new(engine: Arc<Engine>, grant: Grant, known: Known) -> Ticket {
        let place = Place::new(Arc::clone(&engine), grant.berth);
        let held_bytes = grant.held.bytes();
        // Before anything is leased: a lease is never older than the request that a diagnosis finds for it.
        let admitted = Moment {
            at: engine.now(),
            bytes: held_bytes as u64,
        };
        let mut cell = engine.berths().lock(place.id);
        cell.receiving_bytes = held_bytes;
        cell.owner.number = engine.number_request();
        cell.owner.stay.admitted = admitted;
        drop(cell);
        let pools = engine.pools();
        let reserved = "these bytes were debited";
        let slots = Slots {
            body: pools.bodies.lease(known.body_bytes.max(1)).expect(reserved),
            body_bytes: 0,
            inputs: InputTable::new(pools.inputs.lease(known.inputs).expect(reserved)),
            ids: lease(&pools.ids, known.ids).expect(reserved),
            ids_used: 0,
            held: grant.held,
        };
        Ticket {
            slots: Some(slots),
            known,
            place,
        }
    }

    fn slots(&self) -> &Slots {
        self.slots
            .as_ref()
            .expect("a ticket holds its slots until it is submitted")
    }

    fn slots_mut(&mut self) -> &mut Slots {
        self.slots
            .as_mut()
            .expect("a ticket holds its slots until it is submitted")
    }

    /// Appends to the body.
    ///
    /// # Errors
    /// When the body goes on after what was declared.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BodyTooLong> {
        let body_bytes_max = self.known.body_bytes;
        let slots = self.slots_mut();
        let end = slots.body_bytes + bytes.len();
        if end > body_bytes_max {
            return Err(BodyTooLong { body_bytes_max });
        }
        slots.body[slots.body_bytes..end].copy_from_slice(bytes);
        slots.body_bytes = end;
        Ok(())
    }

    /// The body so far.
    pub fn body(&self) -> &[u8] {
        let slots = self.slots();
        &slots.body[..slots.body_bytes]
    }

    /// Bytes reserved for this request.
    pub fn held_bytes(&self) -> usize {
        self.slots().held.bytes()
    }

    /// Ready when the request's bytes are wanted back before it has started: others wait for room, and it is the largest. Who reads the body should
    /// poll this beside it and end the request.
    pub fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<JobError> {
        let mut cell = self.place.engine.berths().lock(self.place.id);
        match cell.returned.take() {
            Some(error) => Poll::Ready(error),
            None => {
                cell.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Lets `read` find the inputs in the body, which it may rewrite in place.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn parse<T, E>(
        &mut self,
        read: impl FnOnce(&mut [u8], &mut Inputs<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let slots = self.slots_mut();
        let ids: &mut [u32] = match &mut slots.ids {
            Some(ids) => ids,
            None => &mut [],
        };
        let mut inputs = Inputs::new(&mut slots.inputs, ids, &mut slots.ids_used);
        read(&mut slots.body[..slots.body_bytes], &mut inputs)
    }

    /// Hands the request to the workers, if it needs them. Called by [`Engine::submit`].
    pub(crate) fn submit(mut self, options: JobOptions, deadline: Nanos) -> Job {
        let slots = self.slots.take().expect("a ticket is submitted once");
        let engine = Arc::clone(&self.place.engine);
        let granted_bytes = slots.held.bytes();
        let mut work = engine.new_work(slots.body, slots.inputs, slots.ids, slots.held, options, deadline);
        let known = match engine.settle_debit(&mut work) {
            Ok(()) => text_stage::run_at_once(&engine, &mut work),
            Err(refusal) => Some(Err(refusal.into())),
        };
        let known = known.or_else(|| match engine.gate().job(granted_bytes) {
            Ok(in_turn) => {
                work.in_turn = Some(in_turn);
                None
            }
            Err(refusal) => Some(Err(refusal.into())),
        });
        let mut cell = engine.berths().lock(self.place.id);
        cell.receiving_bytes = 0;
        cell.waker = None;
        cell.owner.tasks = work.options.tasks;
        cell.owner.stay.inputs = work.inputs.len() as u32;
        cell.owner.stay.submitted = Some(Moment {
            at: work.times.submitted,
            bytes: work.held.bytes() as u64,
        });
        cell.work = Some(work);
        let outcome = cell.returned.take().map(Err).or(known);
        let waits = outcome.is_none();
        if let Some(outcome) = outcome {
            cell.finish(outcome);
        }
        drop(cell);
        if waits {
            engine.queue().push_text(self.place.id, slots.body_bytes);
        }
        let Ticket { place, .. } = self;
        Job { place: Some(place) }
    }
}

/// A job on its way. Resolves to its [`Answer`]; dropping it cancels the job and gives everything back.
pub struct Job {
    place: Option<Place>,
}

impl Future for Job {
    type Output = Result<Answer, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let place = self
            .place
            .as_ref()
            .expect("a job is not polled after it resolved");
        let mut cell = place.engine.berths().lock(place.id);
        if cell.busy > 0 || cell.outcome.is_none() {
            cell.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let outcome = cell.outcome.take();
        let work = cell.work.take();
        drop(cell);
        let place = self.place.take();
        Poll::Ready(match (outcome, work, place) {
            (Some(Ok(())), Some(work), Some(place)) => Ok(Answer::new(work, place)),
            (Some(Err(error)), _, _) => Err(error),
            _ => Err(JobError::Internal { stage: "finish" }),
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Some(place) = &mut self.place else { return };
        // Under both locks, so that no worker lines the job up in between.
        let mut lines = place.engine.queue().lock();
        lines.remove(place.id);
        let mut cell = place.engine.berths().lock(place.id);
        let left = if cell.busy > 0 {
            cell.cancelled = true;
            cell.waker = None;
            place.left_to_worker = true;
            None
        } else {
            // A worker that has taken the job out of its line, and waits for this lock, must find nothing: the place is another's soon.
            cell.work.take()
        };
        drop(cell);
        drop(lines);
        drop(left);
    }
}
