//! The command itself: what it prints, how it ends, and that `analyze` loses no line.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use common::TinyModel;
use serde_json::Value;

/// The command, with none of the surrounding environment's settings and little memory.
fn plimsoll(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command
        .args(args)
        .env_clear()
        .env("MEMORY_LIMIT", "1GiB")
        .env("WORKERS", "1")
        .env("MAX_BATCH_TOKENS", "2048");
    command
}

fn run(args: &[&str]) -> Output {
    plimsoll(args)
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Checks that a command ends with one line that says this, and a status that is not 0.
fn assert_fails(args: &[&str], says: &str) {
    let output = run(args);
    let error = stderr(&output);
    let line = error
        .lines()
        .filter(|line| line.starts_with("plimsoll: "))
        .collect::<Vec<_>>();
    assert!(!output.status.success() && line.len() == 1, "{args:?}: {error}");
    assert!(
        line[0].contains(says) && !error.contains("panicked"),
        "{args:?}: {error}"
    );
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_fails(
        &["serve", "--hostname", "127.0.0.1", "--port", &port],
        &format!("cannot listen on 127.0.0.1:{port}: Address already in use"),
    );
    assert_fails(
        &["serve", "--model-id", "intfloat/multilingual-e5-small"],
        "no such directory",
    );
    assert_fails(&["serve", "--memory-limit", "30MB"], "is too small");
    assert_fails(&["plan", "--memory-limit", "30MB"], "more than it allows");
    assert_fails(
        &["plan", "--pooling", "median"],
        "expected mean, cls, last-token or max",
    );
    assert_fails(
        &["plan", "--default-prompt-name", "x"],
        "the model has no such prompt",
    );
    assert_fails(&["analyze", "/nowhere/at/all"], "/nowhere/at/all: No such file");

    let broken = TinyModel::new("bert");
    assert_fails(
        &[
            "analyze",
            "-",
            "--model-id",
            broken.path(),
            "--tasks",
            "sentiment",
        ],
        "sentiment: the loaded model has no head for it",
    );
    for (file, bytes, says) in [
        ("model.safetensors", &b"12345"[..], "model.safetensors"),
        ("config.json", b"{", "config.json"),
        ("vocab.txt", b"", "token"),
    ] {
        let whole = fs::read(format!("{}/{file}", broken.path())).unwrap();
        fs::write(format!("{}/{file}", broken.path()), bytes).unwrap();
        assert_fails(&["plan", "--model-id", broken.path()], says);
        fs::write(format!("{}/{file}", broken.path()), whole).unwrap();
    }
    fs::remove_file(format!("{}/vocab.txt", broken.path())).unwrap();
    assert_fails(
        &["plan", "--model-id", broken.path()],
        "no tokenizer.json and no vocab.txt",
    );
}

#[test]
fn the_plan_sums_to_the_limit() {
    let output = run(&["plan", "--json", "--memory-limit", "900MB"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let total: u64 = plan["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(
        (total, &plan["memory_limit_bytes"]),
        (900_000_000, &Value::from(900_000_000))
    );
    let text = String::from_utf8(run(&["plan"]).stdout).unwrap();
    for owner in [
        "weights",
        "hidden states",
        "connections",
        "request slots",
        "memory limit",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(owner)),
            "{owner} in {text}"
        );
    }
}

#[test]
fn bench_figures_agree_with_each_other() {
    let model = TinyModel::new("bert");
    for (threads, dtype) in [("1", "auto"), ("2", "f32"), ("3", "int8")] {
        let args = [
            "bench",
            "--model-id",
            model.path(),
            "--threads",
            threads,
            "--dtype",
            dtype,
            "--lengths",
            "4,30,31",
            "--batches",
            "1,5",
            "--max-batch-tokens",
            "60",
            "--seconds",
            "0",
            "--json",
        ];
        let output = run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["threads"].to_string(), threads);
        assert_eq!(report["dtype"], if dtype == "auto" { "f32" } else { dtype });
        let batches = report["batches"].as_array().unwrap();
        let shapes: Vec<_> = batches
            .iter()
            .map(|batch| [&batch["texts"], &batch["tokens_each"]].map(|count| count.as_u64().unwrap()))
            .collect();
        // The model reads 30 tokens, so that 31 are left out.
        assert_eq!(shapes, [[1, 4], [1, 30], [5, 4], [5, 30]]);
        for (batch, [texts, tokens_each]) in batches.iter().zip(shapes) {
            let figure = |name: &str| batch[name].as_f64().unwrap();
            let tokens = (texts * tokens_each) as f64;
            let seconds = figure("milliseconds") / 1e3;
            // 2 layers of 32, 40 in the feed-forward network's middle.
            let operations = tokens
                * 2.0
                * (2.0 * (4.0 * 32.0 * 32.0 + 2.0 * 32.0 * 40.0) + 4.0 * 32.0 * tokens_each as f64);
            let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} and {b} in {batch}");
            close(figure("tokens"), tokens);
            close(figure("operations"), operations);
            close(figure("tokens_per_second") * seconds, tokens);
            close(figure("operations_per_second") * seconds, operations);
            if let Some(peak) = report["peak_operations_per_second"].as_f64() {
                close(figure("share_of_peak") * peak, figure("operations_per_second"));
            }
            assert!(
                figure("milliseconds_min") <= figure("milliseconds")
                    && figure("milliseconds") <= figure("milliseconds_max")
            );
            assert!(figure("scratch_bytes") > 0.0 && figure("repetitions") >= 1.0);
        }
    }
}

#[test]
fn bench_prints_a_line_for_each_batch() {
    let model = TinyModel::new("bert");
    let args = [
        "bench",
        "--model-id",
        model.path(),
        "--lengths",
        "8",
        "--batches",
        "1,2",
        "--seconds",
        "0",
    ];
    let table = String::from_utf8(run(&args).stdout).unwrap();
    let rows = table
        .lines()
        .filter(|line| line.split_whitespace().nth(1) == Some("8"));
    assert_eq!(rows.count(), 2, "{table}");
    assert!(table.contains("GFLOP/s") && table.contains("resident"), "{table}");
    assert_fails(
        &["bench", "--model-id", model.path(), "--lengths", "31,64"],
        "the model reads up to 30 tokens",
    );
    assert_fails(&["bench", "--seconds=-1"], "expected 0 to 3600");
}

#[test]
fn help_and_version() {
    assert!(run(&["--version"]).stdout.starts_with(b"plimsoll 0."));
    let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
    for flag in [
        "--model-id",
        "[env: MODEL_ID=]",
        "--max-batch-tokens",
        "MAX_BATCH_TOKENS",
        "--payload-limit",
        "--port",
        "HOSTNAME",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
}

/// `serve` on a free port, with the address that it prints.
fn serve() -> (Child, String, BufReader<impl Read>) {
    let mut command = plimsoll(&["serve", "--hostname", "localhost", "--port", "0"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the command runs");
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("serving") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "serve ended");
    }
    let address = line.trim().rsplit('/').next().unwrap().to_owned();
    (child, address, errors)
}

#[test]
fn serve_answers_and_ends_on_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let (mut child, address, mut errors) = serve();
        let mut client = std::net::TcpStream::connect(&address).unwrap();
        let body = r#"{"text": "他来到北京。"}"#;
        let head = format!(
            "POST /v1/analyze HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write_all((head + body).as_bytes()).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert!(
            reply.starts_with("HTTP/1.1 200") && reply.contains(r#""text":"北京""#),
            "{reply}"
        );
        Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(child.wait().unwrap().success());
        let mut rest = String::new();
        errors.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("panicked"), "{rest}");
    }
}

/// A directory for files of a test.
struct Files(TinyModel);

impl Files {
    fn new() -> Files {
        Files(TinyModel::new("bert-q4-heads"))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.path())
    }

    fn analyze(&self, args: &[&str]) -> Output {
        run(&[&["analyze", "--model-id", self.0.path()], args].concat())
    }
}

/// Lines of which one in ten cannot be analysed.
fn input(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|line| match line % 20 {
            7 => b"not \xff utf-8\n".to_vec(),
            13 => b"\n".to_vec(),
            _ => format!("{} line {line} 😀\r\n", "a b ".repeat(line % 50)).into_bytes(),
        })
        .collect()
}

#[test]
fn analyze_writes_a_line_for_a_line_in_order() {
    let files = Files::new();
    fs::write(files.path("in"), input(500)).unwrap();
    let output = files.analyze(&[&files.path("in")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(lines.len(), 500);
    for (number, line) in lines.iter().enumerate() {
        match number % 20 {
            7 => assert_eq!(
                line["error"],
                format!("line {}: not valid UTF-8 (byte 4)", number + 1)
            ),
            13 => assert_eq!(line["error"], format!("line {}: empty", number + 1)),
            _ => {
                let words = line["words"].as_array().unwrap();
                assert_eq!(words[words.len() - 2]["text"], number.to_string());
                assert!(line["sentiment"]["label"].is_string() && line["entities"].is_array());
            }
        }
    }
}

#[test]
fn analyze_goes_on_where_it_stopped() {
    let files = Files::new();
    let (from, to) = (files.path("in"), files.path("out"));
    fs::write(&from, input(200)).unwrap();
    let tasks = ["--tasks", "words", "--output", &to];
    assert!(files.analyze(&[&[&*from], &tasks[..]].concat()).status.success());
    let whole = fs::read(&to).unwrap();
    for cut in [
        0,
        1,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 1,
        whole.len(),
    ] {
        fs::write(&to, &whole[..cut]).unwrap();
        let output = files.analyze(&[&[&*from, "--resume"], &tasks[..]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fs::read(&to).unwrap() == whole, "cut at {cut}");
    }
}

#[test]
fn analyze_reads_standard_input_and_long_lines() {
    let files = Files::new();
    let args = [
        "analyze",
        "-",
        "--model-id",
        files.0.path(),
        "--tasks",
        "words",
        "--payload-limit",
        "1000",
    ];
    let mut child = plimsoll(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("one\n{}\nlast", "x".repeat(5000));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(lines[0]["words"][0]["text"], "one");
    assert_eq!(lines[1]["error"], "line 2: 5000 bytes; the limit is 1000");
    assert_eq!(
        (lines.len(), &lines[2]["words"][0]["text"]),
        (3, &Value::from("last"))
    );
}

#[test]
fn analyze_ends_cleanly_when_interrupted() {
    let files = Files::new();
    let to = files.path("out");
    let args = [
        "analyze",
        "-",
        "--model-id",
        files.0.path(),
        "--output",
        &to,
        "--tasks",
        "words",
    ];
    let mut child = plimsoll(&args)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than the pipe and the lines in flight hold, so that some are analysed; then the input stays open.
    stdin
        .write_all(&b"some words of a line\n".repeat(20_000))
        .unwrap();
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    drop(stdin);
    let written = fs::read_to_string(&to).unwrap();
    assert!(written.is_empty() || written.ends_with('\n'), "whole lines only");
    assert!(
        written
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
}

#[test]
fn plan_prints_values_for_the_chart() {
    let flags = [
        "plan",
        "--memory-limit",
        "1GiB",
        "--workers",
        "2",
        "--kubernetes",
        "--target-rps",
        "100",
    ];
    let output = run(&[
        &flags[..],
        &["--tokens-per-second", "10000", "--tokens-per-request", "100"],
    ]
    .concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let values = std::str::from_utf8(&output.stdout).unwrap();
    // 100 requests/s at 60% of the 100 that one does, and one that may be away.
    for line in [
        "memoryLimitBytes: 1073741824",
        "cpu: 2",
        "replicas: 3",
        "  minReplicas: 3",
        "  maxReplicas: 9",
    ] {
        assert!(values.lines().any(|known| known == line), "{line} in {values}");
    }
    let output = run(&["plan", "--target-rps", "100"]);
    assert!(stderr(&output).contains("--kubernetes"));
}
