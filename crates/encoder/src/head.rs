//! Heads in files of their own: what `plimsoll tune` writes beside a model.
//!
//! A head is small and is made by users, a model is large and is not; so a head has a directory of its own and names the weights that it
//! was tuned on. On others its answers would be noise, which nobody would notice: it is refused there.
//!
//! `head.json`: `{"plimsoll_head": 1, "model": {"hidden", "fingerprint"}, "sequence_classifier": {...}}`, the last as in `plimsoll_heads`
//! of `config.json`; other fields are for people. `head.safetensors` has the tensors of such a head.

use plimsoll_memory::Mapping;
use serde::Deserialize;

use crate::config::PlimsollSequence;
use crate::error::LoadError;
use crate::heads::SequenceHead;
use crate::info::WeightBytes;
use crate::weights::Binder;

/// Describes the head.
pub const CONFIG_FILE: &str = "head.json";
/// Holds its tensors.
pub const WEIGHTS_FILE: &str = "head.safetensors";
/// The version of both files.
pub const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Head {
    plimsoll_head: u32,
    model: Tuned,
    sequence_classifier: PlimsollSequence,
}

/// What it was tuned on.
#[derive(Deserialize)]
struct Tuned {
    hidden: usize,
    fingerprint: String,
}

/// A fingerprint as the file has it.
pub fn fingerprint_text(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

/// Loads a head for a model with hidden states of this width and this fingerprint.
pub(crate) fn load(
    config: &[u8],
    weights: Mapping,
    hidden: usize,
    fingerprint: u64,
) -> Result<(SequenceHead, WeightBytes), LoadError> {
    let refused = |reason| LoadError::Config {
        file: CONFIG_FILE,
        reason,
    };
    let head: Head = serde_json::from_slice(config)
        .map_err(|error| refused(error.to_string().chars().take(160).collect()))?;
    if head.plimsoll_head != VERSION {
        let (found, known) = (head.plimsoll_head, VERSION);
        return Err(refused(format!(
            "version {found} of the format; this program reads {known}"
        )));
    }
    if head.model.hidden != hidden {
        let found = head.model.hidden;
        return Err(refused(format!(
            "tuned on hidden states of {found}, the model's have {hidden}"
        )));
    }
    let own = fingerprint_text(fingerprint);
    if head.model.fingerprint != own {
        let found: String = head.model.fingerprint.chars().take(16).collect();
        return Err(refused(format!(
            "tuned on the weights {found}, the model's are {own}: tune it again"
        )));
    }
    bind(weights, hidden, &head.sequence_classifier).map_err(own_file)
}

fn bind(
    weights: Mapping,
    hidden: usize,
    head: &PlimsollSequence,
) -> Result<(SequenceHead, WeightBytes), LoadError> {
    let mut binder = Binder::new(weights, None)?;
    let bound = SequenceHead::bind_plimsoll(hidden, head, CONFIG_FILE, &mut binder)?;
    let (store, bytes) = binder.finish()?;
    Ok((bound.with_own(store), bytes))
}

/// What is wrong with tensors is wrong with the head's file, not with the model's.
fn own_file(error: LoadError) -> LoadError {
    match error {
        LoadError::Safetensors(_) | LoadError::MissingTensor { .. } | LoadError::Shape { .. } => {
            let text = error.to_string();
            LoadError::Config {
                file: WEIGHTS_FILE,
                reason: text.trim_start_matches("model.safetensors: ").to_owned(),
            }
        }
        other => other,
    }
}
