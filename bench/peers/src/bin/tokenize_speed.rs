//! Times our tokenizer beside the `tokenizers` crate's `encode_fast`, one thread, rounds interleaved.
//!
//! ```text
//! tokenize_speed TOKENIZER.json NAME [--lines N] [--rounds N] [--record FILE.csv] FILE_or_DIRECTORY...
//! ```
//!
//! Prints medians over the rounds and appends a line to the record file: date, name, lines, bytes, tokens, both times.

use plimsoll_peers::{corpus, ours::Ours};
use plimsoll_text::EncodeOptions;
use std::io::Write;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mut lines_max, mut rounds, mut record, mut positional) = (20_000, 5, None, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut number = || rest.next().and_then(|v| v.parse().ok()).expect("a number");
        match arg.as_str() {
            "--lines" => lines_max = number(),
            "--rounds" => rounds = number(),
            "--record" => record = rest.next().cloned(),
            _ => positional.push(arg.clone()),
        }
    }
    let [file, name, paths @ ..] = positional.as_slice() else {
        eprintln!(
            "usage: tokenize_speed TOKENIZER.json NAME [--lines N] [--rounds N] [--record FILE] TEXT..."
        );
        std::process::exit(2);
    };
    let lines = corpus::lines(paths, lines_max);
    let bytes: usize = lines.iter().map(String::len).sum();
    let mut theirs = tokenizers::Tokenizer::from_file(file).expect("the crate reads the tokenizer");
    theirs.with_padding(None);
    theirs.with_truncation(None).expect("no truncation");
    let mut ours = Ours::from_file(file);
    let options = EncodeOptions::default();
    let (mut our_times, mut their_times, mut tokens) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let start = Instant::now();
        let our_tokens: usize = lines
            .iter()
            .map(|line| ours.encode(line, None, &options).count)
            .sum();
        our_times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        tokens = lines
            .iter()
            .map(|line| theirs.encode_fast(line.as_str(), true).expect("encodes").len())
            .sum();
        their_times.push(start.elapsed().as_secs_f64());
        assert_eq!(our_tokens, tokens, "both give the same tokens");
    }
    let (ours_s, theirs_s) = (median(&mut our_times), median(&mut their_times));
    let rate = |seconds: f64| bytes as f64 / seconds / 1e6;
    println!(
        "{name}: {} lines, {bytes} bytes, {tokens} tokens; ours {:.1} MB/s, tokenizers {:.2} MB/s, ratio {:.1}",
        lines.len(),
        rate(ours_s),
        rate(theirs_s),
        theirs_s / ours_s
    );
    if let Some(path) = record {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .expect("the record opens");
        if file.metadata().is_ok_and(|data| data.len() == 0) {
            writeln!(file, "name,lines,bytes,tokens,rounds,ours_s,tokenizers_s,ratio")
                .expect("the record is written");
        }
        writeln!(
            file,
            "{name},{},{bytes},{tokens},{rounds},{ours_s:.6},{theirs_s:.6},{:.2}",
            lines.len(),
            theirs_s / ours_s
        )
        .expect("the record is written");
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
