//! Byte-level BPE where it adds a space of its own, whose marker borrows the place of a character.

mod tokenizer_common;

use plimsoll_text::{CharOffsets, Tokenizer};
use proptest::prelude::*;
use tokenizer_common::{Buffers, text_of};

/// The fixture with `add_prefix_space` of its pre-tokenizer and of its post-processor so.
fn spaced(before: bool, behind: bool) -> Tokenizer {
    let mut file: serde_json::Value = serde_json::from_str(&text_of("bpe.json")).unwrap();
    file["pre_tokenizer"]["add_prefix_space"] = before.into();
    file["post_processor"]["add_prefix_space"] = behind.into();
    Tokenizer::from_json(file.to_string().as_bytes()).expect("loads")
}

/// The byte offsets of a text's tokens, in bytes.
fn offsets(tokenizer: &Tokenizer, text: &str) -> Vec<(usize, usize)> {
    let mut buffers = Buffers::default();
    let count = buffers.encode_bare(tokenizer, text);
    let ends = buffers.ends[..count].iter().map(|&end| end as usize);
    buffers.starts[..count]
        .iter()
        .map(|&start| start as usize)
        .zip(ends)
        .collect()
}

/// Expected values from the Python package `tokenizers` 0.23.3, in characters.
#[test]
fn trimmed_offsets_are_those_of_whole_characters() {
    for (before, behind, text, expected) in [
        (true, true, "中文 é", "0-0 0-2 3-3 3-4 3-4"),
        (true, true, "<mask>中 a", "0-6 7-7 6-7 8-9"),
        (true, true, " 中", "0-0 1-2"),
        (
            true,
            true,
            "a\u{3000}<mask>\u{3000}é",
            "0-1 2-8 9-9 8-9 9-10 9-10",
        ),
        (true, false, "中文 é", "1-1 0-2 3-3 3-4 3-4"),
        (true, false, "<mask>中 a", "0-6 7-7 6-7 8-9"),
        (true, false, " 中", "1-1 1-2"),
        (
            true,
            false,
            "a\u{3000}<mask>\u{3000}é",
            "1-1 2-8 9-9 8-9 9-10 9-10",
        ),
        (false, true, "中文 é", "0-2 3-3 3-4 3-4"),
        (false, true, "a\u{3000}<mask>\u{3000}é", "0-1 2-8 8-9 9-10 9-10"),
        (false, false, " 中", "1-1 1-2"),
    ] {
        let tokenizer = spaced(before, behind);
        let mut cursor = CharOffsets::new(text);
        let chars: Vec<String> = offsets(&tokenizer, text)
            .into_iter()
            .map(|(start, end)| {
                assert!(
                    text.is_char_boundary(start) && text.is_char_boundary(end),
                    "{start}..{end} in {text:?}"
                );
                format!("{}-{}", cursor.char_of(start), cursor.char_of(end))
            })
            .collect();
        assert_eq!(chars.join(" "), expected, "{text:?} {before} {behind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn offsets_never_split_a_character(text in "(\\PC|[ \t\n\u{A0}\u{3000}a-c中é]|<mask>|<s>){0,30}") {
        static ALL: std::sync::OnceLock<Vec<Tokenizer>> = std::sync::OnceLock::new();
        let all = ALL.get_or_init(|| {
            let flags = [(true, true), (true, false), (false, true), (false, false)];
            flags.map(|(before, behind)| spaced(before, behind)).into()
        });
        for tokenizer in all {
            for (start, end) in offsets(tokenizer, &text) {
                prop_assert!(start <= end && text.get(start..end).is_some(), "{}..{} in {:?}", start, end, text);
            }
        }
    }
}
