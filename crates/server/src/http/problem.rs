//! What went wrong, in each family's format.
//!
//! | status | when |
//! |---|---|
//! | 400 | nothing to work on (an empty text or list), a body shorter than declared; all faults of a body on OpenAI's routes |
//! | 401 | no or a wrong key |
//! | 404, 405 | no such route, method or model |
//! | 408 | the body came too slowly |
//! | 413 | larger than could ever fit, the limit named |
//! | 415 | a compressed body |
//! | 422 | a fault in the body, the field named |
//! | 424 | the model has no head for the task; a stage failed |
//! | 429 | no room now: `Retry-After` says when |
//! | 501 | a compressed message over gRPC |
//! | 503 | the deadline passed in the queue; the server drains |

use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use plimsoll_engine::{BodyTooLong, InputFault, JobError, Refusal, Shortage};
use serde_json::{Value, json};
use tonic::Code;

use super::{grpc, json_response};
use crate::json::{ErrorKind, JsonError};
use crate::wire::oip::Fault;
use crate::wire::{self, WireError};

/// Whose format an error takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// text-embeddings-inference's and our own: `{"error", "error_type"}`.
    Native,
    /// OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// gRPC's: no body, a status and a message in the headers.
    Grpc,
}

impl Family {
    /// The family that a path without a route would belong to.
    pub fn of(path: &str) -> Family {
        const OPENAI: [&str; 5] = [
            "/v1/embeddings",
            "/v1/models",
            "/v1/rerank",
            "/v2/rerank",
            "/v1/classify",
        ];
        const GRPC: [&str; 2] = ["/inference.", "/grpc."];
        let begins = |with: &[&str]| with.iter().any(|start| path.starts_with(start));
        match () {
            () if begins(&OPENAI) => Family::OpenAi,
            () if begins(&GRPC) => Family::Grpc,
            () => Family::Native,
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    /// text-embeddings-inference's `error_type`, or a word of ours in its style.
    kind: &'static str,
    /// What it is counted as.
    label: &'static str,
    code: Option<&'static str>,
    message: String,
    field: Option<String>,
    retry_after_ms: Option<u64>,
    refusal: Option<Reason>,
}

/// What a request was not let in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It could never fit.
    TooLarge,
    /// Not enough bytes now.
    Bytes,
    /// All places are taken.
    Requests,
    /// All places for connections are taken.
    Connections,
    /// The line at the door is full.
    Waiting,
    /// The work that waits takes too long.
    Time,
    /// It had not started when room had to be made.
    Returned,
    /// The server goes down.
    Draining,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 8] = [
        Reason::TooLarge,
        Reason::Bytes,
        Reason::Requests,
        Reason::Connections,
        Reason::Waiting,
        Reason::Time,
        Reason::Returned,
        Reason::Draining,
    ];

    /// Its name in the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::Bytes => "bytes",
            Reason::Requests => "requests",
            Reason::Connections => "connections",
            Reason::Waiting => "waiting",
            Reason::Time => "time",
            Reason::Returned => "returned",
            Reason::Draining => "draining",
        }
    }

    fn of(refusal: &Refusal) -> Reason {
        match refusal {
            Refusal::BodyTooLarge { .. } | Refusal::TooLarge { .. } => Reason::TooLarge,
            Refusal::Overloaded { reason, .. } => match reason {
                Shortage::Bytes { .. } => Reason::Bytes,
                Shortage::Requests { .. } => Reason::Requests,
                Shortage::Waiting { .. } => Reason::Waiting,
                Shortage::Time { .. } => Reason::Time,
                Shortage::Returned { .. } => Reason::Returned,
            },
            Refusal::Draining => Reason::Draining,
        }
    }
}

/// The metrics' label of a kind: what text-embeddings-inference counts it as, where it does.
fn label_of(kind: &str) -> &'static str {
    match kind {
        "Validation" => "validation",
        "Empty" => "empty",
        "Overloaded" => "overloaded",
        "Backend" => "inference",
        "Tokenizer" => "tokenization",
        "Unhealthy" => "unhealthy",
        "Timeout" => "timeout",
        "NotFound" => "notfound",
        "MethodNotAllowed" => "methodnotallowed",
        "Unauthorized" => "unauthorized",
        _ => "other",
    }
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl ToString) -> Self {
        Problem {
            status,
            kind,
            label: label_of(kind),
            code: None,
            message: message.to_string(),
            field: None,
            retry_after_ms: None,
            refusal: None,
        }
    }

    /// Worth another try after so long.
    fn again_after_ms(self, ms: u64) -> Self {
        Problem {
            retry_after_ms: Some(ms),
            ..self
        }
    }

    /// Its `error_type`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The metrics' label.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// Why it was not let in, when that is what happened.
    pub fn refusal(&self) -> Option<Reason> {
        self.refusal
    }

    /// No such route.
    pub fn no_route(path: &str) -> Self {
        if Family::of(path) == Family::Grpc {
            return Problem::unsupported("there is no such method");
        }
        let shown = &path[..path.floor_char_boundary(64)];
        Problem::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("there is no route {shown}"),
        )
    }

    /// The route takes another method.
    pub fn wrong_method(method: &Method, path: &str) -> Self {
        let shown = &path[..path.floor_char_boundary(64)];
        let method = method.as_str();
        let method = &method[..method.floor_char_boundary(16)];
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("{shown} does not take {method}"),
        )
    }

    /// No key, or a wrong one.
    pub fn unauthorized() -> Self {
        let message = "a valid key must be sent as `Authorization: Bearer KEY`";
        Problem {
            code: Some("invalid_api_key"),
            ..Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
        }
    }

    /// The server is going down.
    pub fn draining() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unhealthy", Refusal::Draining).again_after_ms(1000)
    }

    /// The texts that the server begins with are still being read.
    pub fn warming() -> Self {
        let message = "the server warms up: it answers, but its cache is not filled yet";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unhealthy", message).again_after_ms(1000)
    }

    /// When to try again, if that makes sense.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        self.retry_after_ms.map(std::time::Duration::from_millis)
    }

    /// All connections are in use, and this one is of those kept for health, metrics and diagnosis.
    pub fn no_connection() -> Self {
        let message = "all connections are in use; this one is kept for /health, /metrics and /info";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", message).again_after_ms(1000)
    }

    /// As many pages watch as there are places.
    pub fn too_many_watchers(watchers_max: usize) -> Self {
        let message = format!("{watchers_max} pages watch this server already, the most at a time");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", message).again_after_ms(5000)
    }

    /// A file that is there compressed only, for a client that did not say that it takes that.
    pub fn only_gzip() -> Self {
        let message = "this page is sent compressed: open it in a browser, or ask with `Accept-Encoding: gzip` (curl --compressed)";
        Problem::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// Some who asked for `/metrics` have not taken it yet.
    pub fn no_page() -> Self {
        let message = "as many clients as may are being sent this page and have not taken it";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", message).again_after_ms(1000)
    }

    /// A header that says what nobody understands.
    pub fn bad_header(name: &HeaderName, expected: &'static str) -> Self {
        Problem {
            field: Some(name.to_string()),
            ..Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Validation",
                format!("header {name}: {expected}"),
            )
        }
    }

    /// A body that is compressed: what it takes is known only once it was unpacked.
    pub fn encoded() -> Self {
        Problem {
            field: Some(header::CONTENT_ENCODING.to_string()),
            ..Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Validation",
                "header content-encoding: bodies are taken uncompressed only",
            )
        }
    }

    /// The body came too slowly.
    pub fn slow_body(read_bytes: usize, timeout: std::time::Duration) -> Self {
        let message = format!(
            "{read_bytes} bytes of the body came in {} ms, the most it may take (--body-timeout-ms, --body-bytes-per-second-min)",
            timeout.as_millis()
        );
        Problem::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// The body ended early, or the connection broke.
    pub fn short_body(read_bytes: usize, declared_bytes: Option<usize>) -> Self {
        let message = match declared_bytes {
            Some(declared) => format!("the body ended after {read_bytes} of {declared} bytes"),
            None => format!("the body broke off after {read_bytes} bytes"),
        };
        Problem::new(StatusCode::BAD_REQUEST, "Validation", message)
    }

    /// Some resource that is there for a few requests at a time.
    pub fn busy(what: &'static str) -> Self {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "Overloaded", what).again_after_ms(1000)
    }

    /// A request that its protocol allows and this server does not take.
    pub fn unsupported(what: &'static str) -> Self {
        Problem::new(StatusCode::NOT_IMPLEMENTED, "Validation", what)
    }

    /// The model has no head for what the route does.
    pub fn cannot_do(task: &'static str) -> Self {
        WireError::CannotDo { task }.into()
    }

    /// A request that was let in has no answer.
    pub fn of_job(error: JobError, request: &wire::Request) -> Self {
        let JobError::Input { index, fault } = error else {
            return error.into();
        };
        let field = request.field(index);
        Problem {
            field: Some(field.name.to_owned()),
            ..Problem::of_input(fault, format_args!("{field}: {fault}"))
        }
    }

    /// The client does not wait any longer.
    pub fn late(error: JobError) -> Self {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "Timeout", error)
    }

    fn of_input(fault: InputFault, message: impl ToString) -> Self {
        let kind = match fault {
            InputFault::UnknownToken { .. } => "Tokenizer",
            _ => "Validation",
        };
        Problem {
            label: "tokenization",
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, message)
        }
    }

    /// A decoded text is larger than what it is decoded into.
    pub fn long_decode(index: usize, bytes_max: usize) -> Self {
        let message = format!("ids[{index}]: the text of these ids is longer than {bytes_max} bytes");
        Problem {
            field: Some("ids".to_owned()),
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Tokenizer", message)
        }
    }

    /// The response, in the family's format.
    pub fn into_response(self, family: Family) -> Response {
        let (status, body) = match family {
            Family::Native => (
                self.status,
                json!({"error": self.message, "error_type": self.kind}),
            ),
            Family::OpenAi => self.openai(),
            Family::Grpc => return grpc::refusal(self.grpc_status(), &self.message, self.retry_after_ms),
        };
        let mut response = json_response(&body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
            headers.insert("retry-after-ms", HeaderValue::from(ms));
        }
        if matches!(
            status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
        ) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The status code of gRPC. What was refused for now is UNAVAILABLE, which its clients try again.
    pub(super) fn grpc_status(&self) -> Code {
        match self.status.as_u16() {
            400 | 415 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            404 => Code::NotFound,
            405 | 501 => Code::Unimplemented,
            408 => Code::DeadlineExceeded,
            413 => Code::ResourceExhausted,
            424 if self.code.is_some() => Code::FailedPrecondition,
            429 | 503 => Code::Unavailable,
            _ => Code::Internal,
        }
    }

    fn openai(&self) -> (StatusCode, Value) {
        let status = match self.status {
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::FAILED_DEPENDENCY => StatusCode::BAD_REQUEST,
            other => other,
        };
        let kind = match status.as_u16() {
            429 => "rate_limit_exceeded",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        (
            status,
            json!({"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}}),
        )
    }
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        let (status, kind, code) = match error {
            WireError::Empty { .. }
            | WireError::Json(JsonError {
                kind: ErrorKind::Empty,
                ..
            })
            | WireError::Tensor {
                fault: Fault::Empty, ..
            } => (StatusCode::BAD_REQUEST, "Empty", None),
            WireError::CannotDo { .. } => (
                StatusCode::FAILED_DEPENDENCY,
                "Backend",
                Some("task_not_supported"),
            ),
            WireError::UnknownVersion => (StatusCode::NOT_FOUND, "NotFound", None),
            WireError::UnknownModel { .. } => (StatusCode::NOT_FOUND, "NotFound", Some("model_not_found")),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "Validation", None),
        };
        let label = match error {
            WireError::CannotDo { .. } => "model_type",
            WireError::TooMany { .. } => "batch_size",
            _ => label_of(kind),
        };
        let field = error.field().map(str::to_owned);
        Problem {
            label,
            code,
            field,
            ..Problem::new(status, kind, error)
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let reason = Some(Reason::of(&refusal));
        let problem = match refusal {
            Refusal::BodyTooLarge { .. } | Refusal::TooLarge { .. } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Validation", refusal)
            }
            Refusal::Overloaded { retry_after_ms, .. } => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "Overloaded", refusal)
                    .again_after_ms(retry_after_ms)
            }
            Refusal::Draining => Problem::draining(),
        };
        Problem {
            refusal: reason,
            ..problem
        }
    }
}

impl From<BodyTooLong> for Problem {
    fn from(error: BodyTooLong) -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Validation", error)
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Refused(refusal) => refusal.into(),
            JobError::Returned {
                held_bytes,
                retry_after_ms,
            } => Refusal::Overloaded {
                reason: Shortage::Returned { held_bytes },
                retry_after_ms,
            }
            .into(),
            JobError::Deadline { .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", error).again_after_ms(1000)
            }
            JobError::Internal { .. } => Problem::new(StatusCode::FAILED_DEPENDENCY, "Backend", error),
            JobError::Input { fault, .. } => Problem::of_input(fault, error),
        }
    }
}
