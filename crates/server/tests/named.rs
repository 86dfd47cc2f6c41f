//! Whatever is wrong with one of many inputs is said in the route's own words: the field, which of them, and the limit.

mod common;

use common::{Server, TinyModel};
use serde_json::{Value, json};

/// More tokens than any of the tiny models reads.
fn long() -> String {
    "a ".repeat(100)
}

fn strict(model: &str) -> Server {
    let model = TinyModel::new(model);
    Server::start(&[
        "--model-id",
        model.path(),
        "--served-model-name",
        "tiny",
        "--auto-truncate",
        "false",
    ])
}

/// What a body is refused with: the status and the words, OpenAI's `param` in front of them.
fn refusal(server: &Server, path: &str, body: &Value) -> (u16, String) {
    let reply = server.post(path, body.to_string());
    let error = reply.json()["error"].clone();
    let said = match error["message"].as_str() {
        Some(message) => format!("{} | {message}", error["param"].as_str().unwrap_or("-")),
        None => error.as_str().expect("an error in words").to_owned(),
    };
    (reply.status, said)
}

fn assert_said(server: &Server, cases: &[(&str, Value, u16, &str)]) {
    for (path, body, status, expected) in cases {
        let (told, said) = refusal(server, path, body);
        assert_eq!(told, *status, "{path} {body}: {said}");
        assert!(
            said.starts_with(expected),
            "{path} {body}: {said}, not {expected}"
        );
    }
    server.assert_empty();
}

#[test]
fn a_long_text_is_named() {
    let (long, server) = (long(), strict("bert-q4-heads"));
    let limit = "102 tokens; the model reads at most 30";
    let listed = |field: &str| format!("{field}: {limit}");
    let cases = [
        (
            "/v1/analyze",
            json!({"text": ["a", long]}),
            422,
            &*listed("text[1]"),
        ),
        ("/v1/analyze", json!({"text": long}), 422, &listed("text")),
        (
            "/embed",
            json!({"inputs": ["a", long]}),
            422,
            &listed("inputs[1]"),
        ),
        ("/embed", json!({"inputs": long}), 422, &listed("inputs")),
        (
            "/embed_all",
            json!({"inputs": ["a", "b", long]}),
            422,
            &listed("inputs[2]"),
        ),
        (
            "/predict",
            json!({"inputs": [["a"], [long]]}),
            422,
            &listed("inputs[1]"),
        ),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": long, "sentences": ["a"]}}),
            422,
            &listed("inputs.source_sentence"),
        ),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": "a", "sentences": ["a", long]}}),
            422,
            &listed("inputs.sentences[1]"),
        ),
        (
            "/v1/embeddings",
            json!({"input": ["a", long]}),
            400,
            &listed("input | input[1]"),
        ),
        (
            "/v1/embeddings",
            json!({"input": long}),
            400,
            &listed("input | input"),
        ),
        (
            "/v1/classify",
            json!({"input": ["a", long]}),
            400,
            &listed("input | input[1]"),
        ),
        (
            "/v2/models/tiny/infer",
            json!({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", long]}]}),
            422,
            &listed("text[1]"),
        ),
    ];
    assert_said(&server, &cases);
}

#[test]
fn a_long_pair_is_named() {
    let (long, server) = (long(), strict("bert-reranker"));
    let tensors = json!([
        {"name": "text_pair", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]);
    let cases = [
        (
            "/rerank",
            json!({"query": "a", "texts": ["a", long]}),
            422,
            "texts[1]: 1",
        ),
        (
            "/v1/rerank",
            json!({"query": "a", "documents": ["a", {"text": long}]}),
            400,
            "documents | documents[1]: 1",
        ),
        (
            "/v2/models/tiny/infer",
            json!({"inputs": tensors, "outputs": [{"name": "words"}]}),
            422,
            "text[0]: a pair, for which words are not defined",
        ),
    ];
    assert_said(&server, &cases);
}

#[test]
fn an_unknown_token_is_named() {
    let server = Server::tiny();
    let cases = [
        (
            "/v1/embeddings",
            json!({"input": [[5], [99_999]]}),
            400,
            "input | input[1]: token id 99999; the vocabulary has ",
        ),
        (
            "/embed",
            json!({"inputs": [99_999]}),
            422,
            "inputs: token id 99999; ",
        ),
        (
            "/decode",
            json!({"ids": [[5], [99_999]]}),
            422,
            "ids[1]: token id ",
        ),
    ];
    assert_said(&server, &cases);
}

#[test]
fn an_empty_text_is_named() {
    let server = strict("bert-q4-heads");
    let tensor = json!([{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", ""]}]);
    let cases = [
        (
            "/v1/analyze",
            json!({"text": ["a", ""]}),
            400,
            "`text[1]` cannot be empty",
        ),
        (
            "/embed",
            json!({"inputs": ["a", []]}),
            400,
            "`inputs[1]` cannot be empty",
        ),
        (
            "/predict",
            json!({"inputs": [["a"], [""]]}),
            400,
            "`inputs[1]` cannot be empty",
        ),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": "a", "sentences": ["a", ""]}}),
            400,
            "`inputs.sentences[1]` cannot be empty",
        ),
        (
            "/decode",
            json!({"ids": [[5], []]}),
            400,
            "`ids[1]` cannot be empty",
        ),
        (
            "/v1/embeddings",
            json!({"input": ["a", ""]}),
            400,
            "input | `input[1]` cannot be empty",
        ),
        (
            "/v2/models/tiny/infer",
            json!({"inputs": tensor}),
            400,
            "`inputs[0].data[1]` cannot be empty",
        ),
    ];
    assert_said(&server, &cases);
}

#[test]
fn of_two_tensors_the_one_at_fault_is_named() {
    let server = strict("bert-reranker");
    let tensor =
        |name: &str, data: Value| json!({"name": name, "datatype": "BYTES", "shape": [2], "data": data});
    let whole = || json!(["a", "b"]);
    let infer = |first: Value, second: Value| json!({"inputs": [first, second]});
    let path = "/v2/models/tiny/infer";
    let cases = [
        (
            path,
            infer(tensor("text", json!(["a", 1])), tensor("text_pair", whole())),
            422,
            "inputs[0].data[1]: expected a string",
        ),
        (
            path,
            infer(tensor("text_pair", json!([1, "b"])), tensor("text", whole())),
            422,
            "inputs[0].data[0]: expected a string",
        ),
        (
            path,
            infer(tensor("text", whole()), tensor("text_pair", json!(["a", {}]))),
            422,
            "inputs[1].data[1]: expected a string",
        ),
        (
            path,
            infer(tensor("text_pair", whole()), tensor("text", json!(["a"]))),
            422,
            "inputs[1]: its shape names",
        ),
        (
            path,
            infer(tensor("text_pair", json!(["a"])), tensor("text", whole())),
            422,
            "inputs[0]: its shape names",
        ),
        (
            path,
            infer(tensor("text", json!(["", "b"])), tensor("text_pair", whole())),
            400,
            "`inputs[0].data[0]` cannot be empty",
        ),
    ];
    assert_said(&server, &cases);
}
