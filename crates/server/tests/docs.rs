//! The book: its links lead somewhere, and its commands do what it says.
//!
//! A `console` block is a session: lines behind `$ ` are commands, the lines below them what they print, `…` standing for anything (alone on a
//! line, for any lines). They run in the page's order by the shell, in a folder of the page's own that holds a small model at `path/to/model`.
//! `plimsoll serve` runs on until the next one, or the page's end; where a page asks without starting a server, it has the default one.
//! Blocks behind `<!-- long -->` run where `PLIMSOLL_TEST_LONG` is set.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::TinyModel;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The pages that the summary names, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let pages: Vec<_> = links(&summary)
        .map(|link| {
            let path = docs().join(link);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{link}: {error}"));
            (path, text)
        })
        .collect();
    assert!(pages.len() > 8, "the summary names the pages");
    pages
}

/// Targets of the links of a text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
        .collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    for (page, text) in pages() {
        assert!(text.starts_with("# "), "{} has a title", page.display());
        for link in links(&text).filter(|link| !link.starts_with("http")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if heading.is_empty() {
                continue;
            }
            let target_text = fs::read_to_string(&target).unwrap();
            let has_heading = target_text
                .lines()
                .filter_map(|line| line.strip_prefix('#'))
                .any(|line| anchor(line.trim_start_matches('#')) == heading);
            assert!(has_heading, "{}: {link} names no heading", page.display());
        }
    }
}

/// A command of a page, and what it prints.
#[derive(Debug)]
struct Step {
    command: String,
    prints: Vec<String>,
}

fn steps(text: &str, with_long: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut long) = (false, false);
    for line in text.lines() {
        match line {
            "<!-- long -->" => long = true,
            "```console" => inside = with_long || !std::mem::take(&mut long),
            _ if line.starts_with("```") => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    command: command.to_owned(),
                    prints: Vec::new(),
                }),
                None => steps
                    .last_mut()
                    .expect("a block begins with a command")
                    .prints
                    .push(line.to_owned()),
            },
        }
    }
    steps
}

/// Whether `line` is `pattern` with something for each `…`.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        let found = match index + 1 == parts.len() {
            true => rest.ends_with(part).then(|| rest.len() - part.len()),
            false => rest.find(part),
        };
        match found {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// Whether lines are as the patterns say; a pattern `…` alone stands for any lines.
fn all_fit(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=lines.len()).any(|skipped| all_fit(rest, &lines[skipped..]))
        }
        Some((pattern, rest)) => match lines.split_first() {
            Some((line, lines)) => fits(pattern, line) && all_fit(rest, lines),
            None => false,
        },
    }
}

#[test]
fn patterns_fit_what_they_say() {
    let patterns = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(all_fit(&patterns(&["a…c", "…", "z"]), &["abbc", "x", "y", "z"]));
    assert!(all_fit(&patterns(&["…"]), &[]));
    assert!(!all_fit(&patterns(&["a…c"]), &["abcd"]));
    assert!(!all_fit(&patterns(&["a"]), &["a", "b"]));
}

/// A folder where a page's commands run, and the server they talk to.
struct Session {
    folder: PathBuf,
    server: Option<Child>,
    address: String,
}

impl Session {
    fn new(name: &str) -> Session {
        let folder = std::env::temp_dir().join(format!("plimsoll-docs-{}-{name}", std::process::id()));
        let model = folder.join("path/to/model");
        fs::create_dir_all(&model).unwrap();
        let tiny = TinyModel::new("bert-q4-heads");
        for entry in fs::read_dir(tiny.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
        }
        Session {
            folder,
            server: None,
            address: String::new(),
        }
    }

    fn shell(&self, command: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_plimsoll")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("bash");
        shell
            .args(["-c", command])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", binary.display()))
            .env("HOSTNAME", "127.0.0.1")
            .env("PORT", "0")
            .stdin(Stdio::null());
        shell
    }

    /// Starts a server, reads what it prints until it listens, and keeps it.
    fn serve(&mut self, command: &str) -> Vec<String> {
        self.stop();
        let mut child = self
            .shell(&format!("exec {command}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("{command} ended: {said:?}"))
                .unwrap();
            said.push(line);
            if let Some((_, address)) = said.last().unwrap().split_once(" on http://") {
                self.address = address.to_owned();
                break;
            }
        }
        // What it still says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self.server = Some(child);
        said
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.server.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn run(&mut self, step: &Step) {
        let Step { command, prints } = step;
        let said = if command.starts_with("plimsoll serve") {
            self.serve(command)
        } else {
            if command.contains("localhost:3000") && self.server.is_none() {
                self.serve("plimsoll serve --memory-limit 512MiB");
            }
            let output = self
                .shell(&command.replace("localhost:3000", &self.address))
                .output()
                .unwrap();
            let (out, error) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            assert!(output.status.success(), "$ {command}\n{out}{error}");
            out.lines().map(str::to_owned).collect()
        };
        let lines: Vec<&str> = said.iter().map(String::as_str).collect();
        assert!(
            all_fit(prints, &lines),
            "$ {command}\nprints\n{}\nnot\n{}",
            said.join("\n"),
            prints.join("\n")
        );
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn every_command_does_what_the_book_says() {
    let with_long = std::env::var_os("PLIMSOLL_TEST_LONG").is_some();
    let mut failed = Vec::new();
    for (index, (page, text)) in pages().into_iter().enumerate() {
        let steps = steps(&text, with_long);
        let run = || {
            let mut session = Session::new(&index.to_string());
            steps.iter().for_each(|step| session.run(step));
        };
        if std::panic::catch_unwind(run).is_err() {
            failed.push(page);
        }
    }
    assert!(
        failed.is_empty(),
        "pages whose commands do not do what they say: {failed:?}"
    );
}
