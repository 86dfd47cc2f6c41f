//! A slow second opinion: the data files read as their README describes them, and jieba's `get_DAG`, `calc` and
//! `__cut_DAG_NO_HMM` written down as in Python, on a hash map.

use std::collections::HashMap;
use std::sync::LazyLock;

use plimsoll_text::segment::{SegmentMode, Segmenter};
use proptest::prelude::*;

const WORDS: &[u8] = include_bytes!("../data/words.bin");
const HMM: &[u8] = include_bytes!("../data/hmm.bin");
const HEADER_BYTES: usize = 64;

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width]
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn checksums_are_those_of_the_headers() {
    for (file, magic) in [(WORDS, b"PLMWORDS"), (HMM, b"PLMHMM\0\0")] {
        assert_eq!(&file[..8], magic);
        assert_eq!(number(file, 8, 4), 2);
        assert_eq!(number(file, 12, 4), u64::from(crc32(&file[HEADER_BYTES..])));
    }
}

/// Python's FREQ, with `log(frequency) - log(total)` in place of the frequency and nothing for a mere prefix.
struct Dictionary {
    weights: HashMap<Vec<char>, Option<f64>>,
    unknown: f64,
}

static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(|| {
    let (weight_count, node_count) = (number(WORDS, 20, 4) as usize, number(WORDS, 24, 4) as usize);
    let table_len: usize = 128 + 0x9FD5 - 0x4E00 + 2;
    let weights_at = HEADER_BYTES + (2 * table_len).next_multiple_of(8);
    let nodes_at = weights_at + 8 * weight_count;
    let weight = |index: usize| f64::from_bits(number(WORDS, weights_at + 8 * index, 8));
    let mut char_of_code = HashMap::new();
    for index in 0..table_len - 1 {
        let c = if index < 128 {
            index as u32
        } else {
            (index - 128 + 0x4E00) as u32
        };
        char_of_code.insert(
            number(WORDS, HEADER_BYTES + 2 * index, 2) as usize,
            char::from_u32(c).unwrap(),
        );
    }
    let node = |index: usize| number(WORDS, nodes_at + 4 * index, 4) as usize;
    let base = |index: usize| 2 * (node(index) & 0x7_FFFF);
    let weight_index = |index: usize| node(index) >> 19;
    let check = |index: usize| number(WORDS, nodes_at + 4 * node_count + 2 * index, 2) as usize;
    let code_count = number(WORDS, 16, 4) as usize;
    let parents = (1..node_count).filter(|&index| base(index) != 0);
    let parent_of_base: HashMap<usize, usize> = parents.map(|index| (base(index), index)).collect();
    let spell = |mut index: usize| {
        let mut word = Vec::new();
        while index >= code_count {
            word.push(char_of_code[&check(index)]);
            index = parent_of_base[&(index - check(index))];
        }
        word.push(char_of_code[&index]);
        word.reverse();
        word
    };
    let used = |&index: &usize| node(index) != 0;
    let weights = (1..node_count).filter(used).map(|index| {
        let weight_index = weight_index(index);
        (spell(index), (weight_index != 0).then(|| weight(weight_index)))
    });
    Dictionary {
        weights: weights.collect(),
        unknown: weight(1),
    }
});

#[test]
fn every_word_of_the_dictionary_is_there_once() {
    let words = DICTIONARY
        .weights
        .values()
        .filter(|weight| weight.is_some())
        .count();
    assert_eq!(words, 349_044);
    assert_eq!(words, number(WORDS, 36, 4) as usize);
    assert_eq!(DICTIONARY.weights.len(), 498_110);
    let longest = DICTIONARY.weights.keys().map(Vec::len).max();
    assert_eq!(longest, Some(number(WORDS, 32, 4) as usize));
}

/// Python's `__cut_DAG_NO_HMM(sentence)`.
fn cut_without_hmm(sentence: &[char]) -> Vec<String> {
    let n = sentence.len();
    let mut route = vec![(0.0, 0); n + 1];
    for k in (0..n).rev() {
        let mut ends = Vec::new();
        for i in k..n {
            match DICTIONARY.weights.get(&sentence[k..=i]) {
                Some(Some(_)) => ends.push(i),
                Some(None) => {}
                None => break,
            }
        }
        if ends.is_empty() {
            ends.push(k);
        }
        let weight = |x: usize| {
            DICTIONARY
                .weights
                .get(&sentence[k..=x])
                .copied()
                .flatten()
                .unwrap_or(DICTIONARY.unknown)
        };
        let candidates = ends.iter().map(|&x| (weight(x) + route[x + 1].0, x));
        route[k] = candidates
            .max_by(|a: &(f64, usize), b| a.partial_cmp(b).unwrap())
            .unwrap();
    }
    let (mut words, mut buf, mut x) = (Vec::new(), String::new(), 0);
    while x < n {
        let y = route[x].1 + 1;
        if y - x == 1 && sentence[x].is_ascii_alphanumeric() {
            buf.push(sentence[x]);
        } else {
            if !buf.is_empty() {
                words.push(std::mem::take(&mut buf));
            }
            words.push(sentence[x..y].iter().collect());
        }
        x = y;
    }
    if !buf.is_empty() {
        words.push(buf);
    }
    words
}

fn ours(text: &str) -> Vec<String> {
    let segmenter = Segmenter::embedded();
    let mut scratch = vec![0; segmenter.scratch_bytes(text.len())];
    let mut ends = vec![0; text.chars().count()];
    let mode = SegmentMode::Jieba { hmm: false };
    let count = segmenter.segment(text, mode, &mut scratch, &mut ends).unwrap();
    let mut start = 0;
    let words = ends[..count].iter().map(|&end| {
        let word = text[start..end as usize].to_owned();
        start = end as usize;
        word
    });
    words.collect()
}

/// One block of `re_han_default`, long enough to cross windows, made of what the dictionary joins and what it does not.
fn blocks() -> impl Strategy<Value = String> {
    let words: Vec<String> = {
        let mut words: Vec<String> = DICTIONARY
            .weights
            .keys()
            .map(|word| word.iter().collect())
            .collect();
        words.sort();
        words
    };
    let piece = prop_oneof![
        6 => prop::sample::select(words),
        2 => "[\u{4E00}-\u{9FD5}]{1,4}",
        2 => "[的一是在不了有和人这中大为上个国我以要他]{1,12}",
        1 => "[a-zA-Z0-9+#&._%-]{1,6}",
    ];
    prop::collection::vec(piece, 1..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_route_is_that_of_the_transliteration(block in blocks()) {
        let chars: Vec<char> = block.chars().collect();
        prop_assert_eq!(ours(&block), cut_without_hmm(&chars));
    }
}
