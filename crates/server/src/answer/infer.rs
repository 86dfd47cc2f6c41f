//! The answers of the Open Inference Protocol: JSON with raw bytes behind it, or a protobuf message.
//!
//! Both say how long a thing is before it comes. Nothing is kept to be measured: the writers run twice, the first time into a counter.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use plimsoll_engine::{Span, Tasks};

use super::scores::Scores;
use super::{Out, Source, analyze};
use crate::wire::Shape;
use crate::wire::analyze::names;
use crate::wire::oip::{Encoding, MODEL_VERSION, Output, Outputs};

/// An answer to be written.
#[derive(Clone, Copy)]
pub(super) struct Inference<'a, S> {
    pub(super) source: &'a S,
    pub(super) outputs: Outputs,
    pub(super) dropped: Tasks,
    pub(super) id: Option<Span>,
}

/// Bytes of the JSON of an answer that has raw bytes behind it; none where it is JSON alone, or something else.
pub fn json_bytes<S: Source>(source: &S, shape: Shape) -> Option<usize> {
    let Shape::Infer {
        outputs,
        dropped,
        id,
        encoding: Encoding::Json,
    } = shape
    else {
        return None;
    };
    let inference = Inference {
        source,
        outputs,
        dropped,
        id,
    };
    if !outputs.iter().any(|(_, is_raw)| is_raw) {
        return None;
    }
    let counting = pin!(async {
        let mut counter = Out::counter(source);
        inference.json_part(&mut counter).await;
        counter.counted()
    });
    match counting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(bytes) => Some(bytes),
        Poll::Pending => unreachable!("a counter never waits"),
    }
}

impl<S: Source> Inference<'_, S> {
    /// The JSON, and the bytes behind it.
    pub(super) async fn json(&self, out: &mut Out<'_, S>) {
        self.json_part(out).await;
        for (output, is_raw) in self.outputs.iter() {
            if is_raw {
                self.raw(output, out).await;
            }
        }
    }

    /// `{model_name, model_version, id?, parameters?, outputs: [{name, datatype, shape, data | parameters}]}`
    async fn json_part(&self, out: &mut Out<'_, S>) {
        out.raw("{\"model_name\":").await;
        out.string(self.source.model_name()).await;
        out.raw(",\"model_version\":").await;
        out.string(MODEL_VERSION).await;
        if let Some(id) = self.id {
            out.raw(",\"id\":").await;
            out.string(self.text_of(id)).await;
        }
        if self.dropped != Tasks::NONE {
            out.raw(",\"parameters\":{\"dropped\":\"").await;
            self.dropped_names(out).await;
            out.raw("\"}").await;
        }
        out.raw(",\"outputs\":[").await;
        for (place, (output, is_raw)) in self.outputs.iter().enumerate() {
            out.comma(place).await;
            out.raw("{\"name\":").await;
            out.string(output.name()).await;
            out.raw(",\"datatype\":").await;
            out.string(output.datatype()).await;
            out.raw(",\"shape\":[").await;
            out.uint(self.source.inputs()).await;
            if let Some(width) = self.width(output) {
                out.raw(",").await;
                out.uint(width).await;
            }
            if is_raw {
                out.raw("],\"parameters\":{\"binary_data_size\":").await;
                out.uint(self.raw_bytes(output).await).await;
                out.raw("}}").await;
            } else {
                out.raw("],\"data\":[").await;
                self.data(output, out).await;
                out.raw("]}").await;
            }
        }
        out.raw("]}").await;
    }

    /// A `ModelInferResponse`, behind the five bytes that gRPC puts before a message: not compressed, and so long.
    pub(super) async fn message(&self, out: &mut Out<'_, S>) {
        let mut counter = Out::counter(self.source);
        self.fields(&mut counter).await;
        let len = counter.counted() as u32;
        out.bytes(&[0]).await;
        out.bytes(&len.to_be_bytes()).await;
        self.fields(out).await;
    }

    /// model_name = 1, model_version = 2, id = 3, parameters = 4, outputs = 5, raw_output_contents = 6
    async fn fields(&self, out: &mut Out<'_, S>) {
        out.field(1, self.source.model_name().as_bytes()).await;
        out.field(2, MODEL_VERSION.as_bytes()).await;
        if let Some(id) = self.id {
            out.field(3, self.source.body(id)).await;
        }
        if self.dropped != Tasks::NONE {
            let mut counter = Out::counter(self.source);
            self.dropped_names(&mut counter).await;
            let len = counter.counted();
            // An entry of the map: key = 1, value = 2, whose string_param = 3. All of it is shorter than 128 bytes, so lengths take one.
            out.begin_field(4, len + 13).await;
            out.field(1, b"dropped").await;
            out.begin_field(2, len + 2).await;
            out.begin_field(3, len).await;
            self.dropped_names(out).await;
        }
        for (output, _) in self.outputs.iter() {
            let mut counter = Out::counter(self.source);
            self.tensor_fields(output, &mut counter).await;
            out.begin_field(5, counter.counted()).await;
            self.tensor_fields(output, out).await;
        }
        for (output, _) in self.outputs.iter() {
            out.begin_field(6, self.raw_bytes(output).await).await;
            self.raw(output, out).await;
        }
    }

    /// name = 1, datatype = 2, shape = 3
    async fn tensor_fields(&self, output: Output, out: &mut Out<'_, S>) {
        out.field(1, output.name().as_bytes()).await;
        out.field(2, output.datatype().as_bytes()).await;
        let width = self.width(output).map(|width| width as u64);
        let shape = [Some(self.source.inputs() as u64), width];
        let mut counter = Out::counter(self.source);
        for dimension in shape.into_iter().flatten() {
            counter.varint(dimension).await;
        }
        out.begin_field(3, counter.counted()).await;
        for dimension in shape.into_iter().flatten() {
            out.varint(dimension).await;
        }
    }

    async fn dropped_names(&self, out: &mut Out<'_, S>) {
        for (place, name) in names(self.dropped).enumerate() {
            out.comma(place).await;
            out.raw(name).await;
        }
    }

    fn text_of(&self, span: Span) -> &str {
        std::str::from_utf8(self.source.body(span)).unwrap_or_default()
    }

    /// The second dimension of a tensor.
    fn width(&self, output: Output) -> Option<usize> {
        match output {
            Output::Embedding => Some(self.source.embedding(0).len()),
            Output::Scores => Some(self.source.logits(0).len()),
            _ => None,
        }
    }

    /// The elements as JSON, one behind the other.
    async fn data(&self, output: Output, out: &mut Out<'_, S>) {
        for index in 0..self.source.inputs() {
            out.comma(index).await;
            match output {
                Output::Embedding => {
                    for (place, &number) in self.source.embedding(index).iter().enumerate() {
                        out.comma(place).await;
                        out.float(number).await;
                    }
                }
                Output::Scores => {
                    let (scores, count) = self.scores(index);
                    for class in 0..count {
                        out.comma(class).await;
                        out.float(scores.at(class)).await;
                    }
                }
                Output::TokenCount => out.uint(self.source.token_total(index)).await,
                Output::Truncated if self.source.truncated(index) => out.raw("true").await,
                Output::Truncated => out.raw("false").await,
                Output::Words | Output::Entities | Output::Sentiment => {
                    out.begin_quotation().await;
                    self.element(output, index, out).await;
                    out.end_quotation().await;
                }
            }
        }
    }

    /// How many bytes [`Inference::raw`] writes.
    async fn raw_bytes(&self, output: Output) -> usize {
        let mut counter = Out::counter(self.source);
        self.raw(output, &mut counter).await;
        counter.counted()
    }

    /// The elements as bytes, the lowest first; those of BYTES tensors behind their length.
    async fn raw(&self, output: Output, out: &mut Out<'_, S>) {
        for index in 0..self.source.inputs() {
            match output {
                Output::Embedding => out.floats_raw(self.source.embedding(index)).await,
                Output::Scores => {
                    let (scores, count) = self.scores(index);
                    for class in 0..count {
                        out.floats_raw(&[scores.at(class)]).await;
                    }
                }
                Output::TokenCount => {
                    let count = i32::try_from(self.source.token_total(index)).unwrap_or(i32::MAX);
                    out.bytes(&count.to_le_bytes()).await;
                }
                Output::Truncated => out.bytes(&[u8::from(self.source.truncated(index))]).await,
                Output::Words | Output::Entities | Output::Sentiment => {
                    let mut counter = Out::counter(self.source);
                    self.element(output, index, &mut counter).await;
                    out.bytes(&(counter.counted() as u32).to_le_bytes()).await;
                    self.element(output, index, out).await;
                }
            }
        }
    }

    fn scores(&self, index: usize) -> (Scores<'_>, usize) {
        let logits = self.source.logits(index);
        (Scores::new(logits, self.source.problem(), false), logits.len())
    }

    /// An element of a BYTES tensor: JSON.
    async fn element(&self, output: Output, index: usize, out: &mut Out<'_, S>) {
        match output {
            Output::Words => analyze::words(self.source, index, out).await,
            Output::Entities => analyze::entities(self.source, index, out).await,
            _ => analyze::sentiment(self.source, index, out).await,
        }
    }
}
