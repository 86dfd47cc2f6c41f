//! What requests look like: bodies of three families read into [`Inputs`] and [`JobOptions`].
//!
//! Only this crate knows a wire format. Each reader takes the body where it lies, hands the places of its texts to the engine and says in a
//! [`Request`] how the answer is to be shaped; nothing is copied and nothing is allocated, also not for a refusal.
//!
//! | family | unknown fields | batch limit | reader |
//! |---|---|---|---|
//! | own (`/v1/analyze`) | refused by name | [`Abilities::inputs_max`] | [`analyze`] |
//! | text-embeddings-inference | ignored, as it does | [`Abilities::batch_max`] | [`tei`] |
//! | OpenAI | ignored, as it does | [`Abilities::inputs_max`] | [`openai`] |

use std::fmt;

use plimsoll_engine::{Inputs, JobOptions, Overflow, PromptId, Tasks};

use crate::json::{ErrorKind, JsonError, Kind, Mark, Reader, Span};

pub mod analyze;
pub mod openai;
pub mod tei;

/// What the loaded model can do and what the operator allows: all that reading a body depends on.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Tasks that the model can do.
    pub tasks: Tasks,
    /// Labels of the sequence head.
    pub classes: usize,
    /// Width of an embedding.
    pub dimensions: usize,
    /// Names by which requests may call the model; the first is what answers call it.
    pub names: Vec<String>,
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
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `/v1/analyze`.
    Analyze {
        /// What every result holds.
        tasks: Tasks,
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
}

/// Reads a body. All readers of this module are of this type.
pub type Read = fn(&mut [u8], &mut Inputs<'_>, &Abilities) -> Result<Request, WireError>;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It is not the JSON that the route takes.
    Json(JsonError),
    /// A text, a list of texts or of ids is empty.
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
    /// Another model than the one that is served.
    UnknownModel,
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
            WireError::CannotDo { .. } => None,
            WireError::UnknownModel => Some("model"),
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
            WireError::UnknownModel => f.write_str("model: no such model is served"),
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
    /// Checks that the model can do what a route is for.
    fn need(&self, tasks: Tasks, task: &'static str) -> Result<(), WireError> {
        if self.tasks.has(tasks) {
            Ok(())
        } else {
            Err(WireError::CannotDo { task })
        }
    }
}

/// A body on its way into the engine's inputs.
struct Body<'a, 'b> {
    reader: Reader<'a>,
    inputs: &'a mut Inputs<'b>,
    /// The field of the texts, for refusals.
    field: &'static str,
    count_max: usize,
}

/// The engine's form of a span.
fn engine_span(span: Span) -> plimsoll_engine::Span {
    plimsoll_engine::Span {
        start: span.start as u32,
        len: span.len as u32,
    }
}

impl<'a, 'b> Body<'a, 'b> {
    fn new(bytes: &'a mut [u8], inputs: &'a mut Inputs<'b>, field: &'static str, count_max: usize) -> Self {
        Body {
            reader: Reader::new(bytes),
            inputs,
            field,
            count_max,
        }
    }

    /// The place of a field of the object just read that must be there.
    fn must(&self, mark: Option<Mark>, name: &'static str) -> Result<Mark, WireError> {
        mark.ok_or_else(|| self.reader.missing(name).into())
    }

    /// Goes to a field that may be absent or `null`; `false` when it is.
    fn optional(&mut self, mark: Option<Mark>) -> Result<bool, JsonError> {
        let Some(mark) = mark else { return Ok(false) };
        self.reader.go_to(mark);
        Ok(!self.reader.null()?)
    }

    fn flag(&mut self, mark: Option<Mark>, default: bool) -> Result<bool, JsonError> {
        if self.optional(mark)? {
            self.reader.boolean()
        } else {
            Ok(default)
        }
    }

    /// A string that is one of `words`, by its index.
    fn word<const N: usize>(&mut self, words: [&str; N], expected: &'static str) -> Result<usize, JsonError> {
        let place = self.reader.mark();
        let span = self.reader.string()?;
        let word = self.reader.bytes(span);
        let index = words.iter().position(|known| known.as_bytes() == word);
        index.ok_or_else(|| {
            self.reader.go_to(place);
            self.reader.error(ErrorKind::BadValue { expected })
        })
    }

    /// A text that is not empty.
    fn text(&mut self) -> Result<plimsoll_engine::Span, WireError> {
        let span = self.reader.string()?;
        if span.len == 0 {
            return Err(WireError::Empty { field: self.field });
        }
        Ok(engine_span(span))
    }

    fn push(
        &mut self,
        first: plimsoll_engine::Span,
        second: Option<plimsoll_engine::Span>,
    ) -> Result<(), WireError> {
        let pushed = match second {
            None => self.inputs.push_text(first),
            Some(second) => self.inputs.push_pair(first, second),
        };
        pushed.map_err(|e| self.too_many(e))
    }

    fn push_text(&mut self) -> Result<(), WireError> {
        let text = self.text()?;
        self.push(text, None)
    }

    /// Reads `[u32]` as one tokenised input; the array is open and its first item comes next.
    fn push_ids(&mut self) -> Result<(), WireError> {
        self.inputs.begin_ids();
        loop {
            let id = self.reader.u32()?;
            self.inputs.push_id(id);
            if !self.reader.next_item()? {
                return self.inputs.end_ids().map_err(|e| self.too_many(e));
            }
        }
    }

    /// A text, or token ids.
    fn push_text_or_ids(&mut self) -> Result<(), WireError> {
        match self.reader.peek()? {
            Kind::String => self.push_text(),
            Kind::Array => {
                self.reader.begin_array()?;
                if !self.reader.next_item()? {
                    return Err(WireError::Empty { field: self.field });
                }
                self.push_ids()
            }
            found => Err(self
                .reader
                .unexpected("a string or an array of token ids", found)
                .into()),
        }
    }

    /// `"a"`, `["a", "b"]`, `[1, 2]` or `["a", [1, 2]]`. Whether it was a single input.
    fn push_batch(&mut self) -> Result<bool, WireError> {
        match self.reader.peek()? {
            Kind::String => self.push_text().map(|()| true),
            Kind::Array => {
                self.reader.begin_array()?;
                if !self.reader.next_item()? {
                    return Err(WireError::Empty { field: self.field });
                }
                if self.reader.peek()? == Kind::Number {
                    return self.push_ids().map(|()| true);
                }
                self.push_each(Self::push_text_or_ids).map(|()| false)
            }
            found => Err(self.reader.unexpected("a string or an array", found).into()),
        }
    }

    /// `["a", "b"]`, not empty.
    fn push_texts(&mut self) -> Result<(), WireError> {
        self.reader.begin_array()?;
        if !self.reader.next_item()? {
            return Err(WireError::Empty { field: self.field });
        }
        self.push_each(Self::push_text)
    }

    /// The items of an array whose first item comes next.
    fn push_each(
        &mut self,
        mut push: impl FnMut(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        loop {
            push(self)?;
            if !self.reader.next_item()? {
                return Ok(());
            }
            self.check_room()?;
        }
    }

    /// Checks that the item that comes next may be one more input; if not, counts how many there are.
    fn check_room(&mut self) -> Result<(), WireError> {
        let mut count = self.inputs.len() + 1;
        if count <= self.count_max {
            return Ok(());
        }
        self.reader.skip_value()?;
        while self.reader.next_item()? {
            self.reader.skip_value()?;
            count += 1;
        }
        Err(WireError::TooMany {
            field: self.field,
            count,
            count_max: self.count_max,
        })
    }

    fn too_many(&self, error: plimsoll_engine::TooManyInputs) -> WireError {
        WireError::TooMany {
            field: self.field,
            count: self.inputs.len() + 1,
            count_max: error.inputs_max,
        }
    }

    fn prompt(&mut self, mark: Option<Mark>, abilities: &Abilities) -> Result<Option<PromptId>, WireError> {
        if !self.optional(mark)? {
            return Ok(abilities.default_prompt);
        }
        let span = self.reader.string()?;
        let name = self.reader.bytes(span);
        let index = abilities
            .prompts
            .iter()
            .position(|prompt| prompt.as_bytes() == name);
        index
            .map(|index| Some(PromptId(index)))
            .ok_or(WireError::UnknownPrompt)
    }

    fn dimensions(&mut self, mark: Option<Mark>, abilities: &Abilities) -> Result<Option<usize>, WireError> {
        if !self.optional(mark)? {
            return Ok(None);
        }
        let dimensions = self.reader.u32()? as usize;
        match (1..=abilities.dimensions).contains(&dimensions) {
            true => Ok(Some(dimensions)),
            false => Err(WireError::Dimensions {
                dimensions_max: abilities.dimensions,
            }),
        }
    }
}

/// What happens to long texts where cutting them is a yes or a no.
fn overflow(truncate: bool, left: bool) -> Overflow {
    match (truncate, left) {
        (false, _) => Overflow::Error,
        (true, false) => Overflow::CutRight,
        (true, true) => Overflow::CutLeft,
    }
}
