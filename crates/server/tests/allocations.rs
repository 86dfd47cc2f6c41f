//! From the body's last byte to the answer's, nothing is allocated, and the workers never allocate at all.

mod common;

use common::Server;
use plimsoll_memory::{CountingAllocator, alloc};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Requests of all routes and lengths; some are refused.
fn mixed(number: usize) -> (&'static str, Value) {
    let words = 1 + (number * 7919) % 97;
    let text = ["a b c, ", "北京大学 ", "\u{1f600} x\n", "naïve \"q\" "][number % 4].repeat(words);
    let texts: Vec<&str> = (0..1 + number % 5)
        .map(|cut| &text[..text.ceil_char_boundary(text.len() / (cut + 1))])
        .collect();
    match number % 15 {
        0 => ("/v1/analyze", json!({"text": text})),
        1 => (
            "/v1/analyze",
            json!({"text": texts, "tasks": ["words", "embedding"]}),
        ),
        2 => ("/embed", json!({"inputs": texts})),
        3 => ("/embed_all", json!({"inputs": text})),
        4 => ("/predict", json!({"inputs": [[text], ["a", "b"]]})),
        5 => (
            "/similarity",
            json!({"inputs": {"source_sentence": "a b", "sentences": texts}}),
        ),
        6 => ("/tokenize", json!({"inputs": texts})),
        7 => ("/decode", json!({"ids": vec![number % 60; words]})),
        8 => (
            "/v1/embeddings",
            json!({"input": texts, "encoding_format": "base64"}),
        ),
        9 => ("/v1/embeddings", json!({"input": [[2, 9, 10, 3], [9]]})),
        10 => ("/v1/classify", json!({"input": texts})),
        11 => (
            "/ner",
            json!({"inputs": texts, "parameters": {"ignore_labels": ["O", "LOC"]}}),
        ),
        12 => ("/parse", json!({"text": texts})),
        13 => ("/v2/models/tiny/infer", {
            let input = json!({"name": "text", "datatype": "BYTES", "shape": [texts.len()], "data": texts});
            json!({"id": "7", "inputs": [input], "parameters": {"binary_data_output": number.is_multiple_of(2)}})
        }),
        _ => ("/embed", json!({"inputs": [text, number]})),
    }
}

#[test]
fn thousands_of_mixed_requests_allocate_nothing_in_the_pipeline() {
    // PLIMSOLL_TEST_REQUESTS=110000 is the long run of CONTRIBUTING.md.
    let requests: usize =
        std::env::var("PLIMSOLL_TEST_REQUESTS").map_or(6000, |count| count.parse().unwrap());
    let model = common::TinyModel::new("bert-q4-heads");
    let server = Server::start(&["--model-id", model.path(), "--served-model-name", "tiny"]);
    let mut client = server.connect();
    let mut refused = 0;
    let before = (alloc::pipeline_allocations(), alloc::violations());
    for number in 0..requests {
        let (path, body) = mixed(number);
        let reply = client.post(path, body.to_string());
        assert!(
            matches!(reply.status, 200 | 422),
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
        refused += usize::from(reply.status != 200);
    }
    assert_eq!(refused, requests / 15, "the malformed ones and no other");
    assert_eq!((alloc::pipeline_allocations(), alloc::violations()), before);
    server.assert_empty();
    drop(client);

    // An allocation in the pipeline would have been seen.
    let scope = plimsoll_memory::PipelineScope::enter();
    let boxed = std::hint::black_box(Box::new(1_u8));
    drop(scope);
    assert_eq!((*boxed, alloc::pipeline_allocations()), (1, before.0 + 1));
}
