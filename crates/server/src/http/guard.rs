//! What stands before every route: the key, and a name for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::{Family, Problem};
use crate::app::App;
use crate::observe::Watch;
use crate::page;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Paths that need no key beside the files of the page: what probes and scrapers ask for, and what every such server says of itself.
const OPEN: [&str; 10] = [
    "/health",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/rapidoc.js",
    "/v2/health/live",
    "/v2/health/ready",
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// Checks the key, and gives every response the request's id, or one made up.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(REQUEST_ID)
        .filter(|id| id.len() <= REQUEST_ID_BYTES_MAX)
        .cloned();
    let id = id.unwrap_or_else(|| next_id(app.metrics.started_unix_s()));
    let watch = Watch::begin(&app, &request, &id);
    let mut response = check_key(State(app), request, next).await;
    response.headers_mut().insert(REQUEST_ID, id);
    match watch {
        Some(watch) => watch.follow(response),
        None => response,
    }
}

/// Checks the key alone.
pub async fn check_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_open = OPEN.contains(&path) || page::is_file(request.method(), path);
    if is_open || is_allowed(&app, request.headers()) {
        return next.run(request).await;
    }
    let problem = Problem::unauthorized();
    app.metrics.failed(problem.label());
    problem.into_response(Family::of(path))
}

fn is_allowed(app: &App, headers: &HeaderMap) -> bool {
    let Some(key) = &app.settings.api_key else {
        return true;
    };
    let shown = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    shown
        .strip_prefix(b"Bearer ")
        .is_some_and(|shown| same(shown, key.as_bytes()))
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A name that no other request of this process has.
fn next_id(started_unix_s: u64) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = format!("{started_unix_s:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::from_str(&id).expect("hexadecimal digits are a header value")
}
