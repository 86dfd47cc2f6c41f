//! What is fetched with `GET`.

use serde_json::{Map, Value, json};

use super::{count, errors, list, name, object, tag};
use crate::http::problem::Family;
use crate::wire::oip::MODEL_VERSION;

/// A page: its path, what it is, what comes, in which type, and the ways in which it fails.
type Page = (
    &'static str,
    &'static str,
    Option<Value>,
    &'static str,
    &'static [u16],
);

/// All of them.
pub(super) fn paths() -> Map<String, Value> {
    let pages = server().into_iter().chain(models()).chain(open_inference());
    pages
        .map(|page| (page.0.to_owned(), json!({"get": get(page)})))
        .collect()
}

/// The name of a model in a path.
pub(super) fn model_parameter() -> Value {
    json!({
        "name": "model", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
        "example": crate::model::EMBEDDED_ID,
    })
}

fn get((path, summary, schema, content, fails): Page) -> Value {
    let family = Family::of(path);
    let mut responses = errors(family, fails);
    let mut ok = json!({"description": summary});
    if let Some(schema) = schema {
        let mut types = Map::new();
        types.insert(content.to_owned(), json!({"schema": schema}));
        ok["content"] = Value::Object(types);
    }
    responses.insert("200".to_owned(), ok);
    let mut operation = json!({
        "operationId": name("get", path),
        "summary": summary,
        "tags": [if path == "/" { "server" } else { tag(path) }],
        "responses": responses,
    });
    if path.contains("{model}") {
        operation["parameters"] = json!([model_parameter()]);
    }
    operation
}

fn server() -> [Page; 6] {
    let text = || Some(json!({"type": "string"}));
    let any = || Some(json!({"type": "object"}));
    [
        (
            "/",
            "A live view of the server, for browsers: it comes compressed.",
            text(),
            "text/html",
            &[406],
        ),
        ("/health", "Whether the server takes requests.", None, "", &[503]),
        (
            "/metrics",
            "Counters, for Prometheus.",
            text(),
            "text/plain",
            &[503],
        ),
        (
            "/info",
            "The model and the limits.",
            any(),
            "application/json",
            &[401],
        ),
        ("/openapi.json", "This document.", any(), "application/json", &[]),
        ("/docs", "A page to try requests.", text(), "text/html", &[]),
    ]
}

fn models() -> [Page; 2] {
    let card = object(
        json!({"id": {"type": "string"}, "object": {"const": "model"}, "created": count(), "owned_by": {"type": "string"}}),
    );
    let cards = object(json!({"object": {"const": "list"}, "data": list(card.clone())}));
    [
        (
            "/v1/models",
            "The model that is served.",
            Some(cards),
            "application/json",
            &[401],
        ),
        (
            "/v1/models/{model}",
            "The same, by name.",
            Some(card),
            "application/json",
            &[401, 404],
        ),
    ]
}

fn open_inference() -> [Page; 5] {
    let strings = || list(json!({"type": "string"}));
    let server = object(
        json!({"name": {"const": "plimsoll"}, "version": {"type": "string"}, "extensions": strings()}),
    );
    let tensor = object(
        json!({"name": {"type": "string"}, "datatype": {"type": "string"}, "shape": list(json!({"type": "integer"}))}),
    );
    let model = object(json!({
        "name": {"type": "string"}, "versions": {"const": [MODEL_VERSION]}, "platform": {"type": "string"},
        "inputs": list(tensor.clone()), "outputs": list(tensor), "parameters": {"type": "object"},
    }));
    [
        (
            "/v2",
            "The server and its extensions.",
            Some(server),
            "application/json",
            &[401],
        ),
        ("/v2/health/live", "Whether the server lives.", None, "", &[]),
        ("/v2/health/ready", "Whether it takes requests.", None, "", &[503]),
        (
            "/v2/models/{model}",
            "The model's tensors.",
            Some(model),
            "application/json",
            &[401, 404],
        ),
        (
            "/v2/models/{model}/ready",
            "Whether the model takes requests.",
            None,
            "",
            &[401, 404, 503],
        ),
    ]
}
