//! Reads `tokenizer.json` and `vocab.txt`.

use super::decode::Decoder;
use super::direct::Direct;
use super::{Model, Road, Tokenizer};
use crate::TokenizerError;
use crate::added::{Added, AddedTokens};
use crate::bert::{Bert, BertFlags};
use crate::bpe::Bpe;
use crate::error::short;
use crate::json::{FileJson, ModelJson};
use crate::normalize::Chain;
use crate::normalize::load::bert_flags;
use crate::pretokenize::Splitter;
use crate::pretokenize::load::splitters;
use crate::template::Template;
use crate::unigram::Unigram;
use crate::vocab::{Vocab, limit};
use crate::wordpiece::WordPiece;
use serde::Deserialize;
use serde_json::{Value, json};

/// BERT's limit, which `vocab.txt` does not state.
const BERT_WORD_CHARS_MAX: usize = 100;

/// What `transformers`' `BertTokenizer` can be told beside its `vocab.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BertOptions {
    /// `do_lower_case`.
    pub lowercase: bool,
    /// `strip_accents`; when nobody says, as `lowercase`.
    pub strip_accents: Option<bool>,
    /// `tokenize_chinese_chars`: ideographs are words of their own.
    pub handle_chinese_chars: bool,
}

impl Default for BertOptions {
    fn default() -> Self {
        Self {
            lowercase: true,
            strip_accents: None,
            handle_chinese_chars: true,
        }
    }
}

impl Tokenizer {
    /// Longest file accepted, in bytes.
    pub const FILE_BYTES_MAX: usize = 512 << 20;

    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// Models WordPiece, Unigram and byte-level BPE with the normalizers, pre-tokenizers, post-processors and decoders of the
    /// BERT, RoBERTa and XLM-RoBERTa families. `truncation` and `padding` are ignored.
    ///
    /// # Errors
    /// [`TokenizerError`] names the component that is not supported, the token that is missing, or the size that is too large.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        limit("file size in bytes", bytes.len(), Self::FILE_BYTES_MAX)?;
        let file: FileJson =
            serde_json::from_slice(bytes).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        if let Some(version) = file.version.as_str().filter(|&version| version != "1.0") {
            return Err(TokenizerError::Unsupported {
                part: "version",
                name: short(version),
            });
        }
        let model = model(&file.model)?;
        let added: Vec<Added> = match &file.added_tokens {
            Value::Null => Vec::new(),
            tokens => Vec::deserialize(tokens)
                .map_err(|e| TokenizerError::Malformed(format!("added_tokens: {e}")))?,
        };
        let bert = match (
            file.normalizer["type"].as_str(),
            file.pre_tokenizer["type"].as_str(),
        ) {
            (Some("BertNormalizer"), Some("BertPreTokenizer")) => Some(bert_flags(&file.normalizer)?),
            _ => None,
        };
        let parts = Parts {
            model,
            chain: Chain::from_json(&file.normalizer)?,
            splitters: splitters(&file.pre_tokenizer)?,
            bert,
            added,
            template: Template::from_json(&file.post_processor)?,
            decoder: Decoder::from_json(&file.decoder)?,
        };
        parts.build()
    }

    /// Reads a BERT `vocab.txt`, one token a line, ids by line: BERT's normalizer and pre-tokenizer, the special tokens `[CLS]`,
    /// `[SEP]`, `[UNK]`, and `[PAD]` and `[MASK]` where present.
    ///
    /// # Errors
    /// When the file is not UTF-8, too large, or lacks `[UNK]`, `[CLS]` or `[SEP]`.
    pub fn from_vocab_txt(bytes: &[u8], options: BertOptions) -> Result<Self, TokenizerError> {
        limit("file size in bytes", bytes.len(), Self::FILE_BYTES_MAX)?;
        let text = std::str::from_utf8(bytes).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        let lines = text.lines().zip(0..);
        let vocab = Vocab::new(lines.map(|(line, id)| (line.trim_end(), id)))?;
        let id = |token: &str| {
            vocab
                .token_to_id(token)
                .ok_or_else(|| TokenizerError::MissingToken {
                    part: "vocab.txt",
                    token: token.into(),
                })
        };
        let processor =
            json!({"type": "BertProcessing", "cls": ["[CLS]", id("[CLS]")?], "sep": ["[SEP]", id("[SEP]")?]});
        let added = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            .into_iter()
            .filter(|token| vocab.token_to_id(token).is_some())
            .map(Added::special)
            .collect();
        let flags = BertFlags {
            clean_text: true,
            handle_chinese_chars: options.handle_chinese_chars,
            strip_accents: options.strip_accents.unwrap_or(options.lowercase),
            lowercase: options.lowercase,
        };
        let parts = Parts {
            model: Model::WordPiece(WordPiece::new(vocab, "[UNK]", "##", BERT_WORD_CHARS_MAX)?),
            chain: Chain::default(),
            splitters: vec![Splitter::Bert],
            bert: Some(flags),
            added,
            template: Template::from_json(&processor)?,
            decoder: Decoder::from_json(&json!({"type": "WordPiece", "prefix": "##", "cleanup": true}))?,
        };
        parts.build()
    }
}

impl Tokenizer {
    /// The same for texts that are lower-cased before it reads them, as sentence-transformers' `do_lower_case` has it. Offsets are still
    /// those of the text as it comes, and a special token that is spelled in it in capitals is ordinary text.
    ///
    /// A capital sigma becomes `σ` wherever it stands, as the `tokenizers` crate has it; Python writes `ς` at the end of a word.
    ///
    /// # Errors
    /// When it is not BERT's, or lower case could make one of its added tokens of other text.
    pub fn with_lower_case(mut self) -> Result<Self, TokenizerError> {
        let refused = |name: &str| TokenizerError::Unsupported {
            part: "do_lower_case before",
            name: short(name),
        };
        let (Model::WordPiece(model), Some(flags)) = (&self.model, self.bert) else {
            return Err(refused(self.model.name()));
        };
        let plain = || self.added.iter().filter(|(_, token)| !token.normalized);
        if let Some((_, token)) = plain().find(|(_, token)| token.content != token.content.to_uppercase()) {
            return Err(refused(&format!("the added token {}", token.content)));
        }
        // What has capitals is not found in a text without them.
        self.plain = self
            .added
            .matcher(false, |token| match token.to_lowercase() == token {
                true => token.to_owned(),
                false => String::new(),
            })?;
        if flags.lowercase {
            return Ok(self);
        }
        if !matches!(self.road, Road::Bert(_)) {
            return Err(refused("added tokens in normalised text with capitals"));
        }
        let flags = BertFlags {
            lowercase: true,
            ..flags
        };
        (self.bert, self.road) = (Some(flags), Road::Bert(Box::new(Bert::new(flags, model))));
        Ok(self)
    }
}

struct Parts {
    model: Model,
    chain: Chain,
    splitters: Vec<Splitter>,
    bert: Option<BertFlags>,
    added: Vec<Added>,
    template: Template,
    decoder: Decoder,
}

impl Parts {
    fn build(self) -> Result<Tokenizer, TokenizerError> {
        let Parts {
            model,
            chain,
            splitters,
            bert,
            added,
            template,
            decoder,
        } = self;
        let byte_level = matches!(splitters.last(), Some(Splitter::ByteLevel { .. }));
        if byte_level != matches!(model, Model::Bpe(_)) {
            let name = if byte_level {
                "ByteLevel without BPE"
            } else {
                "BPE without ByteLevel"
            };
            return Err(TokenizerError::Unsupported {
                part: "pre_tokenizer",
                name: name.into(),
            });
        }
        let added = AddedTokens::new(added, |token| model.token_to_id(token), model.vocab_size())?;
        let plain = added.matcher(false, str::to_owned)?;
        let normalized = added.matcher(true, |token| chain.normalize(token))?;
        let road = match (&model, bert) {
            (Model::WordPiece(model), Some(flags)) if normalized.longest() == 0 => {
                Road::Bert(Box::new(Bert::new(flags, model)))
            }
            (Model::Bpe(_), _) if chain.is_empty() && splitters.len() == 1 => Road::Bytes,
            _ => Road::General,
        };
        let looks_inside = normalized.longest() > 0;
        let direct = if looks_inside {
            None
        } else {
            Direct::new(&chain, &splitters, &model)
        };
        Ok(Tokenizer {
            direct,
            model,
            chain,
            splitters,
            added,
            plain,
            normalized,
            template,
            decoder,
            road,
            bert,
        })
    }
}

fn model(model: &ModelJson) -> Result<Model, TokenizerError> {
    match model.rest["type"].as_str() {
        Some("WordPiece") => Ok(Model::WordPiece(WordPiece::from_json(model)?)),
        Some("Unigram") => Ok(Model::Unigram(Unigram::from_json(model)?)),
        Some("BPE") => Ok(Model::Bpe(Box::new(Bpe::from_json(model)?))),
        Some(other) => Err(TokenizerError::Unsupported {
            part: "model",
            name: short(other),
        }),
        None if model.rest["merges"].is_array() => Ok(Model::Bpe(Box::new(Bpe::from_json(model)?))),
        None if model.rest["continuing_subword_prefix"].is_string() => {
            Ok(Model::WordPiece(WordPiece::from_json(model)?))
        }
        None => Err(TokenizerError::Malformed("the model has no type".into())),
    }
}
