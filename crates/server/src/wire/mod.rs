//! What requests look like: bodies of three families read into [`Inputs`] and [`JobOptions`].
//!
//! Only this crate knows a wire format. Each reader takes the body where it lies, hands the places of its texts to the engine and says in a
//! [`Request`] how the answer is to be shaped; nothing is copied and nothing is allocated, also not for a refusal.
//!
//! | family | unknown fields | batch limit | reader |
//! |---|---|---|---|
//! | own (`/v1/analyze`) | refused by name | [`Abilities::inputs_max`] | [`analyze`] |
//! | text-embeddings-inference | ignored, as it does | [`Abilities::batch_max`] | [`tei`] |
//! | OpenAI, with `/v1/rerank` and `/v1/classify` beside | ignored, as it does | [`Abilities::inputs_max`] | [`openai`], [`rerank`], [`classify`] |
//! | Open Inference Protocol, JSON and protobuf | ignored | [`Abilities::inputs_max`] | [`oip`] |
//! | Hugging Face's `/ner` | ignored | [`Abilities::batch_max`] | [`ner`] |
//! | HanLP's `/parse` | ignored | [`Abilities::batch_max`] | [`hanlp`] |

use std::fmt;
use std::sync::Arc;

use plimsoll_engine::{Inputs, JobOptions, PromptId, Span, Tasks};

use crate::json::{ErrorKind, JsonError};
use oip::{Encoding, Fault, Outputs};

pub mod analyze;
mod body;
pub mod classify;
pub mod hanlp;
pub mod ner;
pub mod oip;
pub mod openai;
pub mod rerank;
pub mod tei;

/// What the loaded model can do and what the operator allows: all that reading a body depends on.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Tasks that the model can do.
    pub tasks: Tasks,
    /// Labels of the sequence head.
    pub classes: usize,
    /// Whether embedding is what the model is for, whatever heads it has beside.
    pub embeds_first: bool,
    /// Kinds of entities, as `PER`.
    pub entities: Vec<String>,
    /// Width of an embedding.
    pub dimensions: usize,
    /// Names by which requests may call the model; the first is what answers call it.
    pub names: Vec<Arc<str>>,
    /// Names of the prompts, in the engine's order.
    pub prompts: Vec<String>,
    /// The prompt for requests that name none.
    pub default_prompt: Option<PromptId>,
    /// Whether long texts are cut where a request does not say.
    pub auto_truncate: bool,
    /// Texts in one request of the text-embeddings-inference routes.
    pub batch_max: usize,
    /// Texts in one request of the other routes.
    pub inputs_max: usize,
}

/// A request as read: what the engine does and how its answer is written.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// For the engine.
    pub options: JobOptions,
    /// For the answer's writer.
    pub shape: Shape,
    /// The session that the body names, where it lies.
    pub session: Option<Span>,
    /// Its one input did not come in a list.
    pub single: bool,
}

/// What a route calls one of its inputs: `inputs[3]`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field.
    pub name: &'static str,
    /// Which of its items, where it is a list.
    pub index: Option<usize>,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

impl Request {
    fn new(options: JobOptions, shape: Shape, single: bool) -> Self {
        Request {
            options,
            shape,
            session: None,
            single,
        }
    }

    /// What the route calls an input of this request.
    pub fn field(&self, index: usize) -> Field {
        let name = match self.shape {
            Shape::Analyze { .. } | Shape::Parse { .. } | Shape::Infer { .. } => "text",
            Shape::Embed | Shape::EmbedAll | Shape::Predict { .. } | Shape::Tokenize | Shape::Ner { .. } => {
                "inputs"
            }
            Shape::Similarity if index == 0 => "inputs.source_sentence",
            Shape::Similarity => "inputs.sentences",
            Shape::Rerank { .. } => "texts",
            Shape::Documents { .. } => "documents",
            Shape::Decode { .. } => "ids",
            Shape::OpenAi { .. } | Shape::Classify => "input",
        };
        let index = match self.shape {
            Shape::Similarity => index.checked_sub(1),
            _ => (!self.single).then_some(index),
        };
        Field { name, index }
    }
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// `/v1/analyze`.
    Analyze {
        /// What every result holds.
        tasks: Tasks,
        /// What was asked for beside them and is left out, because memory is short.
        dropped: Tasks,
        /// One text came in, so one object goes out.
        single: bool,
    },
    /// `/embed`: `[[f32]]`.
    Embed,
    /// `/embed_all`: `[[[f32]]]`.
    EmbedAll,
    /// `/predict`.
    Predict {
        /// Not a batch: the list of classes is not nested.
        single: bool,
        /// Logits instead of probabilities.
        raw_scores: bool,
        /// No more classes than so many, best first.
        top: usize,
    },
    /// `/rerank`.
    Rerank {
        /// Logits instead of probabilities.
        raw_scores: bool,
        /// Texts come back.
        return_text: bool,
    },
    /// `/similarity`: `[f32]`.
    Similarity,
    /// `/tokenize`.
    Tokenize,
    /// `/decode`.
    Decode {
        /// Leave special tokens out.
        skip_special_tokens: bool,
    },
    /// `/v1/embeddings`.
    OpenAi {
        /// Vectors as base64 of little-endian `f32`.
        base64: bool,
    },
    /// `/v1/rerank`.
    Documents {
        /// No more than so many, best first.
        top: usize,
        /// Documents come back.
        return_documents: bool,
    },
    /// `/v1/classify`.
    Classify,
    /// `/ner`.
    Ner {
        /// Not a batch: the list of entities is not nested.
        single: bool,
        /// Which of [`Abilities::entities`] are left out, by their bits.
        ignored: u128,
    },
    /// An inference of the Open Inference Protocol.
    Infer {
        /// Its output tensors.
        outputs: Outputs,
        /// What was asked for beside them and is left out, because memory is short.
        dropped: Tasks,
        /// The request's name for itself, where it lies.
        id: Option<Span>,
        /// How they are laid down.
        encoding: Encoding,
    },
    /// `/parse`.
    Parse {
        /// Words, entities, or both.
        tasks: Tasks,
        /// What is left out, because memory is short: asked for or not, entities are counted in words.
        dropped: Tasks,
    },
}

impl Shape {
    /// The shape of an answer in which some tasks were not done.
    pub fn without(self, left_out: Tasks) -> Shape {
        match self {
            Shape::Analyze { tasks, single, .. } => Shape::Analyze {
                tasks: tasks.without(left_out),
                dropped: left_out,
                single,
            },
            Shape::Infer {
                outputs,
                id,
                encoding,
                ..
            } => Shape::Infer {
                outputs: outputs.without(left_out),
                dropped: left_out,
                id,
                encoding,
            },
            Shape::Parse { tasks, .. } => Shape::Parse {
                tasks: tasks.without(left_out),
                dropped: left_out,
            },
            other => other,
        }
    }
}

/// Reads a body. All readers of this module are of this type.
pub type Read = fn(&mut [u8], &mut Inputs<'_>, &Abilities) -> Result<Request, WireError>;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It is not the JSON that the route takes.
    Json(JsonError),
    /// Nothing is left to do, or nothing to do it with.
    Empty {
        /// Where.
        field: &'static str,
    },
    /// More texts than a request may hold.
    TooMany {
        /// Where.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        count_max: usize,
    },
    /// The model has no head for it.
    CannotDo {
        /// The task's name in the route's words.
        task: &'static str,
    },
    /// Something that the protocol has and this server does not.
    NotServed {
        /// The field.
        field: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// A tensor of the Open Inference Protocol.
    Tensor {
        /// `inputs` or `outputs`.
        field: &'static str,
        /// Which of them.
        place: usize,
        /// Which of its elements, where it is one of them.
        element: Option<usize>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A query, read again with each of many texts, makes more text than one request may have.
    Paired {
        /// Bytes of all pairs.
        bytes: usize,
    },
    /// Tensors that are sent raw take more or fewer bytes than there are, or are more or fewer than the inputs.
    RawBytes,
    /// It is not the protobuf message that the method takes.
    Message {
        /// The byte at which that was noticed.
        offset: usize,
    },
    /// Another model than the one that is served.
    UnknownModel {
        /// What that one is called.
        served: Arc<str>,
    },
    /// Another version than the one there is.
    UnknownVersion,
    /// A prompt that the model does not have.
    UnknownPrompt,
    /// More dimensions than the model has, or none.
    Dimensions {
        /// How many there are.
        dimensions_max: usize,
    },
}

impl From<JsonError> for WireError {
    fn from(error: JsonError) -> Self {
        WireError::Json(error)
    }
}

impl WireError {
    /// The field that is to blame, without indices; `None` for the body as a whole.
    pub fn field(&self) -> Option<&str> {
        match self {
            WireError::Json(JsonError {
                kind: ErrorKind::MissingField { name },
                ..
            }) => Some(name),
            WireError::Json(error) => error
                .path()
                .split(['.', '['])
                .next()
                .filter(|field| !field.is_empty()),
            WireError::Empty { field } | WireError::TooMany { field, .. } => Some(field),
            WireError::CannotDo { .. } | WireError::Message { .. } => None,
            WireError::Tensor { field, .. } => Some(field),
            WireError::Paired { .. } => Some("query"),
            WireError::RawBytes => Some("inputs"),
            WireError::UnknownVersion => Some("model_version"),
            WireError::NotServed { field, .. } => Some(field),
            WireError::UnknownModel { .. } => Some("model"),
            WireError::UnknownPrompt => Some("prompt_name"),
            WireError::Dimensions { .. } => Some("dimensions"),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Json(error) => error.fmt(f),
            WireError::Empty { field } => write!(f, "`{field}` cannot be empty"),
            WireError::TooMany {
                field,
                count,
                count_max,
            } => {
                write!(
                    f,
                    "{field}: batch size {count} > maximum allowed batch size {count_max}"
                )
            }
            WireError::CannotDo { task } => {
                write!(f, "the loaded model cannot do {task}: it has no head for it")
            }
            WireError::NotServed { field, instead } => write!(f, "{field}: not served here; {instead}"),
            WireError::Tensor {
                field,
                place,
                element,
                fault,
            } => {
                write!(f, "{field}[{place}]")?;
                if let Some(element) = element {
                    write!(f, ", element {element}")?;
                }
                write!(f, ": {}", fault.text())
            }
            WireError::Paired { bytes } => write!(
                f,
                "query: it is read with each text, {bytes} bytes in all; the limit is {}",
                body::PAIRED_BYTES_MAX
            ),
            WireError::RawBytes => {
                f.write_str("inputs: the raw bytes of the tensors are not those that the request declares")
            }
            WireError::Message { offset } => {
                write!(f, "body: not the message that is expected (byte {offset})")
            }
            WireError::UnknownVersion => {
                write!(f, "model_version: there is version {} alone", oip::MODEL_VERSION)
            }
            WireError::UnknownModel { served } => {
                write!(f, "model: no such model is served here, only {served}")
            }
            WireError::UnknownPrompt => f.write_str("prompt_name: the model has no such prompt"),
            WireError::Dimensions { dimensions_max } => {
                write!(
                    f,
                    "dimensions: expected a whole number from 1 to {dimensions_max}"
                )
            }
        }
    }
}

impl std::error::Error for WireError {}

impl Abilities {
    /// Checks that a request means the model that is served.
    pub fn check_model(&self, name: &[u8]) -> Result<(), WireError> {
        if self.names.iter().any(|known| known.as_bytes() == name) {
            return Ok(());
        }
        let served = Arc::clone(&self.names[0]);
        Err(WireError::UnknownModel { served })
    }

    /// What goes in front of texts that are classified: a head beside an encoder learnt from what that one reads, texts behind its prompt.
    fn class_prompt(&self) -> Option<PromptId> {
        self.default_prompt.filter(|_| self.embeds_first)
    }

    /// Checks that the model can do what a route is for.
    fn need(&self, tasks: Tasks, task: &'static str) -> Result<(), WireError> {
        if self.tasks.has(tasks) {
            Ok(())
        } else {
            Err(WireError::CannotDo { task })
        }
    }
}
