//! The writer as a response body.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use plimsoll_memory::PipelineScope;

use super::{Out, Slot, Source, render};
use crate::wire::Shape;

/// An answer on its way out. See the [module](super).
///
/// Its own box, the slot and the counted [`Bytes`] around each chunk are the transport's allocations; filling chunks allocates nothing and
/// is counted as part of the pipeline.
pub struct AnswerBody<S: Source> {
    slot: Arc<Slot<S::Chunk>>,
    state: State<S>,
}

type Writing<S> = Pin<Box<dyn Future<Output = (Option<<S as Source>::Chunk>, S)> + Send>>;

enum State<S: Source> {
    Writing(Writing<S>),
    /// All is written; the last chunk takes the answer with it.
    Written(Option<S::Chunk>, S),
    Over,
}

/// A chunk in the transport's hands.
struct Sent<S: Source> {
    chunk: S::Chunk,
    /// With the last chunk: what is dropped once it was flushed.
    _answer: Option<S>,
}

impl<S: Source> AsRef<[u8]> for Sent<S> {
    fn as_ref(&self) -> &[u8] {
        self.chunk.as_ref()
    }
}

impl<S: Source> AnswerBody<S> {
    /// Writes the beginning. What fits into the two chunks is written whole, and its length is then known.
    pub async fn start(source: S, shape: Shape) -> Self {
        let slot = Arc::new(Slot::default());
        let full = Arc::clone(&slot);
        let writing = Box::pin(async move {
            let mut out = Out::new(&source, full);
            render(&source, shape, &mut out).await;
            (out.finish(), source)
        });
        let mut body = AnswerBody {
            slot,
            state: State::Writing(writing),
        };
        poll_fn(|cx| {
            body.write_on(cx);
            Poll::Ready(())
        })
        .await;
        body
    }

    fn write_on(&mut self, cx: &mut Context<'_>) {
        let State::Writing(writing) = &mut self.state else {
            return;
        };
        let _counted = PipelineScope::enter();
        if let Poll::Ready((last, source)) = writing.as_mut().poll(cx) {
            self.state = State::Written(last, source);
        }
    }

    /// The next chunk that is ready; `None` when the writer waits for one.
    fn next(&mut self) -> Option<Sent<S>> {
        if let Some(chunk) = self.slot.take() {
            return Some(Sent { chunk, _answer: None });
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Written(Some(chunk), source) => Some(Sent {
                chunk,
                _answer: Some(source),
            }),
            State::Written(None, _) => None,
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl<S: Source> Body for AnswerBody<S>
where
    Self: Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut ready = self.next();
        if ready.is_none() {
            self.write_on(cx);
            ready = self.next();
        }
        match ready {
            Some(sent) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(sent))))),
            None if matches!(self.state, State::Over) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over) && self.slot.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Writing(_) => SizeHint::default(),
            State::Written(last, _) => {
                let last = last.as_ref().map_or(0, |chunk| chunk.as_ref().len());
                SizeHint::with_exact((self.slot.len() + last) as u64)
            }
            State::Over => SizeHint::with_exact(0),
        }
    }
}
