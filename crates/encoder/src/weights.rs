//! Tensors bound by name and shape: mapped where the file lies right for it, converted once where it does not.
//!
//! Tables and vectors are read where they lie. The matrices of products are [packed](plimsoll_kernel::pack): once at loading, into
//! private pages, after which the file's own pages may leave memory; or ahead of time, in a file that [`crate::quantize`] wrote.

mod convert;

use std::ops::Range;
use std::sync::Mutex;

use plimsoll_kernel::{Format, Kernel, PACKED_FOUR_MAX, Packed, packed_words, q4_row_bytes};
use plimsoll_memory::{Mapping, cast};

use convert::{Conversion, Encoding};

use crate::error::LoadError;
use crate::info::WeightBytes;
use crate::safetensors::{Dtype, Safetensors, TensorEntry};

/// Metadata key: names of the tensors that hold Q4_0 blocks, separated by commas.
pub(crate) const Q4_KEY: &str = "plimsoll.q4_0";
/// Metadata key: the format that the matrices of products are packed in.
pub(crate) const PACKED_KEY: &str = "plimsoll.packed";
/// Metadata key: what [`PACKED_FOUR_MAX`] was when they were packed.
pub(crate) const FOUR_MAX_KEY: &str = "plimsoll.packed_four_max";
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

/// A table of rows, as the file has it.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    F32(Floats),
    /// Rows of bf16, by their range in the file.
    Bf16(Range<usize>),
    /// Rows of Q4_0 blocks, by their range in the file.
    Q4(Range<usize>),
}

/// The packed weights of a product: one matrix, or several side by side.
#[derive(Clone, Debug)]
pub(crate) struct PackedMatrix {
    place: Place,
    format: Format,
    inputs: usize,
    outputs: usize,
    is_bounded: bool,
}

/// The bytes behind all tensors.
#[derive(Debug)]
pub(crate) struct Store {
    file: Mapping,
    converted: Mapping,
}

impl Store {
    pub(crate) fn floats(&self, tensor: &Floats) -> &[f32] {
        cast(self.bytes(&tensor.place)).expect("tensors are placed where they are aligned")
    }

    pub(crate) fn packed(&self, matrix: &PackedMatrix) -> Packed<'_> {
        let bytes = self.bytes(&matrix.place);
        let words = cast(bytes).expect("packed weights are placed where they are aligned");
        Packed::new(matrix.format, matrix.inputs, matrix.outputs, words).bounded(matrix.is_bounded)
    }

    pub(crate) fn packed_bytes(&self, matrix: &PackedMatrix) -> &[u8] {
        self.bytes(&matrix.place)
    }

    fn bytes(&self, place: &Place) -> &[u8] {
        match place {
            Place::File(range) => &self.file.bytes()[range.clone()],
            Place::Converted(range) => &self.converted.bytes()[range.clone()],
        }
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

/// A packed product by its names.
#[derive(Debug)]
pub(crate) struct Product {
    /// In a packed file.
    pub(crate) name: String,
    /// The matrices that are packed in it, in an original file.
    pub(crate) weights: Vec<String>,
    pub(crate) matrix: PackedMatrix,
}

/// Binds tensors one by one; [`Binder::finish`] converts those that need it.
#[derive(Debug)]
pub(crate) struct Binder {
    file: Mapping,
    table: Safetensors,
    q4: Vec<String>,
    conversions: Vec<Conversion>,
    products: Vec<Product>,
    bytes: WeightBytes,
    format: Format,
    /// What weights that are packed here are packed in.
    packing: Format,
    /// Whether the file's products are packed already.
    is_packed: bool,
    /// Whether weights are [bounded](Packed::bounded).
    is_bounded: bool,
}

impl Binder {
    /// Reads the file's table. Products are computed in `format`, or, when nobody says, in what suits the file.
    pub(crate) fn new(file: Mapping, format: Option<Format>) -> Result<Self, LoadError> {
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
        if format == Some(Format::TwoBf16) {
            let only = "products in two-bf16: that is how some CPUs compute f32".into();
            return Err(LoadError::Unsupported(only));
        }
        let packed = table
            .metadata
            .get(PACKED_KEY)
            .map(|name| packed_format(name))
            .transpose()?;
        let format = match (packed, format) {
            (Some(packed), Some(format)) if packed != format => {
                let (packed, format) = (packed.name(), format.name());
                return Err(LoadError::Unsupported(format!(
                    "products in {format} from a file that was packed in {packed}"
                )));
            }
            (Some(packed), _) => packed,
            (None, Some(format)) => format,
            (None, None) if q4.is_empty() => suited(&table),
            (None, None) => Format::Int8,
        };
        let four_max = table
            .metadata
            .get(FOUR_MAX_KEY)
            .and_then(|max| max.parse::<u32>().ok());
        let is_bounded = packed.is_none() || four_max.is_some_and(|max| max <= PACKED_FOUR_MAX);
        Ok(Binder {
            file,
            table,
            q4,
            conversions: Vec::new(),
            products: Vec::new(),
            bytes: WeightBytes::default(),
            format,
            packing: format,
            is_packed: packed.is_some(),
            is_bounded,
        })
    }

    /// Packs for a CPU alone, not for a file.
    pub(crate) fn pack_for(&mut self, kernel: Kernel) {
        if !self.is_packed {
            self.packing = kernel.packing(self.format);
        }
    }

    /// What weights of products are packed in.
    pub(crate) fn packing(&self) -> Format {
        self.packing
    }

    /// The products that were bound.
    pub(crate) fn take_products(&mut self) -> Vec<Product> {
        std::mem::take(&mut self.products)
    }

    /// What products are computed in.
    pub(crate) fn format(&self) -> Format {
        self.format
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
            self.bill_mapped(group, entry.range.len());
            return Ok(Matrix::Q4(entry.range));
        }
        if self.encoding(name, &entry)? == Encoding::Bf16 {
            self.check_shape(name, &entry, Encoding::Bf16, &shape)?;
            self.bill_mapped(group, entry.range.len());
            return Ok(Matrix::Bf16(entry.range));
        }
        self.floats(name, &shape, group).map(Matrix::F32)
    }

    /// The weights `NAME.weight`, `[outputs, inputs]` each, of products with one X, side by side.
    pub(crate) fn packed(
        &mut self,
        names: &[String],
        outputs_each: usize,
        inputs: usize,
        group: Group,
    ) -> Result<PackedMatrix, LoadError> {
        let outputs = names.len() * outputs_each;
        let words = packed_words(self.packing, inputs, outputs);
        let length = words * size_of::<u32>();
        let place = if self.is_packed {
            Place::File(self.packed_in_file(&packed_name(names), words)?)
        } else {
            let mut from = Vec::new();
            for name in names {
                let name = format!("{name}.weight");
                let entry = self.entry(&name)?.clone();
                let encoding = self.encoding(&name, &entry)?;
                self.check_shape(&name, &entry, encoding, &[outputs_each, inputs])?;
                from.push((entry.range, encoding));
            }
            self.convert(from, Some((self.packing, inputs, outputs)), length)
        };
        match place {
            Place::File(_) => self.bill_mapped(group, length),
            Place::Converted(_) => self.bill(group, length),
        }
        let matrix = PackedMatrix {
            place,
            format: self.packing,
            inputs,
            outputs,
            is_bounded: self.is_bounded,
        };
        self.products.push(Product {
            name: packed_name(names),
            weights: names.iter().map(|name| format!("{name}.weight")).collect(),
            matrix: matrix.clone(),
        });
        Ok(matrix)
    }

    fn packed_in_file(&self, name: &str, words: usize) -> Result<Range<usize>, LoadError> {
        let entry = self.entry(name)?;
        if entry.dtype != Dtype::U32 || entry.shape[..] != [words] {
            return Err(wrong_shape(name, &entry.shape, &[words]));
        }
        if cast::<u32>(&self.file.bytes()[entry.range.clone()]).is_none() {
            return Err(LoadError::Unsupported(format!(
                "tensor {name} is not aligned to its words"
            )));
        }
        Ok(entry.range.clone())
    }

    /// The vectors `NAME.bias` of `len_each` floats, end to end.
    pub(crate) fn biases(
        &mut self,
        names: &[String],
        len_each: usize,
        group: Group,
    ) -> Result<Floats, LoadError> {
        if let [name] = names {
            return self.vector(&format!("{name}.bias"), len_each, group);
        }
        let mut from = Vec::new();
        for name in names {
            let name = format!("{name}.bias");
            let entry = self.entry(&name)?.clone();
            let encoding = self.encoding(&name, &entry)?;
            self.check_shape(&name, &entry, encoding, &[len_each])?;
            from.push((entry.range, encoding));
        }
        let length = names.len() * len_each * size_of::<f32>();
        self.bill(group, length);
        Ok(Floats {
            place: self.convert(from, None, length),
        })
    }

    fn convert(
        &mut self,
        from: Vec<(Range<usize>, Encoding)>,
        packed: Option<(Format, usize, usize)>,
        length: usize,
    ) -> Place {
        let start = self.bytes.converted;
        self.bytes.converted += length.next_multiple_of(CONVERTED_ALIGN);
        let to = start..start + length;
        self.conversions.push(Conversion {
            from,
            packed,
            to: to.clone(),
        });
        Place::Converted(to)
    }

    fn floats(&mut self, name: &str, shape: &[usize], group: Group) -> Result<Floats, LoadError> {
        let entry = self.entry(name)?.clone();
        let encoding = self.encoding(name, &entry)?;
        self.check_shape(name, &entry, encoding, shape)?;
        let aligned = cast::<f32>(&self.file.bytes()[entry.range.clone()]).is_some();
        if encoding == Encoding::F32 && aligned {
            self.bill_mapped(group, entry.range.len());
            return Ok(Floats {
                place: Place::File(entry.range),
            });
        }
        // The file holds the values, so their count is far below overflow: at most 64 f32 bytes for 18 of the file.
        let length = shape.iter().product::<usize>() * size_of::<f32>();
        self.bill(group, length);
        Ok(Floats {
            place: self.convert(vec![(entry.range, encoding)], None, length),
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

    fn bill_mapped(&mut self, group: Group, bytes: usize) {
        self.bytes.mapped += bytes;
        self.bill(group, bytes);
    }

    /// Converts and packs what must be, on all cores, and lets go of the file's pages that this leaves unread.
    pub(crate) fn finish(self) -> Result<(Store, WeightBytes), LoadError> {
        let mut owned = Mapping::owned(self.bytes.converted)?;
        owned.huge_pages();
        let mut rest = owned.bytes_mut();
        let mut jobs = Vec::new();
        for job in &self.conversions {
            let (to, behind) = rest.split_at_mut(job.to.len().next_multiple_of(CONVERTED_ALIGN));
            jobs.push((job, &mut to[..job.to.len()]));
            rest = behind;
        }
        let file = &self.file;
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(jobs.len());
        let jobs = Mutex::new(jobs);
        let work = || {
            // Held while a job is taken, not while it is done.
            let next = || {
                jobs.lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .pop()
            };
            while let Some((job, to)) = next() {
                job.run(file.bytes(), to);
                for (range, _) in &job.from {
                    file.release(range.clone());
                }
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        Ok((
            Store {
                file: self.file,
                converted: owned.freeze()?,
            },
            self.bytes,
        ))
    }
}

/// What a file's products are best computed in: bf16 loses nothing of weights that are bf16. Buffers beside them (`position_ids`) do
/// not count.
fn suited(table: &Safetensors) -> Format {
    let is_weight =
        |(name, entry): &(&String, &TensorEntry)| name.ends_with(".weight") && entry.shape.len() == 2;
    let mut weights = table.tensors.iter().filter(is_weight).peekable();
    if weights.peek().is_some() && weights.all(|(_, entry)| entry.dtype == Dtype::BF16) {
        Format::Bf16
    } else {
        Format::F32
    }
}

fn packed_format(name: &str) -> Result<Format, LoadError> {
    [Format::F32, Format::Bf16, Format::Int8]
        .into_iter()
        .find(|format| format.name() == name)
        .ok_or_else(|| {
            LoadError::Unsupported(format!(
                "weights packed as {}",
                name.chars().take(40).collect::<String>()
            ))
        })
}

/// What matrices packed side by side are called in a file: by the first of them.
fn packed_name(names: &[String]) -> String {
    format!("{}.packed", names[0])
}

fn wrong_shape(name: &str, found: &[usize], expected: &[usize]) -> LoadError {
    LoadError::Shape {
        name: name.into(),
        found: found.iter().copied().take(8).collect(),
        expected: expected.to_vec(),
    }
}
