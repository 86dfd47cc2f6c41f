//! `POST /v1/rerank` as Cohere, Jina and vLLM have it.

use plimsoll_engine::{Inputs, JobOptions, Tasks};

use super::body::{Body, overflow};
use super::{Abilities, Request, Shape, WireError};
use crate::json::{Kind, Unknown};

/// Reads `{model?, query, documents, top_n?, return_documents = false}`, where a document is a string or `{"text": string}`; other fields are
/// ignored.
///
/// # Errors
/// [`WireError`], naming the field, or the task that the model cannot do.
pub fn read(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    if !abilities.tasks.has(Tasks::CLASSES) || abilities.classes != 1 {
        return Err(WireError::CannotDo { task: "reranking" });
    }
    let mut body = Body::new(bytes, inputs, "documents", abilities.inputs_max);
    let names = ["model", "query", "documents", "top_n", "return_documents"];
    let [model, query, documents, top, return_documents] = body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    let query = body.must(query, "query")?;
    let documents = body.must(documents, "documents")?;
    body.model(model, abilities)?;
    let shape = Shape::Documents {
        top: match body.optional(top)? {
            true => body.count()?,
            false => usize::MAX,
        },
        return_documents: body.flag(return_documents, false)?,
    };
    body.push_pairs(query, documents, document)?;
    let options = JobOptions {
        overflow: overflow(abilities.auto_truncate, false),
        ..JobOptions::new(Tasks::CLASSES)
    };
    Ok(Request::new(options, shape, false))
}

/// `"a"` or `{"text": "a"}`.
fn document(body: &mut Body<'_, '_>) -> Result<plimsoll_engine::Span, WireError> {
    if body.reader.peek()? != Kind::Object {
        return body.half();
    }
    let [text] = body.reader.fields(["text"], Unknown::Ignore)?;
    let text = body.must(text, "text")?;
    let after = body.reader.mark();
    body.reader.go_to(text);
    let text = body.half()?;
    body.reader.go_to(after);
    Ok(text)
}
