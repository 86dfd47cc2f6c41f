//! A model: configuration, weights and heads, immutable and shared by all workers.

use std::ops::Range;
use std::path::Path;

use plimsoll_kernel::{Crew, Format, Kernel};
use plimsoll_memory::{Frame, Mapping, ScratchReq, read_file};

use crate::arch::Encoder;
use crate::batch::{Batch, BatchShape};
use crate::config::Config;
use crate::config::sentence::{Modules, PoolingModule, SENTENCE_BERT_FILES, SentenceBert};
use crate::error::{ForwardError, LoadError};
use crate::forward::{self, Pass};
use crate::head;
use crate::heads::{BLOCK, Heads};
use crate::hidden::Hidden;
use crate::info::{ModelInfo, Pooling, Problem};
use crate::weights::{Binder, Store};

/// Longest JSON file that is read: one with the names of 65,535 labels is a few megabytes.
pub const JSON_BYTES_MAX: usize = 16 << 20;

/// The files of a model directory.
#[derive(Clone, Debug)]
pub struct ModelFiles<'a> {
    /// `config.json`.
    pub config: &'a [u8],
    /// `model.safetensors`.
    pub weights: Mapping,
    /// `modules.json` of sentence-transformers.
    pub modules: Option<&'a [u8]>,
    /// `config.json` of its pooling module; without one, the mean.
    pub pooling: Option<&'a [u8]>,
    /// `sentence_bert_config.json`, or the file that older directories have in its place: its name and contents.
    pub sentence_bert: Option<(&'static str, &'a [u8])>,
    /// What products are computed in; `None`: what suits the file, see [`Model::load_dir_as`].
    pub format: Option<Format>,
}

/// A model of the BERT family.
///
/// Heap bytes: names and places of tensors, a few kilobytes a layer. Weights lie in their mapping; those that had to be
/// converted lie in private pages ([`crate::WeightBytes::converted`]).
#[derive(Debug)]
pub struct Model {
    config: Config,
    encoder: Encoder,
    heads: Heads,
    store: Store,
    info: ModelInfo,
    kernel: Kernel,
    format: Format,
    /// What products that were packed when it was loaded are packed in.
    packing: Format,
}

impl Model {
    /// Loads a Hugging Face directory, its products in what suits the file.
    ///
    /// # Errors
    /// As [`Model::load_dir_as`].
    pub fn load_dir(path: &Path) -> Result<Model, LoadError> {
        Model::load_dir_as(path, None)
    }

    /// Loads a Hugging Face directory. Products are computed in `format`; when nobody says, in bf16 from bf16 weights, in 8 bits
    /// from 4-bit blocks, as a [quantised](crate::quantize) file has them, and else in f32.
    ///
    /// # Errors
    /// See [`LoadError`]; weights that are only there as `pytorch_model.bin` or in several files are
    /// [`LoadError::Unsupported`].
    pub fn load_dir_as(path: &Path, format: Option<Format>) -> Result<Model, LoadError> {
        Model::load_dir_on(Kernel::detect(), path, format)
    }

    /// As [`Model::load_dir_as`], on another instruction set.
    ///
    /// # Errors
    /// As [`Model::load_dir_as`].
    pub fn load_dir_on(kernel: Kernel, path: &Path, format: Option<Format>) -> Result<Model, LoadError> {
        let config = read(path, "config.json")?;
        let modules = read_optional(path, "modules.json")?;
        let pooling = match &modules {
            // A module that is named must be there: any other pooling gives other vectors.
            Some(json) => match Modules::parse(json)?.pooling_path {
                Some(directory) => Some(read(path, &format!("{directory}/config.json"))?),
                None => None,
            },
            None => read_optional(path, "1_Pooling/config.json")?,
        };
        let sentence_bert = read_first(path, &SENTENCE_BERT_FILES)?;
        let files = ModelFiles {
            config: &config,
            weights: map_weights(path)?,
            modules: modules.as_deref(),
            pooling: pooling.as_deref(),
            sentence_bert: sentence_bert.as_ref().map(|(name, json)| (*name, &json[..])),
            format,
        };
        Model::from_parts_on(kernel, files)
    }

    /// Builds a model from its files' contents: the default inside the binary.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_parts(files: ModelFiles<'_>) -> Result<Model, LoadError> {
        Model::from_parts_on(Kernel::detect(), files)
    }

    fn from_parts_on(kernel: Kernel, files: ModelFiles<'_>) -> Result<Model, LoadError> {
        let config = Config::parse(files.config)?;
        let modules = files.modules.map(Modules::parse).transpose()?.unwrap_or_default();
        let pooling = files.pooling.map(PoolingModule::parse).transpose()?;
        let pooling = pooling.unwrap_or_default();
        let sentence_bert = match files.sentence_bert {
            Some((file, json)) => SentenceBert::parse(file, json)?,
            None => SentenceBert::default(),
        };
        let limit = sentence_bert.max_seq_length;
        let mut binder = Binder::new(files.weights, files.format)?;
        binder.pack_for(kernel);
        let encoder = Encoder::bind(&config, &mut binder)?;
        let heads = Heads::bind(&config, &encoder.prefix, &mut binder)?;
        let dtype = binder.dtype_name(&format!("{}{}", encoder.prefix, crate::arch::WORDS))?;
        let (format, packing) = (binder.format(), binder.packing());
        let (store, weight_bytes) = binder.finish()?;
        let positions_max = config.positions_max();
        let info = ModelInfo {
            family: config.family,
            hidden: config.hidden,
            layers: config.layers,
            heads: config.heads,
            intermediate: config.intermediate,
            tokens_max: limit.map_or(positions_max, |limit| limit.min(positions_max)),
            positions_max,
            vocab_size: config.vocab_size,
            type_vocab_size: config.types,
            pooling: pooling.pooling,
            include_prompt: pooling.include_prompt,
            lower_case_by: files
                .sentence_bert
                .filter(|_| sentence_bert.do_lower_case == Some(true))
                .map(|(file, _)| file),
            normalize: modules.normalize,
            sequence_head: heads.sequence.as_ref().map(|head| head.info.clone()),
            token_head: heads.token.as_ref().map(|head| head.labels.clone()),
            character_labels: heads.token.as_ref().and_then(|head| head.characters.clone()),
            weight_bytes,
            dtype,
            format: format.name(),
        };
        Ok(Model {
            config,
            encoder,
            heads,
            store,
            info,
            kernel,
            format,
            packing,
        })
    }

    /// The same model with another pooling than its files name.
    pub fn with_pooling(mut self, pooling: Pooling) -> Model {
        self.info.pooling = pooling;
        self
    }

    /// The same model with the head over sequences that a directory made by `plimsoll tune` holds ([`crate::head`]), in the
    /// place of its own.
    ///
    /// # Errors
    /// See [`LoadError`]: also when the head was tuned on other weights.
    pub fn with_head_dir(mut self, path: &Path) -> Result<Model, LoadError> {
        let config = read(path, head::CONFIG_FILE)?;
        let weights = Mapping::open(&path.join(head::WEIGHTS_FILE))?;
        let (head, bytes) = head::load(&config, weights, self.info.hidden, self.fingerprint())?;
        self.info.sequence_head = Some(head.info.clone());
        self.info.weight_bytes.heads += bytes.heads;
        self.info.weight_bytes.converted += bytes.converted;
        self.info.weight_bytes.mapped += bytes.mapped;
        self.heads.sequence = Some(head);
        Ok(self)
    }

    /// A number that tells weight files apart.
    pub fn fingerprint(&self) -> u64 {
        self.store.fingerprint()
    }

    /// What it is and can do.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The instruction set that it computes with.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Bytes of scratch that [`Model::forward`] takes for a batch of this shape, exactly. It grows with every field, so
    /// that the need of the largest batch bounds all others.
    pub fn forward_scratch(&self, shape: BatchShape) -> ScratchReq {
        self.forward_scratch_with(shape, 1)
    }

    /// As [`Model::forward_scratch`], for [`Model::forward_with`] a crew of `lanes`.
    pub fn forward_scratch_with(&self, shape: BatchShape, lanes: usize) -> ScratchReq {
        let rows = self.kernel.row_format(self.packing);
        forward::scratch(&self.config, self.kernel, rows, shape, lanes)
    }

    /// Runs the encoder. The result lies in the frame; what else was needed is free again when this returns.
    ///
    /// # Errors
    /// See [`ForwardError`]; nothing was computed then. Token types are ignored by models that have none.
    pub fn forward<'s>(&self, batch: &Batch<'_>, frame: &'s Frame<'_>) -> Result<Hidden<'s>, ForwardError> {
        self.forward_with(batch, frame, &Crew::alone())
    }

    /// Runs the encoder as leader of a crew, whose helpers take part in every product. The result is the same to the last bit.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_with<'s>(
        &self,
        batch: &Batch<'_>,
        frame: &'s Frame<'_>,
        crew: &Crew,
    ) -> Result<Hidden<'s>, ForwardError> {
        let pass = Pass {
            config: &self.config,
            encoder: &self.encoder,
            store: &self.store,
            kernel: self.kernel,
            weights: self.format,
            rows: self.kernel.row_format(self.packing),
            crew,
        };
        let rows = pass.run(batch, frame)?;
        Ok(Hidden::new(rows, self.config.hidden))
    }

    /// Writes the embedding of a sequence, given as its range of the batch's tokens: the model's pooling, then L2
    /// normalisation if asked for. `out` has [`ModelInfo::hidden`] floats.
    ///
    /// # Panics
    /// When the range is empty or not within `hidden`, or `out` has another length.
    pub fn pool(&self, hidden: &Hidden<'_>, sequence: Range<usize>, normalize: bool, out: &mut [f32]) {
        assert!(
            !sequence.is_empty() && out.len() == self.info.hidden,
            "pooling {sequence:?} into {}",
            out.len()
        );
        match self.info.pooling {
            Pooling::Mean => self.kernel.mean_pool(hidden.rows(sequence), out),
            Pooling::Max => self.kernel.max_pool(hidden.rows(sequence), out),
            Pooling::Cls => out.copy_from_slice(hidden.token(sequence.start)),
            Pooling::LastToken => out.copy_from_slice(hidden.token(sequence.end - 1)),
        }
        if normalize {
            self.kernel.l2_normalize(out);
        }
    }

    /// Writes the logits of the sequence head, one a label; [`Model::scores`] makes probabilities of them.
    ///
    /// # Panics
    /// When there is no such head, the range is empty or not within `hidden`, or `out` has another length.
    pub fn classify(&self, hidden: &Hidden<'_>, sequence: Range<usize>, out: &mut [f32]) {
        let head = self
            .heads
            .sequence
            .as_ref()
            .expect("the model has a sequence head");
        assert!(
            !sequence.is_empty() && out.len() == head.info.labels.len(),
            "{sequence:?} into {}",
            out.len()
        );
        head.logits::<BLOCK>(self.kernel, &self.store, hidden, sequence, out);
    }

    /// Turns logits of the sequence head into scores, in place, as [`Problem`] says.
    ///
    /// # Panics
    /// When there is no such head or `logits` has another length than it has labels.
    pub fn scores(&self, logits: &mut [f32]) {
        let head = self
            .heads
            .sequence
            .as_ref()
            .expect("the model has a sequence head");
        assert_eq!(logits.len(), head.info.labels.len(), "logits");
        match head.info.problem {
            Problem::SingleLabel => self.kernel.softmax(logits, logits.len()),
            Problem::MultiLabel | Problem::Relevance => {
                logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp()));
            }
            Problem::Regression => {}
        }
    }

    /// Writes the most probable label and its probability for each token of the range.
    ///
    /// # Panics
    /// When there is no token head, when it labels characters ([`Model::label_characters`]), the range is not within `hidden`, or a slice has another length.
    pub fn label_tokens(
        &self,
        hidden: &Hidden<'_>,
        tokens: Range<usize>,
        labels: &mut [u16],
        scores: &mut [f32],
    ) {
        let head = self.heads.token.as_ref().expect("the model has a token head");
        assert!(head.characters.is_none(), "the token head labels characters");
        assert_eq!(
            [labels.len(), scores.len()],
            [tokens.len(); 2],
            "labels and scores"
        );
        let rows = hidden.rows(tokens);
        head.best(self.kernel, &self.store, rows, hidden.width(), (labels, scores));
    }

    /// Writes the probabilities of every label, `[tokens, labels]`: what
    /// [`Aggregation::Average`](crate::spans::Aggregation::Average) reads.
    ///
    /// # Panics
    /// As [`Model::label_tokens`], or when `out` has another length.
    pub fn label_probabilities(&self, hidden: &Hidden<'_>, tokens: Range<usize>, out: &mut [f32]) {
        let head = self.heads.token.as_ref().expect("the model has a token head");
        assert!(head.characters.is_none(), "the token head labels characters");
        assert_eq!(out.len(), tokens.len() * head.labels.len(), "probabilities");
        head.probabilities(self.kernel, &self.store, hidden.rows(tokens), hidden.width(), out);
    }

    /// Writes log-probabilities `[tokens, slots, labels]` of a head that labels the characters inside pieces: what
    /// [`CharacterLabels::decode`](crate::spans::CharacterLabels::decode) reads.
    ///
    /// # Panics
    /// When there is no such head ([`ModelInfo::character_labels`]), the range is not within `hidden`, or `out` has another length.
    pub fn label_characters(&self, hidden: &Hidden<'_>, tokens: Range<usize>, out: &mut [f32]) {
        let head = self.heads.token.as_ref().expect("the model has a token head");
        let rules = head
            .characters
            .as_ref()
            .expect("the token head labels characters");
        let floats = tokens.len() * rules.slots() * head.labels.len();
        assert_eq!(out.len(), floats, "log-probabilities");
        head.log_probabilities(self.kernel, &self.store, hidden.rows(tokens), hidden.width(), out);
    }
}

pub(crate) fn read(directory: &Path, name: &str) -> Result<Vec<u8>, LoadError> {
    let path = directory.join(name);
    read_file(&path, JSON_BYTES_MAX).map_err(|source| LoadError::Io { path, source })
}

fn read_optional(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
    match read(directory, name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(LoadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first of these files that is there.
fn read_first(
    directory: &Path,
    names: &[&'static str],
) -> Result<Option<(&'static str, Vec<u8>)>, LoadError> {
    for name in names {
        if let Some(bytes) = read_optional(directory, name)? {
            return Ok(Some((name, bytes)));
        }
    }
    Ok(None)
}

pub(crate) fn map_weights(directory: &Path) -> Result<Mapping, LoadError> {
    const WEIGHTS: &str = "model.safetensors";
    let path = directory.join(WEIGHTS);
    if !path.exists() {
        for other in ["model.safetensors.index.json", "pytorch_model.bin"] {
            if directory.join(other).exists() {
                return Err(LoadError::Unsupported(format!(
                    "{}: weights as {other}; one {WEIGHTS} is needed",
                    directory.display()
                )));
            }
        }
    }
    Ok(Mapping::open(&path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors wider than a block go through it in parts, which the small models of `testdata` would not show.
    #[test]
    fn logits_do_not_depend_on_the_block() {
        for name in ["bert-q4-heads", "roberta-sequence", "xlm-roberta-sequence"] {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/encoder");
            let model = Model::load_dir(&Path::new(directory).join(name)).unwrap();
            let head = model.heads.sequence.as_ref().unwrap();
            let width = model.info.hidden;
            let rows: Vec<f32> = (0..5 * width)
                .map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0)
                .collect();
            let hidden = Hidden::new(&rows, width);
            let labels = head.info.labels.len();
            let (mut whole, mut parts) = (vec![f32::NAN; labels], vec![f32::NAN; labels]);
            head.logits::<BLOCK>(model.kernel, &model.store, &hidden, 1..4, &mut whole);
            head.logits::<7>(model.kernel, &model.store, &hidden, 1..4, &mut parts);
            for (whole, parts) in whole.iter().zip(&parts) {
                assert!((whole - parts).abs() < 1e-4, "{name}: {whole} {parts}");
            }
        }
    }
}
