//! Our own routes: `/v1/analyze`, and what tells how the server is.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{StatusCode, header};
use plimsoll_encoder::ModelInfo;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Family, Problem};
use super::{Reader, Route, json_response};
use crate::app::App;
use crate::wire::analyze;

/// See [`analyze`].
pub const ROUTES: &[Route] = &[Route {
    path: "/v1/analyze",
    family: Family::Native,
    read: Reader::Whole(analyze::read),
    tasks: analyze::all_tasks,
    purpose: "analysis",
    inputs_max: |abilities| abilities.inputs_max,
}];

/// `/health`, `/metrics` and `/info`: they hold no request's bytes, and answer while everything else is refused.
pub fn pages() -> Router<Arc<App>> {
    let pages = Arc::new(Semaphore::new(METRICS_PAGES_MAX));
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(move |State(app)| metrics(app, pages)))
        .route("/info", get(info))
}

async fn health(State(app): State<Arc<App>>) -> Response {
    ready(&app, Family::Native)
}

/// Whether traffic may be sent here: 200, or why not in the family's words.
pub(super) fn ready(app: &App, family: Family) -> Response {
    match app.unready() {
        Some(problem) => problem.into_response(family),
        None => StatusCode::OK.into_response(),
    }
}

/// Pages of `/metrics` that clients have not taken yet.
const METRICS_PAGES_MAX: usize = 4;

/// A page on its way.
struct Page {
    text: String,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// A page is some 30 KiB that no ledger knows of and that stays until its client has taken it.
async fn metrics(app: Arc<App>, pages: Arc<Semaphore>) -> Response {
    let Ok(place) = pages.try_acquire_owned() else {
        return Problem::no_page().into_response(Family::Native);
    };
    let text = crate::metrics::text::encode(&app);
    let body = Body::from(Bytes::from_owner(Page { text, _place: place }));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response()
}

/// As text-embeddings-inference has it, with the prompts and the memory limit on top.
async fn info(State(app): State<Arc<App>>) -> Response {
    let (model, limits, abilities) = (app.engine.model().info(), app.engine.limits(), &app.abilities);
    let info = json!({
        "model_id": app.model_id,
        "model_sha": null,
        "model_dtype": model.dtype,
        "served_model_name": &*app.model_name,
        "model_type": model_type(&app),
        "max_concurrent_requests": limits.requests_max,
        "max_input_length": limits.tokens_max,
        "max_batch_tokens": limits.batch_tokens_max,
        "max_batch_requests": null,
        "max_client_batch_size": abilities.batch_max,
        "auto_truncate": abilities.auto_truncate,
        "tokenization_workers": app.metrics.workers(),
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
        "payload_limit": limits.body_bytes_max,
        "memory_limit": app.engine.plan().limit_bytes,
        "prompts": abilities.prompts,
        "labels": labels(model, &abilities.entities),
    });
    json_response(&info)
}

/// What the heads tell apart; an empty list where there is no such head.
fn labels(model: &ModelInfo, entities: &[String]) -> Value {
    let classes = model.sequence_head.iter();
    let classes = classes.flat_map(|head| (0..head.labels.len()).map(|class| head.labels.name(class)));
    json!({"sentiment": classes.collect::<Vec<_>>(), "entities": entities})
}

fn model_type(app: &App) -> Value {
    let info = app.engine.model().info();
    let Some(head) = info.sequence_head.as_ref().filter(|head| !head.beside) else {
        return json!({"embedding": {"pooling": info.pooling.name()}});
    };
    let names = (0..head.labels.len()).map(|class| head.labels.name(class));
    let id2label: Value = names
        .clone()
        .enumerate()
        .map(|(id, name)| (id.to_string(), json!(name)))
        .collect();
    let label2id: Value = names
        .enumerate()
        .map(|(id, name)| (name.to_owned(), json!(id)))
        .collect();
    let kind = if head.labels.len() == 1 {
        "reranker"
    } else {
        "classifier"
    };
    json!({kind: {"id2label": id2label, "label2id": label2id}})
}
