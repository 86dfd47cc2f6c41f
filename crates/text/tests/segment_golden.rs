//! Python's jieba 0.42.1 is the reference: 2,000 constructed texts with its words, HMM on and off.
//!
//! `bench/peers/segment_golden.py` writes the file; `segment_diff.py` beside it compares over real corpora.

use plimsoll_text::segment::{SegmentMode, Segmenter};

const GOLDEN: &str = include_str!("../../../testdata/segment/golden.tsv");

/// Undoes the `\u{hex}` of the golden file.
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\u{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_once('}').unwrap();
        out.push(char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap());
        out.push_str(rest);
    }
    out
}

fn word_lengths(text: &str, mode: SegmentMode) -> Vec<usize> {
    let segmenter = Segmenter::embedded();
    let mut scratch = vec![0; segmenter.scratch_bytes(text.len())];
    let mut ends = vec![0; text.chars().count()];
    let count = segmenter.segment(text, mode, &mut scratch, &mut ends).unwrap();
    let mut start = 0;
    let lengths = ends[..count].iter().map(|&end| {
        let word = &text[start..end as usize];
        start = end as usize;
        word.chars().count()
    });
    lengths.collect()
}

fn parse(lengths: &str) -> Vec<usize> {
    lengths
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn words_are_those_of_python() {
    let mut count = 0;
    for line in GOLDEN.lines() {
        let [text, with_hmm, without_hmm] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let text = unescape(text);
        assert_eq!(
            word_lengths(&text, SegmentMode::Jieba { hmm: true }),
            parse(with_hmm),
            "{text:?}, HMM on"
        );
        assert_eq!(
            word_lengths(&text, SegmentMode::Jieba { hmm: false }),
            parse(without_hmm),
            "{text:?}, HMM off"
        );
        count += 1;
    }
    assert_eq!(count, 2000);
}
