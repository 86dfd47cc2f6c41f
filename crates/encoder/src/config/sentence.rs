//! What sentence-transformers keeps beside `config.json`: `modules.json`, `1_Pooling/config.json` and `sentence_bert_config.json`.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::{parse, pooling, short};
use crate::error::LoadError;
use crate::info::Pooling;

/// Names of the transformer module's own configuration, in the order in which they are looked for; each architecture had one of its own once.
pub(crate) const SENTENCE_BERT_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// One entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// What `modules.json` asks for behind the transformer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Modules {
    /// Directory of the pooling module.
    pub(crate) pooling_path: Option<String>,
    pub(crate) normalize: bool,
}

impl Modules {
    pub(crate) fn parse(json: &[u8]) -> Result<Modules, LoadError> {
        const FILE: &str = "modules.json";
        let mut modules = Modules::default();
        for module in parse::<Vec<Module>>(FILE, json)? {
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            match kind {
                "Transformer" => {}
                "Normalize" => modules.normalize = true,
                "Pooling" => {
                    let path = Path::new(&module.path);
                    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
                    if !is_below || module.path.is_empty() {
                        let reason = format!(
                            "the path {:?} is not one below the directory",
                            short(&module.path)
                        );
                        return Err(LoadError::Config { file: FILE, reason });
                    }
                    modules.pooling_path = Some(module.path);
                }
                other => {
                    return Err(LoadError::Unsupported(format!(
                        "module {} in modules.json",
                        short(other)
                    )));
                }
            }
        }
        Ok(modules)
    }
}

/// The pooling module's configuration.
#[derive(Debug)]
pub(crate) struct PoolingModule {
    pub(crate) pooling: Pooling,
    /// Whether a prompt's tokens are among those that are joined.
    pub(crate) include_prompt: bool,
}

impl Default for PoolingModule {
    fn default() -> Self {
        PoolingModule {
            pooling: Pooling::Mean,
            include_prompt: true,
        }
    }
}

impl PoolingModule {
    pub(crate) fn parse(json: &[u8]) -> Result<PoolingModule, LoadError> {
        let fields: BTreeMap<String, serde_json::Value> = parse(POOLING_FILE, json)?;
        Ok(PoolingModule {
            pooling: mode(&fields)?,
            include_prompt: fields.get("include_prompt") != Some(&serde_json::Value::Bool(false)),
        })
    }
}

const POOLING_FILE: &str = "1_Pooling/config.json";

fn mode(fields: &BTreeMap<String, serde_json::Value>) -> Result<Pooling, LoadError> {
    const PREFIX: &str = "pooling_mode_";
    if let Some(mode) = fields.get("pooling_mode").and_then(|mode| mode.as_str()) {
        return pooling(mode);
    }
    let on = |(name, value): (&String, &serde_json::Value)| {
        name.strip_prefix(PREFIX)
            .filter(|_| value == &serde_json::Value::Bool(true))
            .map(String::from)
    };
    let modes: Vec<String> = fields.iter().filter_map(on).collect();
    match &modes[..] {
        [mode] => match mode.as_str() {
            "mean_tokens" => Ok(Pooling::Mean),
            "cls_token" => Ok(Pooling::Cls),
            "lasttoken" => Ok(Pooling::LastToken),
            "max_tokens" => Ok(Pooling::Max),
            other => Err(LoadError::Unsupported(format!("{PREFIX}{}", short(other)))),
        },
        [] => Err(LoadError::Config {
            file: POOLING_FILE,
            reason: "no pooling mode is on".into(),
        }),
        several => Err(LoadError::Unsupported(format!(
            "{} pooling modes joined",
            several.len()
        ))),
    }
}

/// The transformer module's own configuration, as far as it matters.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SentenceBert {
    /// The largest number of tokens.
    pub(crate) max_seq_length: Option<usize>,
    /// Whether texts are lower-cased before the tokenizer reads them.
    pub(crate) do_lower_case: Option<bool>,
}

impl SentenceBert {
    pub(crate) fn parse(file: &'static str, json: &[u8]) -> Result<SentenceBert, LoadError> {
        let config = parse::<SentenceBert>(file, json)?;
        if config.max_seq_length == Some(0) {
            let reason = "max_seq_length is 0".into();
            return Err(LoadError::Config { file, reason });
        }
        Ok(config)
    }
}
