//! HTTP/1.1 at its edges: requests on each other's heels, trailers, a client that has hung up with one hand.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Server, TinyModel, head};
use plimsoll::app::Settings;
use plimsoll::net::NetSettings;
use plimsoll_engine::{Probe, Stage};

fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

fn embed(text: &str) -> String {
    let body = format!(r#"{{"inputs": "{text}"}}"#);
    head("/embed", body.len()) + &body
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::tiny();
    let expected = ["a", "b c"].map(|text| server.post("/embed", format!(r#"{{"inputs": "{text}"}}"#)).body);
    assert_ne!(expected[0], expected[1]);
    let mut client = server.connect();
    let health = "GET /health HTTP/1.1\r\nhost: test\r\n\r\n";
    let bad = head("/embed", 2) + "{}";
    // All of it in one segment.
    client.write([&embed("a"), health, &bad, &embed("b c")].concat());
    assert_eq!(client.reply().body, expected[0]);
    assert_eq!((client.reply().status, client.reply().status), (200, 422));
    assert_eq!(
        client.reply().body,
        expected[1],
        "a refusal in between costs the next one nothing"
    );
    drop(client);
    server.assert_empty();
}

#[test]
fn requests_behind_one_that_is_too_large_are_not_answered() {
    let server = Server::tiny();
    let mut client = server.connect();
    client.try_write(head("/embed", usize::MAX >> 1) + &embed("a"));
    let reply = client.reply();
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert!(
        client.is_closed(),
        "what follows belongs to the body that was refused"
    );
    server.assert_empty();
}

#[test]
fn trailers_are_read_and_forgotten() {
    let server = Server::tiny();
    let mut client = server.connect();
    let chunked =
        "POST /embed HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
    let body =
        "10;name=value\r\n{\"inputs\": \"a b\"\r\n1\r\n}\r\n0\r\nx-sum: 7\r\ncontent-length: 3\r\n\r\n";
    client.write([chunked, body, &embed("a b")].concat());
    let (first, second) = (client.reply(), client.reply());
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);

    let mut client = server.connect();
    client.write([chunked, "0\r\n"].concat());
    client.try_write("x-long: a\r\n".repeat(100_000));
    let reply = client.reply();
    assert_eq!(reply.status, 400, "{}", reply.text());
    drop(client);
    server.assert_empty();
}

#[test]
fn two_lengths_are_none() {
    let server = Server::tiny();
    for lengths in [
        "content-length: 15\r\ncontent-length: 16",
        "content-length: 15\r\ncontent-length: +15",
        "content-length: -1",
        "content-length: 99999999999999999999",
        "transfer-encoding: chunked, identity",
    ] {
        let mut client = server.connect();
        client.write(format!("POST /embed HTTP/1.1\r\nhost: test\r\n{lengths}\r\n\r\n"));
        client.try_write(r#"{"inputs": "a"}"#);
        assert_eq!(client.reply().status, 400, "{lengths}");
        assert!(
            client.is_closed(),
            "{lengths}: nobody knows where the next request begins"
        );
    }
    server.assert_empty();
}

/// FIN looks the same whether a client has closed the connection or its sending half: it is taken for gone, for the work of those who gave up is what an
/// overloaded server can least afford.
#[test]
fn a_client_that_has_closed_its_sending_half_is_gone() {
    let (working, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (seen, gate) = (Arc::clone(&working), Arc::clone(&go));
    let probe: Probe = Arc::new(move |stage| {
        if stage == Stage::Text {
            seen.store(true, Ordering::SeqCst);
            until(|| gate.load(Ordering::SeqCst));
        }
    });
    let model = TinyModel::new("bert");
    let flags = ["--model-id", model.path()];
    let server = Server::with(&flags, Settings::default(), NetSettings::default(), Some(probe));
    let mut client = server.connect();
    client.write(embed("a"));
    until(|| working.load(Ordering::SeqCst));
    client.end_sending();
    assert!(client.is_closed());
    go.store(true, Ordering::SeqCst);
    server.assert_empty();
}
