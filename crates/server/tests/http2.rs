//! HTTP/2 without a handshake, spoken frame by frame.

mod common;

use std::io::{ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::Server;
use plimsoll::app::Settings;
use plimsoll::net::{NetSettings, STREAMS_MAX};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection whose client took the first step.
struct Connection(TcpStream);

impl Connection {
    fn new(server: &Server) -> Connection {
        Connection::with_settings(server, &[])
    }

    /// One whose answers have no window: the client takes nothing.
    fn without_windows(server: &Server) -> Connection {
        Connection::with_settings(server, &[0, 4, 0, 0, 0, 0])
    }

    fn with_settings(server: &Server, settings: &[u8]) -> Connection {
        let tcp = TcpStream::connect(server.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        tcp.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut connection = Connection(tcp);
        connection
            .0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        connection.send(SETTINGS, 0, 0, settings);
        connection
    }

    /// Reads until the server ends the connection; the kinds of frames that came.
    fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let end = self.0.read_to_end(&mut bytes);
        assert!(
            end.as_ref()
                .err()
                .is_none_or(|error| error.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
        let (mut kinds, mut rest) = (Vec::new(), &bytes[..]);
        while let [a, b, c, kind, _, _, _, _, _, more @ ..] = rest {
            kinds.push(*kind);
            rest = more
                .get(u32::from_be_bytes([0, *a, *b, *c]) as usize..)
                .unwrap_or(&[]);
        }
        kinds
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).unwrap();
    }

    fn try_send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat())
    }

    /// A `POST`, its headers as literals.
    fn post(&mut self, stream: u32, path: &str, body: &str) {
        let length = body.len().to_string();
        let headers = headers("POST", path, &[("content-length", &*length)]);
        self.send(HEADERS, END_HEADERS, stream, &headers);
        self.send(DATA, END_STREAM, stream, body.as_bytes());
    }

    fn get(&mut self, stream: u32, path: &str) {
        let headers = headers("GET", path, &[]);
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &headers);
    }

    /// The next frame: kind, flags, stream, payload.
    fn receive(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).unwrap();
        (
            head[3],
            head[4],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        )
    }

    /// The body of the response on a stream, reading on as a client does.
    fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let (kind, flags, on, payload) = self.receive();
            if kind != DATA || on != stream {
                continue;
            }
            if !payload.is_empty() {
                let more = (payload.len() as u32).to_be_bytes();
                self.send(WINDOW_UPDATE, 0, 0, &more);
                self.send(WINDOW_UPDATE, 0, stream, &more);
            }
            body.extend_from_slice(&payload);
            if flags & END_STREAM != 0 {
                return body;
            }
        }
    }
}

/// A block of headers, all of them literals.
fn headers(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let first = [
        (":method", method),
        (":path", path),
        (":scheme", "http"),
        (":authority", "x"),
    ];
    let literal = |(name, value): &(&str, &str)| {
        [
            &[0, name.len() as u8],
            name.as_bytes(),
            &[value.len() as u8],
            value.as_bytes(),
        ]
        .concat()
    };
    first.iter().chain(more).flat_map(literal).collect()
}

fn impatient() -> Server {
    let net = NetSettings {
        write_stall: Duration::from_millis(100),
        ..NetSettings::default()
    };
    Server::with(&[], Settings::default(), net, None)
}

#[test]
fn a_client_that_opens_no_window_is_closed() {
    let server = impatient();
    let mut connection = Connection::without_windows(&server);
    let long = serde_json::json!({"inputs": "北京大学 ".repeat(100)}).to_string();
    for stream in [1, 3, 5] {
        connection.post(stream, "/embed_all", &long);
    }
    let kinds = connection.rest();
    assert!(!kinds.contains(&DATA), "there was no window: {kinds:?}");
    server.assert_empty();
}

#[test]
fn a_client_that_opens_a_window_of_a_byte_is_closed() {
    let net = NetSettings {
        write_stall: Duration::from_millis(100),
        header_timeout: Duration::from_secs(600),
        ..NetSettings::default()
    };
    let server = Server::with(&[], Settings::default(), net, None);
    for (path, body) in [("/embed", r#"{"inputs": "a"}"#), ("/metrics", "")] {
        let mut connection = Connection::with_settings(&server, &[0, 4, 0, 0, 0, 1]);
        for stream in [1, 3, 5, 7] {
            match body {
                "" => connection.get(stream, path),
                body => connection.post(stream, path, body),
            }
        }
        connection.rest();
    }
    // Nothing that they left is still held.
    server.assert_empty();
    assert_eq!(server.get("/metrics").status, 200);
}

#[test]
fn a_drain_does_not_wait_for_clients_that_say_nothing() {
    let net = NetSettings {
        write_stall: Duration::from_millis(100),
        header_timeout: Duration::from_secs(600),
        drain_timeout: Duration::from_secs(60),
        ..NetSettings::default()
    };
    let mut server = Server::with(&[], Settings::default(), net, None);
    // One that neither asks nor says goodbye, and one that takes nothing of what it asked for.
    let mut mute = Connection::new(&server);
    mute.receive();
    let mut deaf = Connection::without_windows(&server);
    deaf.post(1, "/embed_all", r#"{"inputs": "a"}"#);
    while deaf.receive().0 != HEADERS {}
    server.begin_stop();
    assert!(
        server.stop(),
        "all connections ended before the drain's own limit"
    );
}

#[test]
fn a_drain_waits_for_clients_that_read_on() {
    let mut server = Server::start(&[]);
    let mut connection = Connection::new(&server);
    let long = serde_json::json!({"inputs": "北京大学 ".repeat(50)}).to_string();
    connection.post(1, "/embed_all", &long);
    while connection.receive().0 != HEADERS {}
    server.begin_stop();
    while !server.app.is_draining() {
        std::thread::yield_now();
    }
    assert!(connection.body(1).ends_with(b"]]]"), "the whole answer");
    drop(connection);
    assert!(server.stop());
}

#[test]
fn pages_that_nobody_takes_are_few() {
    let server = Server::start(&[]);
    let mut connection = Connection::without_windows(&server);
    for stream in [1, 3, 5, 7] {
        connection.get(stream, "/metrics");
    }
    let mut heads = 0;
    while heads < 4 {
        heads += usize::from(connection.receive().0 == HEADERS);
    }
    let refused = server.get("/metrics");
    assert_eq!(refused.status, 503);
    assert!(String::from_utf8_lossy(&refused.body).contains("have not taken it"));
    assert_eq!(server.get("/health").status, 200);
    drop(connection);
    while server.get("/metrics").status != 200 {
        std::thread::yield_now();
    }
}

#[test]
fn streams_and_headers_are_few() {
    let server = Server::start(&[]);
    let mut connection = Connection::new(&server);
    let announced = loop {
        let (kind, flags, _, payload) = connection.receive();
        if kind == SETTINGS && flags == 0 {
            break payload;
        }
    };
    let streams = announced
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .unwrap();
    assert_eq!(streams[2..], STREAMS_MAX.to_be_bytes());
    let many = headers("GET", "/health", &[("x", "y"); 150]);
    connection.send(HEADERS, END_HEADERS | END_STREAM, 1, &many);
    connection.post(3, "/v1/analyze", r#"{"text": "a b", "tasks": ["words"]}"#);
    assert!(
        connection.body(3).starts_with(b"{\"words\""),
        "the next request is served"
    );
    server.assert_empty();
}

#[test]
fn floods_end_the_connection_and_hold_nothing() {
    let server = Server::start(&[]);
    // Opened and taken back at once, many times.
    let mut rapid = Connection::new(&server);
    for stream in (1..4000).step_by(2) {
        let request = headers("POST", "/v1/analyze", &[("content-length", "100")]);
        let sent = rapid.try_send(HEADERS, END_HEADERS, stream, &request);
        if sent
            .and_then(|()| rapid.try_send(RESET, 0, stream, &8u32.to_be_bytes()))
            .is_err()
        {
            break;
        }
    }
    // Headers without an end.
    let mut endless = Connection::new(&server);
    endless.send(HEADERS, 0, 1, &headers("GET", "/health", &[]));
    let more = headers("GET", "/health", &[("x", "y"); 100]);
    while endless.try_send(CONTINUATION, 0, 1, &more).is_ok() {}
    assert_eq!(server.get("/health").status, 200);
    drop(rapid);
    server.assert_empty();
}

#[test]
fn answers_and_refusals_over_http2() {
    let server = Server::start(&[]);
    let mut connection = Connection::new(&server);
    connection.post(1, "/v1/analyze", r#"{"text": "a b", "tasks": ["words"]}"#);
    let answer: serde_json::Value = serde_json::from_slice(&connection.body(1)).unwrap();
    assert_eq!(answer["words"][1]["text"], "b");
    connection.post(3, "/embed", "[");
    assert!(
        String::from_utf8(connection.body(3))
            .unwrap()
            .contains("expected an object, found an array")
    );
    let long = serde_json::json!({"inputs": "北京大学 ".repeat(100)}).to_string();
    connection.post(5, "/embed_all", &long);
    let whole = server.post("/embed_all", &long).body;
    assert!(
        whole.len() > 200_000,
        "many chunks: {}",
        String::from_utf8_lossy(&whole[..100])
    );
    assert!(connection.body(5) == whole, "through small windows");
    server.assert_empty();
}

#[test]
fn a_connection_that_breaks_gives_all_its_streams_back() {
    let server = Server::start(&[]);
    let mut connection = Connection::new(&server);
    let long = serde_json::json!({"inputs": "北京大学 ".repeat(50)}).to_string();
    for stream in [1, 3, 5, 7] {
        connection.post(stream, "/embed_all", &long);
    }
    // One of them answers: its windows are full and nobody reads on.
    let first = loop {
        let (kind, _, _, payload) = connection.receive();
        if kind == DATA {
            break payload;
        }
    };
    let first = String::from_utf8_lossy(&first[..80]).into_owned();
    assert!(server.app.engine.requests_inside() > 0, "{first}");
    drop(connection);
    server.assert_empty();
}
