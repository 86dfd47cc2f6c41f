//! `plimsoll tune` on a tiny model, and what a server makes of its head.

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{Server, TinyModel};
use serde_json::{Value, json};

/// Texts of two classes that letters tell apart, quoted and not.
fn rows(count: usize) -> String {
    let mut csv = "id,words,kind\n".to_owned();
    for i in 0..count {
        let (letters, kind) = if i % 3 == 0 {
            ("x y", "tail")
        } else {
            ("a b", "head")
        };
        csv += &format!(
            "{i},\"{} {letters}, {letters}\",{kind}\n",
            (b'c' + (i % 20) as u8) as char
        );
    }
    csv
}

fn tune(model: &TinyModel, csv: &str, args: &[&str]) -> Output {
    let file = format!("{}/data.csv", model.path());
    fs::write(&file, csv).unwrap();
    let head = head(model);
    let all = [
        "tune",
        "--task",
        "classify",
        "--model-id",
        model.path(),
        "--data",
        &file,
        "--text-column",
        "words",
        "--label-column",
        "kind",
        "--output",
        &head,
    ];
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args([&all[..], args].concat())
        .output()
        .unwrap()
}

fn head(model: &TinyModel) -> String {
    format!("{}/head", model.path())
}

#[test]
fn a_tuned_head_is_served() {
    let model = TinyModel::new("bert-q4-heads");
    let output = tune(&model, &rows(60), &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("40 texts in 2 classes (20 repeated rows"), "{said}");
    let config: Value =
        serde_json::from_slice(&fs::read(format!("{}/head.json", head(&model))).unwrap()).unwrap();
    assert_eq!(
        config["sequence_classifier"]["id2label"],
        json!({"0": "head", "1": "tail"})
    );
    assert!(config["held_out"]["accuracy"].as_f64().unwrap() > 0.5);

    let server = Server::start(&["--model-id", model.path(), "--head", &head(&model)]);
    for (text, label) in [("m x y, x y", "tail"), ("m a b, a b", "head")] {
        let predicted = server
            .post("/predict", json!({"inputs": text}).to_string())
            .json();
        assert_eq!(predicted[0]["label"], label);
        let analysed = server
            .post("/v1/analyze", json!({"text": text}).to_string())
            .json();
        assert_eq!(
            analysed["sentiment"], predicted[0],
            "the head answers in the place of the model's own"
        );
        assert!(analysed["entities"].is_array() && analysed["embedding"].is_array());
    }
    assert_eq!(
        server.get("/info").json()["labels"]["sentiment"],
        json!(["head", "tail"])
    );
}

#[test]
fn faults_are_named_and_nothing_is_written() {
    let model = TinyModel::new("bert-q4-heads");
    let says = |csv: &str, args: &[&str], expected: &str| {
        let output = tune(&model, csv, args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{said}");
        assert!(!fs::exists(head(&model)).unwrap());
    };
    says(
        "id,text\n",
        &[],
        "no column \"words\"; the header has \"id\", \"text\"",
    );
    says(
        &format!("{}7,,head\n", rows(30)),
        &[],
        "row 31 (line 32): column \"words\" is empty",
    );
    says(
        &rows(60),
        &["--memory-limit", "1000"],
        "half of --memory-limit is 500",
    );
    says(
        &rows(60),
        &["--default-prompt-name", "query"],
        "the model has no such prompt",
    );
    says(
        &rows(60),
        &["--held-out", "2"],
        "expected a number from 0.05 to 0.9",
    );
}

#[test]
fn a_head_of_other_weights_is_refused() {
    let [model, other] = ["bert-q4-heads", "bert"].map(TinyModel::new);
    assert!(tune(&model, &rows(60), &[]).status.success());
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["plan", "--model-id", other.path(), "--head", &head(&model)])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("head.json: tuned on the weights"), "{said}");
}
