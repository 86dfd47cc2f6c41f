//! HTTP/2 without a handshake, spoken frame by frame.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::Server;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection whose client took the first step.
struct Connection(TcpStream);

impl Connection {
    fn new(server: &Server) -> Connection {
        let tcp = TcpStream::connect(server.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut connection = Connection(tcp);
        connection
            .0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        connection.send(SETTINGS, 0, 0, &[]);
        connection
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).unwrap();
    }

    /// A `POST`, its headers as literals.
    fn post(&mut self, stream: u32, path: &str, body: &str) {
        let literal = |name: &str, value: &str| {
            [
                &[0, name.len() as u8],
                name.as_bytes(),
                &[value.len() as u8],
                value.as_bytes(),
            ]
            .concat()
        };
        let headers = [
            (":method", "POST"),
            (":path", path),
            (":scheme", "http"),
            (":authority", "x"),
        ];
        let length = body.len().to_string();
        let headers = headers.iter().copied().chain([("content-length", &*length)]);
        let headers: Vec<u8> = headers.flat_map(|(name, value)| literal(name, value)).collect();
        self.send(HEADERS, END_HEADERS, stream, &headers);
        self.send(DATA, END_STREAM, stream, body.as_bytes());
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
