//! Writes `crates/text/src/unicode/table.rs`: the character properties that the `tokenizers` crate sees.
//!
//! The crate takes its properties from three places of three Unicode versions (`unicode_categories`, `regex`, Oniguruma).
//! Ids are equal to its ids only if each of these is copied as it is, so the table is generated from them, bit by bit.
//!
//! ```text
//! cargo run --release --bin unicode_table > ../../crates/text/src/unicode/table.rs
//! ```

use std::collections::HashMap;
use unicode_categories::UnicodeCategories;

const OTHER: u8 = 1;
const MARK_NONSPACING: u8 = 2;
const PUNCTUATION: u8 = 4;
const WORD: u8 = 8;
const ONIG_LETTER: u8 = 16;
const ONIG_NUMBER: u8 = 32;
const ONIG_SPACE: u8 = 64;
const CHINESE: u8 = 128;

fn main() {
    let mut properties = vec![0u8; 0x110000];
    for c in (0..0x110000).filter_map(char::from_u32) {
        properties[c as usize] = from_categories(c);
    }
    let word = regex::Regex::new(r"\w+").expect("a valid pattern");
    let all: String = (0..0x110000).filter_map(char::from_u32).collect();
    for found in word.find_iter(&all) {
        mark(&mut properties, found.as_str(), WORD);
    }
    for (pattern, bit) in [
        (r"\p{L}+", ONIG_LETTER),
        (r"\p{N}+", ONIG_NUMBER),
        (r"\s+", ONIG_SPACE),
    ] {
        let pattern = onig::Regex::new(pattern).expect("a valid pattern");
        for (start, end) in pattern.find_iter(&all) {
            mark(&mut properties, &all[start..end], bit);
        }
    }
    print(&properties);
}

fn from_categories(c: char) -> u8 {
    let bit = |holds: bool, bit: u8| if holds { bit } else { 0 };
    bit(c.is_other(), OTHER)
        | bit(c.is_mark_nonspacing(), MARK_NONSPACING)
        | bit(c.is_ascii_punctuation() || c.is_punctuation(), PUNCTUATION)
        | bit(is_chinese(c), CHINESE)
}

/// The ranges of `BertNormalizer`, 0x2B920 where Unicode says 0x2B820 included.
fn is_chinese(c: char) -> bool {
    matches!(c as u32,
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

fn mark(properties: &mut [u8], run: &str, bit: u8) {
    for c in run.chars() {
        properties[c as usize] |= bit;
    }
}

fn print(properties: &[u8]) {
    let mut pages: Vec<&[u8]> = Vec::new();
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let mut index = Vec::new();
    for page in properties.chunks(256) {
        let at = *seen.entry(page).or_insert_with(|| {
            pages.push(page);
            pages.len() - 1
        });
        index.push(at as u8);
    }
    assert!(pages.len() <= 256, "page numbers are bytes");
    println!("// Written by bench/peers/src/bin/unicode_table.rs; do not edit.\n");
    println!("/// The page of each 256 code points.");
    println!(
        "#[rustfmt::skip]\npub(super) static PAGE_OF: [u8; {}] = [",
        index.len()
    );
    print_bytes(&index);
    println!("];\n\n/// Property bits of the distinct pages.");
    println!(
        "#[rustfmt::skip]\npub(super) static PAGES: [[u8; 256]; {}] = [",
        pages.len()
    );
    for page in pages {
        println!("[");
        print_bytes(page);
        println!("],");
    }
    println!("];");
}

fn print_bytes(bytes: &[u8]) {
    for line in bytes.chunks(32) {
        let line: Vec<String> = line.iter().map(u8::to_string).collect();
        println!("{},", line.join(","));
    }
}
