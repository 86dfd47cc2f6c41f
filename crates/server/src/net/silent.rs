//! Who is heard when every place is taken.
//!
//! Ten thousand clients that say nothing would otherwise close each other's connections in turn and hold the places kept for probes, and an orchestrator
//! whose probe is turned away kills a server that is well. So a newcomer first has to speak: a probe (`GET /health`, `GET /metrics`, `GET /info`) gets a
//! reserved place, any other request may take the place of a connection that waits for nothing. HTTP/2 does not say in its first bytes whether it is gRPC's probe:
//! where it can take no place, half of the reserved ones are for it, for a second each. Those who have not spoken yet stand in a line of
//! bounded length. Where it is full, the oldest of the address that has the most in it makes room: a probe speaks at once, but a machine that is busy may keep it
//! from speaking while hundreds come, and those seldom come from as many places.

use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

/// What begins a probe.
const PROBES: [&[u8]; 5] = [
    b"GET /health ",
    b"HEAD /health ",
    b"GET /metrics ",
    b"GET /info ",
    b"GET /v2/health/",
];
/// What begins HTTP/2.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";
/// So much of what a connection says is looked at.
const START_BYTES: usize = 16;
/// Connections that have not spoken.
pub(super) const SILENT_MAX: usize = 48;
/// How long they may be silent.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a connection says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is a probe.
    Probe,
    /// HTTP/2: a probe of gRPC, or anything.
    Http2,
    /// Something else.
    Other,
    /// It is gone.
    Nothing,
}

impl Heard {
    /// What a connection has said already; its bytes stay unread. `None`: nothing as yet. Whoever sends a request's first line in pieces is no probe.
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
            HTTP2 => Heard::Http2,
            _ => Heard::Other,
        }
    }
}

/// The line of those who have not spoken, oldest first.
pub(super) struct Silent(Vec<One>);

struct One {
    tcp: TcpStream,
    from: IpAddr,
    until: Instant,
}

impl Silent {
    pub(super) fn new() -> Silent {
        Silent(Vec::with_capacity(SILENT_MAX + 1))
    }

    /// The connections, in order.
    pub(super) fn connections(&self) -> impl Iterator<Item = &TcpStream> {
        self.0.iter().map(|one| &one.tcp)
    }

    /// When the first of them has been silent for too long.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.first().map(|one| one.until)
    }

    /// Joins the line; returns who has to go for it.
    pub(super) fn enter(&mut self, tcp: TcpStream, from: IpAddr, now: Instant) -> Option<TcpStream> {
        self.0.push(One {
            tcp,
            from,
            until: now + PATIENCE,
        });
        (self.0.len() > SILENT_MAX).then(|| self.0.remove(self.oldest_of_most()).tcp)
    }

    /// Takes out those that have `spoken`, by their places, and those whose time is over.
    pub(super) fn leave(&mut self, spoken: &[bool], now: Instant) -> Vec<TcpStream> {
        let mut spoken = spoken.iter();
        let done = |one: &mut One| spoken.next() == Some(&true) || one.until <= now;
        self.0.extract_if(.., done).map(|one| one.tcp).collect()
    }

    fn oldest_of_most(&self) -> usize {
        let count = |one: &One| self.0.iter().filter(|other| other.from == one.from).count();
        let most = self.0.iter().map(count).max();
        let oldest = self.0.iter().position(|one| Some(count(one)) == most);
        oldest.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_oldest_of_the_address_that_has_the_most_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let (mut silent, now) = (Silent::new(), Instant::now());
        let probe = tcp();
        let probe_port = probe.local_addr().unwrap();
        silent.enter(probe, ip(1), now);
        let mut goes = Vec::new();
        let mut ports = Vec::new();
        for n in 0..100 {
            let newcomer = tcp();
            ports.push(newcomer.local_addr().unwrap());
            goes.extend(silent.enter(newcomer, ip(2 + n % 16), now));
        }
        assert_eq!(silent.connections().count(), SILENT_MAX);
        let goes: Vec<_> = goes.iter().map(|tcp| tcp.local_addr().unwrap()).collect();
        assert_eq!(goes, ports[..=100 - SILENT_MAX]);
        assert_eq!(
            silent.connections().next().unwrap().local_addr().unwrap(),
            probe_port
        );
    }

    #[test]
    fn who_has_spoken_leaves_and_so_does_who_was_silent_for_too_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut silent, now) = (Silent::new(), Instant::now());
        let from = IpAddr::from([10, 0, 0, 1]);
        (0..3).for_each(|n| assert!(silent.enter(tcp(), from, now + n * PATIENCE).is_none()));
        assert_eq!(silent.until(), Some(now + PATIENCE));
        assert_eq!(silent.leave(&[false, true, false], now).len(), 1);
        assert_eq!(silent.leave(&[false, false], now + PATIENCE).len(), 1);
        assert_eq!(silent.leave(&[], now + 2 * PATIENCE).len(), 0);
        assert_eq!(silent.connections().count(), 1);
    }

    #[test]
    fn a_probe_is_known_by_its_first_line() {
        assert_eq!(Heard::of(b"GET /health HTTP"), Heard::Probe);
        assert_eq!(Heard::of(b"GET /healthy HTT"), Heard::Other);
        assert_eq!(Heard::of(b"HEAD /health HTT"), Heard::Probe);
        assert_eq!(Heard::of(b"PRI * HTTP/2.0\r\n"), Heard::Http2);
        assert_eq!(Heard::of(b""), Heard::Nothing);
    }
}
