//! No leak by design: every buffer, pool, cache, queue and ring of the process has an owner with a bound in bytes.
//!
//! Three readings of the same rule. The bill: its lines sum to the limit. The running server: what pools and caches hold stays below what the bill says,
//! whatever comes. The sources: whatever can grow while serving (what stands behind a lock, a deque, a map, a channel) is listed in `leak-rules.txt`
//! with what bounds it and the line of the bill that pays for it; who adds one without a line fails here.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::{Server, TinyModel};
use serde_json::json;

/// What may grow: behind one of these stands state that outlives a call.
const OWNERS: [&str; 8] = [
    "Mutex<",
    "RwLock<",
    "VecDeque<",
    "HashMap<",
    "HashSet<",
    "channel(",
    "OnceLock<",
    "LazyLock<",
];
/// Parts that do not run while a server serves.
const APART: [&str; 12] = [
    "server/src/twin/",
    "server/src/tune/",
    "server/src/cli/analyze.rs",
    "server/src/cli/bench/",
    "server/src/cli/diagnose/",
    "server/src/cli/drill.rs",
    "server/src/cli/lines.rs",
    "server/src/cli/night.rs",
    "server/src/cli/plan.rs",
    "server/src/cli/quantize.rs",
    "server/src/cli/tune.rs",
    "server/src/cli/worth.rs",
];
const SERVING: [&str; 6] = ["memory", "text", "kernel", "encoder", "engine", "server"];

#[test]
fn the_bill_names_every_owner_and_sums_to_the_limit() {
    let server = Server::tiny();
    let plan = server.app.engine.plan();
    let sum: usize = plan.lines.iter().map(|line| line.total_bytes()).sum();
    assert_eq!(sum, plan.limit_bytes);
    let owners: BTreeSet<&str> = plan.lines.iter().map(|line| line.owner).collect();
    assert_eq!(owners.len(), plan.lines.len(), "an owner is billed twice");
    // The heap is counted by the program's allocator, which tests do not have.
    let counted = plan
        .lines
        .iter()
        .filter(|line| line.owner != "heap after loading");
    for line in counted {
        assert!(!line.owner.is_empty() && line.total_bytes() > 0, "{line:?}");
    }
}

#[test]
fn pools_and_caches_stay_below_their_bounds() {
    let model = TinyModel::new("bert-q4-heads");
    let server = Server::start(&["--model-id", model.path(), "--cache-bytes", "300KiB"]);
    let engine = &server.app.engine;
    let plan = engine.plan();
    let cache = engine.cache().expect("a cache");
    // Many more new texts than the cache has room for, of all lengths.
    for number in 0..400 {
        let texts: Vec<String> = (0..8)
            .map(|text| format!("{number} {text} ") + &"a b c ".repeat(number % 60))
            .collect();
        let reply = server.post("/embed", json!({ "inputs": texts }).to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let stats = cache.stats();
        assert!(stats.bytes <= plan.cache_bytes_max, "{stats:?}");
        assert!(engine.committed_bytes() <= plan.request_slots_bytes);
    }
    server.assert_empty();
    assert!(cache.stats().evictions > 0, "the bound was never met");
    for kind in engine.pool_stats() {
        assert!(kind.stats.committed_bytes <= plan.request_slots_bytes, "{kind:?}");
        println!(
            "{:<16} {:>10} of {}",
            kind.kind, kind.stats.committed_bytes, plan.request_slots_bytes
        );
    }
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Lines of a source, less its tests, that name something which may grow.
fn owners(text: &str) -> usize {
    let code = text.split("\nmod tests {").next().unwrap_or(text);
    let lines = code.lines().map(str::trim);
    let stated = lines.filter(|line| {
        let only_names_it = ["use ", "fn ", "size_of"].iter().any(|word| line.contains(word));
        !line.starts_with("//") && !only_names_it
    });
    stated
        .filter(|line| OWNERS.iter().any(|owner| line.contains(owner)))
        .count()
}

#[test]
fn whatever_may_grow_is_listed_with_its_bound() {
    let mut found = BTreeMap::new();
    for name in SERVING {
        let mut files = Vec::new();
        rust_files(&crates().join(name).join("src"), &mut files);
        for path in files {
            let short = path
                .strip_prefix(crates())
                .expect("it is inside")
                .display()
                .to_string();
            let is_test = short.ends_with("/tests.rs");
            let count = owners(&fs::read_to_string(&path).expect("a source"));
            if count > 0 && !is_test && !APART.iter().any(|apart| short.starts_with(apart)) {
                found.insert(short, count);
            }
        }
    }
    let server = Server::tiny();
    let plan = server.app.engine.plan();
    // Lines that only a server with its transport, or with `--debug-listen`, has.
    let with_transport = [
        "connections",
        "silent connections",
        "live page",
        "log",
        "trace export",
        "scrapers",
        "profile samples",
        "debug reading",
        "trace",
    ];
    let billed: BTreeSet<&str> = plan
        .lines
        .iter()
        .map(|line| line.owner)
        .chain(with_transport)
        .collect();
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/leak-rules.txt"))
        .expect("the list");
    let mut listed = BTreeMap::new();
    for line in list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [file, count, what, bound, owner] = fields[..] else {
            panic!("expected file | count | what | bound | owner: {line}");
        };
        assert!(!what.is_empty() && !bound.is_empty(), "{line}");
        assert!(
            billed.contains(owner),
            "no line of the bill is called {owner}: {line}"
        );
        listed.insert(file.to_owned(), count.parse::<usize>().expect("a count"));
    }
    for (file, count) in &found {
        assert_eq!(
            listed.get(file),
            Some(count),
            "{file} has {count} places that may grow: say in tests/leak-rules.txt what bounds each, and which line of the bill pays for it"
        );
    }
    for file in listed.keys() {
        assert!(
            found.contains_key(file),
            "{file} is listed and has nothing that may grow"
        );
    }
}
