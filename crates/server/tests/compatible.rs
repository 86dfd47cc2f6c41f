//! The routes of other servers' clients: `/v1/rerank`, `/v1/classify`, `/ner`, `/parse`.

mod common;

use std::time::Duration;

use common::{Server, TinyModel};
use plimsoll::app::Settings;
use plimsoll::net::NetSettings;
use plimsoll_engine::govern::{Order, Pressure};
use plimsoll_engine::{Ask, Tasks, Ticket};
use serde_json::{Value, json};

fn post(server: &Server, path: &str, body: Value) -> Value {
    let reply = server.post(path, body.to_string());
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

fn refused(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let reply = server.post(path, body.to_string());
    (reply.status, reply.json()["error"].clone())
}

fn reranker() -> Server {
    let model = TinyModel::new("bert-reranker");
    Server::start(&["--model-id", model.path(), "--served-model-name", "judge"])
}

#[test]
fn a_ranking_agrees_with_rerank_and_is_cut_to_the_best() {
    let server = reranker();
    let texts = ["a b c", "x y z", "a", "b . !"];
    let native = post(&server, "/rerank", json!({"query": "a b", "texts": texts}));
    let documents = json!(["a b c", {"text": "x y z", "title": "ignored"}, "a", {"text": "b . !"}]);
    let body = json!({"model": "judge", "query": "a b", "documents": documents, "return_documents": true});
    let ranked = post(&server, "/v1/rerank", body);
    let results = ranked["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for (ours, theirs) in results.iter().zip(native.as_array().unwrap()) {
        assert_eq!(ours["index"], theirs["index"]);
        assert_eq!(ours["relevance_score"], theirs["score"]);
        assert_eq!(
            ours["document"]["text"],
            texts[ours["index"].as_u64().unwrap() as usize]
        );
    }
    assert_eq!(ranked["model"], "judge");
    assert!(ranked["usage"]["total_tokens"].as_u64().unwrap() > 20);
    let body = json!({"query": "a b", "documents": documents, "top_n": 2});
    let best = post(&server, "/v1/rerank", body);
    assert_eq!(best["results"].as_array().unwrap().len(), 2);
    assert_ne!(best["id"], ranked["id"]);
    let cohere = post(
        &server,
        "/v2/rerank",
        json!({"query": "a b", "documents": texts, "top_n": 2}),
    );
    assert_eq!(cohere["results"], best["results"]);

    for (body, field) in [
        (json!({"query": "a", "documents": []}), "documents"),
        (json!({"query": "", "documents": ["a"]}), "query"),
        (json!({"query": "a", "documents": ["a", {"title": "b"}]}), "text"),
        (json!({"query": "a", "documents": ["a"], "top_n": 0}), "top_n"),
        (json!({"query": "a", "documents": ["a", 1]}), "documents"),
        (
            json!({"query": "a", "documents": ["a"], "model": "other"}),
            "model",
        ),
    ] {
        let (status, error) = refused(&server, "/v1/rerank", body);
        assert_eq!(status, if field == "model" { 404 } else { 400 });
        assert_eq!(error["param"], field, "{error}");
    }
    server.assert_empty();
}

#[test]
fn a_query_is_held_as_often_as_it_is_read() {
    let server = reranker();
    let ask = |query: String, documents: usize| {
        let body = json!({"query": query, "documents": vec!["a"; documents]});
        server.post("/v1/rerank", body.to_string())
    };
    // A body of 2 kB whose pairs have 32 tokens each, the most that this model reads: more than any text of its length.
    let reply = ask("a ".repeat(200), 300);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["results"].as_array().unwrap().len(), 300);
    // Read with each of the documents, it is more work than a body of this length may ask for.
    let reply = ask("a ".repeat(50_000), 1_000);
    assert_eq!(reply.status, 400, "{}", reply.text());
    let message = reply.json()["error"]["message"].to_string();
    assert!(
        message.contains("query: ") && message.contains("100001000 bytes in all; the limit is 16777216"),
        "{message}"
    );
    server.assert_empty();
}

#[test]
fn one_of_two_texts_may_be_empty() {
    let server = reranker();
    let ranked = post(&server, "/rerank", json!({"query": "a b", "texts": ["a", ""]}));
    assert_eq!(ranked.as_array().unwrap().len(), 2);
    let judged = post(&server, "/predict", json!({"inputs": ["a", ""]}));
    assert!(judged[0]["score"].is_number(), "{judged}");
    for inputs in [json!(["", ""]), json!([""]), json!("")] {
        let (status, error) = refused(&server, "/predict", json!({"inputs": inputs}));
        assert_eq!((status, error.as_str()), (400, Some("`inputs` cannot be empty")));
    }
    server.assert_empty();
}

#[test]
fn what_the_model_has_no_head_for_is_said_by_name() {
    let server = Server::tiny();
    let (status, error) = refused(&server, "/v1/rerank", json!({"query": "a", "documents": ["a"]}));
    assert_eq!(status, 400);
    assert!(error["message"].as_str().unwrap().contains("cannot do reranking"));
    let server = reranker();
    let (status, error) = refused(&server, "/ner", json!({"inputs": "a"}));
    assert_eq!(status, 424);
    assert!(error.as_str().unwrap().contains("cannot do named entities"));
    let (status, error) = refused(&server, "/parse", json!({"text": "a", "tasks": "ner"}));
    assert_eq!(status, 424);
    assert!(error.as_str().unwrap().contains("cannot do named entities"));
    assert_eq!(
        post(&server, "/parse", json!({"text": "a b"})),
        json!({"tok/fine": [["a", "b"]]})
    );
}

#[test]
fn classes_agree_with_predict() {
    let server = Server::tiny();
    let native = post(&server, "/predict", json!({"inputs": "a b c"}));
    let classes = post(&server, "/v1/classify", json!({"input": ["a b c", "x"]}));
    assert_eq!(classes["object"], "list");
    assert_eq!(classes["data"][0]["label"], native[0]["label"]);
    assert_eq!(classes["data"][0]["num_classes"], 2);
    let probs = classes["data"][0]["probs"].as_array().unwrap();
    assert!(probs.contains(&native[0]["score"]) && probs.contains(&native[1]["score"]));
    // Hugging Face's client takes one text for a batch of one.
    let body = json!({"inputs": "a b c", "parameters": {"top_k": 1, "function_to_apply": null}});
    assert_eq!(post(&server, "/predict", body), json!([[native[0]]]));
    let single = post(&server, "/v1/classify", json!({"input": "x"}));
    assert_eq!(single["data"][0]["probs"], classes["data"][1]["probs"]);
    server.assert_empty();
}

#[test]
fn entities_agree_with_analyze() {
    let server = Server::tiny();
    let text = "q é w, e r t 😀 y u i o p. a s d f";
    let native = post(
        &server,
        "/v1/analyze",
        json!({"text": text, "tasks": ["entities"]}),
    );
    let grouped = post(
        &server,
        "/ner",
        json!({"inputs": text, "parameters": {"aggregation_strategy": "simple"}}),
    );
    let native = native["entities"].as_array().unwrap();
    assert_eq!(native.len(), grouped.as_array().unwrap().len());
    for (ours, theirs) in grouped.as_array().unwrap().iter().zip(native) {
        assert_eq!(ours["entity_group"], theirs["label"]);
        assert_eq!(ours["word"], theirs["text"]);
        assert_eq!(
            (&ours["start"], &ours["end"], &ours["score"]),
            (&theirs["start"], &theirs["end"], &theirs["score"])
        );
    }
    let kinds: Vec<&str> = native
        .iter()
        .map(|entity| entity["label"].as_str().unwrap())
        .collect();
    let body = json!({"inputs": [text, "a"], "parameters": {"ignore_labels": ["O", kinds[0]]}});
    let fewer = post(&server, "/ner", body);
    let left = kinds.iter().filter(|kind| **kind != kinds[0]).count();
    assert_eq!(fewer[0].as_array().unwrap().len(), left);

    let body = json!({"inputs": text, "parameters": {"aggregation_strategy": "none"}});
    let (status, error) = refused(&server, "/ner", body);
    assert_eq!(status, 422);
    assert!(
        error
            .as_str()
            .unwrap()
            .starts_with("parameters.aggregation_strategy: expected \"simple\""),
        "{error}"
    );
    let body = json!({"inputs": text, "parameters": {"stride": 8}});
    let (status, error) = refused(&server, "/ner", body);
    assert_eq!(status, 422);
    assert!(
        error.as_str().unwrap().starts_with("parameters.stride: "),
        "{error}"
    );
    let body = json!({"inputs": text, "parameters": {"stride": null}});
    assert_eq!(post(&server, "/ner", body), grouped);
    server.assert_empty();
}

#[test]
fn a_parse_gives_words_and_entities_by_words() {
    let server = Server::tiny();
    let text = "q é w, e r t 😀 y u i o p. a s d f";
    let parsed = post(
        &server,
        "/parse",
        json!({"text": [text, "a b"], "tokens": null, "language": null}),
    );
    assert_eq!(parsed["tok/fine"][1], json!(["a", "b"]));
    let words: Vec<&str> = parsed["tok/fine"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let entities = parsed["ner/msra"][0].as_array().unwrap();
    assert!(!entities.is_empty());
    for entity in entities {
        let at = |place: usize| entity[place].as_u64().unwrap() as usize;
        let covered = words[at(2)..at(3)].concat();
        assert_eq!(covered, entity[0].as_str().unwrap().replace(' ', ""));
    }
    let alone = post(&server, "/parse", json!({"text": text, "tasks": ["ner/msra"]}));
    assert_eq!(alone, json!({"ner/msra": [parsed["ner/msra"][0]]}));
    let without = post(&server, "/parse", json!({"text": text, "skip_tasks": "ner"}));
    assert_eq!(without, json!({"tok/fine": [parsed["tok/fine"][0]]}));
    for language in ["zh", "en", "mul"] {
        let body = json!({"text": text, "tasks": "ner", "language": language});
        assert_eq!(post(&server, "/parse", body), alone);
    }
    for (body, field) in [
        (json!({"tokens": [["a"]]}), "tokens"),
        (json!({"text": "a", "tokens": [["a"]]}), "tokens"),
        (json!({"text": "a", "language": "ja"}), "language: expected"),
        (json!({"text": "a", "language": 1}), "language"),
        (json!({"text": "a", "tasks": "dep"}), "tasks"),
        (
            json!({"text": "a", "tasks": "tok", "skip_tasks": ["tok"]}),
            "tasks",
        ),
        (json!({}), "text"),
    ] {
        let (status, error) = refused(&server, "/parse", body);
        assert!(matches!(status, 400 | 422), "{error}");
        assert!(error.as_str().unwrap().contains(field), "{error}");
    }
    server.assert_empty();
}

/// A server that drops these tasks, and what holds so many of its bytes that it does.
fn pressed(drop_order: &[Tasks]) -> (Server, Vec<Ticket>) {
    let model = TinyModel::new("bert-q4-heads");
    let settings = Settings {
        drop_order: Order::new(drop_order),
        ..Settings::default()
    };
    let flags = ["--model-id", model.path()];
    let server = Server::with(&flags, settings, NetSettings::default(), None);
    let engine = &server.app.engine;
    let limit = engine.ledger().limit_bytes();
    let ask = Ask {
        tasks: Tasks::EMBEDDING,
        body_bytes: Some(64 * 1024),
        inputs_max: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tickets = Vec::new();
    while engine.ledger().in_use() < limit / 100 * 70 {
        tickets.push(runtime.block_on(engine.admit(ask)).unwrap());
    }
    while engine.pressure() == Pressure::NONE {
        std::thread::sleep(Duration::from_millis(10));
    }
    (server, tickets)
}

#[test]
fn under_pressure_a_parse_keeps_what_it_was_asked_for_and_says_what_it_dropped() {
    let text = "q é w, e r t 😀 y u i o p. a s d f";
    let ask = |server: &Server, tasks: Value| {
        let reply = server.post("/parse", json!({"text": text, "tasks": tasks}).to_string());
        let dropped = reply.header("x-plimsoll-dropped").map(str::to_owned);
        (reply.json(), dropped)
    };
    let (server, tickets) = pressed(&[Tasks::ENTITIES]);
    let (alone, dropped) = ask(&server, json!("ner"));
    assert!(!alone["ner/msra"][0].as_array().unwrap().is_empty(), "{alone}");
    assert_eq!((dropped, &alone["dropped"]), (None, &Value::Null));
    let (words, dropped) = ask(&server, json!(["tok", "ner"]));
    assert!(
        words["tok/fine"].is_array() && words.get("ner/msra").is_none(),
        "{words}"
    );
    assert_eq!(
        (dropped.as_deref(), &words["dropped"]),
        (Some("entities"), &json!(["ner/msra"]))
    );
    drop((tickets, server));

    let (server, tickets) = pressed(&[Tasks::WORDS]);
    let (entities, dropped) = ask(&server, json!(["ner"]));
    assert_eq!(
        entities["ner/msra"][0][0][2],
        Value::Null,
        "words are not counted"
    );
    assert_eq!(
        (dropped.as_deref(), &entities["dropped"]),
        (Some("words"), &json!(["tok/fine"]))
    );
    let (words, dropped) = ask(&server, json!("tok"));
    assert!(words["tok/fine"].is_array());
    assert_eq!(dropped, None);
    drop((tickets, server));
}
