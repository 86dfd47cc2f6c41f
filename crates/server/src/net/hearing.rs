//! Who is heard when every place is taken.
//!
//! Ten thousand clients that say nothing would otherwise close each other's connections in turn and hold the places kept for probes, and an orchestrator
//! whose probe is turned away kills a server that is well. So a newcomer first has to speak: a probe (`GET /health`, `GET /metrics`, `GET /info`) gets a
//! reserved place, any other request may take the place of a connection that waits for nothing. Those who have not spoken yet stand in a line of
//! bounded length whose oldest makes room for the newest, because a probe speaks at once.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What begins a probe.
const PROBES: [&[u8]; 4] = [
    b"GET /health ",
    b"GET /metrics ",
    b"GET /info ",
    b"GET /v2/health/",
];
/// So much of what a connection says is looked at.
const START_BYTES: usize = 16;
/// Connections that have not spoken.
pub(super) const SILENT_MAX: usize = 32;
/// How long they may be silent.
const WAIT: Duration = Duration::from_millis(500);

/// What a connection says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is a probe.
    Probe,
    /// Something else.
    Other,
    /// It said nothing in its time, or is gone.
    Nothing,
}

impl Heard {
    /// What a connection has said already; its bytes stay unread. `None`: nothing as yet.
    pub(super) fn already(tcp: impl AsFd) -> Option<Heard> {
        let mut bytes = [0; START_BYTES];
        match recv(tcp, &mut bytes[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((count, _)) => Some(Heard::of(&bytes[..count])),
            Err(_) => None,
        }
    }

    fn of(start: &[u8]) -> Heard {
        match start {
            [] => Heard::Nothing,
            start if PROBES.iter().any(|probe| start.starts_with(probe)) => Heard::Probe,
            _ => Heard::Other,
        }
    }
}

/// The line of those who have not spoken.
#[derive(Default)]
pub(super) struct Hearing {
    /// One for each; dropped, it ends the hearing.
    silent: Mutex<VecDeque<oneshot::Sender<()>>>,
}

/// A place in the line.
pub(super) struct Turn(oneshot::Receiver<()>);

impl Hearing {
    /// Joins the line; who is its oldest may have to go.
    pub(super) fn enter(&self) -> Turn {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|turn| !turn.is_closed());
        if silent.len() == SILENT_MAX {
            drop(silent.pop_front());
        }
        let (stay, go) = oneshot::channel();
        silent.push_back(stay);
        Turn(go)
    }
}

impl Turn {
    /// Listens to the first bytes, which stay unread. Whoever sends a request's first line in pieces is no probe.
    pub(super) async fn hear(self, tcp: &TcpStream) -> Heard {
        let mut bytes = [0; START_BYTES];
        let count = tokio::select! {
            biased;
            heard = timeout(WAIT, tcp.peek(&mut bytes)) => heard.ok().and_then(Result::ok).unwrap_or(0),
            _ = self.0 => 0,
        };
        Heard::of(&bytes[..count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let hearing = Hearing::default();
        let mut turns: Vec<Turn> = (0..=SILENT_MAX).map(|_| hearing.enter()).collect();
        let is_over = |turn: &mut Turn| turn.0.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        assert!(is_over(&mut turns[0]) && !is_over(&mut turns[1]));
        drop(turns.remove(5));
        turns.push(hearing.enter());
        assert!(!is_over(&mut turns[1]), "who has spoken leaves its place");
    }
}
