//! `POST /ner` as Hugging Face's token classification has it: entities grouped, offsets in characters.

use plimsoll_engine::{Inputs, JobOptions, Tasks};

use super::body::Body;
use super::{Abilities, Request, Shape, WireError};
use crate::json::{ErrorKind, Unknown};

/// All group tokens to entities, and so do we, by rules of our own; `none` would ask for single tokens.
const STRATEGIES: [&str; 4] = ["simple", "first", "average", "max"];

/// Reads `{inputs, parameters?: {aggregation_strategy?, ignore_labels?}}`. A string is answered by a list, an array of strings by a list for
/// each. `stride` is refused, parameters that token classification does not have are ignored.
///
/// # Errors
/// [`WireError`], naming the field, or the task that the model cannot do.
pub fn read(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    abilities.need(Tasks::ENTITIES, "named entities")?;
    let mut body = Body::new(bytes, inputs, "inputs", abilities.batch_max);
    let [texts, parameters] = body.reader.fields(["inputs", "parameters"], Unknown::Ignore)?;
    body.reader.end()?;
    let texts = body.must(texts, "inputs")?;
    let ignored = match body.optional(parameters)? {
        true => read_parameters(&mut body, abilities)?,
        false => 0,
    };
    body.reader.go_to(texts);
    let single = body.push_text_or_texts()?;
    let options = JobOptions {
        prompt: abilities.default_prompt,
        ..JobOptions::new(Tasks::ENTITIES)
    };
    Ok(Request::new(options, Shape::Ner { single, ignored }, single))
}

/// Which kinds of entities are to be left out.
fn read_parameters(body: &mut Body<'_, '_>, abilities: &Abilities) -> Result<u128, WireError> {
    let names = ["aggregation_strategy", "ignore_labels", "stride"];
    let [strategy, ignored, stride] = body.reader.fields(names, Unknown::Ignore)?;
    if body.optional(stride)? {
        let field = "parameters.stride";
        let instead = "a long text is read whole, in windows whose overlap the server sets";
        return Err(WireError::NotServed { field, instead });
    }
    if body.optional(strategy)? {
        body.word(STRATEGIES, r#""simple", "first", "average" or "max""#)?;
    }
    if !body.optional(ignored)? {
        return Ok(0);
    }
    let mut kinds = 0;
    body.reader.begin_array()?;
    while body.reader.next_item()? {
        let place = body.reader.mark();
        let span = body.reader.string()?;
        let name = body.reader.bytes(span);
        let kind = abilities.entities.iter().position(|kind| kind.as_bytes() == name);
        match kind.map(u32::try_from) {
            // "O" and labels of other models: no entity has them.
            None => {}
            Some(Ok(kind @ ..u128::BITS)) => kinds |= 1 << kind,
            Some(_) => {
                body.reader.go_to(place);
                let expected = "one of the model's first 128 kinds";
                return Err(body.reader.error(ErrorKind::BadValue { expected }).into());
            }
        }
    }
    Ok(kinds)
}
