//! Tensors bound by name and shape: mapped where the file lies right for it, converted once where it does not.

use std::ops::Range;

use plimsoll_kernel::{Kernel, bf16_to_f32, f16_to_f32, q4_row_bytes};
use plimsoll_memory::{Mapping, cast, cast_mut};

use crate::error::LoadError;
use crate::info::WeightBytes;
use crate::safetensors::{Dtype, Safetensors, TensorEntry};

/// Metadata key: names of the tensors that hold Q4_0 blocks, separated by commas.
const Q4_KEY: &str = "plimsoll.q4_0";
/// Converted tensors start at a cache line.
const CONVERTED_ALIGN: usize = 64;

/// A vector or a matrix of floats.
#[derive(Clone, Debug)]
pub(crate) struct Floats {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File(Range<usize>),
    Converted(Range<usize>),
}

/// A matrix, as the kernels take it.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    F32(Floats),
    /// Rows of Q4_0 blocks, by their range in the file.
    Q4(Range<usize>),
}

/// The bytes behind all tensors.
#[derive(Debug)]
pub(crate) struct Store {
    file: Mapping,
    converted: Mapping,
}

impl Store {
    pub(crate) fn floats(&self, tensor: &Floats) -> &[f32] {
        let bytes = match &tensor.place {
            Place::File(range) => &self.file.bytes()[range.clone()],
            Place::Converted(range) => &self.converted.bytes()[range.clone()],
        };
        cast(bytes).expect("tensors are placed where they are aligned")
    }

    /// A number that tells weight files apart: FNV-1a over its bytes, eight at a time.
    pub(crate) fn fingerprint(&self) -> u64 {
        let (words, rest) = self.file.bytes().as_chunks::<8>();
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        let all = words.iter().chain([&tail]);
        all.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
            (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    pub(crate) fn blocks(&self, range: &Range<usize>) -> &[u8] {
        &self.file.bytes()[range.clone()]
    }
}

/// What a tensor is for, in the bill.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Group {
    Embeddings,
    Layers,
    Heads,
}

/// A tensor to convert, and where to.
#[derive(Debug)]
struct Conversion {
    from: Range<usize>,
    encoding: Encoding,
    to: Range<usize>,
}

/// How a tensor's values are written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    F32,
    F16,
    Bf16,
    Q4,
}

/// Binds tensors one by one; [`Binder::finish`] converts those that need it.
#[derive(Debug)]
pub(crate) struct Binder {
    file: Mapping,
    table: Safetensors,
    q4: Vec<String>,
    conversions: Vec<Conversion>,
    bytes: WeightBytes,
}

impl Binder {
    pub(crate) fn new(file: Mapping) -> Result<Self, LoadError> {
        let table = crate::safetensors::read(file.bytes())?;
        let q4 = table.metadata.get(Q4_KEY).map_or("", String::as_str);
        let q4: Vec<String> = q4
            .split(',')
            .filter(|name| !name.is_empty())
            .map(String::from)
            .collect();
        if let Some(name) = q4.iter().find(|name| !table.tensors.contains_key(*name)) {
            return Err(LoadError::MissingTensor {
                name: name.chars().take(80).collect(),
            });
        }
        let bytes = WeightBytes {
            mapped: file.len(),
            ..WeightBytes::default()
        };
        Ok(Binder {
            file,
            table,
            q4,
            conversions: Vec::new(),
            bytes,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.tensors.contains_key(name)
    }

    /// What stands before `suffix` in the shortest tensor name that ends with it.
    pub(crate) fn prefix_of(&self, suffix: &str) -> Option<String> {
        let prefixes = self
            .table
            .tensors
            .keys()
            .filter_map(|name| name.strip_suffix(suffix));
        prefixes.min_by_key(|prefix| prefix.len()).map(String::from)
    }

    /// Rows of a matrix.
    pub(crate) fn rows(&self, name: &str) -> Result<usize, LoadError> {
        let entry = self.entry(name)?;
        match entry.shape[..] {
            [rows, _] => Ok(rows),
            _ => Err(wrong_shape(name, &entry.shape, &[0, 0])),
        }
    }

    /// The name that users know the type of a tensor by.
    pub(crate) fn dtype_name(&self, name: &str) -> Result<&'static str, LoadError> {
        let entry = self.entry(name)?.clone();
        Ok(match self.encoding(name, &entry)? {
            Encoding::F32 => "float32",
            Encoding::F16 => "float16",
            Encoding::Bf16 => "bfloat16",
            Encoding::Q4 => "q4_0",
        })
    }

    /// A vector of floats.
    pub(crate) fn vector(&mut self, name: &str, len: usize, group: Group) -> Result<Floats, LoadError> {
        self.floats(name, &[len], group)
    }

    /// A matrix of floats; 4-bit blocks are expanded.
    pub(crate) fn float_matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        group: Group,
    ) -> Result<Floats, LoadError> {
        self.floats(name, &shape, group)
    }

    /// A matrix in the form the file has it: floats or 4-bit blocks.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        group: Group,
    ) -> Result<Matrix, LoadError> {
        let entry = self.entry(name)?.clone();
        if self.encoding(name, &entry)? == Encoding::Q4 {
            self.check_shape(name, &entry, Encoding::Q4, &shape)?;
            self.bill(group, entry.range.len());
            return Ok(Matrix::Q4(entry.range));
        }
        self.floats(name, &shape, group).map(Matrix::F32)
    }

    fn floats(&mut self, name: &str, shape: &[usize], group: Group) -> Result<Floats, LoadError> {
        let entry = self.entry(name)?.clone();
        let encoding = self.encoding(name, &entry)?;
        self.check_shape(name, &entry, encoding, shape)?;
        let aligned = cast::<f32>(&self.file.bytes()[entry.range.clone()]).is_some();
        if encoding == Encoding::F32 && aligned {
            self.bill(group, entry.range.len());
            return Ok(Floats {
                place: Place::File(entry.range),
            });
        }
        // The file holds the values, so their count is far below overflow: at most 64 f32 bytes for 18 of the file.
        let length = shape.iter().product::<usize>() * size_of::<f32>();
        let start = self.bytes.converted;
        self.bytes.converted += length.next_multiple_of(CONVERTED_ALIGN);
        self.bill(group, length);
        let to = start..start + length;
        self.conversions.push(Conversion {
            from: entry.range,
            encoding,
            to: to.clone(),
        });
        Ok(Floats {
            place: Place::Converted(to),
        })
    }

    fn entry(&self, name: &str) -> Result<&TensorEntry, LoadError> {
        self.table
            .tensors
            .get(name)
            .ok_or_else(|| LoadError::MissingTensor { name: name.into() })
    }

    fn encoding(&self, name: &str, entry: &TensorEntry) -> Result<Encoding, LoadError> {
        let is_q4 = self.q4.iter().any(|q4| q4 == name);
        match entry.dtype {
            Dtype::U8 if is_q4 => Ok(Encoding::Q4),
            Dtype::F32 if !is_q4 => Ok(Encoding::F32),
            Dtype::F16 if !is_q4 => Ok(Encoding::F16),
            Dtype::BF16 if !is_q4 => Ok(Encoding::Bf16),
            dtype => Err(LoadError::Unsupported(format!("tensor {name} of type {dtype:?}"))),
        }
    }

    fn check_shape(
        &self,
        name: &str,
        entry: &TensorEntry,
        encoding: Encoding,
        shape: &[usize],
    ) -> Result<(), LoadError> {
        let fits = match (encoding, shape) {
            (Encoding::Q4, &[rows, columns]) => {
                q4_row_bytes(columns).is_some_and(|bytes| entry.shape[..] == [rows, bytes])
            }
            (Encoding::Q4, _) => false,
            _ => entry.shape[..] == *shape,
        };
        if fits {
            Ok(())
        } else {
            Err(wrong_shape(name, &entry.shape, shape))
        }
    }

    fn bill(&mut self, group: Group, bytes: usize) {
        match group {
            Group::Embeddings => self.bytes.embeddings += bytes,
            Group::Layers => self.bytes.layers += bytes,
            Group::Heads => self.bytes.heads += bytes,
        }
    }

    /// Converts what must be converted.
    pub(crate) fn finish(self) -> Result<(Store, WeightBytes), LoadError> {
        let mut owned = Mapping::owned(self.bytes.converted)?;
        for Conversion { from, encoding, to } in &self.conversions {
            let from = &self.file.bytes()[from.clone()];
            let to =
                cast_mut(&mut owned.bytes_mut()[to.clone()]).expect("multiples of 64 in a page are aligned");
            convert(*encoding, from, to);
        }
        Ok((
            Store {
                file: self.file,
                converted: owned.freeze()?,
            },
            self.bytes,
        ))
    }
}

fn convert(encoding: Encoding, from: &[u8], to: &mut [f32]) {
    let halves = || {
        from.as_chunks::<2>()
            .0
            .iter()
            .map(|half| u16::from_le_bytes(*half))
    };
    match encoding {
        Encoding::F32 => {
            let words = from
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| f32::from_le_bytes(*word));
            to.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        }
        Encoding::F16 => to
            .iter_mut()
            .zip(halves())
            .for_each(|(to, from)| *to = f16_to_f32(from)),
        Encoding::Bf16 => to
            .iter_mut()
            .zip(halves())
            .for_each(|(to, from)| *to = bf16_to_f32(from)),
        Encoding::Q4 => Kernel::detect().q4_row(from, to),
    }
}

fn wrong_shape(name: &str, found: &[usize], expected: &[usize]) -> LoadError {
    LoadError::Shape {
        name: name.into(),
        found: found.iter().copied().take(8).collect(),
        expected: expected.to_vec(),
    }
}
