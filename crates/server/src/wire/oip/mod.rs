//! Inference requests of the Open Inference Protocol, version 2, as KServe and Triton have it.
//!
//! A request is a list of input tensors and the names of the wanted outputs. Ours are texts in and what the model makes of them out:
//!
//! | input | datatype | shape | what |
//! |---|---|---|---|
//! | `text` | BYTES | `[n]` or `[n, 1]` | UTF-8, none empty |
//! | `text_pair` | BYTES | as `text` | the second text of each pair, for models that judge pairs; optional |
//!
//! Outputs are [`Output`]. They come as JSON with raw bytes behind it ([`json`]) or as protobuf over gRPC ([`message`]); both lay the same bytes of a
//! BYTES tensor down, read here: for each text its length as a little-endian `u32`, then the text.

pub mod json;
pub mod message;

use plimsoll_engine::{Inputs, JobOptions, Span, Tasks};

use super::body::{overflow, unsaid};
use super::{Abilities, Request, Shape, WireError};

/// The only version of the model.
pub const MODEL_VERSION: &str = "1";

/// An output tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// FP32 `[n, d]`: a vector a text.
    Embedding,
    /// BYTES `[n]`: JSON, the list that `/v1/analyze` has under this name; so for the next two.
    Words,
    /// BYTES `[n]`: JSON.
    Entities,
    /// BYTES `[n]`: JSON, the best label with its score.
    Sentiment,
    /// FP32 `[n, labels]`: the score of each label, in the model's order.
    Scores,
    /// INT32 `[n]`: how many tokens each text has.
    TokenCount,
    /// BOOL `[n]`: whether something has not read the whole text.
    Truncated,
}

/// How many outputs there are.
pub const OUTPUTS: usize = 7;

impl Output {
    /// All of them.
    pub const ALL: [Output; OUTPUTS] = [
        Output::Embedding,
        Output::Words,
        Output::Entities,
        Output::Sentiment,
        Output::Scores,
        Output::TokenCount,
        Output::Truncated,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Output::Embedding => "embedding",
            Output::Words => "words",
            Output::Entities => "entities",
            Output::Sentiment => "sentiment",
            Output::Scores => "scores",
            Output::TokenCount => "token_count",
            Output::Truncated => "truncated",
        }
    }

    /// Its datatype.
    pub const fn datatype(self) -> &'static str {
        match self {
            Output::Embedding | Output::Scores => "FP32",
            Output::Words | Output::Entities | Output::Sentiment => "BYTES",
            Output::TokenCount => "INT32",
            Output::Truncated => "BOOL",
        }
    }

    /// What has to be done for it.
    pub const fn tasks(self) -> Tasks {
        match self {
            Output::Embedding => Tasks::EMBEDDING,
            Output::Words => Tasks::WORDS,
            Output::Entities => Tasks::ENTITIES,
            Output::Sentiment | Output::Scores => Tasks::CLASSES,
            Output::TokenCount | Output::Truncated => Tasks::TOKEN_COUNT,
        }
    }

    /// Whether the model gives it.
    pub fn is_given(self, abilities: &Abilities) -> bool {
        match self {
            // The one score of a reranker is no sentiment.
            Output::Sentiment => abilities.tasks.has(Tasks::CLASSES) && abilities.classes > 1,
            Output::TokenCount | Output::Truncated => true,
            other => abilities.tasks.has(other.tasks()),
        }
    }

    /// Whether it is defined for a pair of texts.
    const fn is_of_pairs(self) -> bool {
        !matches!(self, Output::Words | Output::Entities)
    }

    fn named(name: &[u8]) -> Option<Output> {
        Output::ALL
            .into_iter()
            .find(|output| output.name().as_bytes() == name)
    }
}

/// The outputs of a request, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    list: [(Output, bool); OUTPUTS],
    len: usize,
}

impl Outputs {
    const NONE: Outputs = Outputs {
        list: [(Output::Embedding, false); OUTPUTS],
        len: 0,
    };

    /// Them, each with whether it leaves as raw bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Output, bool)> + '_ {
        self.list[..self.len].iter().copied()
    }

    /// Adds one, at the name `outputs[place]`.
    fn push(
        &mut self,
        name: &[u8],
        place: usize,
        is_raw: bool,
        abilities: &Abilities,
    ) -> Result<(), WireError> {
        let fault = |fault| WireError::Tensor {
            field: "outputs",
            place,
            element: None,
            fault,
        };
        let output = Output::named(name).ok_or(fault(Fault::UnknownOutput))?;
        if !output.is_given(abilities) {
            return Err(WireError::CannotDo { task: output.name() });
        }
        if self.iter().any(|(known, _)| known == output) {
            return Err(fault(Fault::Twice));
        }
        self.list[self.len] = (output, is_raw);
        self.len += 1;
        Ok(())
    }

    /// All that the model gives, where a request names none.
    fn or_all(mut self, pairs: bool, is_raw: bool, abilities: &Abilities) -> Outputs {
        if self.len == 0 {
            for output in Output::ALL {
                if output.is_given(abilities) && (output.is_of_pairs() || !pairs) {
                    self.list[self.len] = (output, is_raw);
                    self.len += 1;
                }
            }
        }
        self
    }

    fn tasks(&self) -> Tasks {
        self.iter()
            .fold(Tasks::NONE, |sum, (output, _)| sum.with(output.tasks()))
    }

    /// Them without those of some tasks.
    pub fn without(&self, left_out: Tasks) -> Outputs {
        let mut kept = Outputs::NONE;
        for one in self.iter().filter(|(output, _)| !left_out.any(output.tasks())) {
            kept.list[kept.len] = one;
            kept.len += 1;
        }
        kept
    }
}

/// How an answer is laid down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON, with what is wanted raw behind it.
    Json,
    /// A `ModelInferResponse` behind its length, as gRPC has it.
    Message,
}

/// What is wrong with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its name is not one of the inputs.
    UnknownInput,
    /// Its name is not one of the outputs.
    UnknownOutput,
    /// It is there twice.
    Twice,
    /// It is not BYTES.
    Datatype,
    /// Its shape is not `[n]` or `[n, 1]`.
    Shape,
    /// Its shape names another number of elements than it has.
    Elements,
    /// It, or an element of it, is empty.
    Empty,
    /// An element goes on behind its end, or something follows the last.
    Bytes,
    /// An element is not UTF-8.
    NotUtf8,
    /// It has neither `data` nor raw bytes, or both.
    NoData,
    /// The pairs have not as many second texts as first.
    Pairs,
}

impl Fault {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Fault::UnknownInput => "the model's inputs are `text` and `text_pair`",
            Fault::UnknownOutput => "the model has no such output; its metadata lists them",
            Fault::Twice => "given twice",
            Fault::Datatype => "expected the datatype BYTES",
            Fault::Shape => "expected the shape [n] or [n, 1]",
            Fault::Elements => "its shape names another number of elements than it has",
            Fault::Empty => "cannot be empty",
            Fault::Bytes => "expected a length and a text of that length",
            Fault::NotUtf8 => "not valid UTF-8",
            Fault::NoData => "expected its elements once: as data or as raw bytes",
            Fault::Pairs => "expected as many elements as `text` has",
        }
    }
}

/// Triton's extensions that are not served.
const CLASSIFICATION: WireError = WireError::NotServed {
    field: "classification",
    instead: "ask for the outputs `sentiment` or `scores`",
};
const SHARED_MEMORY: WireError = WireError::NotServed {
    field: "shared_memory_region",
    instead: "send the tensor with the request",
};

/// Which input a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Text,
    Pair,
}

impl Input {
    fn named(name: &[u8]) -> Option<Input> {
        match name {
            b"text" => Some(Input::Text),
            b"text_pair" => Some(Input::Pair),
            _ => None,
        }
    }
}

/// What is wrong with the input tensor at a place of the request.
fn input_fault(place: usize, fault: Fault) -> WireError {
    WireError::Tensor {
        field: "inputs",
        place,
        element: None,
        fault,
    }
}

/// Where the elements of a tensor go.
struct Texts<'a, 'b> {
    inputs: &'a mut Inputs<'b>,
    input: Input,
    /// Its place in the request, for refusals.
    place: usize,
    count: usize,
    count_max: usize,
}

impl Texts<'_, '_> {
    fn fault(&self, fault: Fault) -> WireError {
        input_fault(self.place, fault)
    }

    /// What is wrong with the element that comes next.
    fn element_fault(&self, fault: Fault) -> WireError {
        WireError::Tensor {
            field: "inputs",
            place: self.place,
            element: Some(self.count),
            fault,
        }
    }

    fn push(&mut self, text: Span) -> Result<(), WireError> {
        if text.len == 0 {
            return Err(self.element_fault(Fault::Empty));
        }
        match self.input {
            Input::Text if self.count == self.count_max => {
                return Err(WireError::TooMany {
                    field: "inputs",
                    count: self.count + 1,
                    count_max: self.count_max,
                });
            }
            Input::Text => self.inputs.push_text(text).map_err(|error| WireError::TooMany {
                field: "inputs",
                count: self.count + 1,
                count_max: error.inputs_max,
            })?,
            Input::Pair if self.count == self.inputs.len() => return Err(self.fault(Fault::Pairs)),
            Input::Pair => self.inputs.pair(self.count, text),
        }
        self.count += 1;
        Ok(())
    }

    /// Reads the bytes of a BYTES tensor, which lie from `start` in the body.
    fn push_raw(&mut self, mut raw: &[u8], mut start: usize) -> Result<(), WireError> {
        while !raw.is_empty() {
            let (length, rest) = raw.split_first_chunk().ok_or(self.element_fault(Fault::Bytes))?;
            let length = u32::from_le_bytes(*length);
            let (text, rest) = rest
                .split_at_checked(length as usize)
                .ok_or(self.element_fault(Fault::Bytes))?;
            self.push_bytes(text, start + size_of_val(&length))?;
            start += size_of_val(&length) + text.len();
            raw = rest;
        }
        Ok(())
    }

    /// An element whose bytes lie from `start` in the body.
    fn push_bytes(&mut self, text: &[u8], start: usize) -> Result<(), WireError> {
        if std::str::from_utf8(text).is_err() {
            return Err(self.element_fault(Fault::NotUtf8));
        }
        self.push(Span {
            start: start as u32,
            len: text.len() as u32,
        })
    }

    /// Checks the number of elements against the one that the shape names.
    fn end(&self, elements: usize) -> Result<(), WireError> {
        if self.count == 0 {
            return Err(self.fault(Fault::Empty));
        }
        if self.count != elements {
            return Err(self.fault(Fault::Elements));
        }
        if self.input == Input::Pair && self.count != self.inputs.len() {
            return Err(self.fault(Fault::Pairs));
        }
        Ok(())
    }
}

/// The number of elements of a shape, `[n]` or `[n, 1]`: nothing else is a list of texts.
fn elements(dimensions: impl IntoIterator<Item = u64>) -> Option<usize> {
    let mut dimensions = dimensions.into_iter();
    let count = dimensions.next()?;
    let rest = (dimensions.next(), dimensions.next());
    matches!(rest, (None | Some(1), None)).then_some(usize::try_from(count).ok()?)
}

/// The request, once its tensors were read.
fn request(
    outputs: Outputs,
    pairs: bool,
    id: Option<Span>,
    encoding: Encoding,
    abilities: &Abilities,
) -> Request {
    let tasks = outputs.tasks();
    let classes_alone = tasks.without(Tasks::TOKEN_COUNT) == Tasks::CLASSES;
    let options = JobOptions {
        wanted: tasks.without(Tasks::TOKEN_COUNT),
        overflow: match pairs || classes_alone {
            true => overflow(abilities.auto_truncate, false),
            false => unsaid(abilities, tasks),
        },
        prompt: match classes_alone {
            true => abilities.class_prompt(),
            false => abilities.default_prompt,
        },
        ..JobOptions::new(tasks.with(Tasks::TOKEN_COUNT))
    };
    let shape = Shape::Infer {
        outputs,
        dropped: Tasks::NONE,
        id,
        encoding,
    };
    Request::new(options, shape, false)
}
