//! What a new user, a broken client or a hostile one sends: each a 4xx that names the field and the limit, and the server goes on.

mod common;

use common::{Server, TinyModel, head};
use plimsoll_memory::{CountingAllocator, alloc};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A body, and what its refusal says.
struct Bad {
    path: &'static str,
    body: Vec<u8>,
    status: u16,
    says: &'static str,
}

fn bad(path: &'static str, body: impl Into<Vec<u8>>, status: u16, says: &'static str) -> Bad {
    Bad {
        path,
        body: body.into(),
        status,
        says,
    }
}

fn table() -> Vec<Bad> {
    let many = format!(r#"{{"text": [{}"a"]}}"#, r#""a","#.repeat(99_999));
    let many_tei = many.replace("text", "inputs");
    let many_openai = many.replace("text", "input");
    vec![
        bad(
            "/v1/analyze",
            "",
            422,
            "body: expected an object, found the end of the body (byte 0)",
        ),
        bad(
            "/v1/analyze",
            "  \n",
            422,
            "body: expected an object, found the end of the body (byte 3)",
        ),
        bad(
            "/v1/analyze",
            "null",
            422,
            "body: expected an object, found null (byte 0)",
        ),
        bad("/v1/analyze", "{}", 422, "text: missing field"),
        bad(
            "/v1/analyze",
            r#"{"text": null}"#,
            422,
            "text: expected a string or an array of strings, found null",
        ),
        bad("/v1/analyze", r#"{"text": ""}"#, 400, "`text` cannot be empty"),
        bad("/v1/analyze", r#"{"text": []}"#, 400, "`text` cannot be empty"),
        bad(
            "/v1/analyze",
            r#"{"text": ["a", ""]}"#,
            400,
            "`text[1]` cannot be empty",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": 7}"#,
            422,
            "text: expected a string or an array of strings, found a number",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": ["a", 7]}"#,
            422,
            "text[1]: expected a string, found a number",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "a", "task": ["words"]}"#,
            422,
            "task: unknown field",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "a", "text": "b"}"#,
            422,
            "text: field given twice",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "a", "tasks": ["words", "tags"]}"#,
            422,
            "tasks[1]: expected \"words\", \"entities\"",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "a", "tasks": []}"#,
            400,
            "`tasks` cannot be empty",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "a", "tasks": "words"}"#,
            422,
            "tasks: expected an array, found a string",
        ),
        bad(
            "/v1/analyze",
            json!({"text": "a", "session": "s".repeat(129)}).to_string(),
            422,
            "session: expected a string of at most 128 bytes",
        ),
        bad(
            "/v1/analyze",
            b"{\"text\": \"a\xff\"}",
            422,
            "text: string is not valid UTF-8 (byte 11)",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "\ud800"}"#,
            422,
            "text: lone surrogate in a string (byte 10)",
        ),
        bad(
            "/v1/analyze",
            r#"{"text": "a"} x"#,
            422,
            "body: unexpected data after the value",
        ),
        bad("/v1/analyze", r#"{"text": "a""#, 422, "found the end of the body"),
        bad(
            "/v1/analyze",
            [b"{\"text\":".to_vec(), b"[".repeat(100_000)].concat(),
            422,
            "nested deeper than 64 levels",
        ),
        bad(
            "/v1/analyze",
            b"[".repeat(1_000_000),
            422,
            "body: expected an object, found an array",
        ),
        bad(
            "/v1/analyze",
            many,
            422,
            "text: batch size 100000 > maximum allowed batch size 2048",
        ),
        bad(
            "/embed",
            many_tei,
            422,
            "inputs: batch size 100000 > maximum allowed batch size 32",
        ),
        bad(
            "/embed",
            r#"{"inputs": [1, -1]}"#,
            422,
            "inputs[1]: number out of range, expected a whole number from 0 to 4294967295",
        ),
        bad(
            "/embed",
            r#"{"inputs": [[1, 2], [1, "a"]]}"#,
            422,
            "inputs[1][1]: expected a number, found a string",
        ),
        bad(
            "/embed",
            r#"{"inputs": [1, 60]}"#,
            422,
            "token id 60; the vocabulary has 60",
        ),
        bad("/embed", r#"{"inputs": []}"#, 400, "`inputs` cannot be empty"),
        bad(
            "/embed",
            r#"{"inputs": {"a": 1}}"#,
            422,
            "inputs: expected a string or an array, found an object",
        ),
        bad("/embed", r#"{"input": "a"}"#, 422, "inputs: missing field"),
        bad(
            "/embed",
            r#"{"inputs": "a", "normalize": "yes"}"#,
            422,
            "normalize: expected a boolean, found a string",
        ),
        bad(
            "/embed",
            r#"{"inputs": "a", "dimensions": 0}"#,
            422,
            "dimensions: expected a whole number from 1 to",
        ),
        bad(
            "/embed",
            r#"{"inputs": "a", "dimensions": 1000000}"#,
            422,
            "dimensions: expected a whole number from 1 to",
        ),
        bad(
            "/embed",
            r#"{"inputs": "a", "prompt_name": "x"}"#,
            422,
            "prompt_name: the model has no such prompt",
        ),
        bad(
            "/embed",
            r#"{"inputs": "a", "truncation_direction": "up"}"#,
            422,
            "truncation_direction: expected \"Left\" or \"Right\"",
        ),
        bad(
            "/predict",
            r#"{"inputs": ["a", "b", "c"]}"#,
            422,
            "inputs[2]: expected at most two strings",
        ),
        bad(
            "/similarity",
            r#"{"inputs": {"sentences": ["a"]}}"#,
            422,
            "inputs.source_sentence: missing field",
        ),
        bad(
            "/similarity",
            r#"{"inputs": {"source_sentence": "a", "sentences": []}}"#,
            400,
            "`inputs.sentences` cannot be empty",
        ),
        bad(
            "/tokenize",
            r#"{"inputs": [[1]]}"#,
            422,
            "inputs[0]: expected a string, found an array",
        ),
        bad(
            "/decode",
            r#"{"ids": ["a"]}"#,
            422,
            "ids[0]: expected a number, found a string",
        ),
        bad(
            "/tokenize",
            r#"{"inputs": "a", "prompt_name": "query"}"#,
            422,
            "prompt_name: not served here; write the prompt in front of the text",
        ),
        bad(
            "/similarity",
            json!({"inputs": {"source_sentence": "a", "sentences": vec!["a"; 33]}}).to_string(),
            422,
            "inputs.sentences: batch size 33 > maximum allowed batch size 32",
        ),
        bad("/v2/models/%FF/infer", "{}", 404, "there is no route"),
        bad("/decode", r#"{"ids": [[]]}"#, 400, "`ids[0]` cannot be empty"),
        bad(
            "/rerank",
            r#"{"query": "a", "texts": ["b"]}"#,
            424,
            "the loaded model cannot do reranking",
        ),
        bad(
            "/v1/embeddings",
            many_openai,
            400,
            "input: batch size 100000 > maximum allowed batch size 2048",
        ),
        bad(
            "/v1/embeddings",
            r#"{"input": "a", "model": "gpt"}"#,
            404,
            "model: no such model is served here, only /",
        ),
        bad(
            "/v1/embeddings",
            r#"{"input": "a", "encoding_format": "hex"}"#,
            400,
            "encoding_format: expected \"float\" or \"base64\"",
        ),
        bad("/v1/embeddings", "{", 400, "found the end of the body"),
        bad(
            "/embed",
            [b"{\"more\": ".to_vec(), b"{\"a\":[".repeat(40_000)].concat(),
            422,
            "nested deeper than 64 levels",
        ),
        bad(
            "/embed",
            format!(r#"{{"inputs": "a", "dimensions": {}}}"#, "9".repeat(1_000_000)),
            422,
            "dimensions: number out of range, expected a whole number from 0 to 4294967295",
        ),
        bad(
            "/decode",
            format!(r#"{{"ids": [1{}]}}"#, "0".repeat(1_000_000)),
            422,
            "ids[0]: number out of range, expected a whole number from 0 to 4294967295",
        ),
        bad(
            "/decode",
            r#"{"ids": [1e999999999]}"#,
            422,
            "ids[0]: number out of range, expected a whole number",
        ),
        bad(
            "/embed",
            r#"{"inputs": "a", "inp\u0075ts": "b"}"#,
            422,
            "field given twice",
        ),
        bad(
            "/similarity",
            r#"{"inputs": {"sentences": ["a"], "sentences": ["b"]}}"#,
            422,
            "inputs.sentences: field given twice",
        ),
        bad("/nowhere", "{}", 404, "there is no route /nowhere"),
        bad("/health", "{}", 405, "/health does not take POST"),
    ]
}

#[test]
fn each_is_refused_in_words() {
    let server = Server::tiny();
    for Bad {
        path,
        body,
        status,
        says,
    } in table()
    {
        let reply = server.post(path, &body);
        let (got, shown) = (
            reply.text(),
            String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned(),
        );
        assert_eq!(reply.status, status, "{path} {shown}: {got}");
        let error = &reply.json()["error"];
        let message = error
            .as_str()
            .or(error["message"].as_str())
            .unwrap_or_else(|| panic!("{got}"));
        assert!(message.contains(says), "{path} {shown}: {message}");
        assert!(got.len() < 400, "a refusal is short: {got}");
        let is_openai = path.starts_with("/v1/embeddings");
        assert_eq!(error.is_object(), is_openai, "the family's format");
    }
    assert_eq!(
        server.post("/embed", r#"{"inputs": "a"}"#).status,
        200,
        "the server goes on"
    );
    assert_eq!(
        alloc::pipeline_allocations(),
        0,
        "refusing does not allocate in the pipeline either"
    );
    server.assert_empty();
}

#[test]
fn openai_errors_name_param_and_code() {
    let server = Server::tiny();
    let error = server.post("/v1/embeddings", r#"{"input": [7.5]}"#).json()["error"].clone();
    assert_eq!(
        (&error["type"], &error["param"]),
        (&json!("invalid_request_error"), &json!("input"))
    );
    let error = server
        .post("/v1/embeddings", r#"{"input": "a", "model": "x"}"#)
        .json()["error"]
        .clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("model_not_found"), &json!("model"))
    );
}

#[test]
fn a_compressed_body_is_refused_by_its_header() {
    let server = Server::tiny();
    let body = r#"{"inputs": "a"}"#;
    let ask = |encoding: &str| {
        let mut client = server.connect();
        let length = body.len();
        client.write(format!(
            "POST /embed HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\ncontent-encoding: {encoding}\r\n\r\n{body}"
        ));
        client.reply()
    };
    let reply = ask("gzip");
    assert_eq!(reply.status, 415, "{}", reply.text());
    assert!(reply.text().contains("content-encoding"), "{}", reply.text());
    assert_eq!(reply.header("accept-encoding"), Some("identity"));
    assert_eq!(ask("Identity").status, 200);
    server.assert_empty();
}

#[test]
fn long_texts_are_cut_only_where_that_was_agreed() {
    let model = TinyModel::new("bert-q4-heads");
    let server = Server::start(&["--model-id", model.path(), "--auto-truncate", "false"]);
    let long = "a b c d ".repeat(50);
    let ask = |tasks: &[&str]| server.post("/v1/analyze", json!({"text": long, "tasks": tasks}).to_string());
    for task in ["sentiment", "embedding"] {
        let reply = ask(&["words", task]);
        assert_eq!(reply.status, 422, "{}", reply.text());
        assert!(
            reply.text().contains("the model reads at most"),
            "{}",
            reply.text()
        );
    }
    assert_eq!(ask(&["words", "entities"]).status, 200, "these read all of it");
    server.assert_empty();
}

#[test]
fn odd_texts_have_right_answers() {
    let server = Server::tiny();
    let emoji = "👩‍👩‍👧‍👦🇩🇪😀".to_owned();
    for text in [
        emoji,
        " ".into(),
        "\u{0}\u{7f}\u{200b}".into(),
        "\u{301}".repeat(300),
        "x".repeat(20_000),
    ] {
        let reply = server.post("/v1/analyze", json!({"text": text}).to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let words = reply.json()["words"].as_array().unwrap().clone();
        let characters: Vec<char> = text.chars().collect();
        for word in words {
            let (start, end) = (
                word["start"].as_u64().unwrap() as usize,
                word["end"].as_u64().unwrap() as usize,
            );
            assert_eq!(
                characters[start..end].iter().collect::<String>(),
                word["text"].as_str().unwrap()
            );
        }
    }
    server.assert_empty();
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = Server::tiny();
    let limit = server.app.engine.limits().body_bytes_max;
    let mut client = server.connect();
    client.write(head("/embed", 10_000_000));
    let reply = client.reply();
    assert_eq!(reply.status, 413, "not a byte of the body was sent");
    assert!(
        reply
            .text()
            .contains(&format!("10000000 bytes; the limit is {limit}")),
        "{}",
        reply.text()
    );
    assert_eq!(reply.header("connection"), Some("close"));

    let sent = server.post("/embed", vec![b'['; 10_000_000]);
    assert_eq!(
        sent.status, 413,
        "the refusal arrives although the body is under way"
    );

    let mut client = server.connect();
    client.write(head("/v1/embeddings", 1 << 60));
    assert_eq!(client.reply().status, 413);
    server.assert_empty();
}

#[test]
fn nobody_is_told_to_continue_before_admission() {
    let server = Server::tiny();
    let expect =
        |length: usize| head("/embed", length).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    let mut client = server.connect();
    client.write(expect(50_000_000));
    assert_eq!(client.reply().status, 413);
    let body = r#"{"inputs": "a"}"#;
    let mut client = server.connect();
    client.write(expect(body.len()));
    assert_eq!(client.reply().status, 100);
    client.write(body);
    assert_eq!(client.reply().status, 200);
}

#[test]
fn a_body_of_undeclared_length() {
    let server = Server::tiny();
    let chunked = "POST /embed HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = r#"{"inputs": "a"}"#;
    let mut client = server.connect();
    client.write(chunked);
    for byte in body.as_bytes() {
        client.write(format!("1\r\n{}\r\n", char::from(*byte)));
    }
    client.write("0\r\n\r\n");
    assert_eq!(client.reply().status, 200);

    let limit = server.app.engine.limits().body_bytes_max;
    let mut client = server.connect();
    client.write(chunked);
    client.try_write(format!("{:x}\r\n{}\r\n", limit + 1, " ".repeat(limit + 1)));
    let reply = client.reply();
    assert_eq!(reply.status, 413);
    assert!(
        reply.text().contains(&format!("after {limit} bytes")),
        "{}",
        reply.text()
    );
    assert_eq!(alloc::pipeline_allocations(), 0);
    server.assert_empty();

    let mut client = server.connect();
    client.write("POST /embed HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(
        client.reply().status,
        422,
        "neither length nor chunks: an empty body"
    );
}

#[test]
fn a_body_shorter_than_declared() {
    let server = Server::tiny();
    let mut client = server.connect();
    client.write(head("/embed", 100));
    client.write(r#"{"inputs":"#);
    client.end_sending();
    let reply = client.reply();
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("ended after 10 of 100 bytes"),
        "{}",
        reply.text()
    );
    server.assert_empty();
}

#[test]
fn what_is_no_http_ends_the_connection_only() {
    let server = Server::tiny();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for (bytes, statuses) in [
        ("\0\0\0\0\r\n\r\n", [400, 400]),
        (&long, [414, 431]),
        (&many, [431, 431]),
    ] {
        let mut client = server.connect();
        client.try_write(bytes);
        let status = client.reply().status;
        assert!(statuses.contains(&status), "{status}");
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn any_content_type_is_json() {
    let server = Server::tiny();
    for kind in ["", "text/plain", "application/x-www-form-urlencoded"] {
        let body = r#"{"inputs": "a"}"#;
        let mut client = server.connect();
        client.write(head("/embed", body.len()).replace("application/json", kind));
        client.write(body);
        assert_eq!(client.reply().status, 200, "{kind}");
    }
}
