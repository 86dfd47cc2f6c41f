//! The description of the routes for machines (OpenAPI 3.1), made from the table of routes.
//!
//! Bodies are read in place by readers of our own, so that there are no types from which a library could derive their schemas: they stand in
//! `bodies` as what they are, JSON. Paths, statuses and forms of errors come from [`crate::http::routes`]; a route without a schema has no
//! description, and a test fails. What this makes is kept as `openapi.json`, which is what the server sends: serving it takes no memory.

mod bodies;
mod pages;
mod tensors;

use serde_json::{Map, Value, json};

use crate::http::problem::Family;
use crate::http::routes;

/// A route for people, and the schemas of what goes in and comes out.
struct Description {
    summary: &'static str,
    request: Value,
    /// A request that the default model answers.
    example: Value,
    response: Value,
}

/// The whole document.
///
/// # Panics
/// When a route has no description.
pub fn document() -> Value {
    let mut paths = pages::paths();
    let aliased = bodies::alias("The model's main task: `/embed` for the default model.");
    paths["/"]["post"] = operation(&aliased, Family::Native, "/");
    for route in routes().filter(|route| route.family != Family::Grpc) {
        let description = bodies::of(route.path).or_else(|| tensors::of(route.path));
        let description = description.unwrap_or_else(|| panic!("{} has no description", route.path));
        let post = operation(&description, route.family, route.path);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path["post"] = post;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Plimsoll",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Word segmentation, tokens, embeddings, named entities and sentiment, within a memory limit. A request is admitted by its \
                declared length before its body is read: 413 is for ever, 429 comes with `Retry-After` and a reason.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "tags": TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Only where the server was started with --api-key."}},
            "headers": headers(),
            "responses": responses(),
            "schemas": schemas(),
        },
    })
}

/// The document as it is kept: a line for each method and each schema, so that a change shows as one.
pub fn text() -> String {
    let mut text = String::new();
    write(&document(), 3, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let Some(fields) = value.as_object().filter(|_| depth > 0) else {
        return text.push_str(&value.to_string());
    };
    text.push('{');
    for (place, (name, value)) in fields.iter().enumerate() {
        text.push_str(if place == 0 { "\n" } else { ",\n" });
        text.push_str(&Value::from(&**name).to_string());
        text.push(':');
        write(value, depth - 1, text);
    }
    text.push_str("\n}");
}

const TAGS: [(&str, &str); 6] = [
    ("analyze", "All of a text from one pass."),
    ("text-embeddings-inference", "As that server has them."),
    (
        "openai",
        "OpenAI's embeddings, and what others have put beside them.",
    ),
    ("others", "Hugging Face's entities, HanLP's parse."),
    (
        "open-inference",
        "The Open Inference Protocol, version 2; also over gRPC on the same port.",
    ),
    ("server", "How the server is."),
];

/// The tag of a path.
fn tag(path: &str) -> &'static str {
    match path {
        "/v1/analyze" => "analyze",
        "/ner" | "/parse" => "others",
        path if Family::of(path) == Family::OpenAi => "openai",
        path if path.starts_with("/v2") => "open-inference",
        "/health" | "/metrics" | "/info" | "/openapi.json" | "/docs" => "server",
        _ => "text-embeddings-inference",
    }
}

/// A name of its own for each operation.
fn name(method: &str, path: &str) -> String {
    let words = path.split(['/', '.', '{', '}']).filter(|word| !word.is_empty());
    words.fold(method.to_owned(), |name, word| name + "_" + word)
}

fn operation(description: &Description, family: Family, path: &str) -> Value {
    let mut responses = errors(family, &POST_FAILS);
    let mut success = success(&description.response);
    if path.ends_with("/infer") {
        success["content"]["application/octet-stream"] = json!({});
    }
    responses.insert("200".to_owned(), success);
    let mut operation = json!({
        "operationId": name("post", path),
        "summary": description.summary,
        "tags": [tag(path)],
        "requestBody": {"required": true, "content": {"application/json": {"schema": description.request, "example": description.example}}},
        "responses": responses,
    });
    if path.contains("{model}") {
        operation["parameters"] = json!([pages::model_parameter()]);
    }
    operation
}

fn success(schema: &Value) -> Value {
    let headers = HEADERS.map(|(name, ..)| {
        (
            name.to_owned(),
            json!({"$ref": format!("#/components/headers/{name}")}),
        )
    });
    json!({
        "description": "The answer.",
        "headers": Map::from_iter(headers),
        "content": {"application/json": {"schema": schema}},
    })
}

fn headers() -> Map<String, Value> {
    let header = |(name, kind, description): (&str, &str, &str)| {
        (
            name.to_owned(),
            json!({"schema": {"type": kind}, "description": description}),
        )
    };
    HEADERS.map(header).into_iter().collect()
}

const HEADERS: [(&str, &str, &str); 6] = [
    ("x-request-id", "string", "The request's own, or one made up."),
    ("x-compute-tokens", "integer", "Tokens that were read."),
    (
        "x-total-time",
        "integer",
        "Milliseconds from the head of the request to its answer.",
    ),
    (
        "x-truncated-inputs",
        "integer",
        "Texts that were not read whole, where there are any.",
    ),
    ("x-plimsoll-cache", "string", "`hit`, `partial`, `miss` or `off`."),
    (
        "x-plimsoll-dropped",
        "string",
        "Tasks that were left out because memory is short.",
    ),
];

/// Every way in which a `POST` may fail.
const POST_FAILS: [u16; 10] = [400, 401, 404, 408, 413, 415, 422, 424, 429, 503];

const ERRORS: [(u16, &str); 11] = [
    (
        400,
        "Nothing to work on, or a body shorter than declared; on OpenAI's routes all faults of a body.",
    ),
    (401, "No key, or a wrong one."),
    (404, "No such model."),
    (406, "It comes compressed or not at all."),
    (408, "The body came too slowly."),
    (413, "Larger than could ever fit; the message names the limit."),
    (415, "A compressed body."),
    (422, "A fault in the body; the message names the field."),
    (424, "The model has no head for the task."),
    (429, "No room now: `Retry-After` says when."),
    (
        503,
        "The deadline passed in the queue, or the server is going down.",
    ),
];

/// The schema of a family's errors.
const fn error_of(family: Family) -> &'static str {
    match family {
        Family::OpenAi => "OpenAiError",
        Family::Native | Family::Grpc => "Error",
    }
}

fn errors(family: Family, statuses: &[u16]) -> Map<String, Value> {
    let name = error_of(family);
    let one = |status: &u16| {
        (
            format!("{status}"),
            json!({"$ref": format!("#/components/responses/{name}{status}")}),
        )
    };
    statuses.iter().map(one).collect()
}

fn responses() -> Map<String, Value> {
    let mut responses = Map::new();
    for name in [Family::Native, Family::OpenAi].map(error_of) {
        for (status, description) in ERRORS {
            let content = json!({"application/json": {"schema": reference(name)}});
            responses.insert(
                format!("{name}{status}"),
                json!({"description": description, "content": content}),
            );
        }
    }
    responses
}

fn schemas() -> Value {
    json!({
        "Text": {"type": "string", "minLength": 1},
        "Ids": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": u32::MAX}, "minItems": 1},
        "Batch": {
            "description": "A text, the token ids of one, or a list of either.",
            "anyOf": [
                reference("Text"),
                reference("Ids"),
                {"type": "array", "minItems": 1, "items": {"anyOf": [reference("Text"), reference("Ids")]}},
            ],
        },
        "Texts": {
            "description": "A text or a list of texts.",
            "anyOf": [reference("Text"), {"type": "array", "minItems": 1, "items": reference("Text")}],
        },
        "Vector": {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
        "Entity": object(json!({
            "label": {"type": "string"}, "text": {"type": "string"}, "start": count(), "end": count(), "score": {"type": "number"},
        })),
        "Word": object(json!({"text": {"type": "string"}, "start": count(), "end": count()})),
        "Label": object(json!({"label": {"type": "string"}, "score": {"type": "number"}})),
        "Usage": {"type": "object", "properties": {"prompt_tokens": count(), "total_tokens": count()}, "required": ["total_tokens"]},
        "Error": object(json!({"error": {"type": "string"}, "error_type": {"type": "string"}})),
        "OpenAiError": object(json!({"error": object(json!({
            "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
        }))})),
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object that has all of these.
fn object(properties: Value) -> Value {
    let names: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// An object that has the `required` ones of these.
fn open(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}
