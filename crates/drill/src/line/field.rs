//! The field of an attack: whom it attacks, for how long, and what came of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Result;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Client, Reply};
use super::logs::Logs;
use super::server::Bill;
use crate::rng::Rng;

/// Where an attack takes place. All its clients run on one thread.
pub struct Field {
    /// Whom.
    pub address: SocketAddr,
    /// What it may hold.
    pub bill: Bill,
    /// When the attack ends.
    pub until: Instant,
    /// How logs are written beside the server.
    pub logs: Logs,
    /// What came of it.
    pub tally: RefCell<Tally>,
    connections: Cell<u32>,
}

/// What came of an attack.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections that were opened.
    pub connections: u64,
    /// Connections that the kernel refused, or this process had no descriptor for.
    pub unconnected: u64,
    /// Most connections that were open at once.
    pub open_max: u64,
    /// Answers with a status of 2xx.
    pub served: u64,
    /// 429 and 503.
    pub refused: u64,
    /// Of them, those that lack a reason or a `Retry-After`.
    pub mute_refusals: u64,
    /// Other statuses.
    pub others: BTreeMap<u16, u64>,
    /// Connections that ended without a reply that was waited for.
    pub broken: u64,
    /// From request to refusal, in microseconds, connecting included.
    pub refusal_us: Vec<u32>,
    /// From request to answer, in microseconds, connecting included.
    pub served_us: Vec<u32>,
    /// Bytes of logs that were written.
    pub log_bytes: u64,
    /// What the overload attack found.
    pub overload: Option<Overload>,
}

/// Goodput before and during overload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overload {
    /// Clients at the peak.
    pub clients: usize,
    /// Answers a second at the peak.
    pub peak_per_second: f64,
    /// Answers a second with ten times the clients.
    pub overload_per_second: f64,
    /// What was asked for a second then, answered or refused.
    pub offered_per_second: f64,
}

impl Tally {
    fn count(&mut self, reply: Reply, took: Duration) {
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match reply.status {
            200..300 => {
                self.served += 1;
                self.served_us.push(us);
            }
            429 | 503 => {
                self.refused += 1;
                self.mute_refusals += u64::from(!reply.says_when || !reply.says_why);
                self.refusal_us.push(us);
            }
            other => *self.others.entry(other).or_default() += 1,
        }
    }
}

/// The value below which `share` of `values` lie; `None` of none.
pub fn quantile(values: &[u32], share: f64) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

impl Field {
    /// A field for `time` from now.
    pub fn new(address: SocketAddr, bill: Bill, logs: Logs, time: Duration) -> Rc<Field> {
        Rc::new(Field {
            address,
            bill,
            logs,
            until: Instant::now() + time,
            tally: RefCell::default(),
            connections: Cell::new(0),
        })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_with(None).await
    }

    /// Opens a connection with a receive buffer of this size.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect_with(&self, receive_bytes: Option<u32>) -> Result<Client> {
        let number = self.connections.get();
        self.connections.set(number.wrapping_add(1));
        let connected = Client::connect(self.address, number, receive_bytes).await;
        let mut tally = self.tally.borrow_mut();
        match &connected {
            Ok(_) => tally.connections += 1,
            Err(_) => tally.unconnected += 1,
        }
        connected
    }

    /// Asks over `client`, opening it where there is none and dropping it where the server ends it. `None`: it broke off.
    pub async fn ask(&self, client: &mut Option<Client>, request: &[u8]) -> Option<Reply> {
        let began = Instant::now();
        if client.is_none() {
            *client = self.connect().await.ok();
        }
        let open = client.as_mut()?;
        let reply = open.ask(request).await;
        match reply {
            Ok(reply) => {
                self.tally.borrow_mut().count(reply, began.elapsed());
                if reply.closes {
                    *client = None;
                }
                Some(reply)
            }
            Err(_) => {
                self.tally.borrow_mut().broken += 1;
                *client = None;
                None
            }
        }
    }

    /// Notes how many connections are open.
    pub fn saw_open(&self, open: u64) {
        let mut tally = self.tally.borrow_mut();
        tally.open_max = tally.open_max.max(open);
    }

    /// Sets `count` clients loose until the end of the attack, then drops them where they are. Each has its own numbers.
    pub async fn crowd<F>(self: &Rc<Field>, count: usize, rng: &mut Rng, client: impl Fn(Rc<Field>, Rng) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        self.crowd_until(self.until, count, rng, client).await;
    }

    /// As [`Field::crowd`], to an earlier end.
    pub async fn crowd_until<F>(
        self: &Rc<Field>,
        until: Instant,
        count: usize,
        rng: &mut Rng,
        client: impl Fn(Rc<Field>, Rng) -> F,
    ) where
        F: Future<Output = ()> + 'static,
    {
        let mut clients = JoinSet::new();
        for index in 0..count {
            clients.spawn_local(client(Rc::clone(self), rng.fork(index as u64)));
        }
        // Out of time is how it is meant to end.
        let _ = timeout_at(until, async { while clients.join_next().await.is_some() {} }).await;
    }
}

/// Waits a moment before trying again.
pub async fn pause(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(
            (quantile(&values, 0.99), quantile(&values, 0.0)),
            (Some(99), Some(1))
        );
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_refusal_without_a_reason_is_told_apart() {
        let mut tally = Tally::default();
        let refusal = Reply {
            status: 429,
            says_when: true,
            says_why: true,
            ..Reply::default()
        };
        tally.count(refusal, Duration::from_micros(5));
        let mute = Reply {
            says_why: false,
            ..refusal
        };
        tally.count(mute, Duration::from_micros(6));
        assert_eq!((tally.refused, tally.mute_refusals), (2, 1));
    }
}
