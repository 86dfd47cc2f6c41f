//! Encoders of the BERT family over mapped weights: BERT, DistilBERT, RoBERTa, XLM-RoBERTa.
//!
//! A server below a memory line needs to know what a pass costs before it runs. So a [`Model`] is immutable and shared, its
//! weights stay in the mapped file, and all else that a pass needs is one arena whose size follows from the batch's shape
//! ([`Model::forward_scratch`]). Sequences are packed end to end without padding, and every head reads the same view of the
//! last layer ([`Hidden`]). Neither passes nor heads touch the heap.
//!
//! ```no_run
//! use plimsoll_encoder::{Batch, Model};
//! use plimsoll_memory::Scratch;
//!
//! let model = Model::load_dir("all-MiniLM-L6-v2".as_ref())?;
//! let batch = Batch { ids: &[101, 7592, 102, 101, 2088, 102], types: &[], lens: &[3, 3] };
//! let mut scratch = Scratch::new(model.forward_scratch(batch.shape()).bytes())?;
//! let frame = scratch.frame();
//! let hidden = model.forward(&batch, &frame)?;
//! let mut embedding = vec![0.0; model.info().hidden];
//! model.pool(&hidden, 3..6, true, &mut embedding);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Directories
//! `config.json` and `model.safetensors` are needed. `modules.json` with its pooling module and `sentence_bert_config.json`, also by
//! its older names, are obeyed when there; what concerns the tokenizer and prompts, [`ModelInfo`] says to those who have them. Tensors are `F32` (mapped), `F16` or `BF16` (converted once), or Q4_0 blocks (mapped): a `U8`
//! tensor `[rows, columns / 32 * 18]` whose name is listed, separated by commas, in the file's metadata under `plimsoll.q4_0`.
//! The matrices of products are packed at loading, in the format asked for, or lie packed in the file that [`quantize`] wrote.
//!
//! # Heads
//! The architecture in `config.json` says what `classifier.*` is: `...ForSequenceClassification` (BERT's pooler, RoBERTa's
//! `dense` and `out_proj`, DistilBERT's `pre_classifier`) or `...ForTokenClassification`, with the labels of `id2label`;
//! a row that it does not name is `LABEL_n`.
//! One file may carry both kinds beside an encoder that embeds. Such heads are announced in `config.json`:
//!
//! ```json
//! "plimsoll_heads": {
//!   "sequence_classifier": {
//!     "id2label": {"0": "negative", "1": "positive"},
//!     "pooling": "cls",
//!     "activation": "tanh",
//!     "problem_type": "single_label_classification"
//!   },
//!   "token_classifier": {"id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}}
//! }
//! ```
//!
//! with the tensors `plimsoll.sequence_classifier.weight` `[labels, hidden]` and `.bias`, optionally before them
//! `plimsoll.sequence_classifier.dense.weight` `[hidden, hidden]` and `.bias` followed by `activation`, and
//! `plimsoll.token_classifier.weight` and `.bias`. With `"slots": n` the token head labels the characters inside pieces: its
//! labels are `O` and `B-`, `M-`, `E-`, `S-` of each kind, its weight is `[n * labels, hidden]`, row `slot * labels + label`. `pooling` (`cls` by default, `mean`, `lasttoken`, `max`), `activation`
//! (none by default) and `problem_type` may be left out.
#![forbid(unsafe_code)]

mod arch;
mod batch;
mod config;
mod error;
mod forward;
pub mod head;
mod heads;
mod hidden;
mod info;
mod model;
mod quantize;
mod safetensors;
pub mod spans;
mod weights;

pub use batch::{Batch, BatchShape};
pub use error::{ForwardError, LoadError, SafetensorsError};
pub use hidden::Hidden;
pub use info::{Family, ModelInfo, Pooling, Problem, SequenceHeadInfo, WeightBytes};
pub use model::{JSON_BYTES_MAX, Model, ModelFiles};
pub use plimsoll_kernel::{Crew, Format};
pub use quantize::quantize;
