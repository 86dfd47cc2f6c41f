//! Reads the `pre_tokenizer` of a `tokenizer.json`.

use super::{Behavior, PrependScheme, Splitter};
use crate::TokenizerError;
use crate::error::short;
use crate::vocab::limit;
use serde_json::Value;

/// Most pre-tokenizers one after the other.
pub(crate) const SPLITTERS_MAX: usize = 8;
/// Deepest nesting of sequences.
const DEPTH_MAX: usize = 4;

/// The pre-tokenizers in order. Those that put a character before a piece must come last, since what they put there would be
/// split by the next.
pub(crate) fn splitters(pre_tokenizer: &Value) -> Result<Vec<Splitter>, TokenizerError> {
    let mut list = Vec::new();
    add(pre_tokenizer, &mut list, 0)?;
    let inner = list.len().saturating_sub(1);
    let rewrites = |s: &Splitter| matches!(s, Splitter::Metaspace { .. } | Splitter::ByteLevel { .. });
    if list[..inner].iter().any(rewrites) {
        return Err(unsupported("Sequence with Metaspace or ByteLevel before another"));
    }
    Ok(list)
}

fn add(pre_tokenizer: &Value, list: &mut Vec<Splitter>, depth: usize) -> Result<(), TokenizerError> {
    if pre_tokenizer.is_null() {
        return Ok(());
    }
    limit("nesting of the pre_tokenizers", depth, DEPTH_MAX)?;
    let kind = pre_tokenizer["type"]
        .as_str()
        .ok_or_else(|| malformed("has no type"))?;
    list.push(match kind {
        "Sequence" => {
            let inner = pre_tokenizer["pretokenizers"]
                .as_array()
                .ok_or_else(|| malformed("Sequence has no list"))?;
            limit("pre_tokenizers", inner.len(), SPLITTERS_MAX)?;
            for pre_tokenizer in inner {
                add(pre_tokenizer, list, depth + 1)?;
            }
            return limit("pre_tokenizers", list.len(), SPLITTERS_MAX);
        }
        "BertPreTokenizer" => Splitter::Bert,
        "Whitespace" => Splitter::Whitespace,
        "WhitespaceSplit" => Splitter::WhitespaceSplit,
        "Punctuation" => Splitter::Punctuation(behavior(pre_tokenizer)?),
        "Digits" if flag(pre_tokenizer, "individual_digits", false)? => Splitter::Digits(Behavior::Isolated),
        "Digits" => Splitter::Digits(Behavior::Contiguous),
        "ByteLevel" => Splitter::ByteLevel {
            add_prefix_space: flag(pre_tokenizer, "add_prefix_space", true)?,
            use_regex: flag(pre_tokenizer, "use_regex", true)?,
        },
        "Metaspace" => metaspace(pre_tokenizer)?,
        other => return Err(unsupported(other)),
    });
    Ok(())
}

fn behavior(pre_tokenizer: &Value) -> Result<Behavior, TokenizerError> {
    match pre_tokenizer.get("behavior").map(Value::as_str) {
        None | Some(Some("Isolated")) => Ok(Behavior::Isolated),
        Some(Some("Removed")) => Ok(Behavior::Removed),
        Some(Some("MergedWithPrevious")) => Ok(Behavior::MergedWithPrevious),
        Some(Some("MergedWithNext")) => Ok(Behavior::MergedWithNext),
        Some(Some("Contiguous")) => Ok(Behavior::Contiguous),
        _ => Err(malformed("has an unknown behavior")),
    }
}

fn metaspace(pre_tokenizer: &Value) -> Result<Splitter, TokenizerError> {
    let mut marks = pre_tokenizer["replacement"].as_str().unwrap_or_default().chars();
    let (Some(mark), None) = (marks.next(), marks.next()) else {
        return Err(malformed("Metaspace replacement is not one character"));
    };
    let named = match pre_tokenizer.get("prepend_scheme").map(Value::as_str) {
        None | Some(Some("always")) => PrependScheme::Always,
        Some(Some("first")) => PrependScheme::First,
        Some(Some("never")) => PrependScheme::Never,
        _ => return Err(malformed("Metaspace has an unknown prepend_scheme")),
    };
    let scheme = match pre_tokenizer["add_prefix_space"].as_bool() {
        Some(false) if pre_tokenizer.get("prepend_scheme").is_some() && named != PrependScheme::Never => {
            return Err(malformed("Metaspace add_prefix_space contradicts prepend_scheme"));
        }
        Some(false) => PrependScheme::Never,
        _ => named,
    };
    Ok(Splitter::Metaspace {
        mark,
        scheme,
        split: flag(pre_tokenizer, "split", true)?,
    })
}

fn flag(pre_tokenizer: &Value, key: &str, default: bool) -> Result<bool, TokenizerError> {
    match &pre_tokenizer[key] {
        Value::Null => Ok(default),
        value => value
            .as_bool()
            .ok_or_else(|| malformed(&format!("flag `{key}` is not a boolean"))),
    }
}

fn malformed(what: &str) -> TokenizerError {
    TokenizerError::Malformed(format!("pre_tokenizer {what}"))
}

fn unsupported(name: &str) -> TokenizerError {
    TokenizerError::Unsupported {
        part: "pre_tokenizer",
        name: short(name),
    }
}
