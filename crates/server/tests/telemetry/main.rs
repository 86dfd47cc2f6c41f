//! Logs, traces and metrics of the real program, with collectors and disks that are well and unwell.

mod collector;
#[path = "../common/mod.rs"]
mod common;
mod grpc;
mod messages;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use collector::{Collector, Health};
use common::{Client, TinyModel};
use messages::{Any, Span};
use serde_json::Value;

/// The program, serving a tiny model.
struct Program {
    child: Child,
    errors: BufReader<ChildStderr>,
    address: SocketAddr,
    model: TinyModel,
}

impl Program {
    fn start(flags: &[&str]) -> Program {
        let model = TinyModel::new("bert-q4-heads");
        let fixed = [
            "serve",
            "--hostname",
            "localhost",
            "--port",
            "0",
            "--memory-limit",
            "1GiB",
            "--workers",
            "1",
        ];
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(fixed)
            .args(["--model-id", model.path()])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(errors.read_line(&mut line).unwrap() > 0, "serve ended");
            if let Some((_, rest)) = line.split_once(" on http://") {
                break rest
                    .trim_end_matches(['"', '}', '\n'])
                    .parse()
                    .expect("an address");
            }
        };
        Program {
            child,
            errors,
            address,
            model,
        }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn metrics(&self) -> String {
        let mut client = self.connect();
        client.write("GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n");
        client.reply().text().to_owned()
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("{series} in {text}"))
            .parse()
            .unwrap()
    }

    /// Stops it; what it said since it serves.
    fn stop(mut self) -> String {
        self.signal("-TERM");
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        drop(self.model);
        said
    }
}

/// Waits for what happens soon; a hang is the test's own time-out.
fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

fn embed(client: &mut Client) -> u16 {
    client.post("/embed", r#"{"inputs": "a b c"}"#).status
}

#[test]
fn spans_and_metrics_reach_a_collector_over_both_protocols() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start(Health::Well);
        let endpoint = format!("http://{}", collector.address);
        let program = Program::start(&[
            "--otlp-endpoint",
            &endpoint,
            "--otlp-protocol",
            protocol,
            "--otlp-service-name",
            "a test",
            "--otlp-headers",
            "x-key=a%20secret",
        ]);
        let mut client = program.connect();
        let parent = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        client.write(format!(
            "POST /embed HTTP/1.1\r\nhost: test\r\ntraceparent: 00-{parent}-01\r\ncontent-length: 15\r\n\r\n{{\"inputs\": \"a\"}}"
        ));
        let reply = client.reply();
        let response = reply.header("traceresponse").expect("the trace goes out");
        assert!(
            response.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{response}"
        );
        client.write(format!(
            "POST /embed HTTP/1.1\r\nhost: test\r\ntraceparent: 00-{parent}-00\r\ncontent-length: 15\r\n\r\n{{\"inputs\": \"a\"}}"
        ));
        assert_eq!(client.reply().status, 200);
        assert_eq!(client.post("/embed", r#"{"inputs": 1}"#).status, 422);
        for _ in 0..400 {
            assert_eq!(embed(&mut client), 200);
        }
        program.stop();
        let kept = collector.kept.lock().unwrap();
        assert!(
            kept.batches.iter().all(|&count| count <= 1024),
            "{:?}",
            kept.batches
        );
        assert_eq!(kept.headers.as_ref().unwrap()["x-key"], "a secret");
        let ids: HashSet<_> = kept.spans.iter().map(|span| &span.span_id).collect();
        assert_eq!(ids.len(), kept.spans.len(), "no id twice");
        let servers: Vec<&Span> = kept.spans.iter().filter(|span| span.kind == 2).collect();
        assert_eq!(
            servers.len(),
            402,
            "all but the one that its caller does not trace"
        );
        check_traced(&kept.spans, servers[0]);
        check_failed(servers[1]);
        for name in [
            "te_request_count",
            "te_request_duration",
            "plimsoll_level",
            "plimsoll_layer_bytes",
        ] {
            assert!(kept.metrics.iter().any(|known| known == name), "{name}");
        }
    }
}

/// The request that came with a trace: its parent, its stages in their order, what it cost.
fn check_traced(spans: &[Span], server: &Span) {
    assert_eq!(server.name, "POST /embed");
    assert_eq!(
        server.trace_id,
        0x4bf92f3577b34da6a3ce929d0e0e4736u128.to_be_bytes()
    );
    assert_eq!(server.parent_span_id, 0x00f067aa0ba902b7u64.to_be_bytes());
    let stages: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == server.span_id)
        .collect();
    let names: Vec<&str> = stages.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["admission", "body", "queue", "text", "pass", "answer"]);
    let mut last = server.start_ns;
    for stage in &stages {
        assert!(
            last <= stage.start_ns && stage.start_ns <= stage.end_ns,
            "{stage:?}"
        );
        assert!(stage.end_ns <= server.end_ns && stage.trace_id == server.trace_id);
        last = stage.end_ns;
    }
    assert_eq!(
        server.attribute("http.response.status_code"),
        Some(&Any::Number(200))
    );
    assert_eq!(server.attribute("plimsoll.tokens"), Some(&Any::Number(3)));
    assert_eq!(server.attribute("plimsoll.complete"), Some(&Any::Truth(true)));
    assert_eq!(
        server.attribute("plimsoll.level"),
        Some(&Any::Text("normal".into()))
    );
    assert!(matches!(server.attribute("plimsoll.debited_bytes"), Some(Any::Number(bytes)) if *bytes > 0));
}

fn check_failed(server: &Span) {
    assert_eq!(
        server.attribute("http.response.status_code"),
        Some(&Any::Number(422))
    );
    assert_eq!(
        server.attribute("error.type"),
        Some(&Any::Text("Validation".into()))
    );
}

/// Spans are exported, dropped with a reason, or wait; none is lost from the books.
fn check_books(program: &Program) {
    let text = program.metrics();
    let sum = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum::<f64>()
    };
    let left = sum("plimsoll_otlp_spans_recorded_total")
        - sum("plimsoll_otlp_spans_exported_total")
        - sum("plimsoll_otlp_spans_dropped_total");
    // What waits, and the batch that is under way.
    assert!(
        0.0 <= left && left <= sum("plimsoll_otlp_waiting_requests") * 7.0 + 1024.0,
        "{text}"
    );
}

#[test]
fn a_collector_that_is_unwell_costs_spans_and_nothing_else() {
    let gone = "127.0.0.1:9".to_owned();
    let silent = Collector::start(Health::Silent);
    let refusing = Collector::start(Health::Refusing);
    let cases = [
        (gone, "queue"),
        (silent.address.to_string(), "queue"),
        (refusing.address.to_string(), "refused"),
    ];
    for (address, reason) in cases {
        for protocol in ["grpc", "http/protobuf"] {
            let endpoint = format!("http://{address}");
            let flags = [
                "--otlp-endpoint",
                &endpoint,
                "--otlp-protocol",
                protocol,
                "--otlp-queue-bytes",
                "64KiB",
            ];
            let program = Program::start(&flags);
            let mut client = program.connect();
            for _ in 0..1000 {
                assert_eq!(embed(&mut client), 200);
            }
            let series = format!("plimsoll_otlp_spans_dropped_total{{reason=\"{reason}\"}}");
            until(|| program.metric(&series) > 0.0);
            check_books(&program);
            program.stop();
        }
    }
    assert!(silent.kept.lock().unwrap().requests > 0 && refusing.kept.lock().unwrap().requests > 0);
}

#[test]
fn what_cannot_be_exported_to_is_named_at_start() {
    for (flags, words) in [
        (["--otlp-endpoint", "https://collector"], "TLS is not spoken"),
        (
            ["--otlp-endpoint", "ftp://collector"],
            "expected http://HOST:PORT",
        ),
        (
            ["--log-file", "/nowhere/log"],
            "--log-file /nowhere/log: No such file",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(["serve", "--port", "0", "--memory-limit", "1GiB"])
            .args(flags)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(words), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn each_request_has_a_json_line_that_repeats_nothing_of_it() {
    let program = Program::start(&["--json-output", "--access-log", "--api-key", "hidden"]);
    let mut client = program.connect();
    let mut ask = |head: &str, body: &str| {
        let length = body.len();
        client.write(format!(
            "{head}\r\nhost: test\r\nauthorization: Bearer hidden\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        client.reply()
    };
    let secret = "\"a private text\"";
    let good = format!("{{\"inputs\": {secret}}}");
    assert_eq!(
        ask("POST /embed HTTP/1.1\r\nx-request-id: one\"\\", &good).status,
        200
    );
    let named = ask("POST /embed HTTP/1.1", "{\"inputs\": [\"private\", 7]}");
    assert_eq!(named.status, 422);
    let made = named.header("x-request-id").expect("a name is made").to_owned();
    assert_eq!(ask("GET /private/path HTTP/1.1", "").status, 404);
    assert_eq!(ask("GET /health HTTP/1.1", "").status, 200);
    let mut stranger = program.connect();
    assert_eq!(stranger.post("/embed", &good).status, 401);
    let mut leaver = program.connect();
    leaver.write(
        "POST /embed HTTP/1.1\r\nhost: test\r\nauthorization: Bearer hidden\r\ncontent-length: 100\r\n\r\n{",
    );
    until(|| program.metric("plimsoll_requests_inside") > 0.0);
    drop(leaver);
    until(|| program.metric("plimsoll_requests_inside") == 0.0);
    let said = program.stop();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    let told: Vec<_> = requests
        .iter()
        .map(|line| (line["route"].as_str().unwrap(), line["status"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("/embed", 200),
        ("/embed", 422),
        ("unknown", 404),
        ("/embed", 401),
        ("/embed", 400),
    ];
    let expected: HashSet<_> = expected.into_iter().collect();
    assert_eq!(told.iter().copied().collect::<HashSet<_>>(), expected, "{said}");
    assert_eq!(told.len(), expected.len());
    assert_eq!(requests[0]["request_id"], "one\"\\");
    assert_eq!(requests[0]["tokens"], 12 + 2);
    assert_eq!(requests[0]["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(requests[1]["request_id"], *made);
    assert!(!said.contains("private") && !said.contains("hidden"), "{said}");
}

#[test]
fn a_log_file_is_put_aside_by_size_and_by_signal() {
    let directory = TinyModel::new("bert-q4-heads");
    let path = format!("{}/access.log", directory.path());
    let flags = [
        "--access-log",
        "--log-file",
        &path,
        "--log-file-bytes",
        "4KiB",
        "--log-files-kept",
        "2",
    ];
    let program = Program::start(&flags);
    let mut client = program.connect();
    for _ in 0..100 {
        assert_eq!(embed(&mut client), 200);
    }
    until(|| program.metric("plimsoll_log_lines_total") >= 100.0);
    let rotations = program.metric("plimsoll_log_rotations_total{outcome=\"aside\"}");
    assert!(rotations > 0.0);
    program.signal("-HUP");
    until(|| program.metric("plimsoll_log_rotations_total{outcome=\"aside\"}") > rotations);
    let elsewhere = format!("{path}.moved");
    fs::rename(&path, &elsewhere).unwrap();
    program.signal("-HUP");
    until(|| fs::exists(&path).unwrap());
    assert_eq!(embed(&mut client), 200);
    until(|| {
        fs::read_to_string(&path)
            .unwrap()
            .contains(" route=/embed status=200 ")
    });
    assert!(!fs::exists(format!("{path}.3")).unwrap());
    let whole = |path: &str| {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .all(|line| line.contains(" answer_us="))
    };
    assert!(whole(&path) && whole(&format!("{path}.1")) && whole(&format!("{path}.2")));
    program.stop();
}

#[test]
fn a_full_disk_does_not_stop_the_server() {
    let program = Program::start(&["--access-log", "--log-file", "/dev/full"]);
    let mut client = program.connect();
    for _ in 0..100 {
        assert_eq!(embed(&mut client), 200);
    }
    until(|| program.metric("plimsoll_log_dropped_total{reason=\"write\"}") >= 100.0);
    assert_eq!(program.metric("plimsoll_log_lines_total"), 0.0);
    program.stop();
}

#[test]
fn a_terminal_that_nobody_reads_does_not_stop_the_server() {
    let program = Program::start(&["--access-log", "--log-queue-bytes", "16KiB"]);
    let mut client = program.connect();
    // A pipe holds 64 KiB; a line has more than 300 bytes.
    for _ in 0..1000 {
        assert_eq!(embed(&mut client), 200);
    }
    until(|| program.metric("plimsoll_log_dropped_total{reason=\"queue\"}") > 0.0);
    program.stop();
}

#[test]
fn scrapers_have_a_port_of_their_own_and_nothing_else_is_there() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let program = Program::start(&["--prometheus-port", &address.port().to_string()]);
    let ask = |request: &str| {
        let mut client = Client::connect(address);
        client.write(format!(
            "{request} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"
        ));
        client.reply()
    };
    for _ in 0..20 {
        let reply = ask("GET /metrics");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(reply.text().contains("plimsoll_level 0\n"));
    }
    assert_eq!(ask("POST /embed").status, 404);
    // Those that say nothing do not keep others out for long.
    let _silent: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    assert_eq!(ask("GET /metrics").status, 200);
    program.stop();
}

#[test]
fn the_server_is_ready_once_it_is_warm() {
    let directory = TinyModel::new("bert-q4-heads");
    let path = format!("{}/texts", directory.path());
    let texts: Vec<String> = (0..100)
        .map(|number| format!("a text {}", "b ".repeat(number)))
        .collect();
    fs::write(&path, texts.join("\n") + "\n\n").unwrap();
    let program = Program::start(&["--warm-up", &path]);
    let health = || {
        let mut client = program.connect();
        client.write("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
        client.reply().status
    };
    until(|| health() == 200);
    let mut client = program.connect();
    for text in &texts {
        let reply = client.post("/embed", serde_json::json!({ "inputs": text }).to_string());
        assert_eq!(reply.header("x-plimsoll-cache"), Some("hit"), "{text}");
    }
    let said = program.stop();
    assert!(
        said.contains("warm-up: 100 texts of ") && said.contains(", 1 left out"),
        "{said}"
    );
}

#[test]
fn no_route_says_ready_before_it_is_warm() {
    let directory = TinyModel::new("bert-q4-heads");
    let path = format!("{}/texts", directory.path());
    let texts: Vec<String> = (0..50_000)
        .map(|number| format!("{number} {}", "b ".repeat(60)))
        .collect();
    fs::write(&path, texts.join("\n")).unwrap();
    let program = Program::start(&["--warm-up", &path]);
    let ask = |path: &str| {
        let mut client = program.connect();
        client.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        client.reply().status
    };
    assert_eq!(ask("/v2/health/ready"), 503);
    assert_eq!(ask("/v2/health/live"), 200);
    assert_eq!(ask("/health"), 503, "it is warm already: this shows nothing");
    program.stop();
}
