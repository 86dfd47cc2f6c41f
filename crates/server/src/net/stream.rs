//! A socket that closes itself on clients that hold it for nothing.
//!
//! Hyper times out the headers of a request and we the body; what is left are a connection that never says anything, and a client that
//! asks and does not read, which would hold its answer's chunks for ever. The first is bounded by [`NetSettings::read_idle`], the second
//! by [`NetSettings::write_stall`]: a client that is waited for must take 16 KiB in that time.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::{NetSettings, WRITE_PROGRESS_BYTES};

/// How much of a refused request is read away, and for how long, so that the client sees the refusal and not a reset connection.
const LINGER_BYTES_MAX: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_millis(500);

/// The socket.
pub(super) struct Guarded {
    tcp: TcpStream,
    reading: Limit,
    writing: Limit,
    /// Bytes taken since the client was last found slow.
    taken_bytes: usize,
    closing: Option<Limit>,
    lingered_bytes: usize,
}

impl Guarded {
    pub(super) fn new(tcp: TcpStream, settings: &NetSettings) -> Self {
        Guarded {
            tcp,
            reading: Limit::new(settings.read_idle),
            writing: Limit::new(settings.write_stall),
            taken_bytes: 0,
            closing: None,
            lingered_bytes: 0,
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match &result {
            Poll::Pending => ready!(self.writing.poll(cx, "the client did not read its answer"))?,
            Poll::Ready(Ok(bytes)) => {
                self.taken_bytes += bytes;
                if self.taken_bytes >= WRITE_PROGRESS_BYTES {
                    self.taken_bytes = 0;
                    self.writing.stop();
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        result
    }

    /// Reads and forgets what still comes, for a while.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(|| Limit::new(LINGER_TIME));
        if closing.poll(cx, "").is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 4096];
        while self.lingered_bytes < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.tcp).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered_bytes += buffer.filled().len()
                }
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match Pin::new(&mut self.tcp).poll_read(cx, buffer) {
            Poll::Pending => self.reading.poll(cx, "the connection was idle"),
            ready => {
                self.reading.stop();
                ready
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // A flush comes when nothing is left to write: the client is not behind.
        self.taken_bytes = 0;
        self.writing.stop();
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        }
        self.linger(cx).map(Ok)
    }
}

/// A time that runs while something is waited for.
struct Limit {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Limit {
    fn new(after: Duration) -> Self {
        Limit {
            after,
            sleep: None,
            running: false,
        }
    }

    fn stop(&mut self) {
        self.running = false;
    }

    /// Starts the time if it does not run; ready with an error once it is up.
    fn poll(&mut self, cx: &mut Context<'_>, why: &'static str) -> Poll<Result<()>> {
        let after = self.after;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(after)));
        if !std::mem::replace(&mut self.running, true) {
            sleep.as_mut().reset(Instant::now() + after);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, why)))
    }
}
