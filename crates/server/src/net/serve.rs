//! The accept loop and its end.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, PipeReader};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use plimsoll_engine::Nanos;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::hearing::{Heard, Hearing, SILENT_MAX};
use super::place::Roster;
use super::{NetSettings, connection};
use crate::app::App;
use crate::http::problem::Reason;
use crate::http::{reserve_router, router};
use crate::{governor, page};

/// What a connection over the cap is told.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 64\r\n\r\n\
{\"error\":\"all connections are in use\",\"error_type\":\"Overloaded\"}";

/// While all places are taken, newcomers are received in rounds this far apart: by then most have said what they want, and one turn of this thread does for
/// many. To be woken for each would cost the workers more than the refusal itself.
const FULL_ROUND: Duration = Duration::from_micros(500);
/// Those of one round that have not spoken yet; each may do so meanwhile, and fill its buffer.
pub(super) const ROUND_MAX: usize = 8;
/// Those received in one round.
const RECEIVED_MAX: usize = 64;
/// Connections without a place that the runtime may have: those that have not spoken and a round more, and a round of those that have. A runtime that stands
/// still, as where the kernel takes its pages away, would else be handed one after the other, and each holds what its client sends.
const SILENT_HANDED_MAX: usize = SILENT_MAX + ROUND_MAX;
const SPOKEN_HANDED_MAX: usize = ROUND_MAX;
pub(super) const PLACELESS_MAX: usize = SILENT_HANDED_MAX + SPOKEN_HANDED_MAX;
/// Reads of what a connection has said before it is refused: 64 KiB, as much as the default socket buffer holds.
const READS_MAX: usize = 16;
/// How long nobody is received when the system has no descriptor left.
const NO_DESCRIPTOR_WAIT: Duration = Duration::from_millis(20);
/// How long a newcomer waits for the place of a connection that is closed for it.
const EVICTION_WAIT: Duration = Duration::from_millis(50);
/// On a reserved connection the headers come within this time.
const RESERVED_HEADER_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves until `stop`, then takes no more connections and lets those inside finish, at most [`NetSettings::drain_timeout`] long. Returns whether all of them
/// did. Until `stop` it blocks its thread, which does nothing else: a connection that is refused never meets the runtime, whose threads would wake for it.
///
/// # Errors
/// When the system has no descriptors for a pipe.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    settings: NetSettings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<bool> {
    let (drain, draining) = watch::channel(false);
    let house = Arc::new(House::new(Arc::clone(&app), settings, draining));
    let governor = tokio::spawn(governor::run(Arc::clone(&app)));
    let page = tokio::spawn(page::run(Arc::clone(&app)));
    let (stopped, stopping) = io::pipe()?;
    tokio::spawn(async move {
        stop.await;
        drop(stopping);
    });
    house.receive_until(&listener, &stopped);
    drop(listener);
    app.drain();
    drain.send_replace(true);
    let all = u32::try_from(settings.connections_max).unwrap_or(u32::MAX);
    let ended = timeout(settings.drain_timeout, house.places.acquire_many(all)).await;
    governor.abort();
    page.abort();
    Ok(ended.is_ok())
}

/// Where connections find their places.
struct House {
    app: Arc<App>,
    settings: NetSettings,
    places: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    silent_handed: Arc<Semaphore>,
    spoken_handed: Arc<Semaphore>,
    roster: Arc<Roster>,
    hearing: Hearing,
    full: Arc<Builder<TokioExecutor>>,
    short: Arc<Builder<TokioExecutor>>,
    router: Router,
    reserve_router: Router,
    draining: watch::Receiver<bool>,
}

impl House {
    fn new(app: Arc<App>, settings: NetSettings, draining: watch::Receiver<bool>) -> Self {
        let short = NetSettings {
            header_timeout: RESERVED_HEADER_TIMEOUT.min(settings.header_timeout),
            ..settings
        };
        let mut short_builder = connection::builder(&short);
        short_builder.http1().keep_alive(false);
        House {
            settings,
            places: Arc::new(Semaphore::new(settings.connections_max)),
            reserved: Arc::new(Semaphore::new(settings.connections_reserved)),
            silent_handed: Arc::new(Semaphore::new(SILENT_HANDED_MAX)),
            spoken_handed: Arc::new(Semaphore::new(SPOKEN_HANDED_MAX)),
            roster: Arc::new(Roster::new()),
            hearing: Hearing::default(),
            full: Arc::new(connection::builder(&settings)),
            short: Arc::new(short_builder),
            router: router(Arc::clone(&app)),
            reserve_router: reserve_router(Arc::clone(&app)),
            draining,
            app,
        }
    }

    fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Receives connections until the other end of `stopped` is closed.
    fn receive_until(self: &Arc<Self>, listener: &TcpListener, stopped: &PipeReader) {
        let mut silent = VecDeque::with_capacity(ROUND_MAX + 1);
        loop {
            if silent.is_empty() {
                let mut ready = [
                    PollFd::new(listener, PollFlags::IN),
                    PollFd::new(stopped, PollFlags::IN),
                ];
                // Interrupted, it has found nothing, and looks again.
                let _ = poll(&mut ready, None);
                if !ready[1].revents().is_empty() {
                    return;
                }
            }
            if self.is_full() {
                std::thread::sleep(FULL_ROUND);
            }
            for tcp in silent.drain(..) {
                self.receive(tcp).into_iter().for_each(|tcp| self.hear(tcp));
            }
            self.receive_all(listener, &mut silent);
        }
    }

    /// Receives those that are there. Who cannot have a place and has not spoken has until the next round, when most have, or until too many came after it.
    fn receive_all(self: &Arc<Self>, listener: &TcpListener, silent: &mut VecDeque<std::net::TcpStream>) {
        for _ in 0..RECEIVED_MAX {
            match listener.accept() {
                Ok((tcp, _)) => silent.extend(self.receive(tcp)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client is gone already, or there are no descriptors: neither is cured by trying again at once.
                Err(_) => return std::thread::sleep(NO_DESCRIPTOR_WAIT),
            }
            if silent.len() > ROUND_MAX {
                silent.pop_front().into_iter().for_each(|tcp| self.hear(tcp));
            }
        }
    }

    /// Gives a connection its place: a free one; or, if it has said something, a reserved one for a probe, that of a connection that waits for
    /// nothing, or none. Whoever can have none is told at once, here: refusing must stay cheap when many come. Returns one that has not spoken.
    fn receive(self: &Arc<Self>, tcp: std::net::TcpStream) -> Option<std::net::TcpStream> {
        let now = self.app.engine.now();
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.hand_over(tcp, |house, tcp| house.serve(tcp, place));
            return None;
        }
        match Heard::already(&tcp) {
            None => return Some(tcp),
            Some(Heard::Nothing) => self.refuse(&tcp, now),
            // Not behind those that wait for somebody's place, which may be as many as there may be of them.
            Some(Heard::Probe) => match Arc::clone(&self.reserved).try_acquire_owned() {
                Ok(reserved) => self.hand_over(tcp, |house, tcp| house.serve_reserved(tcp, reserved)),
                Err(_) => self.refuse(&tcp, now),
            },
            Some(Heard::Other) => match Arc::clone(&self.spoken_handed).try_acquire_owned() {
                Ok(placeless) if self.roster.evict(self.settings.evict_after) => {
                    self.hand_over(tcp, |house, tcp| house.take_place(tcp, placeless));
                }
                _ => self.refuse(&tcp, now),
            },
        }
        None
    }

    /// Waits for what a connection says first; where the runtime has not done with those before, it is refused like the oldest of them.
    fn hear(self: &Arc<Self>, tcp: std::net::TcpStream) {
        let Ok(placeless) = Arc::clone(&self.silent_handed).try_acquire_owned() else {
            return self.refuse(&tcp, self.app.engine.now());
        };
        let turn = self.hearing.enter();
        self.hand_over(tcp, |house, tcp| async move {
            let heard = turn.hear(&tcp).await;
            house.answer(heard, tcp, placeless).await;
        });
    }

    /// Hands a connection to the runtime; one that it cannot take is closed.
    fn hand_over<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        tcp: std::net::TcpStream,
        then: impl FnOnce(Arc<Self>, TcpStream) -> F,
    ) {
        let taken = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp));
        if let Ok(tcp) = taken {
            tokio::spawn(then(Arc::clone(self), tcp));
        }
    }

    /// Gives a connection that has spoken its place, if it can have one.
    async fn answer(self: Arc<Self>, heard: Heard, tcp: TcpStream, placeless: OwnedSemaphorePermit) {
        let now = self.app.engine.now();
        match heard {
            Heard::Probe => {
                if let Ok(reserved) = Arc::clone(&self.reserved).try_acquire_owned() {
                    drop(placeless);
                    return self.serve_reserved(tcp, reserved).await;
                }
            }
            Heard::Other => {
                if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                    drop(placeless);
                    return self.serve(tcp, place).await;
                }
                if self.roster.evict(self.settings.evict_after) {
                    return self.take_place(tcp, placeless).await;
                }
            }
            Heard::Nothing => {}
        }
        self.refuse(&tcp, now);
    }

    /// Waits for the place of a connection that is being closed.
    async fn take_place(self: Arc<Self>, tcp: TcpStream, placeless: OwnedSemaphorePermit) {
        let now = self.app.engine.now();
        match timeout(EVICTION_WAIT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => {
                drop(placeless);
                self.serve(tcp, place).await;
            }
            _ => self.refuse(&tcp, now),
        }
    }

    /// Tells a connection, known since `since`, that there is no place for it.
    fn refuse(&self, tcp: impl AsFd, since: Nanos) {
        let metrics = &self.app.metrics;
        metrics.connections_refused.fetch_add(1, Relaxed);
        // Closing over bytes that nobody read resets the connection, and the refusal may be lost with it. Who sends faster than they are read is not waited for.
        let mut bytes = [0; 4096];
        for _ in 0..READS_MAX {
            let read = recv(&tcp, &mut bytes[..], RecvFlags::DONTWAIT);
            if !read.is_ok_and(|(count, _)| count == bytes.len()) {
                break;
            }
        }
        // Fits the empty send buffer of a new socket, or the client is gone. It leaves together with the end of the stream: to send is most of what a
        // refusal costs, and so it is done once.
        let _ = send(
            &tcp,
            FULL,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::MORE,
        );
        let _ = shutdown(&tcp, Shutdown::Write);
        metrics.refused(Reason::Connections, Nanos(self.app.engine.now().since(since)));
    }

    async fn serve(self: Arc<Self>, tcp: TcpStream, place: OwnedSemaphorePermit) {
        nodelay(&tcp);
        let _open = Open::new(Arc::clone(&self.app), place);
        let (router, entered) = (self.router.clone(), self.roster.enter());
        let builder = Arc::clone(&self.full);
        connection::run(
            builder,
            router,
            tcp,
            self.settings,
            entered,
            self.draining.clone(),
        )
        .await;
    }

    async fn serve_reserved(self: Arc<Self>, tcp: TcpStream, reserved: OwnedSemaphorePermit) {
        nodelay(&tcp);
        let _open = Open::new(Arc::clone(&self.app), reserved);
        // On a roster of its own: nobody is closed for another here.
        let (router, entered) = (self.reserve_router.clone(), Arc::new(Roster::new()).enter());
        let settings = NetSettings {
            read_idle: RESERVED_HEADER_TIMEOUT.min(self.settings.read_idle),
            ..self.settings
        };
        let builder = Arc::clone(&self.short);
        connection::run(builder, router, tcp, settings, entered, self.draining.clone()).await;
    }
}

/// An open connection: counted, and in its place until it is dropped.
struct Open {
    app: Arc<App>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(app: Arc<App>, place: OwnedSemaphorePermit) -> Self {
        app.metrics.connections.fetch_add(1, Relaxed);
        Open { app, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.metrics.connections.fetch_sub(1, Relaxed);
    }
}

/// Answers are written whole; waiting for more of them would only delay them.
fn nodelay(tcp: &TcpStream) {
    // A socket that refuses is slower, not wrong.
    let _ = tcp.set_nodelay(true);
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_refusal_has_the_length_it_declares() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
    }
}
