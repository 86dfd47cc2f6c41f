//! What a client's task does when it is its turn, and whether it was treated as promised.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use plimsoll_engine::govern::{Door, Marks};
use plimsoll_engine::{Clock, JobError, JobOptions, Nanos, Refusal, Shortage, Ticket};

use super::super::client::{Client, Phase, read};
use super::{Step, World};

/// As the server's: how long a body may take, and a job.
const BODY_TIMEOUT: Nanos = Nanos::from_ms(10_000);
const JOB_TIMEOUT: Nanos = Nanos::from_ms(30_000);
/// Chunks of an answer, at most.
const CHUNKS_MAX: usize = 5;
/// Longest Retry-After.
const RETRY_MS_MAX: u64 = 30_000;

impl World {
    /// At the door: in, or refused when it has waited long enough.
    pub(super) fn at_door(&mut self, client: &mut Client, woken: bool) -> Step {
        let Phase::Door { admission, asked } = &mut client.phase else {
            return Ok(());
        };
        let waker = Arc::clone(&client.flag).into();
        let waited = std::mem::replace(&mut client.polled, true);
        let polled = match woken {
            true => Pin::new(&mut *admission).poll(&mut Context::from_waker(&waker)),
            false => Poll::Pending,
        };
        let refusal = match polled {
            Poll::Ready(Ok(ticket)) => return self.let_in(client, ticket, waited),
            Poll::Ready(Err(refusal)) => refusal,
            Poll::Pending if self.clock.now().since(*asked) < admission.wait().0 => return Ok(()),
            Poll::Pending => {
                let asked = *asked;
                let Phase::Door { admission, .. } = std::mem::replace(&mut client.phase, Phase::Over) else {
                    return Ok(());
                };
                let refusal = admission.give_up();
                self.not_forgotten(client.number, asked, &refusal)?;
                refusal
            }
        };
        client.phase = Phase::Over;
        self.line.retain(|&number| number != client.number);
        self.events.refused += 1;
        self.refusal_is_right(&refusal)
    }

    fn let_in(&mut self, client: &mut Client, ticket: Ticket, waited: bool) -> Step {
        let (number, first) = (client.number, self.line.first().copied());
        self.line.retain(|&waiting| waiting != number);
        self.events.admitted += 1;
        self.events.admitted_from_line += u64::from(waited);
        client.held_bytes_max = ticket.held_bytes();
        client.phase = Phase::Body {
            ticket,
            begun: self.clock.now(),
        };
        let small =
            Door::new(self.engine.ledger().limit_bytes(), &Marks::default()).is_small(client.held_bytes_max);
        if first != Some(number) && (waited || !small) {
            return Err(format!(
                "client {number} went in before {first:?}, who came first"
            ));
        }
        Ok(())
    }

    /// Who stands first and is told that there was no room must not have been forgotten while there was.
    fn not_forgotten(&self, number: u64, asked: Nanos, refusal: &Refusal) -> Step {
        let Refusal::Overloaded { reason, .. } = refusal else {
            return Ok(());
        };
        let had_room = match reason {
            Shortage::Bytes {
                needed_bytes,
                free_bytes,
                ..
            } => needed_bytes <= free_bytes && self.read_at.is_none_or(|read| read < asked),
            Shortage::Requests { requests_max } => self.engine.requests_inside() < *requests_max,
            Shortage::Waiting { .. } | Shortage::Returned { .. } | Shortage::Time { .. } => false,
        };
        if had_room && self.line.first() == Some(&number) {
            return Err(format!(
                "client {number} was first in line, had room and was not woken: {refusal}"
            ));
        }
        Ok(())
    }

    fn refusal_is_right(&self, refusal: &Refusal) -> Step {
        let right = match refusal {
            Refusal::Overloaded { retry_after_ms, .. } => (1..=RETRY_MS_MAX).contains(retry_after_ms),
            Refusal::TooLarge {
                needed_bytes,
                available_bytes,
                ..
            } => needed_bytes > available_bytes && !self.honest,
            Refusal::BodyTooLarge {
                body_bytes,
                body_bytes_max,
            } => body_bytes > body_bytes_max,
            Refusal::Draining => false,
        };
        if right {
            Ok(())
        } else {
            Err(format!("a refusal that makes no sense: {refusal}"))
        }
    }

    /// Sends a piece of the body, or submits.
    pub(super) fn in_body(&mut self, client: &mut Client) -> Step {
        let Phase::Body { ticket, begun } = &mut client.phase else {
            return Ok(());
        };
        if self.clock.now().since(*begun) > BODY_TIMEOUT.0 {
            client.phase = Phase::Over;
            return Ok(());
        }
        let waker = Arc::clone(&client.flag).into();
        if let Poll::Ready(error) = ticket.poll_returned(&mut Context::from_waker(&waker)) {
            client.phase = Phase::Over;
            return returned_is_right(&error);
        }
        if client.stalled {
            return Ok(());
        }
        let body = client.body.as_bytes();
        if client.sent_bytes < body.len() {
            let piece = 1 + self.rng.below(body.len() - client.sent_bytes);
            let pushed = ticket.push(&body[client.sent_bytes..client.sent_bytes + piece]);
            client.sent_bytes += piece;
            match (pushed, client.declared_bytes) {
                (Err(_), Some(declared)) if client.sent_bytes <= declared => {
                    return Err(format!(
                        "{} of {declared} declared bytes were refused",
                        client.sent_bytes
                    ));
                }
                (Err(_), _) => client.phase = Phase::Over,
                (Ok(()), _) => {}
            }
            return Ok(());
        }
        let Phase::Body { mut ticket, .. } = std::mem::replace(&mut client.phase, Phase::Over) else {
            return Ok(());
        };
        if ticket.parse(read).is_ok() {
            let deadline = self.clock.now().after(JOB_TIMEOUT);
            client.phase = Phase::Job {
                job: self
                    .engine
                    .submit(ticket, JobOptions::new(client.tasks), deadline),
            };
            // Nobody has polled it yet, as a task that is spawned is polled once.
            Wake::wake(Arc::clone(&client.flag));
        }
        Ok(())
    }

    pub(super) fn in_job(&mut self, client: &mut Client, woken: bool) -> Step {
        let Phase::Job { job } = &mut client.phase else {
            return Ok(());
        };
        if !woken {
            return Ok(());
        }
        let waker = Arc::clone(&client.flag).into();
        match Pin::new(job).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => {
                client.phase = Phase::Over;
                self.events.failed += 1;
                return returned_is_right(&error);
            }
            Poll::Ready(Ok(answer)) => {
                let lines: Vec<&str> = client.body.split('\n').collect();
                let same = lines.len() == answer.len()
                    && (0..answer.len()).all(|index| answer.text(index) == lines[index]);
                client.phase = Phase::Reading {
                    answer: Box::new(answer),
                    left: 1 + self.rng.below(CHUNKS_MAX),
                };
                Wake::wake(Arc::clone(&client.flag));
                if !same {
                    return Err(format!("client {} got another one's answer", client.number));
                }
            }
        }
        Ok(())
    }

    /// Writes a chunk, or has a written one read.
    pub(super) fn reading(&mut self, client: &mut Client, woken: bool) -> Step {
        let waker = client.waker();
        let Phase::Reading { answer, left } = &mut client.phase else {
            return Ok(());
        };
        if *left == 0 {
            if client.chunks.is_empty() || self.rng.percent(30) {
                self.events.answered += 1;
                self.leave(client);
            } else {
                client.chunks.pop();
            }
            return Ok(());
        }
        if woken && let Poll::Ready(mut chunk) = answer.poll_chunk(&mut Context::from_waker(&waker)) {
            chunk.bytes_mut().fill(0xA5);
            chunk.truncate(1);
            client.chunks.push(chunk);
            *left -= 1;
            waker.wake();
        } else if !client.stalled {
            client.chunks.pop();
        }
        Ok(())
    }

    /// The client goes, wherever it is. What it has not read may stay in the kernel a little longer.
    pub(super) fn leave(&mut self, client: &mut Client) {
        self.line.retain(|&number| number != client.number);
        client.phase = Phase::Over;
        let held_bytes = client.held_bytes_max;
        self.late
            .extend(client.chunks.drain(..).map(|chunk| (chunk, held_bytes)));
    }
}

/// Who is sent away from inside is told when to come again.
fn returned_is_right(error: &JobError) -> Step {
    match error {
        JobError::Returned { retry_after_ms, .. } if !(1..=RETRY_MS_MAX).contains(retry_after_ms) => {
            Err(format!("a return that makes no sense: {error}"))
        }
        _ => Ok(()),
    }
}
