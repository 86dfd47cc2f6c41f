//! The routes of OpenAI's API.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use plimsoll_engine::Tasks;
use serde_json::{Value, json};

use super::problem::{Family, Problem};
use super::{Reader, Route, json_response};
use crate::app::App;
use crate::wire::{Abilities, Read, classify, openai, rerank};

const fn route(
    path: &'static str,
    read: Read,
    tasks: fn(&Abilities) -> Tasks,
    purpose: &'static str,
) -> Route {
    Route {
        path,
        family: Family::OpenAi,
        read: Reader::Whole(read),
        tasks,
        purpose,
        inputs_max: |abilities| abilities.inputs_max,
    }
}

/// `/v1/embeddings`, and what others have put beside it.
pub const ROUTES: &[Route] = &[
    route(
        "/v1/embeddings",
        openai::embeddings,
        |_| Tasks::EMBEDDING,
        "embedding",
    ),
    route("/v1/rerank", rerank::read, |_| Tasks::CLASSES, "reranking"),
    // Cohere's clients of today.
    route("/v2/rerank", rerank::read, |_| Tasks::CLASSES, "reranking"),
    route(
        "/v1/classify",
        classify::read,
        |_| Tasks::CLASSES,
        "sequence classification",
    ),
];

/// `/v1/models` and `/v1/models/{model}`.
pub fn pages() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
}

fn card(app: &App) -> Value {
    json!({"id": &*app.model_name, "object": "model", "created": app.metrics.started_unix_s(), "owned_by": "plimsoll"})
}

async fn models(State(app): State<Arc<App>>) -> Response {
    json_response(&json!({"object": "list", "data": [card(&app)]}))
}

async fn model(State(app): State<Arc<App>>, name: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(name)) = name else {
        return Problem::no_route("/v1/models/").into_response(Family::OpenAi);
    };
    match app.abilities.check_model(name.as_bytes()) {
        Ok(()) => json_response(&card(&app)),
        Err(unknown) => Problem::from(unknown).into_response(Family::OpenAi),
    }
}
