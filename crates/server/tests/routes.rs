//! Every route over the tiny models and the one in the binary: shapes, headers, and what the numbers mean.

mod common;

use common::{Server, TinyModel};
use serde_json::{Value, json};

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn vectors(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"))
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
}

#[test]
fn analyze_answers_every_task_of_the_model() {
    let server = Server::tiny();
    let reply = server.post("/v1/analyze", r#"{"text": "a bé, \ud83d\ude00 c"}"#);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let result = reply.json();
    let words: Vec<&str> = result["words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["text"].as_str().unwrap())
        .collect();
    assert_eq!(words, ["a", "bé", ",", "😀", "c"]);
    assert_eq!(result["words"][4], json!({"text": "c", "start": 8, "end": 9}));
    assert!(result["entities"].is_array());
    assert!(["negative", "positive"].contains(&result["sentiment"]["label"].as_str().unwrap()));
    assert!(
        (0.5..=1.0).contains(&result["sentiment"]["score"].as_f64().unwrap()),
        "the better of two"
    );
    assert!(!result["embedding"].as_array().unwrap().is_empty());
    assert_eq!(result["truncated"], false);
    // [CLS] a [UNK or pieces of bé] , [UNK] c [SEP]
    assert!(result["tokens"].as_u64().unwrap() >= 6);

    let many = server
        .post(
            "/v1/analyze",
            r#"{"text": ["a", "b"], "tasks": ["words", "sentiment"], "session": "s"}"#,
        )
        .json();
    let results = many["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    let keys: Vec<&String> = results[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["sentiment", "tokens", "truncated", "words"]);
    server.assert_empty();
}

#[test]
fn entities_are_where_the_text_has_them() {
    let server = Server::tiny();
    let text = "q é w, e r t 😀 y u i o p. a s d f";
    let result = server
        .post(
            "/v1/analyze",
            json!({"text": text, "tasks": ["entities"]}).to_string(),
        )
        .json();
    let characters: Vec<char> = text.chars().collect();
    for entity in result["entities"].as_array().unwrap() {
        let (start, end) = (
            entity["start"].as_u64().unwrap() as usize,
            entity["end"].as_u64().unwrap() as usize,
        );
        assert_eq!(
            characters[start..end].iter().collect::<String>(),
            entity["text"].as_str().unwrap()
        );
        assert!(["PER", "LOC"].contains(&entity["label"].as_str().unwrap()));
    }
}

#[test]
fn embed_is_the_same_alone_together_and_as_ids() {
    let server = Server::tiny();
    let alone = vectors(&server.post("/embed", r#"{"inputs": "a b c"}"#).json());
    let together = vectors(
        &server
            .post("/embed", r#"{"inputs": ["x y", "a b c"], "other": 1}"#)
            .json(),
    );
    assert_close(&alone[0], &together[1]);
    let tokens = server.post("/tokenize", r#"{"inputs": "a b c"}"#).json();
    let ids: Vec<&Value> = tokens[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["id"])
        .collect();
    let main = vectors(
        &server
            .post(
                "/similarity",
                r#"{"inputs": {"source_sentence": "a b c", "sentences": ["a b c", "x"]}}"#,
            )
            .json()
            .as_array()
            .map(|v| json!([v]))
            .unwrap(),
    );
    assert!((main[0][0] - 1.0).abs() < 1e-5 && main[0][1] < 1.0, "{main:?}");
    let raw = vectors(
        &server
            .post("/embed", r#"{"inputs": "a b c", "normalize": false}"#)
            .json(),
    );
    assert!((cosine(&raw[0], &alone[0]) - 1.0).abs() < 1e-5);
    let rows = server
        .post("/embed_all", json!({"inputs": ["a b c"]}).to_string())
        .json();
    assert_eq!(vectors(&rows[0]).len(), ids.len());
    let short = vectors(
        &server
            .post("/embed", r#"{"inputs": "a b c", "dimensions": 3}"#)
            .json(),
    );
    assert_eq!(short[0].len(), 3);
    assert!(
        (short[0].iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5,
        "cut first, then normalised"
    );
    server.assert_empty();
}

#[test]
fn openai_gives_floats_and_base64_of_the_same_vector() {
    let server = Server::tiny();
    let floats = server.post("/v1/embeddings", r#"{"model": "", "input": "a"}"#);
    assert_eq!(floats.status, 404, "the model's name is checked");
    let floats = server
        .post(
            "/v1/embeddings",
            r#"{"input": ["a b", [2, 9, 10, 3]], "user": "u"}"#,
        )
        .json();
    let base64 = server
        .post(
            "/v1/embeddings",
            r#"{"input": ["a b"], "encoding_format": "base64"}"#,
        )
        .json();
    let vector: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(
        decode_base64(base64["data"][0]["embedding"].as_str().unwrap()),
        vector
    );
    assert_eq!(
        (&floats["object"], &floats["data"][1]["index"]),
        (&json!("list"), &json!(1))
    );
    assert_eq!(
        floats["usage"]["prompt_tokens"], 8,
        "[CLS] a b [SEP], and four ids"
    );
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], floats["model"]);
}

fn decode_base64(text: &str) -> Vec<f32> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: Vec<u8> = text
        .bytes()
        .filter(|c| *c != b'=')
        .flat_map(|c| (0..6).rev().map(move |bit| digit(c) >> bit & 1))
        .collect();
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit))
        .collect();
    bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

#[test]
fn classes_of_texts_pairs_and_batches() {
    let model = TinyModel::new("bert-sequence");
    let server = Server::start(&["--model-id", model.path()]);
    let one = server.post("/predict", r#"{"inputs": "a b"}"#).json();
    let scores: Vec<f64> = one
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["score"].as_f64().unwrap())
        .collect();
    assert_eq!(scores.len(), 3);
    assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5 && scores.is_sorted_by(|a, b| a >= b));
    assert_eq!(
        server.post("/", r#"{"inputs": ["a b"]}"#).json(),
        one,
        "the main task's alias; one string in a list"
    );
    let batch = server
        .post("/predict", r#"{"inputs": [["a b"], ["a", "b"]]}"#)
        .json();
    assert_eq!(batch[0], one);
    assert_eq!(
        batch[1],
        server.post("/predict", r#"{"inputs": ["a", "b"]}"#).json(),
        "two strings are one pair"
    );
    assert_ne!(batch[0], batch[1]);
    let kind = server.get("/info").json()["model_type"]["classifier"]["id2label"].clone();
    assert_eq!(kind, json!({"0": "negative", "1": "neutral", "2": "positive"}));
    let refused = server.post("/rerank", r#"{"query": "a", "texts": ["b"]}"#);
    assert_eq!(
        (refused.status, refused.json()["error_type"].as_str()),
        (424, Some("Backend"))
    );
    server.assert_empty();
}

#[test]
fn rerank_orders_and_similar_requests_agree() {
    let model = TinyModel::new("bert-reranker");
    let server = Server::start(&["--model-id", model.path()]);
    let body = r#"{"texts": ["a", "x y z", "c d"], "query": "a b", "return_text": true}"#;
    let ranked = server.post("/rerank", body).json();
    let ranked = ranked.as_array().unwrap();
    assert_eq!(ranked.len(), 3);
    for one in ranked {
        let index = one["index"].as_u64().unwrap() as usize;
        assert_eq!(one["text"], ["a", "x y z", "c d"][index]);
        let alone = json!({"query": "a b", "texts": [one["text"]], "raw_scores": false}).to_string();
        let alone = server.post("/rerank", alone).json();
        assert!((alone[0]["score"].as_f64().unwrap() - one["score"].as_f64().unwrap()).abs() < 1e-5);
    }
    assert!(ranked.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()));
    assert_eq!(server.post("/", body).status, 200);
}

#[test]
fn tokens_go_there_and_back() {
    let server = Server::tiny();
    let tokens = server
        .post(
            "/tokenize",
            r#"{"inputs": ["ab é", "c"], "add_special_tokens": false}"#,
        )
        .json();
    let starts: Vec<u64> = tokens[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["start"].as_u64().unwrap())
        .collect();
    assert_eq!(starts[..2], [0, 1], "bytes");
    let with = server.post("/tokenize", r#"{"inputs": "c"}"#).json();
    assert_eq!(
        with[0][0],
        json!({"id": 2, "text": "[CLS]", "special": true, "start": null, "stop": null})
    );
    let ids: Vec<u64> = with[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["id"].as_u64().unwrap())
        .collect();
    assert_eq!(
        server.post("/decode", json!({"ids": ids}).to_string()).json(),
        json!(["c"])
    );
    let kept = server
        .post(
            "/decode",
            json!({"ids": [ids], "skip_special_tokens": false}).to_string(),
        )
        .json();
    assert!(kept[0].as_str().unwrap().contains("[CLS]"));
    let long = json!({"ids": vec![ids[1]; 500]}).to_string();
    let decoded = server.post("/decode", long).json()[0]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        decoded.matches('c').count(),
        500,
        "more than a sequence of the model"
    );
    server.assert_empty();
}

#[test]
fn the_model_in_the_binary_means_what_it_says() {
    let server = Server::start(&[]);
    let body = json!({"inputs": [
        "How do I bake bread?", "A recipe for a sourdough loaf", "The stock market fell on Monday", "怎么做面包？", "周一股市下跌",
    ]});
    let reply = server.post("/embed", body.to_string());
    let all = vectors(&reply.json());
    assert!(cosine(&all[0], &all[1]) > cosine(&all[0], &all[2]));
    assert!(
        cosine(&all[0], &all[3]) > cosine(&all[0], &all[4]),
        "across languages"
    );
    let names = [
        "x-compute-time",
        "x-compute-characters",
        "x-compute-tokens",
        "x-total-time",
        "x-tokenization-time",
        "x-queue-time",
        "x-inference-time",
    ];
    for name in names {
        assert!(reply.header(name).unwrap().parse::<u64>().is_ok(), "{name}");
    }
    assert_eq!(
        (reply.header("x-compute-type"), reply.header("x-truncated-inputs")),
        (Some("cpu"), None)
    );
    let text = "上海浦东发展银行昨天在香港宣布了新计划。";
    let analysed = server
        .post("/v1/analyze", json!({"text": text}).to_string())
        .json();
    let found: Vec<[&str; 2]> = analysed["entities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| [&entity["label"], &entity["text"]].map(|value| value.as_str().unwrap()))
        .collect();
    assert_eq!(found, [["ORG", "上海浦东发展银行"], ["LOC", "香港"]]);
    for (text, label) in [
        ("房间很脏，态度也差，再也不会来了。", "negative"),
        ("质量很好，非常喜欢，推荐购买！", "positive"),
    ] {
        let predicted = server
            .post("/predict", json!({"inputs": text}).to_string())
            .json();
        assert_eq!(predicted[0]["label"], label, "{text}");
    }
    server.assert_empty();
}

#[test]
fn heads_that_a_model_lacks_are_left_out() {
    let model = TinyModel::new("bert");
    let server = Server::start(&["--model-id", model.path()]);
    let plain = server.post("/v1/analyze", r#"{"text": "a b c."}"#).json();
    let keys: Vec<&String> = plain.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["embedding", "tokens", "truncated", "words"]);
    let named = server.post("/v1/analyze", r#"{"text": "a", "tasks": ["words", "entities"]}"#);
    assert_eq!(named.status, 424);
    assert!(named.text().contains("entities"));
    assert_eq!(
        server.get("/info").json()["model_type"]["embedding"]["pooling"],
        "mean"
    );
    server.assert_empty();
}

#[test]
fn an_answer_of_many_chunks_arrives_whole() {
    let server = Server::start(&[]);
    let text = "北京大学 and so on. ".repeat(60);
    let rows = server.post("/embed_all", json!({"inputs": text}).to_string());
    let rows = vectors(&rows.json()[0]);
    assert!(
        rows.len() > 300 && rows.iter().all(|row| row.len() == 384),
        "{} rows",
        rows.len()
    );
    let mut client = server.connect();
    client.write("POST /embed_all HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.write("13\r\n{\"inputs\": \"a b c\"}\r\n0\r\n\r\n");
    let reply = client.reply();
    assert_eq!(
        reply.status,
        200,
        "the longest body of this route would not fit, a shorter one does: {}",
        reply.text()
    );
    server.assert_empty();
}

#[test]
fn cutting_is_reported() {
    let server = Server::tiny();
    let long = json!({"inputs": ["a ".repeat(100), "a"]}).to_string();
    assert_eq!(
        server.post("/embed", &long).header("x-truncated-inputs"),
        Some("1")
    );
    let refused = server.post(
        "/embed",
        json!({"inputs": "a ".repeat(100), "truncate": false}).to_string(),
    );
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("102 tokens; the model reads at most 30"),
        "{}",
        refused.text()
    );
    let left = server.post(
        "/embed",
        json!({"inputs": "a ".repeat(100) + "b", "truncation_direction": "Left"}).to_string(),
    );
    let right = server.post("/embed", json!({"inputs": "a ".repeat(100) + "b"}).to_string());
    assert_ne!(left.json(), right.json());
}

#[test]
fn health_metrics_and_names() {
    let server = Server::tiny();
    assert_eq!(
        (server.get("/health").status, server.get("/health").body.len()),
        (200, 0)
    );
    server.post("/embed", r#"{"inputs": "a"}"#);
    server.post("/embed", r#"{"inputs": ["a", "b"]}"#);
    server.post("/predict", r#"{"inputs": [["a"], ["b"]]}"#);
    server.post("/embed", r#"{"inputs": 1}"#);
    server.post("/embed", json!({"inputs": vec!["a"; 100]}).to_string());
    server.post("/rerank", r#"{"query": "a", "texts": ["b"]}"#);
    server.post("/embed", r#"{"inputs": [99999]}"#);
    let metrics = server.get("/metrics");
    for line in [
        "te_request_count{method=\"single\"} 2",
        "te_request_count{method=\"batch\"} 2",
        "te_request_count{method=\"unread\"} 3",
        "te_request_success{method=\"single\"} 1",
        "te_request_success{method=\"batch\"} 2",
        "te_request_failure{err=\"validation\"} 1",
        "te_request_failure{err=\"batch_size\"} 1",
        "te_request_failure{err=\"model_type\"} 1",
        "te_request_failure{err=\"tokenization\"} 1",
        "te_embed_count 4",
        "te_embed_success 3",
        "te_predict_count 2",
        "te_predict_success 2",
        "te_request_input_length_count 5",
        "plimsoll_requests_total{route=\"/embed\"} 5",
        "plimsoll_answers_total{route=\"/embed\"} 2",
        "plimsoll_sealed_allocations_total 0",
    ] {
        assert!(
            metrics.text().lines().any(|known| known == line),
            "{line} in {}",
            metrics.text()
        );
    }
    // Written into one buffer that does not grow; the longest numbers may still come.
    let bytes = metrics.body.len();
    assert!(bytes < plimsoll::metrics::text::TEXT_BYTES_MAX * 2 / 3, "{bytes}");
    // A request gives its bytes back when its answer is dropped, which may be just after the client has it.
    let empty = || {
        server
            .get("/metrics")
            .text()
            .lines()
            .any(|line| line == "plimsoll_ledger_in_use_bytes 0")
    };
    assert!((0..1000).any(|_| empty()), "the ledger never empties");
    let mut client = server.connect();
    client.write("GET /health HTTP/1.1\r\nhost: test\r\nx-request-id: abc\r\n\r\n");
    assert_eq!(client.reply().header("x-request-id"), Some("abc"));
    assert!(server.get("/health").header("x-request-id").is_some());
}
