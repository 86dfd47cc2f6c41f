//! Reads the `normalizer` of a `tokenizer.json`.

use super::precompiled::Precompiled;
use super::stage::{Pattern, Stage};
use super::{Chain, STAGES_MAX};
use crate::TokenizerError;
use crate::bert::BertFlags;
use crate::error::short;
use crate::vocab::limit;
use serde_json::Value;

/// Deepest nesting of sequences.
const DEPTH_MAX: usize = 4;
/// Most characters that one character may grow to in all stages together.
const GROWTH_MAX: usize = 256;
/// Longest pattern or content of `Replace` and `Prepend`, in characters.
const CONTENT_MAX: usize = 64;

/// The flags of a `BertNormalizer`.
pub(crate) fn bert_flags(normalizer: &Value) -> Result<BertFlags, TokenizerError> {
    let lowercase = flag(normalizer, "lowercase")?;
    let strip_accents = match &normalizer["strip_accents"] {
        Value::Null => lowercase,
        _ => flag(normalizer, "strip_accents")?,
    };
    Ok(BertFlags {
        clean_text: flag(normalizer, "clean_text")?,
        handle_chinese_chars: flag(normalizer, "handle_chinese_chars")?,
        strip_accents,
        lowercase,
    })
}

impl Chain {
    pub(crate) fn from_json(normalizer: &Value) -> Result<Self, TokenizerError> {
        let mut chain = Self::default();
        chain.add(normalizer, 0)?;
        limit("normalizers", chain.stages.len(), STAGES_MAX)?;
        limit("growth of the normalizers", chain.chars_max(1), GROWTH_MAX)?;
        chain.look_for_plain();
        Ok(chain)
    }

    fn add(&mut self, normalizer: &Value, depth: usize) -> Result<(), TokenizerError> {
        if normalizer.is_null() {
            return Ok(());
        }
        limit("nesting of the normalizers", depth, DEPTH_MAX)?;
        limit("normalizers", self.stages.len(), STAGES_MAX)?;
        match text(normalizer, "type")? {
            "Sequence" => {
                let inner = normalizer["normalizers"]
                    .as_array()
                    .ok_or_else(|| malformed("Sequence has no list"))?;
                for normalizer in inner {
                    self.add(normalizer, depth + 1)?;
                }
            }
            "BertNormalizer" => self.add_bert(bert_flags(normalizer)?),
            kind => {
                let stage = stage(kind, normalizer)?;
                if matches!(stage, Stage::Precompiled { .. }) && !self.stages.is_empty() {
                    return Err(unsupported("Precompiled after another normalizer"));
                }
                self.stages.push(stage);
            }
        }
        Ok(())
    }

    fn add_bert(&mut self, flags: BertFlags) {
        if flags.clean_text {
            self.stages.push(Stage::Clean(flags));
        }
        if flags.handle_chinese_chars {
            self.stages.push(Stage::SpaceChinese(flags));
        }
        if flags.strip_accents {
            self.stages.push(Stage::Decompose { compatible: false });
            self.stages.push(Stage::StripNonspacing(flags));
        }
        if flags.lowercase {
            self.stages.push(Stage::Lowercase);
        }
    }
}

fn stage(kind: &str, normalizer: &Value) -> Result<Stage, TokenizerError> {
    Ok(match kind {
        "Lowercase" => Stage::Lowercase,
        "NFD" => Stage::Decompose { compatible: false },
        "NFKD" => Stage::Decompose { compatible: true },
        "NFC" => Stage::Compose { compatible: false },
        "NFKC" => Stage::Compose { compatible: true },
        "StripAccents" => Stage::StripAccents,
        "Strip" => Stage::Strip {
            left: flag(normalizer, "strip_left")?,
            right: flag(normalizer, "strip_right")?,
        },
        "Prepend" => Stage::Prepend(chars(text(normalizer, "prepend")?)?),
        "Replace" => Stage::Replace {
            pattern: pattern(&normalizer["pattern"])?,
            content: chars(text(normalizer, "content")?)?,
        },
        "Precompiled" => {
            let map = Box::new(Precompiled::from_json(normalizer)?);
            Stage::Precompiled {
                growth: map.longest_replacement().max(1),
                map,
            }
        }
        other => return Err(unsupported(other)),
    })
}

fn pattern(pattern: &Value) -> Result<Pattern, TokenizerError> {
    if let Some(literal) = pattern["String"].as_str() {
        let chars = chars(literal)?;
        let joins_words = chars
            .windows(2)
            .any(|pair| pair.iter().all(|c| c.is_alphanumeric()));
        if chars.is_empty() || joins_words {
            return Err(unsupported("Replace of an empty pattern or of letters in a row"));
        }
        return Ok(Pattern::Literal(chars));
    }
    match pattern["Regex"].as_str() {
        Some(" {2,}") => Ok(Pattern::Repeated(' ')),
        Some(_) => Err(unsupported("Replace of a regular expression other than ` {2,}`")),
        None => Err(malformed("Replace has no pattern")),
    }
}

fn chars(text: &str) -> Result<Vec<char>, TokenizerError> {
    limit("length of a normalizer's text", text.chars().count(), CONTENT_MAX)?;
    Ok(text.chars().collect())
}

fn text<'v>(normalizer: &'v Value, key: &str) -> Result<&'v str, TokenizerError> {
    normalizer[key]
        .as_str()
        .ok_or_else(|| malformed(&format!("has no text `{key}`")))
}

fn flag(normalizer: &Value, key: &str) -> Result<bool, TokenizerError> {
    normalizer[key]
        .as_bool()
        .ok_or_else(|| malformed(&format!("has no flag `{key}`")))
}

fn malformed(what: &str) -> TokenizerError {
    TokenizerError::Malformed(format!("normalizer {what}"))
}

fn unsupported(name: &str) -> TokenizerError {
    TokenizerError::Unsupported {
        part: "normalizer",
        name: short(name),
    }
}
