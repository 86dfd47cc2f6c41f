//! Answers the questions of `bench/peers/encoder_speed.py`, as its `encoder_worker.py` does for the peers: loads once, stays warm, times cells.
//!
//! `cargo run --release -p plimsoll-encoder --example encoder_bench -- MODEL_DIRECTORY IDS.json DTYPE THREADS`
//!
//! A JSON object a line in, one out:
//!
//! ```text
//! {"cell": "32x64", "way": ["packed", "split"], "seconds": 0.4}  ->  {"wall": [s, ...], "cpu": s}
//! {"embed": "FILE"}        ->  {}    unit vectors of the texts, little-endian f32
//! {"lengths": 1000}        ->  {}    runs as many passes on every thread, of every length from 1 to 512 in random order
//! {"memory": true}         ->  {"resident_bytes": .., "rest_bytes": ..(all but weights), "arena_bytes": ..}
//! {"peak": 0.5}            ->  {"operations_per_second": .., "read_bytes_per_second": ..}    over so many seconds each, all threads at once
//! ```
//!
//! Texts are packed end to end into passes of up to 2,048 tokens. `split` gives each thread its share of the texts; `joint` lets all threads work on
//! the same pass, as a crew that is called together for each run of the cell and sleeps in between.
#![forbid(unsafe_code)]

mod lanes;
mod machine;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_encoder::{Format, Model};
use serde::Deserialize;
use serde_json::{Value, json};

use lanes::{Lanes, Share, Work};

/// Passes of every length whose ids are there at the same time.
const LENGTHS_AT_ONCE: usize = 16;

type Fault = Box<dyn Error + Send + Sync>;

#[derive(Deserialize)]
struct Ids {
    cells: BTreeMap<String, Vec<Vec<u32>>>,
    texts: Vec<Vec<u32>>,
}

/// A question; the field that is there says which.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ask {
    cell: Option<String>,
    way: Vec<String>,
    seconds: f64,
    embed: Option<String>,
    lengths: Option<usize>,
    memory: bool,
    peak: Option<f64>,
}

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, ids, dtype, threads] = &arguments[..] else {
        return Err("usage: encoder_bench MODEL_DIRECTORY IDS.json DTYPE THREADS".into());
    };
    let model = Arc::new(Model::load_dir_as(Path::new(directory), Some(format(dtype)?))?);
    let ids: Ids = serde_json::from_slice(&std::fs::read(ids)?)?;
    let mut lanes = Lanes::start(&model, threads.parse()?)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = answer(&serde_json::from_str(&line?)?, &ids, &model, &mut lanes)?;
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn format(name: &str) -> Result<Format, Fault> {
    let known = [Format::F32, Format::Bf16, Format::Int8];
    let format = known.into_iter().find(|format| format.name() == name);
    format.ok_or_else(|| format!("no dtype {name}").into())
}

fn answer(ask: &Ask, ids: &Ids, model: &Model, lanes: &mut Lanes) -> Result<Value, Fault> {
    if let Some(cell) = &ask.cell {
        let texts = ids.cells.get(cell).ok_or_else(|| format!("no cell {cell}"))?;
        return time(lanes, texts, &ask.way, Duration::from_secs_f64(ask.seconds));
    }
    if let Some(path) = &ask.embed {
        let share = Share::new(ids.texts.iter());
        let vectors = lanes.embed(share)?;
        let bytes: Vec<u8> = vectors.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(path, bytes)?;
        return Ok(json!({}));
    }
    if let Some(passes) = ask.lengths {
        // A few at a time: all of their ids would be most of what is then found to have grown.
        for first in (0..passes).step_by(LENGTHS_AT_ONCE) {
            let some = first..passes.min(first + LENGTHS_AT_ONCE);
            lanes.run(&Work::Split(lanes.every_length(some, model)))?;
        }
        return Ok(json!({}));
    }
    if let Some(seconds) = ask.peak {
        let (operations, bytes) = machine::peaks(
            format(model.info().format)?,
            lanes.threads(),
            Duration::from_secs_f64(seconds),
        );
        return Ok(json!({"operations_per_second": operations, "read_bytes_per_second": bytes}));
    }
    if ask.memory {
        let (resident_bytes, unmapped_bytes) = machine::resident_bytes()?;
        return Ok(json!({
            "resident_bytes": resident_bytes,
            "rest_bytes": unmapped_bytes - model.info().weight_bytes.converted,
            "arena_bytes": lanes.arena_bytes(),
        }));
    }
    Err("a question without a subject".into())
}

/// Runs a cell again and again for `duration`, at least once; no duration is one run that is not timed.
fn time(lanes: &mut Lanes, texts: &[Vec<u32>], way: &[String], duration: Duration) -> Result<Value, Fault> {
    let work = match way {
        [packing, sharing] if packing == "packed" && sharing == "split" => Work::Split(lanes.split(texts)),
        [packing, sharing] if packing == "packed" && sharing == "joint" => {
            Work::Joint(Share::new(texts.iter()))
        }
        _ => return Err(format!("no way {way:?}").into()),
    };
    if duration.is_zero() {
        lanes.run(&work)?;
        return Ok(json!({"wall": [], "cpu": 0}));
    }
    let mut wall = Vec::new();
    let (cpu, start) = (machine::cpu_time()?, Instant::now());
    while wall.is_empty() || start.elapsed() < duration {
        let before = Instant::now();
        lanes.run(&work)?;
        wall.push(before.elapsed().as_secs_f64());
    }
    let cpu = (machine::cpu_time()? - cpu).as_secs_f64() / wall.len() as f64;
    Ok(json!({"wall": wall, "cpu": cpu}))
}
