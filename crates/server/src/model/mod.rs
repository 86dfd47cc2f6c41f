//! Where the model comes from: a directory, or the one inside the binary.

mod embedded;

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use plimsoll_encoder::{Format, JSON_BYTES_MAX, LoadError, Model, Pooling};
use plimsoll_engine::Prompt;
use plimsoll_memory::read_file;
use plimsoll_text::{BertOptions, Tokenizer, TokenizerError};
use serde::Deserialize;

/// Name of the model inside the binary.
pub const EMBEDDED_ID: &str = "plimsoll-e5-6";
/// Bytes of its weights.
pub const EMBEDDED_WEIGHT_BYTES: usize = embedded::WEIGHT_BYTES;

/// A model with all that belongs to it.
pub struct Loaded {
    /// Weights and heads.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its prompts.
    pub prompts: Vec<Prompt>,
    /// The prompt for requests that name none.
    pub default_prompt: Option<String>,
    /// The directory, or the name of the model inside the binary.
    pub id: String,
    /// What tells this model from another, or from itself at another time.
    pub revision: String,
}

impl Loaded {
    /// The same with a head of `plimsoll tune`.
    ///
    /// # Errors
    /// [`ModelError::Head`].
    pub fn with_head(mut self, path: &Path) -> Result<Loaded, ModelError> {
        let failed = |source| ModelError::Head {
            path: path.to_owned(),
            source,
        };
        self.model = self.model.with_head_dir(path).map_err(failed)?;
        Ok(self)
    }
}

/// Why a model cannot be loaded. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no such directory.
    #[error(
        "model {id}: no such directory (models are not fetched from a hub: give the path of a local directory)"
    )]
    Missing {
        /// What was asked for.
        id: String,
    },
    /// The weights or their configuration.
    #[error("model {id}: {source}")]
    Load {
        /// Which model.
        id: String,
        /// What is wrong.
        source: LoadError,
    },
    /// A head beside the model.
    #[error("--head {}: {source}", path.display())]
    Head {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// There is neither `tokenizer.json` nor `vocab.txt`.
    #[error("model {id}: no tokenizer.json and no vocab.txt")]
    NoTokenizer {
        /// Which model.
        id: String,
    },
    /// The tokenizer.
    #[error("model {id}: {file}: {source}")]
    Tokenizer {
        /// Which model.
        id: String,
        /// Which file.
        file: &'static str,
        /// What is wrong.
        source: TokenizerError,
    },
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A JSON file that is not what it should be.
    #[error("model {id}: {file}: {source}")]
    Json {
        /// Which model.
        id: String,
        /// Which file.
        file: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A pooling that nobody knows.
    #[error("--pooling {name}: expected mean, cls, last-token or max")]
    Pooling {
        /// What was asked for.
        name: String,
    },
}

/// `config_sentence_transformers.json`, as far as it matters.
#[derive(Default, Deserialize)]
struct SentenceTransformers {
    #[serde(default)]
    prompts: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    default_prompt_name: Option<String>,
}

/// `tokenizer_config.json`, as far as `vocab.txt` needs it.
#[derive(Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    do_lower_case: bool,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: bool,
    do_basic_tokenize: bool,
    tokenizer_class: Option<String>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            do_lower_case: true,
            strip_accents: None,
            tokenize_chinese_chars: true,
            do_basic_tokenize: true,
            tokenizer_class: None,
        }
    }
}

/// Classes that read `vocab.txt` as `BertTokenizer` does, without the `Fast` behind some.
const BERT_CLASSES: [&str; 3] = ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"];

impl TokenizerConfig {
    fn options(self) -> Result<BertOptions, TokenizerError> {
        let unsupported = |part, name| Err(TokenizerError::Unsupported { part, name });
        if let Some(class) = self.tokenizer_class {
            let slow = class.strip_suffix("Fast").unwrap_or(&class);
            if !BERT_CLASSES.contains(&slow) {
                return unsupported("tokenizer_class", class.chars().take(64).collect());
            }
        }
        if !self.do_basic_tokenize {
            return unsupported("do_basic_tokenize", "false".into());
        }
        Ok(BertOptions {
            lowercase: self.do_lower_case,
            strip_accents: self.strip_accents,
            handle_chinese_chars: self.tokenize_chinese_chars,
        })
    }
}

/// Loads the directory `id`, or the model inside the binary.
///
/// # Errors
/// [`ModelError`], one line that names the file.
pub fn load(id: Option<&str>, format: Option<Format>, pooling: Option<&str>) -> Result<Loaded, ModelError> {
    let mut loaded = match id {
        None => embedded::load(format)?,
        Some(id) => load_dir(id, format)?,
    };
    if let Some(name) = pooling {
        let all = [Pooling::Mean, Pooling::Cls, Pooling::LastToken, Pooling::Max];
        let pooling = all.into_iter().find(|pooling| pooling.name() == name);
        let pooling = pooling.ok_or_else(|| ModelError::Pooling {
            name: name.to_owned(),
        })?;
        loaded.model = loaded.model.with_pooling(pooling);
    }
    Ok(loaded)
}

fn load_dir(id: &str, format: Option<Format>) -> Result<Loaded, ModelError> {
    let path = Path::new(id);
    if !path.is_dir() {
        return Err(ModelError::Missing { id: id.to_owned() });
    }
    let (model, tokenizer) = side_by_side(
        || {
            Model::load_dir_as(path, format).map_err(|source| ModelError::Load {
                id: id.to_owned(),
                source,
            })
        },
        || tokenizer(id, path),
    );
    let (model, mut tokenizer) = (model?, tokenizer?);
    if let Some(file) = model.info().lower_case_by {
        tokenizer = tokenizer.with_lower_case().map_err(failed(id, file))?;
    }
    let bytes = read(&path.join("config_sentence_transformers.json"), JSON_BYTES_MAX)?;
    let (prompts, default_prompt) = prompts(id, bytes.as_deref())?;
    Ok(Loaded {
        model,
        tokenizer,
        prompts,
        default_prompt,
        id: id.to_owned(),
        revision: revision(id, path)?,
    })
}

/// Runs both at the same time: weights and tokenizer take most of a start, and know nothing of each other.
fn side_by_side<A, B: Send>(one: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> (A, B) {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        (one, other.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// The directory with the length and the time of its weights.
fn revision(id: &str, path: &Path) -> Result<String, ModelError> {
    let path = path.join("model.safetensors");
    let failed = |source| ModelError::Io {
        path: path.clone(),
        source,
    };
    let file = fs::metadata(&path).map_err(failed)?;
    let changed = file.modified().map_err(failed)?;
    let since = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{id} {} {}", file.len(), since.as_nanos()))
}

fn failed(id: &str, file: &'static str) -> impl FnOnce(TokenizerError) -> ModelError {
    let id = id.to_owned();
    move |source| ModelError::Tokenizer { id, file, source }
}

fn tokenizer(id: &str, path: &Path) -> Result<Tokenizer, ModelError> {
    const CONFIG: &str = "tokenizer_config.json";
    if let Some(bytes) = read(&path.join("tokenizer.json"), Tokenizer::FILE_BYTES_MAX)? {
        return Tokenizer::from_json(&bytes).map_err(failed(id, "tokenizer.json"));
    }
    let Some(vocab) = read(&path.join("vocab.txt"), Tokenizer::FILE_BYTES_MAX)? else {
        return Err(ModelError::NoTokenizer { id: id.to_owned() });
    };
    let config: TokenizerConfig = match read(&path.join(CONFIG), JSON_BYTES_MAX)? {
        Some(bytes) => json(id, CONFIG, &bytes)?,
        None => TokenizerConfig::default(),
    };
    let options = config.options().map_err(failed(id, CONFIG))?;
    Tokenizer::from_vocab_txt(&vocab, options).map_err(failed(id, "vocab.txt"))
}

fn prompts(id: &str, bytes: Option<&[u8]>) -> Result<(Vec<Prompt>, Option<String>), ModelError> {
    let config: SentenceTransformers = match bytes {
        Some(bytes) => json(id, "config_sentence_transformers.json", bytes)?,
        None => SentenceTransformers::default(),
    };
    let prompts = config
        .prompts
        .into_iter()
        .map(|(name, text)| Prompt { name, text })
        .collect();
    Ok((prompts, config.default_prompt_name))
}

fn json<'a, T: Deserialize<'a>>(id: &str, file: &'static str, bytes: &'a [u8]) -> Result<T, ModelError> {
    serde_json::from_slice(bytes).map_err(|source| ModelError::Json {
        id: id.to_owned(),
        file,
        source,
    })
}

/// A file's bytes; `None` when there is no such file.
fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, ModelError> {
    match read_file(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
