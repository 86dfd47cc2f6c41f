//! The Open Inference Protocol over gRPC, spoken byte by byte; the real clients are in `tests/clients`.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Server, TinyModel};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll::app::Settings;
use plimsoll::net::NetSettings;
use serde_json::{Value, json};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn served() -> Server {
    let model = TinyModel::new("bert-q4-heads");
    Server::start(&["--model-id", model.path(), "--served-model-name", "tiny"])
}

/// What came back: headers or trailers with the status, and the message.
struct Reply {
    status: u32,
    message: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Calls a method with these bytes as the body, the five in front included.
fn call_raw(server: &Server, path: &str, body: Vec<u8>, headers: &[(&'static str, &'static str)]) -> Reply {
    let mut request = Request::post(format!("http://{}{path}", server.address));
    request = request
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut headers = response.headers().clone();
        let collected = response.into_body().collect().await.unwrap();
        headers.extend(collected.trailers().cloned().unwrap_or_default());
        let text = |name: &str| {
            headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned()
        };
        Reply {
            status: text("grpc-status").parse().unwrap(),
            message: text("grpc-message"),
            body: collected.to_bytes().to_vec(),
            headers,
        }
    })
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn call(server: &Server, path: &str, message: &[u8]) -> Reply {
    call_raw(server, path, framed(message), &[])
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&[number << 3 | 2], &*varint(bytes.len()), bytes].concat()
}

/// The fields of a message: length-delimited ones alone, which is all that is asked for here.
fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut fields = Vec::new();
    while let [tag, rest @ ..] = message {
        assert_eq!(tag & 7, 2);
        let end = rest.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let length = rest[..=end]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        let (value, left) = rest[end + 1..].split_at(length);
        fields.push((tag >> 3, value.to_vec()));
        message = left;
    }
    fields
}

fn all(message: &[u8], number: u8) -> Vec<Vec<u8>> {
    let fields = fields(message).into_iter().filter(|(known, _)| *known == number);
    fields.map(|(_, value)| value).collect()
}

fn one(message: &[u8], number: u8) -> String {
    String::from_utf8(all(message, number).concat()).unwrap()
}

fn input(name: &str, count: usize, contents: &[&str]) -> Vec<u8> {
    let contents: Vec<u8> = contents.iter().flat_map(|text| field(8, text)).collect();
    let contents = if contents.is_empty() {
        contents
    } else {
        field(5, contents)
    };
    [
        field(1, name),
        field(2, "BYTES"),
        field(3, varint(count)),
        contents,
    ]
    .concat()
}

fn raw(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat())
        .collect()
}

fn request(parts: &[Vec<u8>]) -> Vec<u8> {
    [field(1, "tiny"), parts.concat()].concat()
}

#[test]
fn tensors_agree_with_analyze() {
    let server = served();
    let texts = ["q é w, e r t y u i o p.", "a b"];
    let native = server
        .post("/v1/analyze", json!({"text": texts}).to_string())
        .json();
    let by_contents = call(
        &server,
        INFER,
        &request(&[field(3, "id 7"), field(5, input("text", 2, &texts))]),
    );
    assert_eq!(by_contents.status, 0, "{}", by_contents.message);
    assert_eq!(by_contents.headers["x-plimsoll-cache"], "off");
    let by_raw = call(
        &server,
        INFER,
        &request(&[
            field(5, input("text", 2, &[])),
            field(7, raw(&texts)),
            field(3, "id 7"),
        ]),
    );
    assert_eq!(by_raw.body, by_contents.body);

    let (prefix, message) = by_raw.body.split_at(5);
    assert_eq!(prefix, [&[0], &(message.len() as u32).to_be_bytes()[..]].concat());
    assert_eq!(
        (one(message, 1), one(message, 2), one(message, 3)),
        ("tiny".into(), "1".into(), "id 7".into())
    );
    let (tensors, contents) = (all(message, 5), all(message, 6));
    assert_eq!((tensors.len(), contents.len()), (7, 7));
    let of = |name: &str| &contents[tensors.iter().position(|tensor| one(tensor, 1) == name).unwrap()];
    let embedding: Vec<f32> = of("embedding")
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    let expected: Vec<f32> = native["results"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|result| serde_json::from_value::<Vec<f32>>(result["embedding"].clone()).unwrap())
        .collect();
    assert_eq!(embedding, expected);
    let entities = of("entities");
    let length = u32::from_le_bytes(*entities.first_chunk().unwrap()) as usize;
    let first: Value = serde_json::from_slice(&entities[4..4 + length]).unwrap();
    assert_eq!(first, native["results"][0]["entities"]);
    let embedding = tensors
        .iter()
        .find(|tensor| one(tensor, 1) == "embedding")
        .unwrap();
    assert_eq!(
        (one(embedding, 2), all(embedding, 3)),
        ("FP32".into(), vec![vec![2, 32]])
    );

    // Only what is asked for, in the order that it is asked for.
    let wanted = ["token_count", "sentiment"]
        .map(|name| field(6, field(1, name)))
        .concat();
    let reply = call(
        &server,
        INFER,
        &request(&[field(5, input("text", 1, &["a"])), wanted]),
    );
    let names: Vec<String> = all(&reply.body[5..], 5)
        .iter()
        .map(|tensor| one(tensor, 1))
        .collect();
    assert_eq!(names, ["token_count", "sentiment"]);
    assert_eq!(all(&reply.body[5..], 6)[0], [3, 0, 0, 0]);
    server.assert_empty();
}

#[test]
fn a_long_answer_comes_in_chunks() {
    let server = served();
    let texts = vec!["a b c d e f g h"; 300];
    let reply = call(&server, INFER, &request(&[field(5, input("text", 300, &texts))]));
    assert_eq!(reply.status, 0, "{}", reply.message);
    assert!(reply.body.len() > 100_000);
    assert_eq!(reply.body[1..5], (reply.body.len() as u32 - 5).to_be_bytes());
    server.assert_empty();
}

#[test]
fn what_is_wrong_has_a_status_of_grpc() {
    let server = served();
    let text = || field(5, input("text", 1, &["a"]));
    let parameter = |key: &str| field(2, field(1, key));
    let cases: Vec<(u32, Vec<u8>, &str)> = vec![
        (5, [field(1, "other"), text()].concat(), "no such model"),
        (5, text(), "no such model"),
        (5, request(&[field(2, "2"), text()]), "model_version"),
        (3, request(&[]), "inputs"),
        (3, request(&[text(), text()]), "inputs[1]: given twice"),
        (3, request(&[field(5, input("ids", 1, &["a"]))]), "inputs[0]"),
        (
            3,
            request(&[field(5, input("text", 2, &["a"]))]),
            "another number",
        ),
        (3, request(&[field(5, input("text", 1, &[]))]), "once"),
        (3, request(&[text(), field(7, raw(&["a"]))]), "once"),
        (
            3,
            request(&[field(5, input("text", 1, &[])), field(7, b"\x09\0\0\0a")]),
            "inputs[0]",
        ),
        (
            3,
            request(&[
                text(),
                field(7, raw(&["a"])),
                field(7, raw(&["a"])),
                field(7, raw(&["a"])),
            ]),
            "raw bytes",
        ),
        (
            3,
            request(&[text(), field(6, field(1, "nonsense"))]),
            "outputs[0]",
        ),
        (
            3,
            request(&[
                text(),
                field(6, [field(1, "words"), parameter("classification")].concat()),
            ]),
            "classification",
        ),
        (3, b"\xff\xff\xff".to_vec(), "not the message"),
        (3, vec![0x0a, 0x7f], "not the message"),
    ];
    for (status, message, said) in cases {
        let reply = call(&server, INFER, &message);
        assert_eq!(reply.status, status, "{message:?}: {}", reply.message);
        assert!(reply.message.contains(said), "{said}: {}", reply.message);
        assert!(reply.body.is_empty());
    }
    let compressed = call_raw(&server, INFER, vec![1, 0, 0, 0, 1, 0], &[]);
    assert_eq!(compressed.status, 12, "{}", compressed.message);
    let short = call_raw(&server, INFER, vec![0, 0, 0, 0, 9, 1], &[]);
    assert_eq!(
        (short.status, &*short.message),
        (3, "the body ended after 1 of 9 bytes")
    );
    let long = call_raw(&server, INFER, vec![0, 0, 0, 0, 1, 8, 1, 8, 1], &[]);
    assert_eq!(long.status, 8, "{}", long.message);
    let cut = call_raw(&server, INFER, vec![0, 0], &[]);
    assert_eq!(cut.status, 3, "{}", cut.message);
    let late = call_raw(
        &server,
        INFER,
        framed(&request(&[text()])),
        &[("grpc-timeout", "1n")],
    );
    assert_eq!(late.status, 4, "{}", late.message);
    assert!(late.headers.get("grpc-retry-pushback-ms").is_none());
    let header = call_raw(
        &server,
        INFER,
        framed(&request(&[text()])),
        &[("grpc-timeout", "soon")],
    );
    assert_eq!(header.status, 3, "{}", header.message);
    let method = call(&server, "/inference.GRPCInferenceService/ModelStream", &[]);
    assert_eq!(method.status, 12, "{}", method.message);
    let service = call(&server, "/inference.Other/Method", &[]);
    assert_eq!(service.status, 12, "{}", service.message);
    server.assert_empty();
}

#[test]
fn a_message_is_priced_by_its_declared_length_before_it_is_taken_in() {
    let server = served();
    let limit = server.app.engine.limits().body_bytes_max as u32;
    // Of a message that is declared too long, not a byte is waited for.
    let body = [&[0], &(limit + 1).to_be_bytes()[..]].concat();
    let reply = call_raw(&server, INFER, body, &[]);
    assert_eq!(reply.status, 8, "{}", reply.message);
    assert!(reply.message.contains(&limit.to_string()), "{}", reply.message);
    server.assert_empty();
}

#[test]
fn health_and_metadata_answer() {
    let server = served();
    let health = "/grpc.health.v1.Health/Check";
    assert_eq!(call(&server, health, &[]).body, [0, 0, 0, 0, 2, 8, 1]);
    let service = field(1, "inference.GRPCInferenceService");
    assert_eq!(call(&server, health, &service).body, [0, 0, 0, 0, 2, 8, 1]);
    assert_eq!(call(&server, health, &field(1, "other")).status, 5);
    assert_eq!(call(&server, "/grpc.health.v1.Health/Watch", &[]).status, 12);
    for method in ["ServerLive", "ServerReady"] {
        let reply = call(&server, &format!("/inference.GRPCInferenceService/{method}"), &[]);
        assert_eq!(
            (reply.status, reply.body),
            (0, vec![0, 0, 0, 0, 2, 8, 1]),
            "{method}"
        );
    }
    let ready = "/inference.GRPCInferenceService/ModelReady";
    assert_eq!(
        call(&server, ready, &field(1, "tiny")).body,
        [0, 0, 0, 0, 2, 8, 1]
    );
    assert_eq!(call(&server, ready, &field(1, "other")).status, 5);
    let metadata = call(
        &server,
        "/inference.GRPCInferenceService/ModelMetadata",
        &field(1, "tiny"),
    );
    let message = &metadata.body[5..];
    assert_eq!((one(message, 1), one(message, 2)), ("tiny".into(), "1".into()));
    assert_eq!((all(message, 4).len(), all(message, 5).len()), (1, 7));
    // A small call may not be large.
    let large = call(&server, ready, &field(1, "x".repeat(5000)));
    assert!(
        matches!(large.status, 8 | 11),
        "{} {}",
        large.status,
        large.message
    );
    let reflected = call(
        &server,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        &field(7, ""),
    );
    assert_eq!(reflected.status, 0, "{}", reflected.message);
    let text = String::from_utf8_lossy(&reflected.body).into_owned();
    assert!(text.contains("inference.GRPCInferenceService") && text.contains("grpc.health.v1.Health"));
}

#[test]
fn probes_are_answered_while_all_connections_are_in_use() {
    let model = TinyModel::new("bert-q4-heads");
    let net = NetSettings {
        connections_max: 1,
        evict_after: Duration::from_secs(3600),
        ..NetSettings::default()
    };
    let flags = ["--model-id", model.path(), "--served-model-name", "tiny"];
    let server = Server::with(&flags, Settings::default(), net, None);
    let mut first = server.connect();
    first.write("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(first.reply().status, 200);
    for path in [
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ServerReady",
    ] {
        let reply = call(&server, path, &[]);
        assert_eq!(
            (reply.status, &*reply.body),
            (0, &[0, 0, 0, 0, 2, 8, 1][..]),
            "{path}"
        );
    }
    let body = request(&[field(5, input("text", 1, &["a"]))]);
    let refused = call(&server, INFER, &body);
    assert_eq!(refused.status, 14, "{}", refused.message);
    assert!(
        refused.message.contains("all connections are in use"),
        "{}",
        refused.message
    );
    let mut head = server.connect();
    head.write("HEAD /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(head.reply().status, 200);
}

#[test]
fn a_key_is_asked_for_as_everywhere() {
    let model = TinyModel::new("bert-q4-heads");
    let settings = Settings {
        api_key: Some("secret".into()),
        ..Settings::default()
    };
    let flags = ["--model-id", model.path(), "--served-model-name", "tiny"];
    let server = Server::with(&flags, settings, NetSettings::default(), None);
    let body = framed(&request(&[field(5, input("text", 1, &["a"]))]));
    assert_eq!(call_raw(&server, INFER, body.clone(), &[]).status, 16);
    assert_eq!(
        call_raw(&server, INFER, body, &[("authorization", "Bearer secret")]).status,
        0
    );
    assert_eq!(call(&server, "/grpc.health.v1.Health/Check", &[]).status, 0);
    assert_eq!(
        call(&server, "/inference.GRPCInferenceService/ServerMetadata", &[]).status,
        16
    );
}
