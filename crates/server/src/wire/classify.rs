//! `POST /v1/classify` as vLLM has it.

use plimsoll_engine::{Inputs, JobOptions, Tasks};

use super::body::{Body, overflow};
use super::{Abilities, Request, Shape, WireError};
use crate::json::Unknown;

/// Reads `{model?, input}`, where `input` is what `/v1/embeddings` takes; other fields are ignored.
///
/// # Errors
/// [`WireError`], naming the field, or the task that the model cannot do.
pub fn read(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    abilities.need(Tasks::CLASSES, "sequence classification")?;
    let mut body = Body::new(bytes, inputs, "input", abilities.inputs_max);
    let [model, input] = body.reader.fields(["model", "input"], Unknown::Ignore)?;
    body.reader.end()?;
    let input = body.must(input, "input")?;
    body.model(model, abilities)?;
    body.reader.go_to(input);
    let single = body.push_batch()?;
    let options = JobOptions {
        overflow: overflow(abilities.auto_truncate, false),
        prompt: abilities.class_prompt(),
        ..JobOptions::new(Tasks::CLASSES)
    };
    Ok(Request::new(options, Shape::Classify, single))
}
