//! The model inside the binary: the files of `models/default`.

use std::io::Read;

use flate2::read::GzDecoder;
use plimsoll_encoder::{Format, Model, ModelFiles};
use plimsoll_memory::Mapping;
use plimsoll_text::Tokenizer;

use super::{EMBEDDED_ID, Loaded, ModelError, prompts, side_by_side};

/// Bytes of a file at an address that its tensors can be read from.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/default/",
            $name
        ))
    };
}

static WEIGHTS: &Aligned<[u8]> = &Aligned(*file!("model.safetensors"));

/// Bytes of its weights.
pub(super) const WEIGHT_BYTES: usize = WEIGHTS.0.len();

/// Loads it; the weights stay where they are in the binary.
pub(super) fn load(format: Option<Format>) -> Result<Loaded, ModelError> {
    let id = EMBEDDED_ID.to_owned();
    let files = ModelFiles {
        config: file!("config.json"),
        weights: Mapping::from_static(&WEIGHTS.0),
        modules: Some(file!("modules.json")),
        pooling: Some(file!("1_Pooling/config.json")),
        sentence_bert: None,
        format,
    };
    let (model, tokenizer) = side_by_side(
        || {
            Model::from_parts(files).map_err(|source| ModelError::Load {
                id: id.clone(),
                source,
            })
        },
        || {
            Tokenizer::from_json(&tokenizer_json()).map_err(|source| ModelError::Tokenizer {
                id: id.clone(),
                file: "tokenizer.json",
                source,
            })
        },
    );
    let (model, tokenizer) = (model?, tokenizer?);
    let (prompts, default_prompt) = prompts(&id, Some(file!("config_sentence_transformers.json")))?;
    Ok(Loaded {
        model,
        tokenizer,
        prompts,
        default_prompt,
        revision: format!("{id} {}", env!("CARGO_PKG_VERSION")),
        id,
    })
}

/// The tokenizer's file, which `build.rs` has compressed: unlike the weights it is read once, and the bill counts the binary.
fn tokenizer_json() -> Vec<u8> {
    let gzip = include_bytes!(concat!(env!("OUT_DIR"), "/tokenizer.json.gz"));
    let mut json = Vec::new();
    let read = GzDecoder::new(&gzip[..]).read_to_end(&mut json);
    read.expect("it was compressed when this binary was built");
    json
}
