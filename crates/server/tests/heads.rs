//! An encoder that embeds and has heads for entities and sentiment beside, as the default model: what each route makes of it.

mod common;

use std::fs;
use std::process::Command;

use common::{Server, TinyModel};
use serde_json::{Value, json};

const TEXT: &str = "abca b é, cabcab 😀 dcba abcabd bcad";

/// Pieces of one to three letters, so that entities begin and end inside them.
fn model() -> TinyModel {
    let model = TinyModel::new("bert-characters");
    let pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d ab ca bca ##a ##b ##c ##d ##ab ##cab ##bd ,";
    fs::write(format!("{}/vocab.txt", model.path()), pieces.replace(' ', "\n")).unwrap();
    model
}

fn server() -> Server {
    Server::start(&["--model-id", model().path()])
}

fn post(server: &Server, path: &str, body: Value) -> Value {
    let reply = server.post(path, body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn one_pass_answers_what_three_do() {
    let server = server();
    let all = post(&server, "/v1/analyze", json!({"text": TEXT}));
    for task in ["entities", "sentiment", "embedding", "words"] {
        let alone = post(&server, "/v1/analyze", json!({"text": TEXT, "tasks": [task]}));
        assert_eq!(alone[task], all[task]);
    }
    let entities = all["entities"].as_array().unwrap();
    assert!(!entities.is_empty());
    for entity in entities {
        let at = |name| entity[name].as_u64().unwrap() as usize;
        let covered: String = TEXT
            .chars()
            .skip(at("start"))
            .take(at("end") - at("start"))
            .collect();
        assert_eq!(entity["text"], covered);
        assert!(["PER", "LOC", "ORG"].contains(&entity["label"].as_str().unwrap()));
        assert!((0.0..=1.0).contains(&entity["score"].as_f64().unwrap()));
    }
    let predicted = post(&server, "/predict", json!({"inputs": TEXT}));
    assert_eq!(predicted.as_array().unwrap().len(), 2);
    assert_eq!(predicted[0], all["sentiment"]);
    server.assert_empty();
}

#[test]
fn it_is_an_embedding_model_first() {
    let server = server();
    let embedded = post(&server, "/embed", json!({"inputs": TEXT}));
    assert_eq!(post(&server, "/", json!({"inputs": TEXT})), embedded);
    let info = server.get("/info").json();
    assert_eq!(info["model_type"], json!({"embedding": {"pooling": "mean"}}));
    let labels = json!({"sentiment": ["negative", "positive"], "entities": ["PER", "LOC", "ORG"]});
    assert_eq!(info["labels"], labels);
}

#[test]
fn the_command_line_says_the_same() {
    let model = model();
    let file = format!("{}/in", model.path());
    fs::write(&file, format!("{TEXT}\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["analyze", "--model-id", model.path(), &file])
        .output()
        .unwrap();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line, post(&server(), "/v1/analyze", json!({"text": TEXT})));
}
