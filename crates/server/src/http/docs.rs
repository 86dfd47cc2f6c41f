//! The description of the routes, and a page to try them: bytes of the binary, so that serving them takes none of the heap.
//!
//! The page's viewer is RapiDoc, kept compressed; it fetches nothing from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};

use crate::app::App;

/// What [`crate::openapi`] makes.
const DESCRIPTION: &str = include_str!("../../openapi.json");
const PAGE: &str = include_str!("../../assets/docs.html");
const VIEWER: &[u8] = include_bytes!("../../assets/rapidoc-9.3.8.min.js.gz");

/// `/openapi.json`, `/docs`, and what that page loads.
pub(super) fn pages() -> Router<Arc<App>> {
    Router::new()
        .route("/openapi.json", get(description))
        .route("/docs", get(page))
        .route("/docs/rapidoc.js", get(viewer))
}

async fn description() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

async fn page() -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

/// Every browser takes it compressed, so that it is never unpacked here.
async fn viewer() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CONTENT_ENCODING, "gzip"),
        (CACHE_CONTROL, "public, max-age=86400"),
    ];
    (headers, VIEWER).into_response()
}
