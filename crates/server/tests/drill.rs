//! `plimsoll drill line`, end to end and short: a real server in a real memory cgroup, every attack, the kernel's own counters.

mod common;

use std::process::{Command, Output, Stdio};

use common::TinyModel;
use serde_json::Value;

/// Half a second of each attack on a tiny model. What depends on the machine's speed is not looked at.
fn drill(arguments: &[&str]) -> Output {
    let model = TinyModel::new("bert-q4-heads");
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args([
            "drill",
            "line",
            "--seconds",
            "0.5",
            "--json",
            "--model-id",
            model.path(),
        ])
        .args(arguments)
        .args(["--", "--workers", "1", "--max-batch-tokens", "256"])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

fn is_held(cell: &Value, asked: &str) -> bool {
    let verdicts = cell["verdicts"].as_array().expect("judgments");
    let verdict = verdicts
        .iter()
        .find(|verdict| verdict["asked"] == asked)
        .unwrap_or_else(|| panic!("{asked} is not judged in {cell}"));
    verdict["holds"] == true
}

#[test]
fn nothing_is_killed_and_the_line_holds() {
    let output = drill(&["--memory-limit", "least"]);
    let words = String::from_utf8_lossy(&output.stderr);
    if output.stdout.is_empty() {
        // Where no cgroup may be made there is no drill, and it says so.
        assert!(!output.status.success());
        assert!(
            words.contains("this drill needs a memory cgroup that it may write"),
            "{words}"
        );
        return;
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let cells = report["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2 * 14, "each attack, in both runs");
    for cell in cells {
        assert!(is_held(cell, "kills"), "{cell}\n{words}");
        assert!(
            is_held(cell, "refusals without a reason or Retry-After"),
            "{cell}"
        );
        assert!(
            cell["peak"]["held_bytes"].as_u64() > Some(1 << 20) && cell["samples"].as_u64() > Some(0),
            "{cell}"
        );
        if cell["run"] == "B" {
            assert!(is_held(cell, "peak bytes held"), "{cell}");
        }
    }
    let all = |cell: &Value| {
        cell["verdicts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|verdict| verdict["holds"] == true)
    };
    assert_eq!(report["holds"], cells.iter().all(all));
    assert_eq!(output.status.success(), report["holds"] == true);
}

#[test]
fn a_line_that_is_too_low_is_refused_before_the_drill() {
    let output = drill(&["--memory-limit", "1MiB"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(
        words.contains("1048576 bytes are too few") || words.contains("this drill needs a memory cgroup"),
        "{words}"
    );
}
