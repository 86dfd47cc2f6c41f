//! The accept loop and its end.

use std::future::Future;
use std::io::{self, PipeReader};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use plimsoll_engine::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::place::Roster;
use super::silent::{Heard, SILENT_MAX, Silent};
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
const FULL_ROUND: Duration = Duration::from_millis(1);
/// Those received in one round.
const RECEIVED_MAX: usize = 64;
/// Connections without a place that the runtime may have. A runtime that stands still, as where the kernel takes its pages away, would else be handed one
/// after the other, and each holds what its client sends.
const HANDED_MAX: usize = 8;
/// Connections without a place.
pub(super) const PLACELESS_MAX: usize = SILENT_MAX + HANDED_MAX;
/// Reads of what a connection has said before it is refused: 64 KiB, as much as the default socket buffer holds.
const READS_MAX: usize = 16;
/// How long nobody is received when the system has no descriptor left.
const NO_DESCRIPTOR_WAIT: Duration = Duration::from_millis(20);
/// How long a newcomer waits for the place of a connection that is closed for it.
const EVICTION_WAIT: Duration = Duration::from_millis(50);
/// On a reserved connection the headers come within this time.
const RESERVED_HEADER_TIMEOUT: Duration = Duration::from_millis(500);
/// One of HTTP/2 does not end with its answer; it is closed after this time.
const RESERVED_HTTP2_TIME: Duration = Duration::from_secs(1);

/// Serves until the first of `stops` and [`NetSettings::drain_delay`] longer, or until the second; probes are told 503 meanwhile. Then it takes no more connections and lets those inside finish, at
/// most [`NetSettings::drain_timeout`] long. Returns whether all of them did. Until then it blocks its thread, which does nothing else: a connection that is refused never meets the runtime, whose threads would wake for it.
///
/// # Errors
/// When the system has no descriptors for a pipe.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    settings: NetSettings,
    mut stops: mpsc::Receiver<()>,
) -> io::Result<bool> {
    let (drain, draining) = watch::channel(false);
    let house = Arc::new(House::new(Arc::clone(&app), settings, draining));
    let governor = tokio::spawn(governor::run(Arc::clone(&app)));
    let page = tokio::spawn(page::run(Arc::clone(&app)));
    let (stopped, stopping) = io::pipe()?;
    let leaving = Arc::clone(&app);
    tokio::spawn(async move {
        stops.recv().await;
        leaving.take_leave();
        // Who asks twice means now.
        let _ = timeout(settings.drain_delay, stops.recv()).await;
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
    /// Of the reserved places, those that HTTP/2 may have.
    reserved_http2: Arc<Semaphore>,
    handed: Arc<Semaphore>,
    roster: Arc<Roster>,
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
            reserved_http2: Arc::new(Semaphore::new(settings.connections_reserved / 2)),
            handed: Arc::new(Semaphore::new(HANDED_MAX)),
            roster: Arc::new(Roster::new()),
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
        let mut silent = Silent::new();
        let mut spoken = Vec::with_capacity(SILENT_MAX);
        loop {
            if !watch(listener, stopped, &silent, silent.until(), &mut spoken) {
                return;
            }
            if self.is_full() {
                std::thread::sleep(FULL_ROUND);
                if !watch(listener, stopped, &silent, Some(Instant::now()), &mut spoken) {
                    return;
                }
            }
            let done = silent.leave(&spoken, Instant::now());
            done.into_iter().for_each(|tcp| self.receive_at_last(tcp));
            self.receive_all(listener, &mut silent);
        }
    }

    /// Receives those that are there. Who cannot have a place and has not spoken has some time to do so.
    fn receive_all(self: &Arc<Self>, listener: &TcpListener, silent: &mut Silent) {
        for _ in 0..RECEIVED_MAX {
            match listener.accept() {
                Ok((tcp, from)) => {
                    let waits = self.receive(tcp);
                    let goes = waits.and_then(|tcp| silent.enter(tcp, from.ip(), Instant::now()));
                    goes.into_iter().for_each(|tcp| self.receive_at_last(tcp));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client is gone already, or there are no descriptors: neither is cured by trying again at once.
                Err(_) => return std::thread::sleep(NO_DESCRIPTOR_WAIT),
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
            Some(Heard::Probe) => match Arc::clone(&self.reserved).try_acquire_owned() {
                Ok(reserved) => self.hand_over(tcp, |house, tcp| house.serve_reserved(tcp, reserved)),
                Err(_) => self.refuse(&tcp, now),
            },
            Some(heard) => match Arc::clone(&self.handed).try_acquire_owned() {
                Ok(placeless) if self.roster.evict(self.settings.evict_after) => {
                    self.hand_over(tcp, |house, tcp| house.take_place(tcp, placeless));
                }
                _ if heard == Heard::Http2 => self.receive_http2(tcp, now),
                _ => self.refuse(&tcp, now),
            },
        }
        None
    }

    /// Gives a connection of HTTP/2 a reserved place for a while: what it asks for is known only once it has one.
    fn receive_http2(self: &Arc<Self>, tcp: std::net::TcpStream, now: Nanos) {
        let share = Arc::clone(&self.reserved_http2).try_acquire_owned();
        match (share, Arc::clone(&self.reserved).try_acquire_owned()) {
            (Ok(share), Ok(reserved)) => self.hand_over(tcp, |house, tcp| async move {
                // Answered or not, its time is over.
                let _ = timeout(RESERVED_HTTP2_TIME, house.serve_reserved(tcp, reserved)).await;
                drop(share);
            }),
            _ => self.refuse(&tcp, now),
        }
    }

    /// The same for one whose time to speak is over.
    fn receive_at_last(self: &Arc<Self>, tcp: std::net::TcpStream) {
        if let Some(tcp) = self.receive(tcp) {
            self.refuse(&tcp, self.app.engine.now());
        }
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

/// Waits until `until`, or for ever, for a newcomer, the end, or someone who speaks; which of the silent do goes into `spoken`. False at the end.
fn watch(
    listener: &TcpListener,
    stopped: &PipeReader,
    silent: &Silent,
    until: Option<Instant>,
    spoken: &mut Vec<bool>,
) -> bool {
    let mut all = Vec::with_capacity(2 + SILENT_MAX);
    all.push(PollFd::new(listener, PollFlags::IN));
    all.push(PollFd::new(stopped, PollFlags::IN));
    all.extend(silent.connections().map(|tcp| PollFd::new(tcp, PollFlags::IN)));
    let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
    let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
    // Interrupted, it has found nothing, and looks again.
    let _ = poll(&mut all, wait.as_ref());
    spoken.clear();
    spoken.extend(all[2..].iter().map(|one| !one.revents().is_empty()));
    all[1].revents().is_empty()
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
