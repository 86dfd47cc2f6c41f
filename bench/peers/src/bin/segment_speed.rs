//! Segmentation side by side with jieba-rs: one thread, the same lines, rounds of both engines in turn.
//!
//! ```text
//! python3 bench/peers/segment_corpora.py corpora
//! cargo build --release --manifest-path bench/peers/Cargo.toml --bin segment_speed
//! bench/peers/target/release/segment_speed corpora > bench/record/segment-YYYY-MM-DD.csv
//! ```
//!
//! Speed is the median over rounds of text bytes per second; the ratio is the median of the rounds' own ratios. The
//! start rows time construction and one first sentence, each in a process of its own.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use jieba_rs::Jieba;
use plimsoll_text::segment::{SegmentMode, Segmenter};

const ROUNDS: usize = 15;
const STARTS: usize = 11;
const CORPORA: [&str; 2] = ["reviews", "peoples_daily"];
const FIRST_SENTENCE: &str = "我来到北京清华大学，小明硕士毕业于中国科学院计算所";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some("--start") => start(arguments.get(2).map_or("", String::as_str)),
        Some(folder) => compare(Path::new(folder), &arguments[0]),
        None => Err("usage: segment_speed FOLDER".into()),
    };
    if let Err(error) = outcome {
        eprintln!("segment_speed: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn compare(folder: &Path, program: &str) -> Outcome {
    println!(
        "# segment_speed {}; {ROUNDS} rounds, {STARTS} starts, medians",
        folder.display()
    );
    println!("measure,corpus,hmm,plimsoll,jieba_rs,unit,ratio");
    let jieba = Jieba::new();
    for name in CORPORA {
        let text = std::fs::read_to_string(folder.join(name).with_extension("txt"))?;
        let lines: Vec<&str> = text.lines().collect();
        for hmm in [true, false] {
            compare_corpus(name, &lines, hmm, &jieba)?;
        }
    }
    compare_start(program)
}

fn compare_corpus(name: &str, lines: &[&str], hmm: bool, jieba: &Jieba) -> Outcome {
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    let longest = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let segmenter = Segmenter::embedded();
    let mut scratch = vec![0; segmenter.scratch_bytes(longest)];
    let mut ends = vec![0; longest];
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let started = Instant::now();
        for line in lines {
            black_box(segmenter.segment(line, SegmentMode::Jieba { hmm }, &mut scratch, &mut ends)?);
        }
        let our_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for line in lines {
            black_box(jieba.cut(line, hmm));
        }
        let their_seconds = started.elapsed().as_secs_f64();
        if round > 0 {
            ours.push(bytes as f64 / our_seconds / 1e6);
            theirs.push(bytes as f64 / their_seconds / 1e6);
            ratios.push(their_seconds / our_seconds);
        }
    }
    let (ours, theirs, ratio) = (median(ours), median(theirs), median(ratios));
    println!("speed,{name},{hmm},{ours:.1},{theirs:.1},MB/s,{ratio:.2}");
    Ok(())
}

fn compare_start(program: &str) -> Outcome {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        for (engine, times) in [("plimsoll", &mut ours), ("jieba_rs", &mut theirs)] {
            let output = Command::new(program).args(["--start", engine]).output()?;
            times.push(String::from_utf8(output.stdout)?.trim().parse::<f64>()?);
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "start,first sentence,true,{ours:.4},{theirs:.1},ms,{:.0}",
        theirs / ours
    );
    Ok(())
}

/// Prints the milliseconds from nothing to the words of a first sentence.
fn start(engine: &str) -> Outcome {
    let started = Instant::now();
    if engine == "plimsoll" {
        let (mut scratch, mut ends) = ([0; 256], [0; 256]);
        let segmenter = Segmenter::embedded();
        let mode = SegmentMode::Jieba { hmm: true };
        black_box(segmenter.segment(FIRST_SENTENCE, mode, &mut scratch, &mut ends)?);
    } else {
        black_box(Jieba::new().cut(FIRST_SENTENCE, true));
    }
    println!("{}", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
