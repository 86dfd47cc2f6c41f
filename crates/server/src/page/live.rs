//! `/live`: what the page shows, once a second, as server-sent events.
//!
//! What watching costs is bounded: a snapshot is made once a second for all who watch, and not at all while nobody does; there are
//! [`WATCHERS_MAX`] places; a watcher that reads slowly misses snapshots instead of queueing them, and one that does not read is closed like any
//! connection. A stream ends after [`STREAM_TIME`] and is asked for again, so that a place is not held for ever. Each stream is an ordinary
//! connection of the bill: the places kept for probes are never taken.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, header};
use http_body::Frame;
use plimsoll_engine::govern::Cycle;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::past::{Past, Second};
use super::snapshot::{self, Opening};
use crate::app::App;
use crate::http::problem::{Family, Problem};
use crate::metrics::Recent;

/// Pages that may watch at the same time.
const WATCHERS_MAX: usize = 8;
/// A stream ends after this time; the page asks again.
const STREAM_TIME: Duration = Duration::from_secs(60);
/// Reclaim cycles that are remembered.
const CYCLES_KEPT: usize = 8;
/// A snapshot is shorter, by far.
const SNAPSHOT_BYTES_MAX: usize = 12 * 1024;

/// What is watched.
pub struct Live {
    past: Mutex<Past>,
    cycles: Mutex<Vec<Cycle>>,
    /// The most bytes that were debited in this second.
    peak_bytes: AtomicUsize,
    newest: watch::Sender<Bytes>,
    places: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            past: Mutex::new(Past::new()),
            cycles: Mutex::new(Vec::with_capacity(CYCLES_KEPT)),
            peak_bytes: AtomicUsize::new(0),
            newest: watch::Sender::new(Bytes::new()),
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
        }
    }
}

impl Live {
    /// Heap bytes of all this at most, for the bill: what is remembered, the newest snapshot, and the first event of each watcher.
    pub const BYTES: usize = Past::BYTES + 2 * size_of::<Recent>() + (2 + WATCHERS_MAX) * SNAPSHOT_BYTES_MAX;

    /// A reading of the ledger.
    pub(crate) fn observe(&self, debited_bytes: usize) {
        self.peak_bytes.fetch_max(debited_bytes, Relaxed);
    }

    /// A reclaim cycle ended.
    pub(crate) fn reclaimed(&self, cycle: Cycle) {
        let mut cycles = lock(&self.cycles);
        if cycles.len() == CYCLES_KEPT {
            cycles.remove(0);
        }
        cycles.push(cycle);
    }

    /// The last cycles, newest first.
    pub(super) fn cycles(&self) -> Vec<Cycle> {
        lock(&self.cycles).iter().rev().copied().collect()
    }

    pub(super) fn past(&self) -> MutexGuard<'_, Past> {
        lock(&self.past)
    }

    /// A second is over.
    fn tick(&self, app: &App, lasted: Duration) {
        self.observe(app.engine.requests_bytes());
        let answers = app.metrics.answer_times().quantiles(2, [50, 99]);
        let [p50_us, p99_us] = answers.unwrap_or_default().map(|nanos| (nanos / 1000) as u32);
        let limit_bytes = app.engine.ledger().limit_bytes().max(1);
        self.past().push(Second {
            level_permille: (self.peak_bytes.load(Relaxed) as u128 * 1000 / limit_bytes as u128) as u16,
            lasted_s: lasted.as_secs_f32(),
            p50_us,
            p99_us,
            totals: app.metrics.totals(),
        });
        if self.newest.receiver_count() > 0 {
            self.publish(app);
        }
        self.peak_bytes.store(app.engine.requests_bytes(), Relaxed);
    }

    fn publish(&self, app: &App) {
        self.newest.send_replace(event("now", &snapshot::now(app)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ticks until it is dropped.
pub(crate) async fn run(app: Arc<App>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = seconds.tick().await;
    for number in 1usize.. {
        let now = seconds.tick().await;
        app.live.tick(&app, now - last);
        last = now;
        if number.is_multiple_of(Recent::SLICE_S) {
            app.metrics.turn();
        }
    }
}

/// One event of the stream.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("a snapshot is plain data");
    debug_assert!(data.len() < SNAPSHOT_BYTES_MAX, "{} bytes of {name}", data.len());
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// Answers `GET /live`.
pub(super) fn watch(app: Arc<App>) -> Response {
    let Ok(place) = Arc::clone(&app.live.places).try_acquire_owned() else {
        return Problem::too_many_watchers(WATCHERS_MAX).into_response(Family::Native);
    };
    let is_first = app.live.newest.receiver_count() == 0;
    let mut newest = app.live.newest.subscribe();
    if is_first {
        app.live.publish(&app);
    }
    newest.mark_changed();
    let watcher = Watcher {
        opening: Some(event("opening", &Opening::of(&app))),
        until: Instant::now() + STREAM_TIME,
        newest,
        app,
        _place: place,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that buffer would hold the present back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::new(Stream(Some(Box::pin(watcher.next()))))).into_response()
}

/// Who watches.
struct Watcher {
    opening: Option<Bytes>,
    newest: watch::Receiver<Bytes>,
    until: Instant,
    app: Arc<App>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next event; `None` once its time is over or the server drains.
    async fn next(mut self) -> Option<(Bytes, Watcher)> {
        if let Some(opening) = self.opening.take() {
            return Some((opening, self));
        }
        timeout_at(self.until, self.newest.changed()).await.ok()?.ok()?;
        if self.app.is_draining() {
            return None;
        }
        let bytes = self.newest.borrow_and_update().clone();
        Some((bytes, self))
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Watcher)>> + Send>>;

/// The events as a response's body; they are made only when the socket takes them.
struct Stream(Option<Next>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(next) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let next = ready!(next.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(next.map(|(bytes, watcher)| {
            self.0 = Some(Box::pin(watcher.next()));
            Ok(Frame::data(bytes))
        }))
    }
}
