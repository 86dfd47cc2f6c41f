//! Directories that are wrong in one respect each: the error names it.

mod fixtures;

use std::path::{Path, PathBuf};

use plimsoll_encoder::{Format, LoadError, Model, ModelFiles};
use plimsoll_memory::Mapping;
use proptest::prelude::*;

/// A copy of a fixture that is removed with the value.
struct Copy(PathBuf);

impl Copy {
    fn of(name: &str, tag: &str) -> Copy {
        let to = std::env::temp_dir().join(format!("plimsoll-encoder-{}-{tag}", std::process::id()));
        std::fs::create_dir_all(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixtures::directory(name).join(file), to.join(file)).unwrap();
        }
        Copy(to)
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.0.join(file);
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{file} has no {from}");
        std::fs::write(path, before.replace(from, to)).unwrap();
    }

    fn write(&self, file: &str, contents: &str) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// Adds a tensor of zeros behind the others.
    fn add_tensor(&self, name: &str, dtype: &str, shape: [usize; 2], bytes: usize) {
        let path = self.0.join("model.safetensors");
        let file = std::fs::read(&path).unwrap();
        let data = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let mut table: serde_json::Value = serde_json::from_slice(&file[8..data]).unwrap();
        let end = file.len() - data;
        table[name] = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]});
        let mut table = table.to_string().into_bytes();
        table.resize(table.len().next_multiple_of(64) - 8, b' ');
        let length = (table.len() as u64).to_le_bytes();
        let zeros = vec![0; bytes];
        std::fs::write(path, [&length[..], &table, &file[data..], &zeros].concat()).unwrap();
    }

    /// The error without the directory's name.
    fn error(&self) -> String {
        let error = Model::load_dir(&self.0)
            .expect_err("the directory is broken")
            .to_string();
        error.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn configurations_that_cannot_be() {
    let cases = [
        (
            "\"model_type\": \"bert\"",
            "\"model_type\": \"deberta-v2\"",
            "unsupported: model_type deberta-v2 (known: bert, distilbert, roberta, camembert, xlm-roberta)",
        ),
        (
            "\"model_type\": \"bert\"",
            "\"no_type\": 1",
            "config.json: model_type is missing",
        ),
        (
            "\"hidden_size\": 32",
            "\"hidden_size\": 0",
            "config.json: hidden_size is 0, not in 1..=16777216",
        ),
        (
            "\"num_attention_heads\": 4",
            "\"num_attention_heads\": 5",
            "config.json: hidden_size 32 is not a multiple of 5 heads",
        ),
        (
            "\"hidden_act\": \"gelu\"",
            "\"hidden_act\": \"silu\"",
            "unsupported: activation silu",
        ),
        (
            "\"vocab_size\": 60",
            "\"vocab_size\": 61",
            "model.safetensors: embeddings.word_embeddings.weight has shape [60, 32], config.json needs [61, 32]",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "model.safetensors: no tensor encoder.layer.2.attention.self.query.weight",
        ),
        (
            "\"is_decoder\": false",
            "\"is_decoder\": true",
            "unsupported: a decoder (is_decoder)",
        ),
        (
            "\"layer_norm_eps\": 1e-12",
            "\"layer_norm_eps\": -1",
            "config.json: layer_norm_eps -1 is not in 0..1",
        ),
        (
            "\"model_type\": \"bert\"",
            "\"model_type\": \"bert\", \"position_embedding_type\": \"relative_key\"",
            "unsupported: position_embedding_type relative_key",
        ),
        ("{", "{{", "config.json: key must be a string at line 1 column 2"),
    ];
    let copy = Copy::of("bert", "config");
    let good = std::fs::read_to_string(copy.0.join("config.json")).unwrap();
    for (from, to, message) in cases {
        copy.write("config.json", &good);
        copy.replace("config.json", from, to);
        assert_eq!(copy.error(), message);
    }
}

#[test]
fn positions_that_leave_no_token() {
    let copy = Copy::of("roberta", "positions");
    copy.replace("config.json", "\"pad_token_id\": 1", "\"pad_token_id\": 29");
    assert_eq!(
        copy.error(),
        "config.json: 30 positions, of which the first 30 are never used"
    );
}

#[test]
fn files_that_are_absent() {
    let copy = Copy::of("bert", "absent");
    std::fs::remove_file(copy.0.join("model.safetensors")).unwrap();
    assert!(
        copy.error().starts_with("model.safetensors: No such file"),
        "{}",
        copy.error()
    );
    copy.write("pytorch_model.bin", "x");
    assert!(
        copy.error()
            .ends_with("weights as pytorch_model.bin; one model.safetensors is needed")
    );
    std::fs::remove_file(copy.0.join("config.json")).unwrap();
    assert!(
        copy.error().starts_with("config.json: No such file"),
        "{}",
        copy.error()
    );
    assert!(matches!(
        Model::load_dir(Path::new("no/such/directory")),
        Err(LoadError::Io { .. })
    ));
}

#[test]
fn sentence_transformers_modules() {
    let module = |kind: &str, path: &str| {
        format!(r#"{{"idx":0,"name":"0","path":"{path}","type":"sentence_transformers.models.{kind}"}}"#)
    };
    let modules = |tail: &str| format!("[{},{tail}]", module("Transformer", ""));
    let copy = Copy::of("bert", "modules");

    copy.write("modules.json", &modules(&module("Dense", "2_Dense")));
    assert_eq!(copy.error(), "unsupported: module Dense in modules.json");
    copy.write("modules.json", &modules(&module("Pooling", "../elsewhere")));
    assert_eq!(
        copy.error(),
        "modules.json: the path \"../elsewhere\" is not one below the directory"
    );

    copy.write("modules.json", &modules(&module("Pooling", "my_pooling")));
    assert!(
        copy.error().starts_with("my_pooling/config.json: No such file"),
        "{}",
        copy.error()
    );
    for (pooling, message) in [
        (
            r#"{"pooling_mode_weightedmean_tokens":true}"#,
            "unsupported: pooling_mode_weightedmean_tokens",
        ),
        (
            r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}"#,
            "unsupported: 2 pooling modes joined",
        ),
        (
            r#"{"pooling_mode_cls_token":false}"#,
            "1_Pooling/config.json: no pooling mode is on",
        ),
        (r#"{"pooling_mode":"median"}"#, "unsupported: pooling median"),
    ] {
        copy.write("my_pooling/config.json", pooling);
        assert_eq!(copy.error(), message);
    }
    copy.write("my_pooling/config.json", r#"{"pooling_mode":"cls"}"#);
    copy.write("sentence_bert_config.json", r#"{"max_seq_length":0}"#);
    assert_eq!(copy.error(), "sentence_bert_config.json: max_seq_length is 0");
    copy.write("sentence_bert_config.json", r#"{"max_seq_length":null}"#);
    let info = Model::load_dir(&copy.0).unwrap().info().clone();
    assert_eq!(
        (info.pooling.name(), info.normalize, info.tokens_max),
        ("cls", false, 30)
    );
}

/// Sentence-transformers wrote it under a name of each architecture once, and looks for them in this order.
#[test]
fn sentence_transformers_configurations_of_any_name() {
    let copy = Copy::of("bert", "legacy");
    let names = [
        "xlnet",
        "xlm-roberta",
        "albert",
        "camembert",
        "distilbert",
        "roberta",
        "bert",
    ];
    for (name, tokens_max) in names.iter().zip(3..) {
        let file = format!("sentence_{name}_config.json");
        copy.write(&file, &format!(r#"{{"max_seq_length":{tokens_max}}}"#));
        assert_eq!(
            Model::load_dir(&copy.0).unwrap().info().tokens_max,
            tokens_max,
            "{name}"
        );
    }
    let copy = Copy::of("bert", "legacy-zero");
    copy.write("sentence_roberta_config.json", r#"{"max_seq_length":0}"#);
    assert_eq!(copy.error(), "sentence_roberta_config.json: max_seq_length is 0");
}

/// The labels of a copy whose `id2label` is `id2label`, or the error.
fn labels(tag: &str, id2label: &str) -> Result<Vec<String>, String> {
    let copy = Copy::of("bert-token", tag);
    let path = copy.0.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["id2label"] = serde_json::from_str(id2label).unwrap();
    std::fs::write(path, config.to_string()).unwrap();
    let model = Model::load_dir(&copy.0).map_err(|error| error.to_string())?;
    let labels = model.info().token_head.clone().unwrap();
    Ok((0..labels.len())
        .map(|index| labels.name(index).to_owned())
        .collect())
}

#[test]
fn labels_are_what_the_file_says() {
    let served =
        |id2label: &str| labels("named", id2label).unwrap_or_else(|error| panic!("{id2label}: {error}"));
    assert_eq!(
        served(r#"{"0":0,"1":1.5,"2":-3,"3":"","4":"中"}"#),
        ["0", "1.5", "-3", "", "中"]
    );
    assert_eq!(
        served(r#"{"0":"a","1":"a","2":"b","3":"a","4":"b"}"#),
        ["a", "a", "b", "a", "b"]
    );
    // As many as there are rows is what `transformers` asks for, whatever their ids are.
    assert_eq!(
        served(r#"{"1":"a","2":"b","3":"c","4":"d","5":"e"}"#),
        ["LABEL_0", "a", "b", "c", "d"]
    );
    assert_eq!(
        served(r#"{"0":"a","4":"e"}"#),
        ["a", "LABEL_1", "LABEL_2", "LABEL_3", "e"]
    );
}

#[test]
fn heads_that_do_not_fit_their_labels() {
    for (id2label, error) in [
        (
            r#"{"0":"a","1":"b","2":"c","3":"d"}"#,
            "id2label has 4 labels, classifier.weight has 5 rows",
        ),
        (
            r#"{"0":"a","1":"b","2":"c","3":"d","4":"e","5":"f"}"#,
            "id2label has 6 labels, classifier.weight has 5 rows",
        ),
        ("{}", "id2label has 0 labels, classifier.weight has 5 rows"),
        (r#"{"0":["a"]}"#, "a label is neither text nor a number at line 1"),
    ] {
        let found = labels("unfit", id2label).unwrap_err();
        assert!(
            found.starts_with(&format!("config.json: {error}")),
            "{id2label}: {found}"
        );
    }

    let copy = Copy::of("bert-token", "nameless");
    copy.replace("config.json", "\"architectures\"", "\"designs\"");
    assert_eq!(
        copy.error(),
        "config.json: architectures is missing, so what classifier.* is for cannot be told"
    );

    let copy = Copy::of("bert-q4-heads", "extra");
    copy.replace(
        "config.json",
        "\"pooling\": \"mean\"",
        "\"pooling\": \"mean\", \"colour\": 1",
    );
    assert!(
        copy.error().starts_with("config.json: unknown field `colour`"),
        "{}",
        copy.error()
    );
}

#[test]
fn old_names_of_layer_norms() {
    let copy = Copy::of("bert", "gamma");
    let path = copy.0.join("model.safetensors");
    let expected = Model::load_dir(&copy.0).unwrap().info().weight_bytes;
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    // The new names are shorter: spaces at the end keep the data where it is.
    let renamed = header
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta");
    let renamed = format!("{renamed:<length$}");
    std::fs::write(
        &path,
        [&bytes[..8], renamed.as_bytes(), &bytes[8 + length..]].concat(),
    )
    .unwrap();
    assert_eq!(Model::load_dir(&copy.0).unwrap().info().weight_bytes, expected);
}

#[test]
fn a_quantized_file_gives_the_same_answers_from_its_own_pages() {
    for name in ["bert", "distilbert", "bert-f16", "bert-bf16", "bert-q4-heads"] {
        for format in [Format::F32, Format::Bf16, Format::Int8] {
            let copy = Copy::of(name, "quantized");
            let original = Model::load_dir_as(&copy.0, Some(format)).unwrap();
            let before = original.info().weight_bytes;
            let cases = fixtures::cases(name);
            let batch = fixtures::Packed::new(&cases);
            let want = fixtures::forward(&original, &batch.batch(), |hidden| hidden.token(0).to_vec());
            drop(original);
            let file = plimsoll_encoder::quantize(&copy.0, format).unwrap();
            std::fs::write(copy.0.join("model.safetensors"), file).unwrap();
            let packed = Model::load_dir(&copy.0).unwrap();
            assert_eq!(packed.info().format, format.name());
            let bytes = packed.info().weight_bytes;
            assert!(
                bytes.mapped >= bytes.layers / 2 && bytes.converted < before.converted,
                "{bytes:?}"
            );
            fixtures::forward(&packed, &batch.batch(), |hidden| {
                let cosine = fixtures::cosine(hidden.token(0), &want);
                // Tables are bf16 now, unless products are f32.
                let least = if format == Format::F32 { 0.999_999 } else { 0.999 };
                assert!(cosine > least, "{name} {format:?}: {cosine}");
            });
            let error = Model::load_dir_as(
                &copy.0,
                Some(if format == Format::F32 {
                    Format::Int8
                } else {
                    Format::F32
                }),
            );
            assert!(error.is_err_and(|error| error.to_string().contains("packed in")));
            let error = plimsoll_encoder::quantize(&copy.0, format)
                .unwrap_err()
                .to_string();
            assert!(error.contains("packed already"), "{error}");
        }
    }
}

/// A format of this CPU's memory alone: no file may have it.
#[test]
fn two_bf16_is_nobodys_wish() {
    let copy = Copy::of("bert", "two-bf16");
    let refused = |result: Result<(), LoadError>| result.unwrap_err().to_string();
    for error in [
        refused(Model::load_dir_as(&copy.0, Some(Format::TwoBf16)).map(drop)),
        refused(plimsoll_encoder::quantize(&copy.0, Format::TwoBf16).map(drop)),
    ] {
        assert!(error.contains("two-bf16"), "{error}");
    }
}

#[test]
fn misaligned_weights_are_converted_and_give_the_same_answers() {
    let copy = Copy::of("bert", "misaligned");
    let path = copy.0.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let header = &bytes[8..8 + length as usize];
    let shifted = [
        &(length + 1).to_le_bytes()[..],
        header,
        b" ",
        &bytes[8 + length as usize..],
    ]
    .concat();
    std::fs::write(&path, shifted).unwrap();
    let model = Model::load_dir(&copy.0).unwrap();
    let weights = model.info().weight_bytes;
    assert!(weights.converted >= weights.layers + weights.embeddings);
    let cases = fixtures::cases("bert");
    let packed = fixtures::Packed::new(&cases);
    fixtures::forward(&model, &packed.batch(), |hidden| {
        fixtures::check_close(&model, "misaligned", hidden.token(0), &cases[0].hidden[0]);
    });
}

/// A buffer that old checkpoints carry along, and whose rows are no weights.
#[test]
fn a_buffer_of_numbers_does_not_change_the_format() {
    let copy = Copy::of("bert-bf16", "buffer");
    copy.add_tensor("embeddings.position_ids", "I64", [1, 30], 8 * 30);
    assert_eq!(Model::load_dir(&copy.0).unwrap().info().format, "bf16");
    copy.add_tensor("classifier.weight", "F32", [2, 32], 4 * 64);
    assert_eq!(Model::load_dir(&copy.0).unwrap().info().format, "f32");
}

/// They would be read into memory before anything is known to have room.
#[test]
fn files_that_are_too_large_are_not_read() {
    for file in ["config.json", "modules.json"] {
        let copy = Copy::of("bert", "large");
        copy.write(file, "");
        let sparse = std::fs::File::options().write(true).open(copy.0.join(file));
        sparse.unwrap().set_len(1 << 40).unwrap();
        assert_eq!(
            copy.error(),
            format!("{file}: 1099511627776 bytes, at most 16777216 are read")
        );
    }
}

#[test]
fn metadata_that_names_no_tensor() {
    let copy = Copy::of("bert-q4-heads", "q4");
    let path = copy.0.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(12)
        .position(|window| window == b"plimsoll.q4_")
        .unwrap();
    let mut broken = bytes.clone();
    let value = at + b"plimsoll.q4_0\":\"".len();
    broken[value] = b'X';
    std::fs::write(&path, &broken).unwrap();
    assert!(
        copy.error().starts_with("model.safetensors: no tensor Xert."),
        "{}",
        copy.error()
    );
    // With the key gone, the blocks are bytes of an unknown meaning.
    let mut broken = bytes;
    broken[at] = b'X';
    std::fs::write(&path, &broken).unwrap();
    assert!(copy.error().ends_with("of type U8"), "{}", copy.error());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any damage to the table is an error or harmless, never a panic.
    #[test]
    fn damaged_tables_do_not_panic(damage in prop::collection::vec((0..4000_usize, any::<u8>()), 1..6), cut in 0..200_000_usize) {
        let config = std::fs::read(fixtures::directory("bert-token/config.json")).unwrap();
        let mut weights = std::fs::read(fixtures::directory("bert-token/model.safetensors")).unwrap();
        for (at, byte) in damage {
            weights[at] = byte;
        }
        weights.truncate(cut.max(4000));
        let mut owned = Mapping::owned(weights.len()).unwrap();
        owned.bytes_mut().copy_from_slice(&weights);
        let weights = owned.freeze().unwrap();
        let files = ModelFiles { config: &config, weights, modules: None, pooling: None, sentence_bert: None, format: None };
        if let Err(error) = Model::from_parts(files) {
            prop_assert!(error.to_string().len() < 600);
        }
    }
}
