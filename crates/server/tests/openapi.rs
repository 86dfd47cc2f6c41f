//! `openapi.json` is what the code makes of its routes, and describes what the server answers.

mod common;

use std::fs;
use std::path::Path;

use common::Server;
use plimsoll::http::problem::Family;
use plimsoll::http::routes;
use plimsoll::openapi;
use serde_json::Value;

/// `PLIMSOLL_BLESS=1 cargo test -p plimsoll --test openapi` writes it anew.
#[test]
fn the_file_is_what_the_code_makes() {
    let made = openapi::text();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("PLIMSOLL_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert!(
        made == kept,
        "openapi.json is not what the code makes: see the head of this test"
    );
}

#[test]
fn every_route_is_described_and_every_reference_leads_somewhere() {
    let document = openapi::document();
    for route in routes().filter(|route| route.family != Family::Grpc) {
        assert!(
            document["paths"][route.path]["post"].is_object(),
            "{}",
            route.path
        );
    }
    check_references(&document, &document);
}

fn check_references(document: &Value, value: &Value) {
    if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    match value {
        Value::Object(fields) => fields
            .values()
            .for_each(|value| check_references(document, value)),
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[test]
fn examples_are_answered() {
    let server = Server::start(&[]);
    let described = server.get("/openapi.json").json();
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.replace("{model}", &server.app.model_name);
        let Some(post) = methods.get("post") else {
            assert_eq!(server.get(&path).status, 200, "{path}");
            continue;
        };
        let body = &post["requestBody"]["content"]["application/json"]["example"];
        let reply = server.post(&path, body.to_string());
        // The default model is no reranker.
        let expected = match &*path {
            "/rerank" => 424,
            "/v1/rerank" | "/v2/rerank" => 400,
            _ => 200,
        };
        assert_eq!(reply.status, expected, "{path}: {}", reply.text());
    }
    server.assert_empty();
}

#[test]
fn the_page_and_its_viewer_come_from_the_binary() {
    let server = Server::tiny();
    let page = server.get("/docs");
    assert!(page.text().contains("/openapi.json") && page.text().contains("/docs/rapidoc.js"));
    assert!(
        !page.text().contains("https://"),
        "nothing is fetched from elsewhere"
    );
    let viewer = server.get("/docs/rapidoc.js");
    assert_eq!(viewer.header("content-encoding"), Some("gzip"));
    assert_eq!(viewer.body[..2], [0x1f, 0x8b]);
}
