//! The two files of a head (see [`plimsoll_encoder::head`]).

use std::fs;
use std::io;
use std::path::Path;

use plimsoll_encoder::head::{CONFIG_FILE, VERSION, WEIGHTS_FILE, fingerprint_text};
use serde_json::json;

use super::features::POOLING;
use super::{Table, Task, Tuned};

/// A head and what it belongs to.
pub struct Head<'a> {
    /// The head.
    pub tuned: &'a Tuned,
    /// Its classes.
    pub table: &'a Table,
    /// What they mean.
    pub task: Task,
    /// What the model is called.
    pub model_id: &'a str,
    /// Its fingerprint.
    pub fingerprint: u64,
    /// Width of its hidden states.
    pub hidden: usize,
    /// What stood in front of every text.
    pub prompt: &'a str,
}

const TENSOR: &str = "plimsoll.sequence_classifier";

/// Writes a head's directory, making it when it is not there.
///
/// # Errors
/// What the system says.
pub fn write(directory: &Path, head: &Head<'_>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join(WEIGHTS_FILE), weights(head))?;
    // Last, so that a directory with this file is whole.
    fs::write(directory.join(CONFIG_FILE), format!("{:#}\n", config(head)))
}

fn config(head: &Head<'_>) -> serde_json::Value {
    let id2label: serde_json::Map<_, _> = head
        .table
        .labels
        .iter()
        .enumerate()
        .map(|(id, label)| (id.to_string(), json!(label)))
        .collect();
    let report = &head.tuned.report;
    json!({
        "plimsoll_head": VERSION,
        "task": head.task.name(),
        "model": {"id": head.model_id, "hidden": head.hidden, "fingerprint": fingerprint_text(head.fingerprint)},
        "prompt": head.prompt,
        "sequence_classifier": {"id2label": id2label, "pooling": POOLING, "problem_type": "single_label_classification"},
        "held_out": {
            "accuracy": report.accuracy,
            "macro_f1": report.macro_f1,
            "log_loss": report.log_loss,
            "calibration_error": report.calibration_error,
            "confusion": report.confusion,
        },
    })
}

/// safetensors: the length of a JSON header, the header, the tensors.
fn weights(head: &Head<'_>) -> Vec<u8> {
    let (weight, bias) = (&head.tuned.weight, &head.tuned.bias);
    let (classes, middle) = (bias.len(), 4 * weight.len());
    let header = json!({
        format!("{TENSOR}.weight"): {"dtype": "F32", "shape": [classes, weight.len() / classes], "data_offsets": [0, middle]},
        format!("{TENSOR}.bias"): {"dtype": "F32", "shape": [classes], "data_offsets": [middle, middle + 4 * classes]},
    });
    let mut header = header.to_string();
    // Tensors begin at a multiple of eight, so that they can be read where they lie.
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    weight
        .iter()
        .chain(bias)
        .for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}
