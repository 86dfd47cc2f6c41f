//! Places of connections, and who must give one up.
//!
//! A connection that waits for a request holds its place for nothing: an idle keep-alive one, or one whose client sends its headers a byte at a time. When all
//! places are taken, the one that has waited longest is closed for the newcomer. A connection with a request under way is never closed for another.
//!
//! A client of HTTP/2 that opens no window for its answer, or one byte of it, takes nothing and lets nothing be written, so that the socket knows of no stall. It shows
//! in the answer's pieces: one was handed over, and neither is the next asked for nor does the transport let go of it. Such a connection is closed as well.
//! Until the last piece is let go of, a request is under way.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Notify;
use tokio::time::sleep;

/// All connections in places.
pub(super) struct Roster {
    began: Instant,
    connections: Mutex<Vec<Arc<Connection>>>,
}

/// What is known of one connection.
pub(super) struct Connection {
    began: Instant,
    /// Requests under way.
    busy: AtomicUsize,
    /// Since when it waits for a request, in milliseconds.
    waits_since_ms: AtomicU64,
    close: Notify,
    answers: Mutex<Vec<Arc<Taking>>>,
}

/// How far a client is with one answer.
struct Taking(Mutex<Progress>);

struct Progress {
    /// When it was handed a piece or took one, in milliseconds, or [`SERVERS_TURN`].
    since_ms: u64,
    /// Pieces that the transport holds.
    pieces: usize,
    /// The server has not the next piece yet.
    waits: bool,
}

/// The server has not given the next piece.
const SERVERS_TURN: u64 = u64::MAX;
/// The longest piece that is handed over at once, so that a client which takes a long answer slowly is seen to take it.
const PIECE_BYTES_MAX: usize = 16 * 1024;

impl Roster {
    pub(super) fn new() -> Self {
        Roster {
            began: Instant::now(),
            connections: Mutex::default(),
        }
    }

    /// Enters a new connection; it leaves when the value is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        let connection = Arc::new(Connection {
            began: self.began,
            busy: AtomicUsize::new(0),
            waits_since_ms: AtomicU64::new(millis(self.began)),
            close: Notify::new(),
            answers: Mutex::default(),
        });
        self.lock().push(Arc::clone(&connection));
        Entered {
            roster: Arc::clone(self),
            connection,
        }
    }

    /// Closes the connection that has waited longest for a request, if it has for `least`; returns whether one goes.
    pub(super) fn evict(&self, least: Duration) -> bool {
        let (now_ms, least_ms) = (millis(self.began), least.as_millis() as u64);
        let connections = self.lock();
        let waiting = connections.iter().filter(|one| one.busy.load(SeqCst) == 0);
        let oldest = waiting.min_by_key(|one| one.waits_since_ms.load(SeqCst));
        let waited = |one: &Arc<Connection>| now_ms.checked_sub(one.waits_since_ms.load(SeqCst));
        let oldest = oldest.filter(|one| waited(one).is_some_and(|ms| ms >= least_ms));
        if let Some(oldest) = oldest {
            // Not to be chosen again while it closes.
            oldest.waits_since_ms.store(u64::MAX, SeqCst);
            oldest.close.notify_one();
        }
        oldest.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Connection {
    /// Since when the client has left the next piece of an answer, [`SERVERS_TURN`] where it is for the server to give it.
    fn oldest_piece_ms(&self) -> u64 {
        let pieces = self.answers();
        let since_ms = pieces.iter().map(|taking| taking.lock().since_ms);
        since_ms.min().unwrap_or(SERVERS_TURN)
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Arc<Taking>>> {
        self.answers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A connection's place on the roster.
pub(super) struct Entered {
    roster: Arc<Roster>,
    connection: Arc<Connection>,
}

impl Entered {
    /// Resolves when the connection is to be closed for another.
    pub(super) async fn evicted(&self) {
        loop {
            self.connection.close.notified().await;
            // A request that came at the last moment is served.
            if self.connection.busy.load(SeqCst) == 0 {
                return;
            }
        }
    }

    /// Resolves when the client has not asked for the next piece of an answer for `most`.
    pub(super) async fn stalled(&self, most: Duration) {
        self.late(most, Connection::oldest_piece_ms).await;
    }

    /// Resolves when the client has neither taken anything of an answer nor begun a request for `most`.
    pub(super) async fn silent(&self, most: Duration) {
        let oldest_ms = |connection: &Connection| match connection.busy.load(SeqCst) {
            0 => connection.waits_since_ms.load(SeqCst),
            _ => connection.oldest_piece_ms(),
        };
        self.late(most, oldest_ms).await;
    }

    /// Resolves when what has been waited for `since_ms` has been for `most`.
    async fn late(&self, most: Duration, since_ms: impl Fn(&Connection) -> u64) {
        let most_ms = most.as_millis() as u64;
        loop {
            sleep(most / 4).await;
            let waited_ms = millis(self.connection.began).checked_sub(since_ms(&self.connection));
            if waited_ms.is_some_and(|ms| ms >= most_ms) {
                return;
            }
        }
    }

    /// The router, with each request counted until its answer was written.
    pub(super) fn watch(&self, router: Router) -> Watched {
        Watched {
            inner: TowerToHyperService::new(router),
            connection: Arc::clone(&self.connection),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.roster
            .lock()
            .retain(|one| !Arc::ptr_eq(one, &self.connection));
    }
}

/// A service that knows which of its connection's requests are under way.
pub(super) struct Watched {
    inner: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = Busy::new(Arc::clone(&self.connection));
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            Ok(response.map(|body| Body::new(Counted::new(body, busy))))
        })
    }
}

/// A request under way.
struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, SeqCst);
        Busy(connection)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.waits_since_ms.store(millis(self.0.began), SeqCst);
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

impl Taking {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An answer under way, until its body and all its pieces are gone.
struct Answering {
    busy: Busy,
    taking: Arc<Taking>,
}

impl Answering {
    fn now_ms(&self) -> u64 {
        millis(self.busy.0.began)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut answers = self.busy.0.answers();
        answers.retain(|taking| !Arc::ptr_eq(taking, &self.taking));
    }
}

/// A piece in the transport's hands.
struct Piece {
    bytes: Bytes,
    answering: Arc<Answering>,
}

impl Piece {
    fn new(bytes: Bytes, answering: &Arc<Answering>) -> Piece {
        let answering = Arc::clone(answering);
        let mut progress = answering.taking.lock();
        progress.pieces += 1;
        (progress.waits, progress.since_ms) = (false, answering.now_ms());
        drop(progress);
        Piece { bytes, answering }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut progress = self.answering.taking.lock();
        progress.pieces -= 1;
        progress.since_ms = match progress.pieces == 0 && progress.waits {
            true => SERVERS_TURN,
            false => self.answering.now_ms(),
        };
    }
}

/// A body whose request is under way until the transport has let go of all of it, and that knows whether its client takes it.
struct Counted {
    body: Body,
    /// What is left of a long frame.
    rest: Bytes,
    answering: Arc<Answering>,
}

impl Counted {
    fn new(body: Body, busy: Busy) -> Self {
        let taking = Arc::new(Taking(Mutex::new(Progress {
            since_ms: millis(busy.0.began),
            pieces: 0,
            waits: false,
        })));
        busy.0.answers().push(Arc::clone(&taking));
        Counted {
            body,
            rest: Bytes::new(),
            answering: Arc::new(Answering { busy, taking }),
        }
    }

    /// The next piece of a frame's data.
    fn piece(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(PIECE_BYTES_MAX));
        Frame::data(Bytes::from_owner(Piece::new(data, &self.answering)))
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.piece(rest))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = polled {
            let frame = frame.into_data().map(|data| self.piece(data));
            return Poll::Ready(Some(Ok(frame.unwrap_or_else(|trailers| trailers))));
        }
        let mut progress = self.answering.taking.lock();
        progress.waits = polled.is_pending();
        if progress.waits && progress.pieces == 0 {
            progress.since_ms = SERVERS_TURN;
        }
        drop(progress);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
