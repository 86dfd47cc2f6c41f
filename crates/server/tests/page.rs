//! The page at `/` and its stream.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::time::Duration;

use common::{Reply, Server};
use plimsoll::app::Settings;
use plimsoll::net::NetSettings;
use plimsoll::page::Live;
use plimsoll_memory::{CountingAllocator, alloc};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const WATCHERS_MAX: usize = 8;

fn ask(server: &Server, head: &str) -> Reply {
    let mut client = server.connect();
    client.write(format!("{head}\r\nhost: test\r\n\r\n"));
    client.reply()
}

fn file(server: &Server, path: &str) -> String {
    let reply = ask(
        server,
        &format!("GET {path} HTTP/1.1\r\naccept-encoding: gzip, br"),
    );
    assert_eq!(
        (reply.status, reply.header("content-encoding")),
        (200, Some("gzip")),
        "{path}"
    );
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&reply.body[..])
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// The events of `/live` as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Server, header: &str) -> (u16, Events) {
        let mut tcp = TcpStream::connect(server.address).unwrap();
        write!(tcp, "GET /live HTTP/1.1\r\nhost: test\r\n{header}\r\n").unwrap();
        let mut events = Events(BufReader::new(tcp));
        let status = events.line().split(' ').nth(1).unwrap().parse().unwrap();
        while events.line() != "\r\n" {}
        (status, events)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// The next event; `None` at the end of the stream.
    fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let line = self.line();
            if line.is_empty() {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                let data = self.line();
                let data = data.strip_prefix("data: ").unwrap();
                return Some((name.trim().to_owned(), serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let server = Server::tiny();
    let page = file(&server, "/");
    let mut paths = vec!["/page/icon.svg".to_owned()];
    for attribute in ["src=\"", "href=\""] {
        let found = page
            .split(attribute)
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        paths.extend(found.filter(|path| path.starts_with("/page/")).map(str::to_owned));
    }
    let mut scripts = vec!["page.js".to_owned()];
    while let Some(name) = scripts.pop() {
        paths.push(format!("/page/{name}"));
        let text = file(&server, &format!("/page/{name}"));
        let imports = text.split("from \"./").skip(1);
        scripts.extend(
            imports
                .filter_map(|rest| rest.split('"').next())
                .map(str::to_owned),
        );
    }
    for path in paths {
        let text = file(&server, &path);
        let elsewhere = text
            .replace("http://www.w3.org/", "")
            .replace("https://github.com/leeoniya/uPlot", "");
        assert!(
            !elsewhere.contains("http://") && !elsewhere.contains("https://"),
            "{path}"
        );
    }
    assert!(!page.contains("<style") && !page.contains("style=") && !page.contains("onclick"));
}

#[test]
fn who_takes_no_gzip_is_told_so_and_the_alias_stays() {
    let server = Server::tiny();
    let reply = server.get("/");
    assert_eq!(reply.status, 406);
    assert!(
        reply.json()["error"]
            .as_str()
            .unwrap()
            .contains("Accept-Encoding: gzip")
    );
    assert_eq!(server.post("/", r#"{"inputs": "ab"}"#).status, 200);
}

#[test]
fn a_watcher_sees_what_the_metrics_say() {
    let server = Server::tiny();
    assert_eq!(
        server.post("/v1/analyze", r#"{"text": ["ab cd", "e"]}"#).status,
        200
    );
    let (status, mut events) = Events::open(&server, "");
    let (first, opening) = events.next().unwrap();
    assert_eq!((status, first.as_str()), (200, "opening"));
    let bill = opening["bill"].as_array().unwrap();
    let total: u64 = bill.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
    assert_eq!(Some(total), opening["limit_bytes"].as_u64());
    let (mut answers, mut texts) = (0, 0);
    while answers == 0 {
        let (name, now) = events.next().unwrap();
        assert_eq!((name.as_str(), now["level"].as_str()), ("now", Some("normal")));
        answers = now["minute"]["answers"].as_u64().unwrap();
        texts = now["minute"]["texts"].as_u64().unwrap();
        let ledger = &now["ledger"];
        assert_eq!(
            ledger["limit_bytes"].as_u64().unwrap() as usize,
            server.app.engine.ledger().limit_bytes()
        );
    }
    assert_eq!((answers, texts), (1, 2));
    let metrics = server.get("/metrics");
    assert!(metrics.text().contains("\nplimsoll_texts_total 2\n"));
}

#[test]
fn watchers_are_few_and_leave_their_places() {
    let server = Server::tiny();
    let mut watchers: Vec<Events> = (0..WATCHERS_MAX)
        .map(|_| Events::open(&server, ""))
        .map(|(status, events)| {
            assert_eq!(status, 200);
            events
        })
        .collect();
    let (status, _) = Events::open(&server, "");
    assert_eq!(status, 503);
    assert_eq!(server.get("/health").status, 200);
    watchers.pop();
    // The server sees that the client left when it next writes.
    while Events::open(&server, "").0 != 200 {
        std::thread::yield_now();
    }
}

/// A client with the smallest buffer there is, which never reads.
fn deaf(server: &Server) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&server.address.into()).unwrap();
    socket.send(b"GET /live HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let answered = socket.peek(&mut [MaybeUninit::uninit()]).unwrap();
    assert_eq!(answered, 1);
    socket
}

#[test]
fn who_does_not_read_costs_no_more_than_the_bill_says_and_is_closed() {
    let net = NetSettings {
        socket_buffer_bytes: 4096,
        write_stall: Duration::from_millis(100),
        ..NetSettings::default()
    };
    let model = common::TinyModel::new("bert-q4-heads");
    let server = Server::with(&["--model-id", model.path()], Settings::default(), net, None);
    let (_, mut reader) = Events::open(&server, "");
    let deaf: Vec<Socket> = (1..WATCHERS_MAX).map(|_| deaf(&server)).collect();
    assert_eq!(Events::open(&server, "").0, 503);
    let before = alloc::total_counts().live_bytes();
    while Events::open(&server, "").0 != 200 {
        assert!(reader.next().is_some(), "who reads is told on");
        let grown = alloc::total_counts().live_bytes().saturating_sub(before);
        assert!(grown < Live::BYTES as u64, "{grown} bytes");
    }
    drop(deaf);
}

#[test]
fn a_stream_ends_when_the_server_drains() {
    let mut server = Server::tiny();
    let (_, mut events) = Events::open(&server, "");
    server.begin_stop();
    while events.next().is_some() {}
    assert!(server.stop(), "nobody is waited for in vain");
}

#[test]
fn the_key_guards_what_is_shown_and_not_the_files() {
    let settings = Settings {
        api_key: Some("secret".to_owned()),
        ..Settings::default()
    };
    let model = common::TinyModel::new("bert-q4-heads");
    let server = Server::with(
        &["--model-id", model.path()],
        settings,
        NetSettings::default(),
        None,
    );
    file(&server, "/");
    file(&server, "/page/page.js");
    assert_eq!(Events::open(&server, "").0, 401);
    assert_eq!(Events::open(&server, "authorization: Bearer secret\r\n").0, 200);
    assert_eq!(server.post("/", r#"{"inputs": "ab"}"#).status, 401);
}
