//! A `ModelInferRequest`, protobuf, read where it landed.
//!
//! As with JSON, nothing is built: the fields that matter are found in one pass over the message, texts become spans of the body. What decoders
//! of a library do, a struct for each message and a string for each text, would multiply the body by a factor that the sender chooses.

use plimsoll_engine::{Inputs, Span};

use super::{
    CLASSIFICATION, Encoding, Fault, Input, MODEL_VERSION, Outputs, SHARED_MEMORY, Texts, elements,
    input_fault, request,
};
use crate::wire::{Abilities, Request, WireError};

/// Reads the message; see [`super`] for its inputs and outputs. Contents are taken from `raw_input_contents` or from `bytes_contents`; parameters
/// that ask for something that is not served are refused by name, others are ignored.
///
/// # Errors
/// [`WireError`], naming the field, or the output that the model cannot give.
pub fn read(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    let message = Message::new(bytes);
    let parts = Parts::read(message.clone(), abilities)?;
    let [Some(_), pair] = &parts.tensors else {
        return Err(WireError::Empty { field: "inputs" });
    };
    let pairs = pair.is_some();
    if parts.raw_count != 0 && parts.raw_count != parts.tensor_count {
        return Err(WireError::RawBytes);
    }
    for tensor in parts.tensors.iter().flatten() {
        let mut texts = Texts {
            inputs,
            input: tensor.input,
            place: tensor.place,
            count: 0,
            count_max: abilities.inputs_max,
        };
        let raw = parts.raw[..parts.raw_count].get(tensor.place);
        match (raw, &tensor.contents) {
            (Some(raw), None) => texts.push_raw(raw.bytes, raw.start)?,
            (None, Some(contents)) => push_contents(contents.clone(), &mut texts)?,
            _ => return Err(texts.fault(Fault::NoData)),
        }
        texts.end(tensor.elements)?;
    }
    let outputs = parts.outputs.or_all(pairs, true, abilities);
    Ok(request(outputs, pairs, parts.id, Encoding::Message, abilities))
}

/// What a request consists of.
struct Parts<'a> {
    id: Option<Span>,
    outputs: Outputs,
    tensors: [Option<Tensor<'a>>; 2],
    tensor_count: usize,
    raw: [Message<'a>; 2],
    raw_count: usize,
}

/// An input tensor.
struct Tensor<'a> {
    place: usize,
    input: Input,
    elements: usize,
    contents: Option<Message<'a>>,
}

impl<'a> Parts<'a> {
    fn read(mut message: Message<'a>, abilities: &Abilities) -> Result<Self, WireError> {
        let mut parts = Parts {
            id: None,
            outputs: Outputs::NONE,
            tensors: [None, None],
            tensor_count: 0,
            raw: [const { Message::new(&[]) }; 2],
            raw_count: 0,
        };
        let (mut is_named, mut output_count) = (false, 0);
        while let Some(field) = message.next()? {
            match field {
                Field::Bytes(1, name) => {
                    abilities.check_model(name.bytes)?;
                    is_named = true;
                }
                Field::Bytes(2, version)
                    if !["", MODEL_VERSION].map(str::as_bytes).contains(&version.bytes) =>
                {
                    return Err(WireError::UnknownVersion);
                }
                Field::Bytes(3, id) => {
                    if std::str::from_utf8(id.bytes).is_err() {
                        return Err(message.malformed());
                    }
                    parts.id = (!id.bytes.is_empty()).then_some(id.span());
                }
                Field::Bytes(5, tensor) => {
                    let tensor = Tensor::read(tensor, parts.tensor_count)?;
                    let known = &mut parts.tensors[tensor.input as usize];
                    if known.replace(tensor).is_some() {
                        return Err(input_fault(parts.tensor_count, Fault::Twice));
                    }
                    parts.tensor_count += 1;
                }
                Field::Bytes(6, output) => {
                    parts.add_output(output, output_count, abilities)?;
                    output_count += 1;
                }
                Field::Bytes(7, raw) => {
                    *parts.raw.get_mut(parts.raw_count).ok_or(WireError::RawBytes)? = raw;
                    parts.raw_count += 1;
                }
                _ => {}
            }
        }
        // A message that leaves the name out means the empty one.
        if !is_named {
            abilities.check_model(b"")?;
        }
        Ok(parts)
    }

    fn add_output(
        &mut self,
        mut output: Message<'a>,
        place: usize,
        abilities: &Abilities,
    ) -> Result<(), WireError> {
        let mut name: &[u8] = &[];
        while let Some(field) = output.next()? {
            match field {
                Field::Bytes(1, value) => name = value.bytes,
                Field::Bytes(2, parameter) => check_parameter(parameter)?,
                _ => {}
            }
        }
        self.outputs.push(name, place, true, abilities)
    }
}

impl<'a> Tensor<'a> {
    fn read(mut message: Message<'a>, place: usize) -> Result<Self, WireError> {
        let fault = |fault| input_fault(place, fault);
        let (mut name, mut datatype, mut contents): (&[u8], &[u8], _) = (&[], &[], None);
        let (mut shape, mut dimensions) = ([0; 2], 0);
        let mut add = |dimension| {
            if let Some(place) = shape.get_mut(dimensions) {
                *place = dimension;
            }
            dimensions += 1;
        };
        while let Some(field) = message.next()? {
            match field {
                Field::Bytes(1, value) => name = value.bytes,
                Field::Bytes(2, value) => datatype = value.bytes,
                Field::Number(3, dimension) => add(dimension),
                Field::Bytes(3, mut packed) => {
                    while !packed.bytes.is_empty() {
                        add(packed.varint()?);
                    }
                }
                Field::Bytes(4, parameter) => check_parameter(parameter)?,
                Field::Bytes(5, value) => contents = Some(value),
                _ => {}
            }
        }
        let input = Input::named(name).ok_or(fault(Fault::UnknownInput))?;
        if datatype != b"BYTES" {
            return Err(fault(Fault::Datatype));
        }
        let shape = shape.get(..dimensions).ok_or(fault(Fault::Shape))?;
        Ok(Tensor {
            place,
            input,
            elements: elements(shape.iter().copied()).ok_or(fault(Fault::Shape))?,
            contents,
        })
    }
}

/// The texts of an `InferTensorContents`.
fn push_contents(mut contents: Message<'_>, texts: &mut Texts<'_, '_>) -> Result<(), WireError> {
    while let Some(field) = contents.next()? {
        match field {
            Field::Bytes(8, text) => texts.push_bytes(text.bytes, text.start)?,
            Field::Bytes(..) | Field::Number(..) => return Err(texts.fault(Fault::Datatype)),
            Field::Fixed => {}
        }
    }
    Ok(())
}

/// Refuses what asks for an extension that is not served.
fn check_parameter(mut parameter: Message<'_>) -> Result<(), WireError> {
    while let Some(field) = parameter.next()? {
        match field {
            Field::Bytes(1, key) if key.bytes == b"classification" => return Err(CLASSIFICATION),
            Field::Bytes(1, key) if key.bytes == b"shared_memory_region" => return Err(SHARED_MEMORY),
            _ => {}
        }
    }
    Ok(())
}

/// A field and its number.
enum Field<'a> {
    Number(u32, u64),
    Bytes(u32, Message<'a>),
    /// Four or eight bytes, which no field of ours has.
    Fixed,
}

/// A message, or the bytes of a string, and where in the body they lie.
#[derive(Clone)]
struct Message<'a> {
    bytes: &'a [u8],
    start: usize,
}

impl<'a> Message<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Message { bytes, start: 0 }
    }

    fn span(&self) -> Span {
        Span {
            start: self.start as u32,
            len: self.bytes.len() as u32,
        }
    }

    fn malformed(&self) -> WireError {
        WireError::Message { offset: self.start }
    }

    fn take(&mut self, count: usize) -> Result<Message<'a>, WireError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(self.malformed())?;
        let taken = Message {
            bytes: taken,
            start: self.start,
        };
        *self = Message {
            bytes: rest,
            start: self.start + count,
        };
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.take(1)?.bytes[0];
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.malformed())
    }

    fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&number| number > 0)
            .ok_or(self.malformed())?;
        let field = match tag & 7 {
            0 => Field::Number(number, self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| self.malformed())?;
                Field::Bytes(number, self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err(self.malformed()),
        };
        Ok(Some(field))
    }
}
