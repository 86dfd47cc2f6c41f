//! A response that is written as long as it is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Pieces on their way.
const PIECES: usize = 2;

struct Stream(Receiver<Bytes>);

/// A body, and where its pieces go in; it ends when the latter is dropped.
pub(super) fn stream() -> (Sender<Bytes>, Body) {
    let (sender, receiver) = channel(PIECES);
    (sender, Body::new(Stream(receiver)))
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
