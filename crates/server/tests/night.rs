//! `plimsoll drill 3am` and `drill ablation`, end to end and short; and the naive twin beside the server, whose answers it must give.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use common::{Server, TinyModel};
use serde_json::{Value, json};

fn drill(model: &TinyModel, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .arg("drill")
        .args(arguments)
        .args(["--json", "--model-id", model.path()])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

fn report(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

#[test]
fn nothing_is_killed_in_the_night() {
    let model = TinyModel::new("bert-q4-heads");
    let page = std::env::temp_dir().join(format!("plimsoll-night-{}.html", std::process::id()));
    let html = page.to_str().expect("a UTF-8 path");
    let output = drill(
        &model,
        &[
            "3am",
            "--causes",
            "all",
            "--calm-seconds",
            "0.5",
            "--rate",
            "100",
            "--html",
            html,
        ],
    );
    if output.stdout.is_empty() {
        // Where no cgroup may be made there is no drill, and it says so.
        assert!(!output.status.success());
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            words.contains("this drill needs a memory cgroup that it may write"),
            "{words}"
        );
        return;
    }
    let report = report(&output);
    let nights = report["nights"].as_array().expect("nights");
    assert_eq!(nights.len(), 1);
    let night = &nights[0];
    assert_eq!(
        (&night["kills"], &night["death"], &night["health"]["failed"]),
        (&json!(0), &Value::Null, &json!(0)),
        "{night:#}"
    );
    assert!(night["peak"]["held_bytes"].as_u64() <= report["memory_limit_bytes"].as_u64());
    assert!(night["before"]["served"].as_u64() > Some(0), "{night:#}");
    for cause in ["rotation", "warm-up", "scan", "burst"] {
        let outcome = &night["outcomes"][cause];
        assert!(outcome["planned"].as_u64() > Some(0), "{cause}: {outcome}");
        assert_eq!(outcome["mute_refusals"], 0, "{cause}: {outcome}");
    }
    assert_eq!(output.status.success(), report["holds"] == true);
    let page = std::fs::read_to_string(&page).expect("the page");
    assert!(page.contains("all together") && page.contains("uPlot") && !page.contains("\"data\";"));
}

#[test]
fn a_line_that_is_too_low_is_refused_before_the_night() {
    let model = TinyModel::new("bert-q4-heads");
    let output = drill(&model, &["3am", "--memory-limit", "1MiB"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(
        words.contains("1048576 bytes are too few") || words.contains("this drill needs a memory cgroup"),
        "{words}"
    );
}

#[test]
fn the_ablation_switches_off_what_it_says() {
    let model = TinyModel::new("bert-q4-heads");
    let output = drill(&model, &["ablation", "--requests", "20"]);
    let report = report(&output);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 11);
    let row = |off: &str| {
        let found = rows
            .iter()
            .find(|row| row["off"].as_str().is_some_and(|name| name.contains(off)));
        found.unwrap_or_else(|| panic!("no row for {off}"))
    };
    let whole = row("all layers");
    assert_eq!(whole["pipeline_allocations_a_request"], 0.0);
    assert_eq!(whole["hot_hit_percent"], 100.0);
    assert!(whole["warm_lease_percent"].as_f64() > Some(0.0));
    assert_eq!(row("L1 off")["warm_lease_percent"], 0.0);
    assert_eq!(row("L2 off")["hot_hit_percent"], 0.0);
    assert_eq!(row("twin, plain map")["hot_hit_percent"], 100.0);
    assert_eq!(row("twin, no map")["hot_hit_percent"], 0.0);
}

/// The twin as the drill starts it.
struct Twin {
    child: Child,
    address: String,
}

impl Twin {
    fn start(model: &TinyModel) -> Twin {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(["drill", "twin", "--model-id", model.path()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("a pipe was asked for");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        let (_, address) = line.trim().split_once(" on http://").expect("an address");
        Twin {
            address: address.to_owned(),
            child,
        }
    }

    fn post(&self, path: &str, body: &str) -> (String, Value) {
        let mut tcp = TcpStream::connect(&self.address).expect("a connection");
        let head = common::head(path, body.len()).replace("host: test", "host: test\r\nconnection: close");
        write!(tcp, "{head}{body}").expect("the twin reads");
        let mut reply = String::new();
        tcp.read_to_string(&mut reply).expect("the twin answers");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{reply}");
        (head.to_owned(), serde_json::from_str(body).expect("JSON"))
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn numbers(vector: &Value) -> Vec<f64> {
    let vector = vector.as_array().expect("a vector");
    vector.iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn the_twin_gives_the_servers_answers_and_remembers_what_it_gave() {
    let model = TinyModel::new("bert-q4-heads");
    let server = Server::start(&["--model-id", model.path()]);
    let twin = Twin::start(&model);
    let body = json!({"inputs": ["a quick brown fox", "b"]}).to_string();
    let ours = server.post("/embed", &body).json();
    let (head, theirs) = twin.post("/embed", &body);
    assert!(head.contains("x-plimsoll-cache: miss"), "{head}");
    for index in 0..2 {
        let (ours, theirs) = (numbers(&ours[index]), numbers(&theirs[index]));
        assert_eq!(ours.len(), theirs.len());
        let furthest = ours
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(furthest < 1e-5, "{furthest}");
    }
    let (head, again) = twin.post("/embed", &body);
    assert!(head.contains("x-plimsoll-cache: hit"), "{head}");
    assert_eq!(again, theirs);
    let body = json!({"text": "我在北京 work，hm!", "tasks": ["words", "embedding"]}).to_string();
    let ours = server.post("/v1/analyze", &body).json();
    let (_, theirs) = twin.post("/v1/analyze", &body);
    assert_eq!(ours["words"], theirs["words"]);
}
