//! The bodies of text-embeddings-inference's routes.
//!
//! Field names, defaults, the pair rule of `/predict` and the indifference to unknown fields are that server's (1.9.3).

use plimsoll_engine::{Inputs, JobOptions, Overflow, Tasks};

use super::body::{Body, overflow};
use super::{Abilities, Request, Shape, WireError};
use crate::json::{Kind, Mark, Unknown};

const DIRECTIONS: [&str; 4] = ["Right", "right", "Left", "left"];

/// `truncate` and `truncation_direction`.
fn cutting(
    body: &mut Body<'_, '_>,
    truncate: Option<Mark>,
    direction: Option<Mark>,
    abilities: &Abilities,
) -> Result<Overflow, WireError> {
    let truncate = body.flag(truncate, abilities.auto_truncate)?;
    let left = body.optional(direction)? && body.word(DIRECTIONS, r#""Left" or "Right""#)? >= 2;
    Ok(overflow(truncate, left))
}

/// Reads `/embed`: `{inputs, normalize = true, dimensions?, truncate?, truncation_direction?, prompt_name?}`.
///
/// # Errors
/// [`WireError`], naming the field; so for all readers here.
pub fn embed(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    abilities.need(Tasks::EMBEDDING, "embedding")?;
    let mut body = Body::new(bytes, inputs, "inputs", abilities.batch_max);
    let names = [
        "inputs",
        "normalize",
        "dimensions",
        "truncate",
        "truncation_direction",
        "prompt_name",
    ];
    let [texts, normalize, dimensions, truncate, direction, prompt] =
        body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let texts = body.must(texts, "inputs")?;
    let options = JobOptions {
        normalize: body.flag(normalize, true)?,
        dimensions: body.dimensions(dimensions, abilities)?,
        overflow: cutting(&mut body, truncate, direction, abilities)?,
        prompt: body.prompt(prompt, abilities)?,
        ..JobOptions::new(Tasks::EMBEDDING)
    };
    body.reader.go_to(texts);
    let single = body.push_batch()?;
    Ok(Request::new(options, Shape::Embed, single))
}

/// Reads `/embed_all`: `{inputs, truncate?, truncation_direction?, prompt_name?}`.
///
/// # Errors
/// As [`embed`].
pub fn embed_all(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    abilities.need(Tasks::TOKEN_EMBEDDINGS, "token embeddings")?;
    let mut body = Body::new(bytes, inputs, "inputs", abilities.batch_max);
    let names = ["inputs", "truncate", "truncation_direction", "prompt_name"];
    let [texts, truncate, direction, prompt] = body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let texts = body.must(texts, "inputs")?;
    let options = JobOptions {
        overflow: cutting(&mut body, truncate, direction, abilities)?,
        prompt: body.prompt(prompt, abilities)?,
        ..JobOptions::new(Tasks::TOKEN_EMBEDDINGS)
    };
    body.reader.go_to(texts);
    let single = body.push_batch()?;
    Ok(Request::new(options, Shape::EmbedAll, single))
}

/// Reads `/predict`: `{inputs, raw_scores = false, truncate?, truncation_direction?}`, where `inputs` is a text, a pair `["a", "b"]`, or a
/// batch of them, each in its own array. With `parameters?: {top_k?, function_to_apply?: "none"}`, as Hugging Face's client sends them, one input is
/// answered as a batch of one.
///
/// # Errors
/// As [`embed`].
pub fn predict(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    abilities.need(Tasks::CLASSES, "sequence classification")?;
    let mut body = Body::new(bytes, inputs, "inputs", abilities.batch_max);
    let names = [
        "inputs",
        "raw_scores",
        "truncate",
        "truncation_direction",
        "parameters",
    ];
    let [texts, raw_scores, truncate, direction, parameters] = body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let texts = body.must(texts, "inputs")?;
    let mut raw_scores = body.flag(raw_scores, false)?;
    let overflow = cutting(&mut body, truncate, direction, abilities)?;
    let mut top = usize::MAX;
    let as_batch = body.optional(parameters)?;
    if as_batch {
        let [top_k, function] = body
            .reader
            .fields(["top_k", "function_to_apply"], Unknown::Ignore)?;
        if body.optional(top_k)? {
            top = body.count()?;
        }
        raw_scores |= body.optional(function)? && body.word(["none"], r#""none""#)? == 0;
    }
    body.reader.go_to(texts);
    let single = predict_inputs(&mut body)?;
    let options = JobOptions {
        overflow,
        prompt: abilities.class_prompt(),
        ..JobOptions::new(Tasks::CLASSES)
    };
    Ok(Request::new(
        options,
        Shape::Predict {
            single: single && !as_batch,
            raw_scores,
            top,
        },
        single,
    ))
}

/// Whether it was one input and not a batch.
fn predict_inputs(body: &mut Body<'_, '_>) -> Result<bool, WireError> {
    if body.reader.peek()? == Kind::String {
        return body.push_text().map(|()| true);
    }
    body.reader.begin_array()?;
    if !body.reader.next_item()? {
        return Err(body.empty());
    }
    match body.reader.peek()? {
        Kind::String => text_or_pair(body).map(|()| true),
        Kind::Array => body.push_each(one_sequence).map(|()| false),
        found => Err(body
            .reader
            .unexpected("a string or an array of one or two strings", found)
            .into()),
    }
}

/// `["a"]` or `["a", "b"]`.
fn one_sequence(body: &mut Body<'_, '_>) -> Result<(), WireError> {
    body.reader.begin_array()?;
    if !body.reader.next_item()? {
        return Err(body.empty());
    }
    text_or_pair(body)
}

/// The one or two strings of an array whose first item comes next.
fn text_or_pair(body: &mut Body<'_, '_>) -> Result<(), WireError> {
    let first = body.half()?;
    if !body.reader.next_item()? {
        return match first.len {
            0 => Err(body.empty()),
            _ => body.push(first, None),
        };
    }
    let second = body.half()?;
    if body.reader.next_item()? {
        let found = body.reader.peek()?;
        return Err(body.reader.unexpected("at most two strings", found).into());
    }
    if first.len == 0 && second.len == 0 {
        return Err(body.empty());
    }
    body.push(first, Some(second))
}

/// Reads `/rerank`: `{query, texts, raw_scores = false, return_text = false, truncate?, truncation_direction?}`.
///
/// # Errors
/// As [`embed`].
pub fn rerank(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    if !abilities.tasks.has(Tasks::CLASSES) || abilities.classes != 1 {
        return Err(WireError::CannotDo { task: "reranking" });
    }
    let mut body = Body::new(bytes, inputs, "texts", abilities.batch_max);
    let names = [
        "query",
        "texts",
        "raw_scores",
        "return_text",
        "truncate",
        "truncation_direction",
    ];
    let [query, texts, raw_scores, return_text, truncate, direction] =
        body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let query = body.must(query, "query")?;
    let texts = body.must(texts, "texts")?;
    let shape = Shape::Rerank {
        raw_scores: body.flag(raw_scores, false)?,
        return_text: body.flag(return_text, false)?,
    };
    let overflow = cutting(&mut body, truncate, direction, abilities)?;
    body.push_pairs(query, texts, Body::half)?;
    let options = JobOptions {
        overflow,
        ..JobOptions::new(Tasks::CLASSES)
    };
    Ok(Request::new(options, shape, false))
}

/// Reads `/similarity`: `{inputs: {source_sentence, sentences}, parameters?: {truncate?, truncation_direction?, prompt_name?}}`. The
/// source sentence becomes the first input.
///
/// # Errors
/// As [`embed`].
pub fn similarity(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    abilities.need(Tasks::EMBEDDING, "embedding")?;
    // The source sentence is one more.
    let count_max = abilities.batch_max.saturating_add(1);
    let mut body = Body::new(bytes, inputs, "inputs.sentences", count_max);
    let [sentences, parameters] = body.reader.fields(["inputs", "parameters"], Unknown::Ignore)?;
    body.reader.end()?;
    let sentences = body.must(sentences, "inputs")?;
    let mut options = JobOptions {
        overflow: overflow(abilities.auto_truncate, false),
        prompt: abilities.default_prompt,
        ..JobOptions::new(Tasks::EMBEDDING)
    };
    if body.optional(parameters)? {
        let names = ["truncate", "truncation_direction", "prompt_name"];
        let [truncate, direction, prompt] = body.reader.fields(names, Unknown::Ignore)?;
        options.overflow = cutting(&mut body, truncate, direction, abilities)?;
        options.prompt = body.prompt(prompt, abilities)?;
    }
    body.reader.go_to(sentences);
    let [source, sentences] = body
        .reader
        .fields(["source_sentence", "sentences"], Unknown::Ignore)?;
    let source = body.must(source, "source_sentence")?;
    let sentences = body.must(sentences, "sentences")?;
    body.reader.go_to(source);
    body.push_text()?;
    body.reader.go_to(sentences);
    body.push_texts().map_err(|error| match error {
        WireError::TooMany {
            field,
            count,
            count_max,
        } => WireError::TooMany {
            field,
            count: count - 1,
            count_max: count_max - 1,
        },
        other => other,
    })?;
    Ok(Request::new(options, Shape::Similarity, false))
}

/// Reads `/tokenize`: `{inputs, add_special_tokens = true}`. Tokens are those of the text alone, as offsets are bytes of it.
///
/// # Errors
/// As [`embed`].
pub fn tokenize(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    let mut body = Body::new(bytes, inputs, "inputs", abilities.batch_max);
    let names = ["inputs", "add_special_tokens", "prompt_name"];
    let [texts, special, prompt] = body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let texts = body.must(texts, "inputs")?;
    let options = JobOptions {
        add_special_tokens: body.flag(special, true)?,
        ..JobOptions::new(Tasks::TOKENS)
    };
    if body.optional(prompt)? {
        return Err(WireError::NotServed {
            field: "prompt_name",
            instead: "write the prompt in front of the text",
        });
    }
    body.reader.go_to(texts);
    let single = body.push_text_or_texts()?;
    Ok(Request::new(options, Shape::Tokenize, single))
}

/// Reads `/decode`: `{ids, skip_special_tokens = true}`, where `ids` is `[u32]` or `[[u32]]`.
///
/// # Errors
/// As [`embed`].
pub fn decode(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
) -> Result<Request, WireError> {
    let mut body = Body::new(bytes, inputs, "ids", abilities.batch_max);
    let [ids, skip] = body
        .reader
        .fields(["ids", "skip_special_tokens"], Unknown::Ignore)?;
    body.reader.end()?;
    let ids = body.must(ids, "ids")?;
    let skip_special_tokens = body.flag(skip, true)?;
    body.reader.go_to(ids);
    body.reader.begin_array()?;
    if !body.reader.next_item()? {
        return Err(body.empty());
    }
    let single = body.reader.peek()? != Kind::Array;
    match single {
        false => body.push_each(|body| {
            body.reader.begin_array()?;
            if body.reader.next_item()? {
                body.push_ids()
            } else {
                Err(body.empty())
            }
        }),
        true => body.push_ids(),
    }?;
    let options = JobOptions {
        add_special_tokens: false,
        ..JobOptions::new(Tasks::TOKENS)
    };
    Ok(Request::new(
        options,
        Shape::Decode { skip_special_tokens },
        single,
    ))
}
