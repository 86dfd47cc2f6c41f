//! However a request ends, what it held comes back, to the byte.

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Client, Server, TinyModel, head};
use plimsoll::app::Settings;
use plimsoll::net::NetSettings;
use plimsoll_engine::{Probe, Stage};
use serde_json::json;
use socket2::{Domain, Socket, Type};

/// Texts whose answer is far larger than all socket buffers.
fn large() -> String {
    json!({"inputs": vec!["北京大学"; 32]}).to_string()
}

fn embedded(settings: Settings, net: NetSettings) -> Server {
    Server::with(&[], settings, net, None)
}

/// Waits for what another thread is about to do.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn gone_before_in_and_after_the_body() {
    let server = Server::tiny();
    let engine = &server.app.engine;
    let body = r#"{"inputs": "a b c"}"#;
    for sent in [0, 1, body.len() - 1] {
        let mut client = server.connect();
        client.write(head("/embed", body.len()));
        client.write(&body[..sent]);
        until("the request is inside", || engine.requests_inside() == 1);
        assert!(
            engine.ledger().in_use() > 0,
            "the worst case is debited before the body is there"
        );
        drop(client);
        server.assert_empty();
    }
    for _ in 0..50 {
        let mut client = server.connect();
        client.write(head("/embed", body.len()));
        client.write(body);
    }
    server.assert_empty();
    assert_eq!(server.post("/embed", body).status, 200);
}

#[test]
fn gone_while_the_answer_is_written() {
    let server = embedded(Settings::default(), NetSettings::default());
    let body = json!({"inputs": "北京大学 and so on. ".repeat(80)}).to_string();
    let mut client = server.connect();
    client.write(head("/embed_all", body.len()));
    client.write(&body);
    let chunks = || {
        server
            .app
            .engine
            .pool_stats()
            .into_iter()
            .find(|pool| pool.kind == "answer chunks")
            .unwrap()
            .stats
    };
    until("the answer is being written", || {
        chunks().hits + chunks().misses >= 2 && chunks().leased_slots == 2
    });
    assert_eq!(
        server.app.engine.requests_inside(),
        1,
        "the client does not read: its answer waits in two chunks"
    );
    drop(client);
    server.assert_empty();
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let net = NetSettings {
        write_stall: Duration::from_millis(200),
        ..NetSettings::default()
    };
    let server = embedded(Settings::default(), net);
    let body = json!({"inputs": "北京大学 and so on. ".repeat(80)}).to_string();
    let mut client = server.connect();
    client.write(head("/embed_all", body.len()));
    client.write(&body);
    until("the request is inside", || {
        server.app.engine.requests_inside() == 1
    });
    server.assert_empty();
    drop(client);
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let net = NetSettings {
        read_idle: Duration::from_millis(100),
        ..NetSettings::default()
    };
    let server = embedded(Settings::default(), net);
    assert!(server.connect().is_closed(), "before the first byte");
    let mut client = server.connect();
    client.write("POST /emb");
    assert!(client.is_closed(), "in the headers");
}

#[test]
fn a_body_that_comes_too_slowly() {
    let settings = Settings {
        body_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let server = embedded(settings, NetSettings::default());
    let mut client = server.connect();
    client.write(head("/embed", 1000));
    client.write("{");
    let reply = client.reply();
    assert_eq!(reply.status, 408);
    assert!(
        reply.text().contains("1 bytes of the body came in 100 ms"),
        "{}",
        reply.text()
    );
    server.assert_empty();
}

#[test]
fn a_deadline_that_passes() {
    let settings = Settings {
        request_timeout: Duration::ZERO,
        ..Settings::default()
    };
    let model = TinyModel::new("bert");
    let server = Server::with(
        &["--model-id", model.path()],
        settings,
        NetSettings::default(),
        None,
    );
    let reply = server.post("/embed", r#"{"inputs": "a"}"#);
    assert_eq!(
        (reply.status, reply.json()["error_type"].as_str()),
        (503, Some("Overloaded"))
    );
    assert_eq!(reply.header("retry-after"), Some("1"));
    server.assert_empty();
}

#[test]
fn a_panic_in_each_stage_costs_one_request() {
    for stage in [Stage::Text, Stage::Forward, Stage::Heads, Stage::Finish] {
        let armed = Arc::new(AtomicBool::new(false));
        let fuse = Arc::clone(&armed);
        let probe: Probe = Arc::new(move |at| {
            if at == stage && fuse.swap(false, Ordering::SeqCst) {
                panic!("injected");
            }
        });
        let model = TinyModel::new("bert-q4-heads");
        let flags = ["--model-id", model.path()];
        let server = Server::with(&flags, Settings::default(), NetSettings::default(), Some(probe));
        armed.store(true, Ordering::SeqCst);
        let reply = server.post("/v1/analyze", r#"{"text": "a b"}"#);
        assert_eq!(
            (reply.status, reply.json()["error_type"].as_str()),
            (424, Some("Backend")),
            "{stage:?}"
        );
        server.assert_empty();
        assert_eq!(
            server.post("/v1/analyze", r#"{"text": "a b"}"#).status,
            200,
            "{stage:?}: the next one is well"
        );
    }
}

#[test]
fn no_room_is_said_at_once_and_with_a_time() {
    let model = TinyModel::new("bert");
    let server = Server::start(&["--model-id", model.path(), "--max-concurrent-requests", "1"]);
    let mut first = server.connect();
    first.write(head("/embed", 100));
    until("the first is inside", || server.app.engine.requests_inside() == 1);
    let refused = server.post("/embed", r#"{"inputs": "a"}"#);
    assert_eq!(
        (refused.status, refused.json()["error_type"].as_str()),
        (429, Some("Overloaded"))
    );
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(
        refused.text().contains("1 requests are in flight"),
        "{}",
        refused.text()
    );
    let openai = server.post("/v1/embeddings", r#"{"input": "a"}"#);
    assert_eq!(
        (openai.status, openai.json()["error"]["type"].as_str()),
        (429, Some("rate_limit_exceeded"))
    );
    assert_eq!(server.get("/health").status, 200, "health is answered meanwhile");
    let metrics = server.get("/metrics");
    assert!(
        metrics
            .text()
            .contains("plimsoll_refusals_total{reason=\"requests\"} 2\n"),
        "{}",
        metrics.text()
    );
    drop(first);
    server.assert_empty();
    assert_eq!(server.post("/embed", r#"{"inputs": "a"}"#).status, 200);
}

/// A server with one place, and the connection that keeps it.
fn full() -> (Server, Client) {
    let net = NetSettings {
        connections_max: 1,
        evict_after: Duration::from_secs(3600),
        ..NetSettings::default()
    };
    let server = embedded(Settings::default(), net);
    let mut first = server.connect();
    first.write("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(first.reply().status, 200);
    (server, first)
}

#[test]
fn connections_over_the_cap_are_told() {
    let (server, first) = full();
    assert_eq!(server.get("/health").status, 200, "on a reserved connection");
    let refused = server.post("/embed", r#"{"inputs": "a"}"#);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("all connections are in use"));
    drop(first);
    until("the place is free", || server.app.metrics.connections() == 0);
    assert_eq!(server.post("/embed", r#"{"inputs": "a"}"#).status, 200);
}

/// Connects from this address of the loopback network.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn a_silent_herd_is_told_and_a_slow_probe_is_heard() {
    /// So many may be silent; the probe is one of them.
    const SILENT_MAX: usize = 48;
    let (server, _first) = full();
    let read = |mut tcp: TcpStream| {
        let mut text = String::new();
        tcp.read_to_string(&mut text).unwrap();
        text
    };
    let mut probe = connect_from(1, server.address);
    let mut herd = VecDeque::new();
    for number in 0..100 {
        herd.push_back(connect_from(2 + number % 8, server.address));
        // Those beyond the line go, oldest first.
        if herd.len() > SILENT_MAX {
            let told = read(herd.pop_front().unwrap());
            assert!(
                told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 1"),
                "{told}"
            );
        }
    }
    probe
        .write_all(b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .unwrap();
    let told = read(probe);
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    let told = read(herd.pop_back().unwrap());
    assert!(told.starts_with("HTTP/1.1 503 "), "silent for too long: {told}");
}

#[test]
fn connections_over_all_caps_are_told() {
    let net = NetSettings {
        connections_max: 1,
        connections_reserved: 0,
        ..NetSettings::default()
    };
    let server = embedded(Settings::default(), net);
    let mut first = server.connect();
    first.write("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(first.reply().status, 200);
    assert_eq!(server.connect().reply().status, 503);
}

#[test]
fn a_connection_that_waits_for_nothing_makes_room() {
    let net = NetSettings {
        connections_max: 1,
        evict_after: Duration::ZERO,
        ..NetSettings::default()
    };
    let server = embedded(Settings::default(), net);
    let mut idle = server.connect();
    idle.write("POST /embed HT");
    until("it has the place", || server.app.metrics.connections() == 1);
    assert_eq!(server.post("/embed", r#"{"inputs": "a"}"#).status, 200);
    assert!(idle.is_closed());
}

#[test]
fn a_body_that_comes_below_the_least_rate() {
    let settings = Settings {
        body_grace: Duration::from_millis(50),
        body_bytes_per_s_min: 1000,
        ..Settings::default()
    };
    let server = embedded(settings, NetSettings::default());
    let mut client = server.connect();
    client.write(head("/embed", 1000));
    client.write("[".repeat(50));
    let reply = client.reply();
    assert_eq!(reply.status, 408);
    let expected = "50 bytes of the body came in 100 ms";
    assert!(reply.text().contains(expected), "{}", reply.text());
    server.assert_empty();
}

#[test]
fn a_drain_finishes_what_is_inside() {
    let entered = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(AtomicBool::new(false));
    let (seen, gate) = (Arc::clone(&entered), Arc::clone(&go));
    let probe: Probe = Arc::new(move |stage| {
        if stage == Stage::Text {
            seen.fetch_add(1, Ordering::SeqCst);
            while !gate.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    });
    let model = TinyModel::new("bert");
    let flags = ["--model-id", model.path()];
    let mut server = Server::with(&flags, Settings::default(), NetSettings::default(), Some(probe));
    let mut client = server.connect();
    let body = r#"{"inputs": "a"}"#;
    client.write(head("/embed", body.len()));
    client.write(body);
    until("the request is worked on", || entered.load(Ordering::SeqCst) == 1);
    let mut idle = server.connect();
    server.begin_stop();
    until("the server drains", || server.app.is_draining());
    assert!(idle.is_closed(), "idle connections are not waited for");
    go.store(true, Ordering::SeqCst);
    assert_eq!(client.reply().status, 200);
    assert!(server.stop(), "all requests finished");
}

#[test]
fn before_a_drain_newcomers_are_served_and_probes_told() {
    let net = NetSettings {
        drain_delay: Duration::from_secs(3600),
        ..NetSettings::default()
    };
    let server = Server::with(&[], Settings::default(), net, None);
    server.ask_to_stop();
    until("the server takes leave", || server.app.is_draining());
    assert_eq!(server.get("/health").status, 503);
    assert_eq!(server.post("/embed", r#"{"inputs": "a"}"#).status, 200);
    assert!(server.stop(), "who asks again does not wait");
}

#[test]
fn many_large_answers_at_once() {
    let server = embedded(Settings::default(), NetSettings::default());
    let body = large();
    let lengths: Vec<usize> = std::thread::scope(|scope| {
        let ask = || {
            let reply = server.post("/embed", &body);
            assert_eq!(reply.status, 200);
            reply.body.len()
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    server.assert_empty();
}
