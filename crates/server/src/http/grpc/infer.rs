//! `ModelInfer` on the road of all requests.
//!
//! A message of gRPC comes behind five bytes: whether it is compressed, and its length. These are read first, then the request is admitted by that
//! length as others are by their `Content-Length`, and only then the message is taken in, into its leased slot.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as _, Frame};
use tokio::time::timeout;

use crate::app::App;
use crate::http::problem::{Family, Problem};
use crate::http::road::{self, Head};
use crate::http::{Reader, Route};
use crate::observe::Story;
use crate::wire::{analyze, oip};

/// `ModelInfer`.
pub const INFER: Route = Route {
    path: "/inference.GRPCInferenceService/ModelInfer",
    family: Family::Grpc,
    read: Reader::Whole(oip::message::read),
    tasks: analyze::all_tasks,
    purpose: "inference",
    inputs_max: |abilities| abilities.inputs_max,
};

/// What is in front of a message.
const PREFIX_BYTES: usize = 5;

/// Answers one call.
pub(super) async fn infer(State(app): State<Arc<App>>, request: Request) -> Response {
    app.metrics.began(&INFER);
    let mut story = Story::begin(&INFER, app.engine.now());
    let answered = answer(&app, &mut story, request).await;
    road::end(&app, &INFER, story, answered)
}

async fn answer(app: &Arc<App>, story: &mut Story, request: Request) -> Result<Response, Problem> {
    let head = head_of(app, request.headers())?;
    let mut body = request.into_body();
    let (length, rest) = timeout(app.settings.body_time(0), prefix(&mut body))
        .await
        .map_err(|_| Problem::slow_body(0, app.settings.body_time(0)))??;
    let mut ticket = road::admit(app, &INFER, Some(length)).await?;
    story.admitted(&ticket, app.engine.now());
    ticket.push(&rest)?;
    drop(rest);
    let ticket = road::receive(app, ticket, &mut body, Some(length)).await?;
    if ticket.body().len() < length {
        return Err(Problem::short_body(ticket.body().len(), Some(length)));
    }
    let mut response = road::work(app, &INFER, &head, story, ticket).await?;
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response.map(|body| {
        Body::new(Trailed {
            body,
            trailers: Some(super::trailers()),
        })
    }))
}

fn head_of(app: &App, headers: &HeaderMap) -> Result<Head, Problem> {
    let mut head = Head::of(app, headers)?;
    if let Some(timeout) = headers.get(TIMEOUT) {
        let expected = "expected up to eight digits and one of H, M, S, m, u, n";
        let timeout = time(timeout.as_bytes()).ok_or(Problem::bad_header(&TIMEOUT, expected))?;
        head.is_clients_timeout = timeout <= head.timeout;
        head.timeout = head.timeout.min(timeout);
    }
    Ok(head)
}

/// How long the client waits.
const TIMEOUT: http::HeaderName = http::HeaderName::from_static("grpc-timeout");

/// A time as gRPC writes it: `100m` are a hundred milliseconds.
fn time(text: &[u8]) -> Option<Duration> {
    let (unit, digits @ [_, ..]) = text.split_last()? else {
        return None;
    };
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(3600 * count)),
        b'M' => Some(Duration::from_secs(60 * count)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Reads what is in front of a message: its length, and the bytes that came along behind.
async fn prefix(body: &mut Body) -> Result<(usize, Bytes), Problem> {
    let (mut bytes, mut count) = ([0; PREFIX_BYTES], 0);
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else {
            return Err(Problem::short_body(count, Some(PREFIX_BYTES)));
        };
        let Ok(mut data) = frame.into_data() else { continue };
        let now = data.len().min(PREFIX_BYTES - count);
        data.copy_to_slice(&mut bytes[count..count + now]);
        count += now;
        if count == PREFIX_BYTES {
            let [compressed, length @ ..] = bytes;
            return match compressed {
                0 => Ok((u32::from_be_bytes(length) as usize, data)),
                _ => Err(Problem::unsupported("messages are not to be compressed")),
            };
        }
    }
}

/// An answer, and the word behind it that all went well.
struct Trailed {
    body: Body,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Trailed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => {
                Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(time(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(time(b"99999999H"), Some(Duration::from_secs(359_999_996_400)));
        for wrong in ["", "m", "1", "1x", "123456789S", "-1S", "1 S"] {
            assert_eq!(time(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
