//! Writes a model's weights as they are computed with: packed, so that loading them is mapping them.
//!
//! Packing at every start takes time and private memory; a file packed once starts at once, and its pages are shared and can leave memory
//! under pressure. It is a safetensors file without gaps: the packed products first (their sizes are multiples of a cache line), then
//! what is left of the original, tables as bf16 unless products are f32 or the tables are 4-bit blocks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_kernel::{Format, PACKED_FOUR_MAX, f16_to_f32, f32_to_bf16};
use serde_json::json;

use crate::arch::Encoder;
use crate::config::Config;
use crate::error::LoadError;
use crate::model::{map_weights, read};
use crate::safetensors::{Dtype, Safetensors, TensorEntry};
use crate::weights::{Binder, FOUR_MAX_KEY, PACKED_KEY, Q4_KEY};

/// Bytes that the tensors begin at a multiple of.
const DATA_ALIGN: usize = 64;

/// One tensor of the new file.
struct Tensor<'a> {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

/// The contents of `model.safetensors` for the model in `directory`, its products packed in `format`. Takes about twice the file's
/// size of memory.
///
/// # Errors
/// As [`crate::Model::load_dir`]; a file that is packed already is [`LoadError::Unsupported`].
pub fn quantize(directory: &Path, format: Format) -> Result<Vec<u8>, LoadError> {
    let config = Config::parse(&read(directory, "config.json")?)?;
    let file = map_weights(directory)?;
    let table = crate::safetensors::read(file.bytes())?;
    if table.metadata.contains_key(PACKED_KEY) {
        return Err(LoadError::Unsupported(
            "the weights are packed already; start from the original".into(),
        ));
    }
    let mut binder = Binder::new(file.clone(), Some(format))?;
    let encoder = Encoder::bind(&config, &mut binder)?;
    let products = binder.take_products();
    let (store, _) = binder.finish()?;
    let mut tensors = Vec::new();
    for product in &products {
        let words = store.packed_bytes(&product.matrix);
        tensors.push(Tensor {
            name: product.name.clone(),
            dtype: "U32",
            shape: vec![words.len() / size_of::<u32>()],
            bytes: Cow::Borrowed(words),
        });
    }
    let packed: Vec<&String> = products.iter().flat_map(|product| &product.weights).collect();
    let rest = table.tensors.iter().filter(|(name, _)| !packed.contains(name));
    let tables = format!("{}embeddings.", encoder.prefix);
    let mut others: Vec<Tensor<'_>> = rest
        .map(|(name, entry)| {
            other(
                name,
                entry,
                file.bytes(),
                format != Format::F32 && name.starts_with(&tables),
            )
        })
        .collect::<Result<_, _>>()?;
    // Wide numbers first, so that each is aligned without gaps.
    others.sort_by_key(|tensor| (narrowness(tensor.dtype), tensor.name.clone()));
    tensors.extend(others);
    Ok(written(&tensors, metadata(&table, &packed, format)))
}

/// A tensor that no product reads, rounded to bf16 where it is a table.
fn other<'a>(
    name: &str,
    entry: &TensorEntry,
    file: &'a [u8],
    is_table: bool,
) -> Result<Tensor<'a>, LoadError> {
    let bytes = &file[entry.range.clone()];
    let rounds = is_table && entry.shape.len() == 2 && matches!(entry.dtype, Dtype::F32 | Dtype::F16);
    let (dtype, bytes) = match entry.dtype {
        _ if rounds => ("BF16", Cow::Owned(rounded(entry.dtype, bytes))),
        Dtype::F32 => ("F32", Cow::Borrowed(bytes)),
        Dtype::F16 => ("F16", Cow::Borrowed(bytes)),
        Dtype::BF16 => ("BF16", Cow::Borrowed(bytes)),
        Dtype::U8 => ("U8", Cow::Borrowed(bytes)),
        Dtype::I64 => ("I64", Cow::Borrowed(bytes)),
        dtype => return Err(LoadError::Unsupported(format!("tensor {name} of type {dtype:?}"))),
    };
    Ok(Tensor {
        name: name.to_owned(),
        dtype,
        shape: entry.shape.clone(),
        bytes,
    })
}

fn rounded(dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
    let half = |value: f32| f32_to_bf16(value).to_le_bytes();
    match dtype {
        Dtype::F16 => {
            let halves = bytes.as_chunks::<2>().0.iter();
            halves
                .flat_map(|bytes| half(f16_to_f32(u16::from_le_bytes(*bytes))))
                .collect()
        }
        _ => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.flat_map(|bytes| half(f32::from_le_bytes(*bytes))).collect()
        }
    }
}

fn narrowness(dtype: &str) -> usize {
    ["I64", "U32", "F32", "BF16", "F16", "U8"]
        .iter()
        .position(|known| *known == dtype)
        .unwrap_or(usize::MAX)
}

/// The original's, less the names of 4-bit tensors that are packed now.
fn metadata(table: &Safetensors, packed: &[&String], format: Format) -> BTreeMap<String, String> {
    let mut metadata = table.metadata.clone();
    if let Some(names) = metadata.get_mut(Q4_KEY) {
        let left: Vec<&str> = names
            .split(',')
            .filter(|name| !packed.iter().any(|packed| packed == name))
            .collect();
        *names = left.join(",");
    }
    metadata.insert(PACKED_KEY.into(), format.name().into());
    if format == Format::Int8 {
        metadata.insert(FOUR_MAX_KEY.into(), PACKED_FOUR_MAX.to_string());
    }
    metadata
}

fn written(tensors: &[Tensor<'_>], metadata: BTreeMap<String, String>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes.len();
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    let data_start = (size_of::<u64>() + header.len()).next_multiple_of(DATA_ALIGN);
    header.resize(data_start - size_of::<u64>(), b' ');
    let mut file = Vec::with_capacity(data_start + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header);
    tensors.iter().for_each(|tensor| file.extend(&*tensor.bytes));
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_kernel::bf16_to_f32;

    #[test]
    fn tables_are_rounded_to_the_nearest() {
        let floats: Vec<u8> = [1.0_f32, -2.5, 1.003_906_3]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let halves: Vec<f32> = rounded(Dtype::F32, &floats)
            .as_chunks::<2>()
            .0
            .iter()
            .map(|half| bf16_to_f32(u16::from_le_bytes(*half)))
            .collect();
        assert_eq!(halves, [1.0, -2.5, 1.0]);
        assert_eq!(
            rounded(Dtype::F16, &0x3c00_u16.to_le_bytes()),
            0x3f80_u16.to_le_bytes()
        );
    }
}
