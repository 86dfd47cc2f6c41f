//! What the files beside the weights say of the tokenizer, obeyed or refused.

mod common;

use std::fs;

use common::TinyModel;
use plimsoll::model::{self, Loaded};
use plimsoll_text::{EncodeOptions, TokenSlots};

const PIECES: &str = "[PAD] [UNK] [CLS] [SEP] [MASK] a é A É ##é ##e 中 文 中文 [ mask ] ##mask ab";

/// A tiny BERT with these pieces and these files beside.
fn directory(files: &[(&str, &str)]) -> TinyModel {
    let model = TinyModel::new("bert");
    for (name, contents) in [("vocab.txt", PIECES.replace(' ', "\n").as_str())]
        .iter()
        .chain(files)
    {
        fs::write(format!("{}/{name}", model.path()), contents).unwrap();
    }
    model
}

fn load(files: &[(&str, &str)]) -> Result<Loaded, String> {
    let directory = directory(files);
    model::load(Some(directory.path()), None, None)
        .map_err(|error| error.to_string().replace(directory.path(), "DIR"))
}

/// The error of a directory with these files.
fn error(files: &[(&str, &str)]) -> String {
    load(files).map(drop).expect_err("the directory is refused")
}

/// The pieces of a text, each with the part of the text that it stands for.
fn pieces(files: &[(&str, &str)], text: &str) -> String {
    let tokenizer = load(files).expect("the directory is taken").tokenizer;
    let mut scratch = vec![0; tokenizer.scratch_bytes(text.len())];
    let (mut ids, mut starts, mut ends, mut types) = ([0; 32], [0; 32], [0; 32], [0; 32]);
    let mut slots = TokenSlots {
        ids: &mut ids,
        starts: &mut starts,
        ends: &mut ends,
        types: &mut types,
    };
    let options = EncodeOptions {
        add_special_tokens: false,
        ..EncodeOptions::default()
    };
    let encoded = tokenizer
        .encode(text, &options, &mut scratch, &mut slots)
        .unwrap();
    let piece = |at: usize| {
        let source = &text[starts[at] as usize..ends[at] as usize];
        format!("{}={source}", tokenizer.token_text(ids[at]).unwrap())
    };
    (0..encoded.count).map(piece).collect::<Vec<_>>().join(" ")
}

/// As `BertTokenizer` of `transformers` reads them.
#[test]
fn the_tokenizer_of_a_vocabulary_has_the_flags_of_its_configuration() {
    let with = |config: &str, text: &str| pieces(&[("tokenizer_config.json", config)], text);
    assert_eq!(pieces(&[], "A É"), "a=A [UNK]=É", "lower case without accents");
    assert_eq!(with("{}", "A É"), "a=A [UNK]=É");
    assert_eq!(with(r#"{"strip_accents":null}"#, "A É"), "a=A [UNK]=É");
    assert_eq!(with(r#"{"strip_accents":false}"#, "A É"), "a=A é=É");
    assert_eq!(with(r#"{"do_lower_case":false}"#, "A É"), "A=A É=É");
    assert_eq!(
        with(r#"{"do_lower_case":false,"strip_accents":true}"#, "A É aé"),
        "A=A [UNK]=É a=a ##e=é"
    );
    assert_eq!(pieces(&[], "中文"), "中=中 文=文");
    assert_eq!(with(r#"{"tokenize_chinese_chars":false}"#, "中文"), "中文=中文");
}

#[test]
fn a_vocabulary_of_another_tokenizer_is_refused() {
    for (config, says) in [
        (
            r#"{"tokenizer_class":"BertJapaneseTokenizer"}"#,
            "tokenizer_class `BertJapaneseTokenizer` is not supported",
        ),
        (
            r#"{"do_basic_tokenize":false}"#,
            "do_basic_tokenize `false` is not supported",
        ),
    ] {
        assert_eq!(
            error(&[("tokenizer_config.json", config)]),
            format!("model DIR: tokenizer_config.json: tokenizer {says}")
        );
    }
    for class in ["BertTokenizer", "DistilBertTokenizerFast"] {
        let config = format!(r#"{{"tokenizer_class":"{class}"}}"#);
        assert_eq!(pieces(&[("tokenizer_config.json", &config)], "A"), "a=A");
    }
}

/// Sentence-transformers lower-cases the whole text, special tokens that are spelled in it included.
#[test]
fn texts_are_lower_cased_before_the_tokenizer_reads_them() {
    const CASED: (&str, &str) = ("tokenizer_config.json", r#"{"do_lower_case":false}"#);
    let lower = r#"{"max_seq_length":20,"do_lower_case":true}"#;
    for file in ["sentence_bert_config.json", "sentence_distilbert_config.json"] {
        assert_eq!(pieces(&[CASED, (file, lower)], "A É"), "a=A é=É", "{file}");
        assert_eq!(pieces(&[(file, lower)], "[MASK]"), "[=[ mask=MASK ]=]", "{file}");
        assert_eq!(pieces(&[CASED, (file, "{}")], "A É"), "A=A É=É", "{file}");
        assert_eq!(pieces(&[(file, "{}")], "[MASK]"), "[MASK]=[MASK]", "{file}");
    }
}

#[test]
fn a_tokenizer_that_cannot_be_told_to_lower_case_is_refused() {
    let lower = r#"{"do_lower_case":true}"#;
    let bpe = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/tokenizer/bpe.json"
    ));
    let bpe = ("tokenizer.json", &*bpe.unwrap());
    assert_eq!(
        error(&[bpe, ("sentence_roberta_config.json", lower)]),
        "model DIR: sentence_roberta_config.json: tokenizer do_lower_case before `BPE` is not supported"
    );
    assert!(load(&[bpe, ("sentence_roberta_config.json", "{}")]).is_ok());
}

/// Read whole, they would take what no bill has a line for.
#[test]
fn files_that_are_too_large_are_not_read() {
    for (file, most) in [
        ("tokenizer.json", 512 << 20),
        ("vocab.txt", 512 << 20),
        ("tokenizer_config.json", 16 << 20),
        ("config_sentence_transformers.json", 16 << 20),
    ] {
        let directory = directory(&[(file, "")]);
        let path = format!("{}/{file}", directory.path());
        let sparse = fs::File::options().write(true).open(&path).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let error = model::load(Some(directory.path()), None, None)
            .map(drop)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{path}: 1099511627776 bytes, at most {most} are read")
        );
    }
}
