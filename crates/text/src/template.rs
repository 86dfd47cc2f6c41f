//! Post-processors: which special tokens stand where, which type ids tokens get, whether offsets shed spaces.

use crate::TokenizerError;
use crate::error::short;
use crate::vocab::limit;
use serde_json::Value;

/// Most pieces in a template.
const PIECES_MAX: usize = 64;

/// One piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A special token.
    Special { id: u32, type_id: u8 },
    /// The first (`second` false) or second text.
    Text { second: bool, type_id: u8 },
}

/// The post-processor of a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) single: Vec<Piece>,
    pub(crate) pair: Vec<Piece>,
    /// Offsets shed the spaces that tokens start or end with; the value is `add_prefix_space`.
    pub(crate) trim: Option<bool>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            single: vec![text(false, 0)],
            pair: vec![text(false, 0), text(true, 1)],
            trim: None,
        }
    }
}

fn text(second: bool, type_id: u8) -> Piece {
    Piece::Text { second, type_id }
}

fn special(id: u32, type_id: u8) -> Piece {
    Piece::Special { id, type_id }
}

fn malformed(what: &str) -> TokenizerError {
    TokenizerError::Malformed(format!("post_processor {what}"))
}

impl Piece {
    fn special_id(&self) -> Option<u32> {
        match *self {
            Piece::Special { id, .. } => Some(id),
            Piece::Text { .. } => None,
        }
    }
}

impl Template {
    pub(crate) fn from_json(processor: &Value) -> Result<Self, TokenizerError> {
        let mut template = Self::default();
        template.apply(processor, &mut false)?;
        Ok(template)
    }

    /// Special tokens that the template adds.
    pub(crate) fn special_count(&self, pair: bool) -> usize {
        let pieces = if pair { &self.pair } else { &self.single };
        pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Special { .. }))
            .count()
    }

    /// The special tokens in front of and behind a single text.
    pub(crate) fn around(&self) -> [Vec<u32>; 2] {
        let is_text = |piece: &Piece| matches!(piece, Piece::Text { .. });
        let text = self.single.iter().position(is_text).unwrap_or(self.single.len());
        let ids = |pieces: &[Piece]| pieces.iter().filter_map(Piece::special_id).collect();
        [ids(&self.single[..text]), ids(&self.single[text..])]
    }

    /// The largest id of a special token, where there is one.
    pub(crate) fn id_max(&self) -> Option<u32> {
        let pieces = self.single.iter().chain(&self.pair);
        pieces.filter_map(Piece::special_id).max()
    }

    /// The largest type of a token.
    pub(crate) fn type_max(&self) -> u8 {
        let pieces = self.single.iter().chain(&self.pair);
        let types = pieces.map(|piece| match *piece {
            Piece::Text { type_id, .. } | Piece::Special { type_id, .. } => type_id,
        });
        types.max().unwrap_or(0)
    }

    fn apply(&mut self, processor: &Value, placed: &mut bool) -> Result<(), TokenizerError> {
        if processor.is_null() {
            return Ok(());
        }
        let kind = processor["type"]
            .as_str()
            .ok_or_else(|| malformed("has no type"))?;
        if matches!(
            kind,
            "BertProcessing" | "RobertaProcessing" | "TemplateProcessing"
        ) && std::mem::replace(placed, true)
        {
            return Err(TokenizerError::Unsupported {
                part: "post_processor",
                name: format!("Sequence with a second {kind}"),
            });
        }
        match kind {
            "BertProcessing" => {
                let (cls, sep) = (named_id(processor, "cls")?, named_id(processor, "sep")?);
                self.single = vec![special(cls, 0), text(false, 0), special(sep, 0)];
                self.pair = [&self.single[..], &[text(true, 1), special(sep, 1)]].concat();
            }
            "RobertaProcessing" => {
                let (cls, sep) = (named_id(processor, "cls")?, named_id(processor, "sep")?);
                self.single = vec![special(cls, 0), text(false, 0), special(sep, 0)];
                self.pair = [
                    &self.single[..],
                    &[special(sep, 0), text(true, 0), special(sep, 0)],
                ]
                .concat();
                self.trim_from(processor);
            }
            "ByteLevel" => self.trim_from(processor),
            "TemplateProcessing" => {
                self.single = pieces(processor, "single")?;
                self.pair = pieces(processor, "pair")?;
                check(&self.single, &self.pair)?;
            }
            "Sequence" => {
                let processors = processor["processors"]
                    .as_array()
                    .ok_or_else(|| malformed("Sequence has no processors"))?;
                limit("post_processors", processors.len(), PIECES_MAX)?;
                for inner in processors {
                    if inner["type"] == "Sequence" {
                        return Err(TokenizerError::Unsupported {
                            part: "post_processor",
                            name: "Sequence in a Sequence".into(),
                        });
                    }
                    self.apply(inner, placed)?;
                }
            }
            other => {
                return Err(TokenizerError::Unsupported {
                    part: "post_processor",
                    name: short(other),
                });
            }
        }
        Ok(())
    }

    fn trim_from(&mut self, processor: &Value) {
        if processor["trim_offsets"].as_bool().unwrap_or(true) {
            self.trim = Some(processor["add_prefix_space"].as_bool().unwrap_or(true));
        }
    }
}

/// `["[CLS]", 101]`.
fn named_id(processor: &Value, key: &str) -> Result<u32, TokenizerError> {
    let id = processor[key][1].as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| malformed("names a token without an id"))
}

fn pieces(processor: &Value, key: &str) -> Result<Vec<Piece>, TokenizerError> {
    let listed = processor[key]
        .as_array()
        .ok_or_else(|| malformed("template is not a list"))?;
    limit("template pieces", listed.len(), PIECES_MAX)?;
    let mut pieces = Vec::new();
    for piece in listed {
        if let Some(sequence) = piece.get("Sequence") {
            let second = match sequence["id"].as_str() {
                Some("A") => false,
                Some("B") => true,
                _ => return Err(malformed("names a sequence that is neither A nor B")),
            };
            pieces.push(text(second, type_id(sequence)?));
        } else {
            let name = piece["SpecialToken"]["id"]
                .as_str()
                .ok_or_else(|| malformed("holds a piece of unknown kind"))?;
            let ids = processor["special_tokens"][name]["ids"].as_array();
            let ids = ids.ok_or_else(|| TokenizerError::MissingToken {
                part: "post_processor",
                token: short(name),
            })?;
            limit("ids of a special token", ids.len(), PIECES_MAX)?;
            for id in ids {
                let id = id
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(|| malformed("holds a bad id"))?;
                pieces.push(special(id, type_id(&piece["SpecialToken"])?));
            }
        }
    }
    Ok(pieces)
}

fn type_id(piece: &Value) -> Result<u8, TokenizerError> {
    piece["type_id"]
        .as_u64()
        .and_then(|id| u8::try_from(id).ok())
        .ok_or_else(|| malformed("holds a type id that is not a byte"))
}

/// Each text stands exactly once where it must: templates that repeat a text are not supported.
fn check(single: &[Piece], pair: &[Piece]) -> Result<(), TokenizerError> {
    let count = |pieces: &[Piece], which: bool| {
        pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Text { second, .. } if *second == which))
            .count()
    };
    let counts = (
        count(single, false),
        count(single, true),
        count(pair, false),
        count(pair, true),
    );
    if counts == (1, 0, 1, 1) {
        return Ok(());
    }
    Err(TokenizerError::Unsupported {
        part: "post_processor",
        name: "TemplateProcessing that repeats or lacks a text".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roberta_separates_twice() {
        let json = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false});
        let template = Template::from_json(&json).unwrap();
        assert_eq!(
            template.pair,
            [
                special(0, 0),
                text(false, 0),
                special(2, 0),
                special(2, 0),
                text(true, 0),
                special(2, 0)
            ]
        );
        assert_eq!(
            (
                template.special_count(false),
                template.special_count(true),
                template.trim
            ),
            (2, 4, Some(false))
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let json = json!({"type": "Sequence", "processors": [{"type": "Mystery"}]});
        let refused = Template::from_json(&json).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tokenizer post_processor `Mystery` is not supported"
        );
        let json = json!({"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}});
        assert!(matches!(
            Template::from_json(&json),
            Err(TokenizerError::Unsupported { .. })
        ));
    }
}
