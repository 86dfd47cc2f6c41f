//! The invariants that ARCHITECTURE.md states, read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Each crate's folder and the crates of the house that it may depend on.
const HOUSE: [(&str, &[&str]); 7] = [
    ("memory", &[]),
    ("text", &[]),
    ("kernel", &[]),
    ("encoder", &["plimsoll-kernel", "plimsoll-memory"]),
    (
        "engine",
        &["plimsoll-encoder", "plimsoll-memory", "plimsoll-text"],
    ),
    (
        "server",
        &[
            "plimsoll-encoder",
            "plimsoll-engine",
            "plimsoll-memory",
            "plimsoll-text",
            "plimsoll-kernel",
            "plimsoll-drill",
        ],
    ),
    (
        "drill",
        &[
            "plimsoll-engine",
            "plimsoll-encoder",
            "plimsoll-memory",
            "plimsoll-text",
        ],
    ),
];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn source(name: &str) -> Vec<(PathBuf, String)> {
    let files = rust_files(&root().join("crates").join(name).join("src"));
    assert!(!files.is_empty(), "crate {name} has no source");
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Dependencies on crates of the house in `[dependencies]` (what tests use is their own affair).
fn house_dependencies(name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap_or("");
    let section = section.split("\n[").next().unwrap_or("");
    let names = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .filter(|name| name.starts_with("plimsoll-"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_crate_is_in_the_house() {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let mut names: Vec<String> = crates
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut house: Vec<String> = HOUSE.iter().map(|(name, _)| name.to_string()).collect();
    names.sort();
    house.sort();
    assert_eq!(names, house);
}

#[test]
fn arrows_run_one_way() {
    for (name, allowed) in HOUSE {
        for dependency in house_dependencies(name) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} depends on {dependency}"
            );
        }
    }
}

#[test]
fn only_memory_and_kernel_hold_unsafe_code() {
    for (name, _) in HOUSE {
        let roots = ["lib.rs", "main.rs"].map(|file| root().join("crates").join(name).join("src").join(file));
        for path in roots.iter().filter(|path| path.exists()) {
            let forbids = fs::read_to_string(path)
                .unwrap()
                .contains("#![forbid(unsafe_code)]");
            assert_eq!(
                forbids,
                !["memory", "kernel"].contains(&name),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn the_engine_does_no_io_and_does_not_ask_the_time() {
    let doors = [
        "std::fs",
        "std::net",
        "std::io",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime",
        "println!",
    ];
    for (path, text) in source("engine") {
        for door in doors {
            assert!(!text.contains(door), "{} uses {door}", path.display());
        }
    }
}

#[test]
fn only_the_server_knows_the_wire() {
    for name in ["memory", "text", "kernel", "encoder", "engine"] {
        for (path, text) in source(name) {
            for word in ["hyper", "axum", "http::", "Serialize)", "Serialize,"] {
                assert!(!text.contains(word), "{} knows {word}", path.display());
            }
        }
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for (name, _) in HOUSE {
        for path in rust_files(&root().join("crates").join(name)) {
            let text = fs::read_to_string(&path).unwrap();
            // Tables that a program writes are not read.
            let written = text
                .lines()
                .next()
                .is_some_and(|line| line.contains("do not edit"));
            let lines = text.lines().count();
            assert!(
                written || lines <= LINES_MAX,
                "{} has {lines} lines",
                path.display()
            );
        }
    }
}
