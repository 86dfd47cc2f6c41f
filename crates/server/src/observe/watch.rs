//! Watches one request from its head to the end of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Record, Story};
use crate::app::App;
use crate::http::routes;

/// What a request ends with whose client has gone before there was an answer, as nginx calls it.
const CLIENT_GONE: u16 = 499;
/// Pages outside the table of routes.
const PAGES: [&str; 7] = [
    "/info",
    "/v1/models",
    "/v2",
    "/",
    "/docs",
    "/openapi.json",
    "/live",
];
/// Pages of a model, whose name a client may make up.
const MODEL_PAGES: [&str; 2] = ["/v1/models/{model}", "/v2/models/{model}"];
/// Pages that are asked for all the time by machines: a good answer is not worth a line.
const PROBES: [&str; 7] = [
    "/health",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// A request under way; told when it is dropped.
pub(crate) struct Watch {
    app: Arc<App>,
    request_id: HeaderValue,
    record: Record,
}

impl Watch {
    /// Begins to watch, if anybody wants to know.
    pub(crate) fn begin(app: &Arc<App>, request: &Request, request_id: &HeaderValue) -> Option<Watch> {
        if !app.observer.looks() {
            return None;
        }
        let traceparent = request.headers().get("traceparent");
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = app.engine.now();
        let record = Record {
            trace: app.observer.trace(traceparent.map(HeaderValue::as_bytes)),
            method: method_name(request.method()),
            status: CLIENT_GONE,
            began_unix_ns: since_1970.map_or(0, |time| time.as_nanos() as u64),
            began: now,
            ended: now,
            complete: false,
            answer_bytes: 0,
            story: Story {
                route: known_path(request.uri().path()),
                ..Story::default()
            },
        };
        Some(Watch {
            app: Arc::clone(app),
            request_id: request_id.clone(),
            record,
        })
    }

    /// There is an answer: what the road has told of it is taken along, and the body is watched to its end.
    pub(crate) fn follow(mut self, mut response: Response) -> Response {
        self.record.status = response.status().as_u16();
        if let Some(story) = response.extensions_mut().remove::<Story>() {
            self.record.story = story;
        }
        let trace = self.record.trace.to_string();
        let trace = HeaderValue::from_str(&trace).expect("hexadecimal digits are a header value");
        response.headers_mut().insert("traceresponse", trace);
        response.map(|body| Body::new(Watched { body, watch: self }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.record.ended = self.app.engine.now();
        let record = &self.record;
        let is_probe = PROBES.contains(&record.story.route) && record.status == 200;
        if !is_probe {
            self.app.observer.record(record, self.request_id.as_bytes());
        }
    }
}

fn method_name(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::POST,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
    ];
    let names = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"];
    let mut both = known.iter().zip(names);
    // As OpenTelemetry's conventions have it.
    both.find(|(known, _)| *known == method)
        .map_or("_OTHER", |(_, name)| name)
}

/// The path if it is one of ours; what a client makes up has no place in names.
fn known_path(path: &str) -> &'static str {
    let mut ours = routes().map(|route| route.path).chain(PAGES).chain(PROBES);
    ours.find(|known| *known == path).unwrap_or_else(|| {
        let mut models = MODEL_PAGES.into_iter();
        let page = models.find(|page| {
            page.strip_suffix("{model}")
                .is_some_and(|start| path.starts_with(start))
        });
        page.unwrap_or("")
    })
}

/// An answer's body, with its watch.
struct Watched {
    body: Body,
    watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = frame.iter().flatten().filter_map(Frame::data_ref);
        let bytes: u64 = bytes.map(|data| data.len() as u64).sum();
        self.watch.record.answer_bytes += bytes;
        // Nothing comes behind trailers, and nobody asks.
        let is_last = match &frame {
            Some(Ok(frame)) => frame.is_trailers(),
            Some(Err(_)) => false,
            None => true,
        };
        self.watch.record.complete = is_last || self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // An empty body is never polled.
        self.watch.record.complete |= self.body.is_end_stream();
    }
}
