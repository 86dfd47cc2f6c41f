//! Two roads lead through a text with a character map; both give the same tokens.

mod tokenizer_common;

use plimsoll_text::{EncodeOptions, Tokenizer, Truncation};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::OnceLock;
use tokenizer_common::{Buffers, text_of};

/// The Unigram fixture with a character map; the second is made to look for a token in the normalised text, which keeps
/// it on the general road. `▁` goes before pieces as `scheme` says.
fn roads(scheme: &str) -> [Tokenizer; 2] {
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/normalize/precompiled/golden.json"
    );
    let golden: Value =
        serde_json::from_slice(&std::fs::read(golden).expect("the map is there")).expect("is JSON");
    let mut file: Value = serde_json::from_str(&text_of("unigram.json")).expect("is JSON");
    file["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Precompiled", "precompiled_charsmap": golden["charsmap"]},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]});
    file["pre_tokenizer"]["prepend_scheme"] = json!(scheme);
    let load = |file: &Value| Tokenizer::from_json(file.to_string().as_bytes()).expect("loads");
    let direct = load(&file);
    let mut sought = file["added_tokens"][0].clone();
    sought["content"] = json!("<never in a text>");
    sought["id"] = json!(1_000_000);
    sought["normalized"] = json!(true);
    file["added_tokens"].as_array_mut().expect("a list").push(sought);
    [direct, load(&file)]
}

fn all_roads() -> &'static [[Tokenizer; 2]] {
    static ROADS: OnceLock<Vec<[Tokenizer; 2]>> = OnceLock::new();
    ROADS.get_or_init(|| ["always", "first", "never"].map(roads).into())
}

fn tokens(tokenizer: &Tokenizer, text: &str, options: &EncodeOptions) -> (usize, Vec<(u32, u32, u32)>) {
    let mut buffers = Buffers::default();
    let encoded = buffers
        .encode_with(tokenizer, text, None, options)
        .expect("encodes");
    let tokens = (0..encoded.count).map(|at| (buffers.ids[at], buffers.starts[at], buffers.ends[at]));
    (encoded.total, tokens.collect())
}

fn check(text: &str, options: &EncodeOptions) {
    for [direct, general] in all_roads() {
        assert_eq!(
            tokens(direct, text, options),
            tokens(general, text, options),
            "{text:?}"
        );
    }
}

#[test]
fn both_roads_give_the_same_tokens() {
    let words = [
        "the",
        "book",
        "good",
        "",
        "中文",
        "ｆｕｌｌ",
        "…",
        "½",
        "naïve",
        "e\u{301}x",
        "▁",
        "<mask>",
        "℃",
        "ﷺ",
    ];
    let spaces = [
        " ", "  ", "\t", "\u{3000}", "\u{1}", "\u{200b}", " \u{301}", "，", "。", "",
    ];
    let options = EncodeOptions::default();
    for a in words {
        for space in spaces {
            for b in words {
                check(&format!("{a}{space}{b}{space}the {a}"), &options);
            }
        }
    }
}

#[test]
fn words_that_do_not_fit_take_the_other_road() {
    for unit in ["ab", "中", "…", "e\u{301}", "a b中 "] {
        check(&unit.repeat(20_000), &EncodeOptions::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_roads_give_the_same_tokens_of_any_text(
        text in "([a-z]{1,8}| {1,2}|[中文，。！…½ｆ℃éñ’]|\\PC|[\u{1}\t\n\u{ad}\u{200b}\u{300}-\u{304}▁]|<mask>){0,40}",
        max in 2usize..40,
        left: bool,
    ) {
        check(&text, &EncodeOptions::default());
        let truncation = if left { Truncation::Left } else { Truncation::Right };
        check(&text, &EncodeOptions { tokens_max: max, truncation, ..EncodeOptions::default() });
    }
}
