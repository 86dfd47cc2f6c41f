//! Loading any bytes as `model.safetensors`: an error, or a model whose tensors lie within the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_encoder::{Model, ModelFiles};
use plimsoll_memory::Mapping;

const CONFIG: &[u8] = include_bytes!("../../testdata/encoder/bert/config.json");

fuzz_target!(|data: &[u8]| {
    let Ok(mut pages) = Mapping::owned(data.len()) else { return };
    pages.bytes_mut().copy_from_slice(data);
    let Ok(weights) = pages.freeze() else { return };
    let files = ModelFiles { config: CONFIG, weights, modules: None, pooling: None, sentence_bert: None, format: None };
    if let Ok(model) = Model::from_parts(files) {
        assert!(model.info().weight_bytes.mapped <= data.len());
    }
});
