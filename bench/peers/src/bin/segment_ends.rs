//! Segments texts from standard input, for `segment_diff.py`.
//!
//! Each text comes as its length (`u32`, little endian) and its bytes; each answer is the number of words and their byte
//! ends (`u32`, little endian). The one argument is the mode: `hmm`, `plain` or `auto`.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use plimsoll_text::segment::{SegmentMode, Segmenter};

fn main() -> ExitCode {
    let mode = match std::env::args().nth(1).as_deref() {
        Some("hmm") => SegmentMode::Jieba { hmm: true },
        Some("plain") => SegmentMode::Jieba { hmm: false },
        Some("auto") => SegmentMode::Auto,
        _ => {
            eprintln!("usage: segment_ends hmm|plain|auto");
            return ExitCode::from(2);
        }
    };
    match answer_all(mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("segment_ends: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all(mode: SegmentMode) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let segmenter = Segmenter::embedded();
    let (mut scratch, mut ends) = (Vec::new(), Vec::new());
    let mut rest = input.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (text, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        rest = tail;
        let text = std::str::from_utf8(text).map_err(io::Error::other)?;
        scratch.resize(segmenter.scratch_bytes(text.len()), 0);
        ends.resize(text.len(), 0);
        let count = segmenter
            .segment(text, mode, &mut scratch, &mut ends)
            .map_err(io::Error::other)?;
        out.write_all(&(count as u32).to_le_bytes())?;
        for end in &ends[..count] {
            out.write_all(&end.to_le_bytes())?;
        }
    }
    out.flush()
}
