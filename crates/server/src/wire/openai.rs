//! `POST /v1/embeddings` as OpenAI's clients send it.

use plimsoll_engine::{Inputs, JobOptions, Tasks};

use super::body::{Body, overflow};
use super::{Abilities, Request, Shape, WireError};
use crate::json::Unknown;

/// Reads `{model?, input, encoding_format?, dimensions?}`; `user` and other fields are ignored. The model may be left out, since one is
/// served; one that is named must be that one.
///
/// # Errors
/// [`WireError`], naming the field.
pub fn embeddings(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    abilities.need(Tasks::EMBEDDING, "embedding")?;
    let mut body = Body::new(bytes, inputs, "input", abilities.inputs_max);
    let names = ["model", "input", "encoding_format", "dimensions"];
    let [model, input, format, dimensions] = body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let input = body.must(input, "input")?;
    body.model(model, abilities)?;
    let base64 = body.optional(format)? && body.word(["float", "base64"], r#""float" or "base64""#)? == 1;
    let dimensions = body.dimensions(dimensions, abilities)?;
    body.reader.go_to(input);
    let single = body.push_batch()?;
    let options = JobOptions {
        overflow: overflow(abilities.auto_truncate, false),
        prompt: abilities.default_prompt,
        dimensions,
        ..JobOptions::new(Tasks::EMBEDDING)
    };
    Ok(Request::new(options, Shape::OpenAi { base64 }, single))
}
