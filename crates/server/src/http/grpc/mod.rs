//! gRPC, on the same port as all else: the Open Inference Protocol, health and reflection.
//!
//! A client that speaks HTTP/2 from its first byte gets it; there is no second listener to plan for, and connections have their places, streams and
//! windows as ever. `ModelInfer` takes the road of all requests (`infer`): its message is admitted by the length in front of it and read where it
//! lands. The small calls are tonic's (`services`). Tonic gathers a message before it decodes it, so these calls are bounded together: so many at a
//! time, so many bytes and so long each ([`CALLS_BYTES`] in the bill).

#[allow(missing_docs, clippy::all, unreachable_pub, reason = "a program wrote it")]
mod generated;
mod infer;
mod services;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::Code;

use super::problem::{Family, Problem};
use crate::app::App;

pub use infer::INFER;

/// Small calls at a time.
const CALLS_MAX: usize = 12;
/// The same on connections that are kept for probes.
const PROBES_MAX: usize = 4;
/// The longest message of a small call.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// All messages of a small call: reflection takes many.
const CALL_BYTES_MAX: usize = 64 * 1024;
/// How long one may take, however slowly its client sends.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// What one holds at most: a message gathered and decoded, an answer, the descriptors that reflection shows, encoded.
const CALL_BYTES: usize = 32 * 1024;

/// The most that small calls take, all together.
pub const CALLS_BYTES: usize = (CALLS_MAX + PROBES_MAX) * CALL_BYTES;

/// All methods.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route(INFER.path, post(infer::infer))
        .merge(bounded(services::routes(app), CALLS_MAX))
}

/// What asks whether the server is well.
pub fn probes(app: &Arc<App>) -> Router<Arc<App>> {
    bounded(services::probes(app), PROBES_MAX)
}

/// Small calls, at most so many at a time.
fn bounded(calls: Router<Arc<App>>, calls_max: usize) -> Router<Arc<App>> {
    let places = Arc::new(Semaphore::new(calls_max));
    calls.layer(from_fn(move |request, next| {
        small_call(Arc::clone(&places), request, next)
    }))
}

/// Holds a small call within its bounds.
async fn small_call(calls: Arc<Semaphore>, request: Request, next: Next) -> Response {
    let Ok(call) = calls.try_acquire_owned() else {
        return Problem::busy("too many small calls at a time").into_response(Family::Grpc);
    };
    let request = request.map(|body| {
        Body::new(Bounded {
            body,
            bytes_left: CALL_BYTES_MAX,
            end: Box::pin(sleep(CALL_TIME_MAX)),
        })
    });
    next.run(request)
        .await
        .map(|body| Body::new(Held { body, _call: call }))
}

/// The body of a small call.
struct Bounded {
    body: Body,
    bytes_left: usize,
    end: Pin<Box<Sleep>>,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let late = || Some(Err(tonic::Status::deadline_exceeded("the call took too long")));
            return self.end.as_mut().poll(cx).map(|()| late());
        };
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|error| tonic::Status::unknown(error.to_string()))?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => {
                return Poll::Ready(Some(Err(tonic::Status::resource_exhausted(
                    "the call has sent too much",
                ))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The answer of a small call, which keeps its place until it was written.
struct Held {
    body: Body,
    _call: OwnedSemaphorePermit,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// What a call is answered that has no answer: no body, all of it in the headers.
pub(super) fn refusal(code: Code, message: &str, retry_after_ms: Option<u64>) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code as i32));
    headers.insert("grpc-message", escaped(message));
    if let Some(ms) = retry_after_ms {
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(ms));
    }
    response
}

/// A message as gRPC puts it in a header: what is not printable ASCII as `%` and two digits.
fn escaped(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(text).expect("printable ASCII is a header value")
}

/// The last word of a call that was answered.
fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from(Code::Ok as i32),
    )])
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn messages_become_headers() {
        assert_eq!(escaped("no: 100% \u{e9}\n"), "no: 100%25 %C3%A9%0A");
    }
}
