//! Lines of real text from files and directories.

use std::path::Path;

/// Text files that directories are searched for.
const SUFFIXES: [&str; 4] = ["txt", "md", "rst", "py"];

/// At most `max` non-empty lines of the files at `paths`, directories searched for text, in a fixed order. Bytes that
/// are not UTF-8 are replaced.
pub fn lines(paths: &[String], max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for path in paths {
        collect(Path::new(path), true, max, &mut lines);
    }
    lines
}

fn collect(path: &Path, named: bool, max: usize, lines: &mut Vec<String>) {
    if lines.len() >= max {
        return;
    }
    if path.is_dir() {
        let Ok(entries) = std::fs::read_dir(path) else {
            return;
        };
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| collect(entry, false, max, lines));
        return;
    }
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or("");
    if !named && !SUFFIXES.contains(&suffix) {
        return;
    }
    if let Ok(bytes) = std::fs::read(path) {
        let text = String::from_utf8_lossy(&bytes);
        let room = max - lines.len();
        lines.extend(
            text.lines()
                .filter(|line| !line.is_empty())
                .take(room)
                .map(str::to_owned),
        );
    } else if named {
        eprintln!("cannot read {}", path.display());
        std::process::exit(2);
    }
}
