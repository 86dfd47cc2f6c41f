//! Calls over gRPC as spans and lines: their HTTP status says nothing of how they went.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::Program;
use crate::collector::{Collector, Health};
use crate::messages::{Any, Span};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A `ModelInferRequest` for one text.
fn message(model: &str) -> Vec<u8> {
    let tensor = b"\x0a\x04text\x12\x05BYTES\x1a\x01\x01\x2a\x03\x42\x01a";
    let name = [&[0x0a, model.len() as u8], model.as_bytes()].concat();
    [&name, &[0x2a, tensor.len() as u8][..], tensor].concat()
}

async fn call(program: &Program, path: &str, message: &[u8], timeout: &str) {
    let body = [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat();
    let request = Request::post(format!("http://{}{path}", program.address))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let tcp = tokio::net::TcpStream::connect(program.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
}

#[test]
fn a_call_is_told_by_its_own_status() {
    let collector = Collector::start(Health::Well);
    let endpoint = format!("http://{}", collector.address);
    let program = Program::start(&[
        "--otlp-endpoint",
        &endpoint,
        "--otlp-service-name",
        "a test",
        "--served-model-name",
        "tiny",
        "--access-log",
        "--json-output",
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        call(&program, INFER, &message("tiny"), "1M").await;
        call(&program, INFER, &message("huge"), "1M").await;
        call(&program, INFER, &message("tiny"), "0n").await;
        call(&program, "/grpc.health.v1.Health/Check", b"", "1M").await;
    });
    // Its connections close.
    drop(runtime);
    let said = program.stop();
    let kept = collector.kept.lock().unwrap();
    let calls: Vec<&Span> = kept.spans.iter().filter(|span| span.kind == 2).collect();
    let told: Vec<_> = calls
        .iter()
        .map(|call| {
            assert_eq!(call.name, format!("POST {INFER}"));
            assert_eq!(call.attribute("rpc.system"), Some(&Any::Text("grpc".into())));
            assert_eq!(call.attribute("plimsoll.complete"), Some(&Any::Truth(true)));
            let Some(Any::Number(status)) = call.attribute("rpc.grpc.status_code") else {
                panic!("{call:?}");
            };
            (*status, call.status.as_ref().map(|status| status.code))
        })
        .collect();
    // OK; NOT_FOUND, which is the caller's fault; DEADLINE_EXCEEDED, which is the server's.
    assert_eq!(told, [(0, None), (5, None), (4, Some(2))]);
    let lines = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> = lines
        .filter(|line| line["message"] == "request")
        .map(|line| {
            (
                line["grpc_status"].as_u64(),
                line["level"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [(0, "INFO"), (5, "INFO"), (4, "ERROR")];
    assert_eq!(
        lines,
        expected.map(|(status, level)| (Some(status), level.to_owned())),
        "{said}"
    );
}
