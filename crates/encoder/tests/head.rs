//! Heads in files of their own.

mod fixtures;

use std::fs;
use std::path::PathBuf;

use fixtures::{cases, forward, load};
use plimsoll_encoder::head::{CONFIG_FILE, WEIGHTS_FILE, fingerprint_text};
use plimsoll_encoder::{Batch, Model, Pooling};
use serde_json::{Value, json};

const LABELS: usize = 3;

/// A directory for a head, removed at the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `head.json` says for `model`.
fn config(model: &Model) -> Value {
    json!({
        "plimsoll_head": 1,
        "model": {"id": "any", "hidden": model.info().hidden, "fingerprint": fingerprint_text(model.fingerprint())},
        "sequence_classifier": {"id2label": {"0": "a", "1": "b", "2": "c"}, "pooling": "mean+cls"},
    })
}

fn weight(inputs: usize) -> Vec<f32> {
    (0..LABELS * inputs)
        .map(|i| ((i * 29 % 41) as f32 - 20.0) / 20.0)
        .collect()
}

/// Writes a head with `inputs` columns.
fn write(name: &str, config: &Value, inputs: usize) -> Directory {
    let directory =
        Directory(std::env::temp_dir().join(format!("plimsoll-head-{}-{name}", std::process::id())));
    fs::create_dir_all(&directory.0).unwrap();
    let bias_at = 4 * LABELS * inputs;
    let header = json!({
        "plimsoll.sequence_classifier.weight": {"dtype": "F32", "shape": [LABELS, inputs], "data_offsets": [0, bias_at]},
        "plimsoll.sequence_classifier.bias": {"dtype": "F32", "shape": [LABELS], "data_offsets": [bias_at, bias_at + 4 * LABELS]},
    });
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    weight(inputs)
        .iter()
        .chain(&[0.5, -0.5, 0.0])
        .for_each(|x| bytes.extend(x.to_le_bytes()));
    fs::write(directory.0.join(WEIGHTS_FILE), bytes).unwrap();
    fs::write(directory.0.join(CONFIG_FILE), config.to_string()).unwrap();
    directory
}

#[test]
fn it_reads_the_mean_and_the_first_token() {
    for name in ["bert", "bert-q4-heads"] {
        let model = load(name);
        let width = model.info().hidden;
        let before = model.info().weight_bytes;
        let directory = write(name, &config(&model), 2 * width);
        let model = model
            .with_head_dir(&directory.0)
            .unwrap()
            .with_pooling(Pooling::Mean);
        let info = model.info().clone();
        let head = info.sequence_head.unwrap();
        assert_eq!(
            (head.labels.len(), head.labels.name(2), head.beside),
            (3, "c", true)
        );
        let total = |bytes: plimsoll_encoder::WeightBytes| bytes.mapped + bytes.converted;
        assert!(total(info.weight_bytes) > total(before) && info.weight_bytes.heads > before.heads);
        for case in cases(name) {
            let batch = Batch {
                ids: &case.ids,
                types: &case.types,
                lens: &[case.ids.len() as u32],
            };
            forward(&model, &batch, |hidden| {
                let mut features = vec![0.0; 2 * width];
                model.pool(hidden, 0..case.ids.len(), false, &mut features[..width]);
                features[width..].copy_from_slice(hidden.token(0));
                let weight = weight(2 * width);
                let mut logits = [f32::NAN; LABELS];
                model.classify(hidden, 0..case.ids.len(), &mut logits);
                for (label, bias) in [0.5, -0.5, 0.0].into_iter().enumerate() {
                    let row = &weight[label * 2 * width..][..2 * width];
                    let expected: f32 = bias + row.iter().zip(&features).map(|(w, x)| w * x).sum::<f32>();
                    assert!(
                        (logits[label] - expected).abs() < 1e-4,
                        "{name}: {logits:?} {expected}"
                    );
                }
            });
        }
    }
}

#[test]
fn a_head_of_another_model_is_refused() {
    let refused = |name: &str, change: &dyn Fn(&mut Value), inputs: usize| {
        let model = load("bert");
        let mut config = config(&model);
        change(&mut config);
        let directory = write(name, &config, inputs);
        model.with_head_dir(&directory.0).unwrap_err().to_string()
    };
    let own = fingerprint_text(load("bert").fingerprint());
    let other = fingerprint_text(load("bert-gelu-new").fingerprint());
    assert_eq!(
        refused("weights", &|c| c["model"]["fingerprint"] = json!(other), 64),
        format!("head.json: tuned on the weights {other}, the model's are {own}: tune it again")
    );
    assert_eq!(
        refused("width", &|c| c["model"]["hidden"] = json!(48), 64),
        "head.json: tuned on hidden states of 48, the model's have 32"
    );
    assert_eq!(
        refused("version", &|c| c["plimsoll_head"] = json!(2), 64),
        "head.json: version 2 of the format; this program reads 1"
    );
    let shape = refused("shape", &|_| {}, 32);
    assert!(
        shape.starts_with("head.safetensors: plimsoll.sequence_classifier.weight has shape [3, 32]"),
        "{shape}"
    );
    assert!(
        refused(
            "pooling",
            &|c| c["sequence_classifier"]["pooling"] = json!("mean+sum"),
            64
        )
        .contains("sum")
    );
    assert!(
        load("bert")
            .with_head_dir(&std::env::temp_dir().join("plimsoll-no-head"))
            .is_err()
    );
}
