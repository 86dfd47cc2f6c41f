//! What holds for every text: offsets, truncation, sizes of buffers, and files that are not tokenizers.

mod tokenizer_common;

use plimsoll_text::{
    BertOptions, EncodeError, EncodeOptions, TokenSlots, Tokenizer, TokenizerError, Truncation,
};
use proptest::prelude::*;
use tokenizer_common::{Buffers, NAMES, fixture, golden_texts, text_of};

fn tokenizers() -> Vec<Tokenizer> {
    NAMES.iter().map(|name| fixture(name)).collect()
}

fn check_offsets(tokenizer: &Tokenizer, text: &str, buffers: &mut Buffers) {
    let options = EncodeOptions {
        add_special_tokens: false,
        ..EncodeOptions::default()
    };
    let encoded = buffers
        .encode_with(tokenizer, text, None, &options)
        .expect("encodes");
    let mut last = 0;
    for (start, end) in buffers.starts[..encoded.count].iter().zip(&buffers.ends) {
        let (start, end) = (*start as usize, *end as usize);
        assert!(start <= end && end <= text.len(), "{start}..{end} in {text:?}");
        assert!(
            text.is_char_boundary(start) && text.is_char_boundary(end),
            "{start}..{end} in {text:?}"
        );
        assert!(start >= last, "starts ascend in {text:?}");
        last = start;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn offsets_ascend_on_character_boundaries(text in "(\\PC|[ \t\n\u{300}-\u{345}<>\\[\\]a-zé中]){0,60}") {
        let mut buffers = Buffers::default();
        for tokenizer in tokenizers_once() {
            check_offsets(tokenizer, &text, &mut buffers);
        }
    }

    #[test]
    fn lower_case_beforehand_is_that_of_the_text(text in "(\\PC|[A-ZÀ-ßİ中a-z]|\\[MASK\\]|\\[SEP\\]|\\[mask\\]|<X>|<x>){0,40}") {
        let text = text.replace('Σ', "");
        for (plain, lower) in lowered_once() {
            prop_assert_eq!(ids(lower, &text), ids(plain, &text.to_lowercase()), "{:?}", text);
        }
    }

    #[test]
    fn truncation_keeps_one_end(text in "[a-z ,.é中文<mask>]{0,80}", max in 4usize..20, left: bool, count_all: bool) {
        let truncation = if left { Truncation::Left } else { Truncation::Right };
        for tokenizer in tokenizers_once() {
            let (mut whole, mut cut) = (Buffers::default(), Buffers::default());
            let all = whole.encode(tokenizer, &text).expect("encodes");
            let options = EncodeOptions { add_special_tokens: true, tokens_max: max, truncation, count_all };
            let some = cut.encode_with(tokenizer, &text, None, &options).expect("encodes");
            prop_assert_eq!(some.count, all.count.min(max));
            prop_assert_eq!(some.truncated, all.count > max);
            prop_assert!(some.total >= some.count && (!count_all || some.total == all.total));
            let inner = some.count - 2;
            let from = if left { all.count - 1 - inner } else { 1 };
            prop_assert_eq!(&cut.ids[1..1 + inner], &whole.ids[from..from + inner]);
        }
    }

    #[test]
    fn a_broken_file_is_refused_without_a_panic(at in 0usize..44_000, byte: u8) {
        let mut file = text_of("wordpiece.json").into_bytes();
        let at = at % file.len();
        file[at] = byte;
        // Either it is refused, or the change did not matter: it must be usable then.
        if let Ok(tokenizer) = Tokenizer::from_json(&file) {
            Buffers::default().encode(&tokenizer, "Hello, naïve 世界").expect("encodes");
        }
    }
}

fn tokenizers_once() -> &'static [Tokenizer] {
    static TOKENIZERS: std::sync::OnceLock<Vec<Tokenizer>> = std::sync::OnceLock::new();
    TOKENIZERS.get_or_init(tokenizers)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut buffers = Buffers::default();
    let count = buffers.encode(tokenizer, text).expect("encodes").count;
    buffers.ids[..count].to_vec()
}

/// BERT's tokenizer with every choice of its flags, with lower case also beside an added token that is looked for in the normalised text, and the same for texts that are lower-cased beforehand.
fn lowered_once() -> &'static [(Tokenizer, Tokenizer)] {
    static TOKENIZERS: std::sync::OnceLock<Vec<(Tokenizer, Tokenizer)>> = std::sync::OnceLock::new();
    TOKENIZERS.get_or_init(|| {
        let load = |flags: usize| {
            let mut file: serde_json::Value = serde_json::from_str(&text_of("wordpiece.json")).unwrap();
            let names = ["lowercase", "strip_accents", "clean_text"];
            for (bit, name) in names.iter().enumerate() {
                file["normalizer"][name] = (flags >> bit & 1 == 1).into();
            }
            if flags >= 8 {
                let token = serde_json::json!({
                    "id": 0, "content": "<X>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false,
                });
                file["added_tokens"].as_array_mut().unwrap().push(token);
            }
            Tokenizer::from_json(file.to_string().as_bytes()).expect("loads")
        };
        let both = |flags| (load(flags), load(flags).with_lower_case().expect("is BERT's"));
        (0..8).chain([9, 11, 13, 15]).map(both).collect()
    })
}

#[test]
fn every_character_is_lower_cased_beforehand() {
    let all: Vec<char> = ('\0'..=char::MAX).filter(|&c| c != 'Σ').collect();
    for chars in all.chunks(512) {
        let text: String = chars.iter().flat_map(|&c| ['A', c, ' ']).collect();
        for (plain, lower) in lowered_once() {
            let first = chars[0];
            assert_eq!(
                ids(lower, &text),
                ids(plain, &text.to_lowercase()),
                "from {first:?}"
            );
        }
    }
}

#[test]
fn lower_case_beforehand_is_refused_where_it_cannot_be_told() {
    let error = |tokenizer: Tokenizer| {
        tokenizer
            .with_lower_case()
            .map(drop)
            .expect_err("is refused")
            .to_string()
    };
    for (name, says) in [("unigram", "Unigram"), ("bpe", "BPE")] {
        assert_eq!(
            error(fixture(name)),
            format!("tokenizer do_lower_case before `{says}` is not supported")
        );
    }
    let cased = text_of("wordpiece.json").replace(r#""lowercase":true"#, r#""lowercase":false"#);
    let normalized = cased.replacen(r#""normalized":false"#, r#""normalized":true"#, 1);
    assert_eq!(
        error(Tokenizer::from_json(normalized.as_bytes()).expect("loads")),
        "tokenizer do_lower_case before `added tokens in normalised text with capitals` is not supported"
    );
    let named = text_of("wordpiece.json").replace("[MASK]", "[mask]");
    assert_eq!(
        error(Tokenizer::from_json(named.as_bytes()).expect("loads")),
        "tokenizer do_lower_case before `the added token [mask]` is not supported"
    );
}

#[test]
fn scratch_is_needed_to_the_last_byte() {
    for (tokenizer, name) in tokenizers_once().iter().zip(NAMES) {
        for text in golden_texts(name)
            .iter()
            .step_by(7)
            .map(String::as_str)
            .chain([""])
        {
            let needed = tokenizer.scratch_bytes(text.len());
            let mut buffers = Buffers::default();
            buffers.reserve(tokenizer, text.len());
            let expected = buffers.encode(tokenizer, text).expect("encodes");
            let ids = buffers.ids[..expected.count].to_vec();
            let mut odd = vec![0x55u8; needed + 1];
            // Any alignment will do.
            for from in 0..2 {
                let (mut out, _) = buffers.slots();
                let encoded = tokenizer.encode(
                    text,
                    &EncodeOptions::default(),
                    &mut odd[from..from + needed],
                    &mut out,
                );
                assert_eq!(encoded, Ok(expected), "{text:?}");
                assert_eq!(&buffers.ids[..expected.count], ids);
            }
            if let Some(less) = needed.checked_sub(1) {
                let (mut out, _) = buffers.slots();
                let refused = tokenizer.encode(text, &EncodeOptions::default(), &mut odd[..less], &mut out);
                assert_eq!(
                    refused,
                    Err(EncodeError::ScratchTooSmall {
                        needed,
                        available: less
                    })
                );
            }
        }
    }
}

#[test]
fn slots_that_are_too_few_are_an_error_and_enough_are_enough() {
    for tokenizer in tokenizers_once() {
        let text = "the naïve 中文 text";
        let mut buffers = Buffers::default();
        let expected = buffers.encode(tokenizer, text).expect("encodes");
        let mut scratch = vec![0; tokenizer.scratch_bytes(text.len())];
        for count in 0..=expected.count {
            let (mut ids, mut starts, mut ends) = (vec![0; count], vec![0; count], vec![0; count + 1]);
            let mut types = vec![0; count];
            let mut out = TokenSlots {
                ids: &mut ids,
                starts: &mut starts,
                ends: &mut ends,
                types: &mut types,
            };
            let encoded = tokenizer.encode(text, &EncodeOptions::default(), &mut scratch, &mut out);
            let fits = count == expected.count;
            assert_eq!(
                encoded,
                if fits {
                    Ok(expected)
                } else {
                    Err(EncodeError::SlotsTooSmall { available: count })
                }
            );
        }
        let options = EncodeOptions {
            tokens_max: 1,
            ..EncodeOptions::default()
        };
        let refused = buffers.encode_with(tokenizer, text, None, &options);
        assert_eq!(
            refused,
            Err(EncodeError::NoRoom {
                tokens_max: 1,
                special: 2
            })
        );
    }
}

#[test]
fn scratch_stops_growing_with_the_text() {
    for tokenizer in tokenizers_once() {
        let sizes =
            [0, 1, 100, 10_000, 1 << 20, 10 << 20, 1 << 30].map(|bytes| tokenizer.scratch_bytes(bytes));
        assert!(sizes.is_sorted());
        assert_eq!(sizes[4], sizes[6]);
        assert!(sizes[6] < 4 << 20, "{sizes:?}");
    }
}

#[test]
fn ten_megabytes_are_encoded_with_and_without_spaces() {
    for (tokenizer, name) in tokenizers_once().iter().zip(NAMES) {
        for unit in ["ab", "中", "e\u{301}"] {
            let text = unit.repeat((10 << 20) / unit.len());
            let mut buffers = Buffers::default();
            let options = EncodeOptions {
                tokens_max: 512,
                ..EncodeOptions::default()
            };
            buffers.scratch.resize(tokenizer.scratch_bytes(text.len()), 0);
            buffers.reserve(tokenizer, 128);
            let (mut out, scratch) = buffers.slots();
            let encoded = tokenizer
                .encode(&text, &options, scratch, &mut out)
                .expect("encodes");
            assert!(
                encoded.count <= 512 && encoded.total >= encoded.count,
                "{name} {unit:?}"
            );
        }
    }
}

#[test]
fn decoding_gives_the_text_back() {
    let mut out = [0; 256];
    for (name, expected) in [
        ("wordpiece", "the book, it ' s good"),
        ("unigram", "the book, it's good"),
        ("bpe", "the book, it's good 中文"),
    ] {
        let tokenizer = fixture(name);
        let mut buffers = Buffers::default();
        let encoded = buffers.encode(&tokenizer, expected).expect("encodes");
        let len = tokenizer
            .decode(&buffers.ids[..encoded.count], true, &mut out)
            .expect("fits");
        assert_eq!(std::str::from_utf8(&out[..len]), Ok(expected), "{name}");
        assert!(
            tokenizer
                .decode(&buffers.ids[..encoded.count], true, &mut out[..len - 1])
                .is_err()
        );
    }
}

#[test]
fn files_that_are_not_tokenizers_are_refused_by_name() {
    let load = |file: &str| {
        Tokenizer::from_json(file.as_bytes())
            .expect_err("is refused")
            .to_string()
    };
    assert!(load("").starts_with("tokenizer file is malformed"));
    assert!(load(&"[".repeat(100_000)).starts_with("tokenizer file is malformed"));
    assert_eq!(load("{}"), "tokenizer file is malformed: the model has no type");
    assert_eq!(
        load(r#"{"model":{"type":"WordLevel"}}"#),
        "tokenizer model `WordLevel` is not supported"
    );
    let fixture = text_of("wordpiece.json");
    let changed = fixture.replacen(r#""type":"BertPreTokenizer""#, r#""type":"Split""#, 1);
    assert_eq!(load(&changed), "tokenizer pre_tokenizer `Split` is not supported");
    let changed = fixture.replacen(
        r#""max_input_chars_per_word":100"#,
        r#""max_input_chars_per_word":100000"#,
        1,
    );
    assert_eq!(
        load(&changed),
        "tokenizer max_input_chars_per_word is 100000, at most 4096 are accepted"
    );
    assert!(matches!(
        Tokenizer::from_vocab_txt(b"[UNK]\n[CLS]\na", BertOptions::default()),
        Err(TokenizerError::MissingToken {
            part: "vocab.txt",
            ..
        })
    ));
}

/// Expected values from the Python package `tokenizers` 0.23.3.
#[test]
fn characters_spelled_in_bytes_keep_their_offsets() {
    let bytes = (0..256).map(|byte| serde_json::json!([format!("<0x{byte:02X}>"), -9.0]));
    let pieces = ["<unk>", "▁", "a", "b"]
        .iter()
        .zip([0.0, -1.0, -2.0, -2.0])
        .map(|(piece, score)| serde_json::json!([piece, score]));
    let file = serde_json::json!({
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": pieces.chain(bytes).collect::<Vec<_>>()},
    });
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).expect("loads");
    let mut buffers = Buffers::default();
    let encoded = buffers.encode(&tokenizer, "a中é b").expect("encodes");
    let spelled: Vec<u32> = [0xE4, 0xB8, 0xAD, 0xC3, 0xA9].map(|byte| 4 + byte).to_vec();
    assert_eq!(
        buffers.ids[..encoded.count],
        [&[1, 2], &spelled[..], &[1, 3]].concat()
    );
    assert_eq!(buffers.starts[..encoded.count], [0, 0, 1, 1, 1, 1, 1, 6, 7]);
    assert_eq!(buffers.ends[..encoded.count], [1, 1, 6, 6, 6, 6, 6, 7, 8]);
}
