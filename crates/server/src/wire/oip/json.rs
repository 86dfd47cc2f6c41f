//! `POST /v2/models/{model}/infer`: JSON, and behind it the bytes of the tensors that are sent raw.

use std::ops::Range;

use plimsoll_engine::{Inputs, Span};

use super::{
    CLASSIFICATION, Encoding, Fault, Input, Outputs, SHARED_MEMORY, Texts, elements, input_fault, request,
};
use crate::json::{ErrorKind, JsonError, Kind, Mark, Reader, Unknown};
use crate::wire::body::engine_span;
use crate::wire::{Abilities, Request, WireError};

/// An input tensor as its JSON has it.
struct Tensor {
    /// Where it begins: from there `data` is gone to, so that a fault in it is told of this tensor.
    at: Mark,
    place: usize,
    input: Input,
    elements: usize,
    data: Data,
}

/// Where its elements are.
enum Data {
    Json(Mark),
    /// Bytes behind the JSON.
    Raw(Range<usize>),
}

/// Reads `{id?, parameters?, inputs: [{name, shape, datatype, parameters?, data?}], outputs?: [{name, parameters?}]}`, which is the first
/// `json_bytes` of the body, or all of it. Of parameters, `binary_data_size`, `binary_data` and `binary_data_output` are obeyed; what asks for
/// something that is not served is refused by name, others are ignored.
///
/// # Errors
/// [`WireError`], naming the field, or the output that the model cannot give.
pub fn read(
    bytes: &mut [u8],
    inputs: &mut Inputs<'_>,
    abilities: &Abilities,
    json_bytes: Option<usize>,
) -> Result<Request, WireError> {
    let json_bytes = json_bytes.unwrap_or(bytes.len());
    let (json, raw) = bytes
        .split_at_mut_checked(json_bytes)
        .ok_or(WireError::RawBytes)?;
    let mut reader = Reader::new(json);
    let names = ["id", "parameters", "inputs", "outputs"];
    let [id, parameters, tensors, outputs] = reader.fields(names, Unknown::Ignore)?;
    reader.end()?;
    let tensors = tensors.ok_or_else(|| reader.missing("inputs"))?;
    let all_raw = is_set(&mut reader, parameters, "binary_data_output")?;
    let outputs = read_outputs(&mut reader, outputs, all_raw, abilities)?;
    let (tensors, raw_bytes) = read_tensors(&mut reader, tensors)?;
    if raw_bytes != raw.len() {
        return Err(WireError::RawBytes);
    }
    let mut pairs = false;
    for tensor in tensors.iter().flatten() {
        reader.go_to(tensor.at);
        pairs |= tensor.input == Input::Pair;
        let mut texts = Texts {
            inputs,
            input: tensor.input,
            place: tensor.place,
            count: 0,
            count_max: abilities.inputs_max,
        };
        match &tensor.data {
            Data::Json(mark) => push_data(&mut reader, *mark, &mut texts)?,
            Data::Raw(range) => texts.push_raw(&raw[range.clone()], json_bytes + range.start)?,
        }
        texts.end(tensor.elements)?;
    }
    let id = match id {
        Some(mark) => read_id(&mut reader, mark)?,
        None => None,
    };
    let outputs = outputs.or_all(pairs, all_raw, abilities);
    Ok(request(outputs, pairs, id, Encoding::Json, abilities))
}

/// Whether a parameter of `parameters` is there and true.
fn is_set(reader: &mut Reader<'_>, parameters: Option<Mark>, name: &'static str) -> Result<bool, JsonError> {
    let Some([set]) = parameters_of(reader, parameters, [name])? else {
        return Ok(false);
    };
    let Some(set) = set else { return Ok(false) };
    reader.go_to(set);
    reader.boolean()
}

/// The places of some parameters, where there are any; the reader is then behind them.
fn parameters_of<const N: usize>(
    reader: &mut Reader<'_>,
    parameters: Option<Mark>,
    names: [&'static str; N],
) -> Result<Option<[Option<Mark>; N]>, JsonError> {
    let Some(parameters) = parameters else {
        return Ok(None);
    };
    reader.go_to(parameters);
    match reader.null()? {
        true => Ok(None),
        false => reader.fields(names, Unknown::Ignore).map(Some),
    }
}

fn read_id(reader: &mut Reader<'_>, id: Mark) -> Result<Option<Span>, JsonError> {
    reader.go_to(id);
    match reader.null()? {
        true => Ok(None),
        false => Ok(Some(engine_span(reader.string()?))),
    }
}

fn read_outputs(
    reader: &mut Reader<'_>,
    outputs: Option<Mark>,
    all_raw: bool,
    abilities: &Abilities,
) -> Result<Outputs, WireError> {
    let mut read = Outputs::NONE;
    let Some(outputs) = outputs else {
        return Ok(read);
    };
    reader.go_to(outputs);
    if reader.null()? {
        return Ok(read);
    }
    reader.begin_array()?;
    for place in 0.. {
        if !reader.next_item()? {
            break;
        }
        let [name, parameters] = reader.fields(["name", "parameters"], Unknown::Ignore)?;
        let after = reader.mark();
        let name = name.ok_or_else(|| reader.missing("name"))?;
        let is_raw = match parameters_of(
            reader,
            parameters,
            ["binary_data", "classification", "shared_memory_region"],
        )? {
            Some([_, Some(_), _]) => return Err(CLASSIFICATION),
            Some([_, _, Some(_)]) => return Err(SHARED_MEMORY),
            Some([Some(raw), None, None]) => {
                reader.go_to(raw);
                reader.boolean()?
            }
            Some([None, None, None]) | None => all_raw,
        };
        reader.go_to(name);
        let name = reader.string()?;
        read.push(reader.bytes(name), place, is_raw, abilities)?;
        reader.go_to(after);
    }
    Ok(read)
}

/// The input tensors, `text` first, and how many bytes behind the JSON they take.
fn read_tensors(reader: &mut Reader<'_>, tensors: Mark) -> Result<([Option<Tensor>; 2], usize), WireError> {
    let mut read = [None, None];
    let mut raw_bytes = 0;
    reader.go_to(tensors);
    reader.begin_array()?;
    for place in 0.. {
        if !reader.next_item()? {
            break;
        }
        let tensor = read_tensor(reader, place, &mut raw_bytes)?;
        let known = &mut read[tensor.input as usize];
        if known.is_some() {
            return Err(input_fault(place, Fault::Twice));
        }
        *known = Some(tensor);
    }
    match read[Input::Text as usize] {
        Some(_) => Ok((read, raw_bytes)),
        None => Err(WireError::Empty { field: "inputs" }),
    }
}

fn read_tensor(reader: &mut Reader<'_>, place: usize, raw_bytes: &mut usize) -> Result<Tensor, WireError> {
    let at = reader.mark();
    let names = ["name", "shape", "datatype", "parameters", "data"];
    let [name, shape, datatype, parameters, data] = reader.fields(names, Unknown::Ignore)?;
    let after = reader.mark();
    reader.go_to(name.ok_or_else(|| reader.missing("name"))?);
    let name = reader.string()?;
    let input = Input::named(reader.bytes(name)).ok_or(input_fault(place, Fault::UnknownInput))?;
    reader.go_to(datatype.ok_or_else(|| reader.missing("datatype"))?);
    let datatype = reader.string()?;
    if reader.bytes(datatype) != b"BYTES" {
        return Err(input_fault(place, Fault::Datatype));
    }
    reader.go_to(shape.ok_or_else(|| reader.missing("shape"))?);
    let elements = read_shape(reader)?.ok_or(input_fault(place, Fault::Shape))?;
    let size = match parameters_of(reader, parameters, ["binary_data_size", "shared_memory_region"])? {
        Some([_, Some(_)]) => return Err(SHARED_MEMORY),
        Some([Some(size), None]) => {
            reader.go_to(size);
            Some(reader.u32()? as usize)
        }
        Some([None, None]) | None => None,
    };
    let data = match (data, size) {
        (Some(data), None) => Data::Json(data),
        (None, Some(size)) => {
            let start = *raw_bytes;
            *raw_bytes = start.saturating_add(size);
            Data::Raw(start..*raw_bytes)
        }
        _ => return Err(input_fault(place, Fault::NoData)),
    };
    reader.go_to(after);
    Ok(Tensor {
        at,
        place,
        input,
        elements,
        data,
    })
}

fn read_shape(reader: &mut Reader<'_>) -> Result<Option<usize>, JsonError> {
    let (mut shape, mut len) = ([0; 2], 0);
    reader.begin_array()?;
    while reader.next_item()? {
        let dimension = u64::from(reader.u32()?);
        if let Some(place) = shape.get_mut(len) {
            *place = dimension;
        }
        len += 1;
    }
    Ok(shape.get(..len).and_then(|shape| elements(shape.iter().copied())))
}

/// The strings of `data`: one after the other, or each in an array of its own.
fn push_data(reader: &mut Reader<'_>, data: Mark, texts: &mut Texts<'_, '_>) -> Result<(), WireError> {
    reader.go_to(data);
    reader.begin_array()?;
    while reader.next_item()? {
        match reader.peek()? {
            Kind::String => push_string(reader, texts)?,
            Kind::Array => {
                reader.begin_array()?;
                while reader.next_item()? {
                    push_string(reader, texts)?;
                }
            }
            found => {
                let expected = "a string or an array of strings";
                return Err(reader.unexpected(expected, found).into());
            }
        }
    }
    Ok(())
}

fn push_string(reader: &mut Reader<'_>, texts: &mut Texts<'_, '_>) -> Result<(), WireError> {
    let text = reader.string()?;
    if text.len == 0 {
        return Err(reader.error(ErrorKind::Empty).into());
    }
    texts.push(engine_span(text))
}
