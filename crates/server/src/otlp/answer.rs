//! What a collector answers.

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::time::Duration;

/// The longest that a collector may ask us to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// What it made of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken, but for so many.
    Taken { rejected: u64 },
    /// Not now; perhaps it says when.
    Later(Option<Duration>),
    /// Never.
    Refused,
}

/// Of an answer over HTTP.
pub(super) fn over_http(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Taken {
            rejected: rejected(body),
        },
        429 | 502 | 503 | 504 => {
            let seconds = headers.get(http::header::RETRY_AFTER);
            let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Verdict::Later(seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)))
        }
        _ => Verdict::Refused,
    }
}

/// Of an answer over gRPC, whose status is in the trailers, or in the headers where there is nothing else.
pub(super) fn over_grpc(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
    body: Bytes,
) -> Verdict {
    let code = trailers
        .and_then(|trailers| trailers.get("grpc-status"))
        .or_else(|| headers.get("grpc-status"))
        .and_then(|code| code.to_str().ok()?.parse().ok());
    match code {
        Some(0u32) => Verdict::Taken {
            rejected: rejected(body.slice(body.len().min(5)..)),
        },
        // Cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss: as OTLP has them.
        Some(1 | 4 | 8 | 10 | 11 | 14 | 15) => Verdict::Later(None),
        Some(_) => Verdict::Refused,
        // A proxy between that speaks no gRPC.
        None => match over_http(status, headers, Bytes::new()) {
            Verdict::Taken { .. } => Verdict::Refused,
            verdict => verdict,
        },
    }
}

/// `partial_success.rejected_*` of an export's response; a response that is none rejects nothing.
fn rejected(mut response: Bytes) -> u64 {
    let mut partial = field(&mut response, WireType::LengthDelimited).and_then(|mut bytes| {
        let length = decode_varint(&mut bytes).ok()?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= bytes.len())?;
        Some(bytes.split_to(length))
    });
    let count = partial
        .as_mut()
        .and_then(|message| field(message, WireType::Varint))
        .and_then(|mut bytes| decode_varint(&mut bytes).ok());
    count.unwrap_or(0)
}

/// Where the value of field 1 begins, if it has this type.
fn field(message: &mut Bytes, wanted: WireType) -> Option<Bytes> {
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(message).ok()?;
        if (tag, wire_type) == (1, wanted) {
            return Some(message.clone());
        }
        skip_field(wire_type, tag, message, DecodeContext::default()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_may_be_rejected() {
        // ExportTraceServiceResponse { partial_success: { rejected_spans: 300, error_message: "no" } }
        let response = Bytes::from_static(&[10, 7, 8, 0xac, 2, 18, 2, b'n', b'o']);
        let verdict = over_http(StatusCode::OK, &HeaderMap::new(), response.clone());
        assert_eq!(verdict, Verdict::Taken { rejected: 300 });
        for length in 0..response.len() {
            over_http(StatusCode::OK, &HeaderMap::new(), response.slice(..length));
        }
        let none = over_http(StatusCode::OK, &HeaderMap::new(), Bytes::new());
        assert_eq!(none, Verdict::Taken { rejected: 0 });
    }

    #[test]
    fn what_passes_is_tried_again() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let later = over_http(StatusCode::SERVICE_UNAVAILABLE, &headers, Bytes::new());
        assert_eq!(later, Verdict::Later(Some(Duration::from_secs(7))));
        let refused = over_http(StatusCode::BAD_REQUEST, &headers, Bytes::new());
        assert_eq!(refused, Verdict::Refused);
        let grpc = |code: &str| {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
            over_grpc(StatusCode::OK, &HeaderMap::new(), Some(&trailers), Bytes::new())
        };
        assert_eq!(grpc("0"), Verdict::Taken { rejected: 0 });
        assert_eq!(grpc("14"), Verdict::Later(None));
        assert_eq!(grpc("3"), Verdict::Refused);
        assert_eq!(
            over_grpc(StatusCode::OK, &HeaderMap::new(), None, Bytes::new()),
            Verdict::Refused
        );
    }
}
