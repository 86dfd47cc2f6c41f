//! Reads the table of a safetensors file; the tensors stay where they are.
//!
//! The file is eight bytes of header length (little endian), a JSON object `name -> {dtype, shape, data_offsets}`, and the
//! tensors' bytes (<https://github.com/huggingface/safetensors>). It may come from anywhere, so nothing in the header is
//! believed: offsets must lie in the file, lengths must agree with shapes, names must be unique, and no two tensors may
//! share bytes. Bytes that belong to no tensor are allowed.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::SafetensorsError;

/// The longest header that is read: the reference implementation's limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// Types of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(
    non_camel_case_types,
    clippy::upper_case_acronyms,
    reason = "the names in the file"
)]
pub(crate) enum Dtype {
    BOOL,
    U8,
    I8,
    F8_E4M3,
    F8_E5M2,
    U16,
    I16,
    F16,
    BF16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl Dtype {
    const fn bytes(self) -> u64 {
        match self {
            Dtype::BOOL | Dtype::U8 | Dtype::I8 | Dtype::F8_E4M3 | Dtype::F8_E5M2 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorEntry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// In bytes of the whole file.
    pub(crate) range: Range<usize>,
}

/// The table of a file.
#[derive(Debug, Default)]
pub(crate) struct Safetensors {
    pub(crate) tensors: BTreeMap<String, TensorEntry>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Reads the table of `file`.
pub(crate) fn read(file: &[u8]) -> Result<Safetensors, SafetensorsError> {
    let available = file.len() as u64;
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(SafetensorsError::HeaderTooLong {
            needed: LENGTH_BYTES as u64,
            available,
        });
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > HEADER_BYTES_MAX.min(rest.len() as u64) {
        let needed = header_bytes.saturating_add(LENGTH_BYTES as u64);
        return Err(SafetensorsError::HeaderTooLong { needed, available });
    }
    let (header, data) = rest.split_at(header_bytes as usize);
    let header: Header =
        serde_json::from_slice(header).map_err(|e| SafetensorsError::Header(e.to_string()))?;
    if let Some(name) = header.duplicate {
        return Err(SafetensorsError::Duplicate(short(&name)));
    }
    let start = LENGTH_BYTES + header_bytes as usize;
    let mut tensors = BTreeMap::new();
    for (name, raw) in header.tensors {
        let entry = place(&name, raw, start, data.len() as u64)?;
        tensors.insert(name, entry);
    }
    check_overlaps(&tensors)?;
    Ok(Safetensors {
        tensors,
        metadata: header.metadata,
    })
}

fn place(name: &str, raw: RawTensor, base: usize, available: u64) -> Result<TensorEntry, SafetensorsError> {
    let (start, end) = raw.data_offsets;
    if start > end || end > available {
        return Err(SafetensorsError::OutOfBounds {
            name: short(name),
            start,
            end,
            available,
        });
    }
    let count = raw
        .shape
        .iter()
        .try_fold(1_u64, |product, &side| product.checked_mul(side as u64));
    let expected = count
        .and_then(|count| count.checked_mul(raw.dtype.bytes()))
        .unwrap_or(u64::MAX);
    if expected != end - start {
        return Err(SafetensorsError::Length {
            name: short(name),
            dtype: format!("{:?}", raw.dtype),
            shape: raw.shape.into_iter().take(8).collect(),
            found: end - start,
            expected,
        });
    }
    // Both fit: end is at most the length of a slice.
    let range = base + start as usize..base + end as usize;
    Ok(TensorEntry {
        dtype: raw.dtype,
        shape: raw.shape,
        range,
    })
}

fn check_overlaps(tensors: &BTreeMap<String, TensorEntry>) -> Result<(), SafetensorsError> {
    let mut placed: Vec<_> = tensors.iter().filter(|(_, t)| !t.range.is_empty()).collect();
    placed.sort_by_key(|(_, t)| t.range.start);
    match placed
        .windows(2)
        .find(|pair| pair[1].1.range.start < pair[0].1.range.end)
    {
        None => Ok(()),
        Some(pair) => Err(SafetensorsError::Overlap {
            first: short(pair[0].0),
            second: short(pair[1].0),
        }),
    }
}

/// At most 80 characters, for messages.
fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[derive(Default)]
struct Header {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
    duplicate: Option<String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Collects the object's members by hand: a plain map would let the last of two equal names win.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if has_metadata {
                    return Err(A::Error::custom("__metadata__ appears twice"));
                }
                has_metadata = true;
                header.metadata = map.next_value()?;
                continue;
            }
            let tensor = map.next_value()?;
            match header.tensors.entry(name) {
                btree_map::Entry::Vacant(entry) => _ = entry.insert(tensor),
                btree_map::Entry::Occupied(entry) => header.duplicate = Some(entry.key().clone()),
            }
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data_bytes: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data_bytes, 0);
        file
    }

    fn tensor(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    }

    fn check_error(members: &[String], data_bytes: usize, message: &str) {
        let file = file(&format!("{{{}}}", members.join(",")), data_bytes);
        assert_eq!(read(&file).unwrap_err().to_string(), message);
    }

    #[test]
    fn reads_places_and_metadata() {
        let members = [
            r#""__metadata__":{"format":"pt"}"#.to_string(),
            tensor("a", "F32", "[2,3]", "[0,24]"),
            tensor("b", "BF16", "[]", "[24,26]"),
            tensor("none", "I64", "[0,5]", "[26,26]"),
        ];
        let bytes = file(&format!("{{{}}}   ", members.join(",")), 26);
        let table = read(&bytes).unwrap();
        let base = bytes.len() - 26;
        let a = TensorEntry {
            dtype: Dtype::F32,
            shape: vec![2, 3],
            range: base..base + 24,
        };
        assert_eq!(table.tensors["a"], a);
        assert_eq!(table.tensors["b"].range, base + 24..base + 26);
        assert_eq!(table.metadata["format"], "pt");
    }

    #[test]
    fn hostile_headers_are_errors() {
        let t = tensor;
        check_error(
            &[t("a", "F32", "[1]", "[0,8]")],
            8,
            "tensor a has 8 bytes, its shape [1] of F32 needs 4",
        );
        check_error(
            &[t("a", "F32", "[2]", "[0,8]")],
            7,
            "tensor a lies at bytes 0..8 of 7",
        );
        check_error(
            &[t("a", "F32", "[1]", "[8,4]")],
            8,
            "tensor a lies at bytes 8..4 of 8",
        );
        check_error(
            &[t("a", "U8", "[8]", "[0,8]"), t("b", "U8", "[2]", "[7,9]")],
            9,
            "tensors a and b overlap",
        );
        check_error(
            &[t("a", "U8", "[4294967296,4294967296,2]", "[0,0]")],
            0,
            "tensor a has 0 bytes, its shape [4294967296, 4294967296, 2] of U8 needs 18446744073709551615",
        );
        check_error(
            &[t("a", "U8", "[1]", "[0,1]"), t("a", "U8", "[1]", "[1,2]")],
            2,
            "tensor a appears twice",
        );
    }

    #[test]
    fn malformed_headers_are_errors() {
        let t = tensor;
        for member in [
            t("a", "F7", "[1]", "[0,1]"),
            t("a", "U8", "[-1]", "[0,1]"),
            t("a", "U8", "[1.5]", "[0,1]"),
            t("a", "U8", "[1]", "[0,1,2]"),
            t("a", "U8", "[18446744073709551616]", "[0,1]"),
            r#""a":7"#.into(),
            r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}"#.into(),
            r#""__metadata__":{"format":1}"#.into(),
            r#""__metadata__":{},"__metadata__":{}"#.into(),
        ] {
            let result = read(&file(&format!("{{{member}}}"), 1));
            assert!(
                matches!(result, Err(SafetensorsError::Header(_))),
                "{member}: {result:?}"
            );
        }
        for header in ["", "[]", "{", "nul", &"[".repeat(100_000)] {
            let result = read(&file(header, 0));
            assert!(matches!(result, Err(SafetensorsError::Header(_))), "{result:?}");
        }
    }

    #[test]
    fn truncated_files_are_errors() {
        let whole = file(&format!("{{{}}}", tensor("a", "U8", "[4]", "[0,4]")), 4);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(read(&whole).is_ok());
        let mut huge = whole;
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let needed = u64::MAX;
        let available = huge.len() as u64;
        assert_eq!(
            read(&huge).unwrap_err(),
            SafetensorsError::HeaderTooLong { needed, available }
        );
    }
}
