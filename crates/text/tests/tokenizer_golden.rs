//! Ids and character offsets beside those of the Python package `tokenizers` (`tools/make_tokenizer_fixtures.py`).

mod tokenizer_common;

use plimsoll_text::CharOffsets;
use tokenizer_common::{Buffers, fixture, text_of};

fn check(name: &str) {
    let tokenizer = fixture(name);
    let golden = text_of(&format!("{name}.golden.tsv"));
    let mut buffers = Buffers::default();
    let mut lines = 0;
    for line in golden.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let text: String = serde_json::from_str(columns[0]).expect("a JSON string");
        let numbers = |column: &str| -> Vec<usize> {
            column.split(' ').map(|n| n.parse().expect("a number")).collect()
        };
        let encoded = buffers.encode(&tokenizer, &text).expect("encodes");
        let ids: Vec<usize> = buffers.ids[..encoded.count]
            .iter()
            .map(|&id| id as usize)
            .collect();
        assert_eq!(ids, numbers(columns[1]), "ids of {text:?}");
        let mut cursor = CharOffsets::new(&text);
        let mut chars =
            |bytes: &[u32]| -> Vec<usize> { bytes.iter().map(|&b| cursor.char_of(b as usize)).collect() };
        assert_eq!(
            chars(&buffers.starts[..encoded.count]),
            numbers(columns[2]),
            "starts of {text:?}"
        );
        assert_eq!(
            chars(&buffers.ends[..encoded.count]),
            numbers(columns[3]),
            "ends of {text:?}"
        );
        lines += 1;
    }
    assert_eq!(lines, 2000);
}

#[test]
fn wordpiece() {
    check("wordpiece");
}

#[test]
fn unigram() {
    check("unigram");
}

#[test]
fn byte_level_bpe() {
    check("bpe");
}
