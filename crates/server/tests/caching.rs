//! The cache of vectors from outside: the headers, the same answers, the metrics.

mod common;

use common::{Reply, Server, TinyModel};
use serde_json::json;

fn ask(server: &Server, path: &str, headers: &str, body: &str) -> Reply {
    let mut client = server.connect();
    let length = body.len();
    client.write(format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ));
    client.reply()
}

/// What the cache did.
#[track_caller]
fn did(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
        .header("x-plimsoll-cache")
        .expect("every answer says what the cache did")
}

#[test]
fn the_same_question_gets_the_same_answer_from_the_cache() {
    let server = Server::tiny();
    let text = "a b c, ".repeat(400);
    let cases = [
        ("/embed", json!({"inputs": ["a b", text, [9, 10]]})),
        ("/embed", json!({"inputs": "a b c", "dimensions": 4})),
        ("/v1/embeddings", json!({"input": ["x y", "z"]})),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": "a b d", "sentences": ["c c", "a b d"]}}),
        ),
        (
            "/v1/analyze",
            json!({"text": text, "tasks": ["words", "embedding"], "session": "s"}),
        ),
    ];
    for (path, body) in cases {
        let body = body.to_string();
        let first = ask(&server, path, "", &body);
        assert!(["miss", "partial"].contains(&did(&first)), "{path}");
        let second = ask(&server, path, "", &body);
        assert_eq!(did(&second), "hit", "{path}");
        assert_eq!(first.text(), second.text());
        for header in ["x-compute-tokens", "x-compute-characters", "x-truncated-inputs"] {
            assert_eq!(first.header(header), second.header(header), "{path} {header}");
        }
        let fresh = ask(&server, path, "x-plimsoll-cache: off\r\n", &body);
        assert_eq!(did(&fresh), "off");
    }
    server.assert_empty();
}

#[test]
fn sessions_do_not_see_each_others_vectors() {
    let server = Server::tiny();
    let named =
        |session: &str| json!({"text": "a b", "tasks": ["embedding"], "session": session}).to_string();
    let bare = json!({"text": "a b", "tasks": ["embedding"]}).to_string();
    assert_eq!(did(&ask(&server, "/v1/analyze", "", &named("one"))), "miss");
    assert_eq!(did(&ask(&server, "/v1/analyze", "", &named("two"))), "miss");
    assert_eq!(did(&ask(&server, "/v1/analyze", "", &bare)), "miss");
    let escaped = r#"{"text": "a b", "tasks": ["embedding"], "session": "o\u006ee"}"#;
    assert_eq!(did(&ask(&server, "/v1/analyze", "", escaped)), "hit");
    let header = "x-plimsoll-session: one\r\n";
    assert_eq!(did(&ask(&server, "/v1/analyze", header, &bare)), "hit");
    assert_eq!(did(&ask(&server, "/v1/analyze", header, &named("three"))), "miss");
}

#[test]
fn headers_that_nobody_understands_are_refused_by_name() {
    let server = Server::tiny();
    let long = format!("x-plimsoll-session: {}\r\n", "s".repeat(129));
    for (header, name) in [
        ("x-plimsoll-cache: perhaps\r\n", "x-plimsoll-cache"),
        (long.as_str(), "x-plimsoll-session"),
    ] {
        let reply = ask(&server, "/embed", header, r#"{"inputs": "a"}"#);
        assert_eq!(reply.status, 422, "{}", reply.text());
        assert!(reply.text().contains(name), "{}", reply.text());
    }
    let refresh = "x-plimsoll-cache: refresh\r\n";
    let body = r#"{"inputs": "a"}"#;
    assert_eq!(did(&ask(&server, "/embed", refresh, body)), "miss");
    assert_eq!(did(&ask(&server, "/embed", refresh, body)), "miss");
    assert_eq!(did(&ask(&server, "/embed", "", body)), "hit");
    server.assert_empty();
}

#[test]
fn metrics_count_what_was_found_and_a_server_may_do_without() {
    let server = Server::tiny();
    let body = r#"{"inputs": ["a", "b"]}"#;
    (0..3).for_each(|_| drop(ask(&server, "/embed", "", body)));
    // An answer lets go just after the client has it.
    server.assert_empty();
    let metrics = server.get("/metrics");
    let value = |name: &str| {
        let line = metrics
            .text()
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.split(' ').nth(1));
        value
            .unwrap_or_else(|| panic!("{name} is missing"))
            .parse::<f64>()
            .unwrap()
    };
    assert_eq!(value("plimsoll_cache_hits_total"), 4.0);
    assert_eq!(value("plimsoll_cache_misses_total"), 2.0);
    assert_eq!(value("plimsoll_cache_entries"), 2.0);
    assert_eq!(value("plimsoll_cache_pinned_bytes"), 0.0);
    assert_eq!(value("plimsoll_cache_evictions_total{reason=\"room\"}"), 0.0);
    assert_eq!(
        value("plimsoll_ledger_in_use_bytes"),
        0.0,
        "requests hold nothing"
    );
    assert!(value("plimsoll_cache_bytes") > 0.0);

    let model = TinyModel::new("bert-q4-heads");
    let without = Server::start(&["--model-id", model.path(), "--cache-bytes", "0"]);
    for _ in 0..2 {
        assert_eq!(did(&ask(&without, "/embed", "", body)), "off");
    }
    assert!(!without.get("/metrics").text().contains("plimsoll_cache"));
}
