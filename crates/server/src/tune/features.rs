//! What the frozen encoder says of each text: the mean of its token vectors, then its first token's.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_encoder::{Batch, BatchShape, ForwardError, Model};
use plimsoll_memory::{Scratch, ScratchError};
use plimsoll_text::{EncodeError, EncodeOptions, TokenSlots, Tokenizer, Truncation};

/// Feature vectors, row after row.
#[derive(Debug)]
pub struct Features {
    /// Floats in a row.
    pub width: usize,
    /// `[texts, width]`
    pub values: Vec<f32>,
}

/// Parts of a feature vector, as the head's file names them.
pub(super) const POOLING: &str = "mean+cls";
/// Hidden states that go into one.
const PARTS: usize = 2;

/// Why there are no features.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// No memory for a pass.
    #[error(transparent)]
    Memory(#[from] ScratchError),
    /// The tokenizer.
    #[error("text {index}: {source}")]
    Encode {
        /// Which.
        index: usize,
        /// What is wrong.
        source: EncodeError,
    },
    /// The encoder.
    #[error("text {index}: {source}")]
    Forward {
        /// Which.
        index: usize,
        /// What is wrong.
        source: ForwardError,
    },
}

/// Bytes that features of so many texts take.
pub fn bytes(texts: usize, hidden: usize) -> usize {
    texts * hidden * PARTS * size_of::<f32>()
}

/// Reads every text behind `prompt`, cut to what the model reads as a request's is, on so many threads; `done` hears of each.
///
/// # Errors
/// [`FeatureError`]
pub fn features(
    model: &Model,
    tokenizer: &Tokenizer,
    prompt: &str,
    texts: &[String],
    threads: usize,
    done: impl Fn() + Sync,
) -> Result<Features, FeatureError> {
    let width = PARTS * model.info().hidden;
    let mut values = vec![0.0; texts.len() * width];
    let rows: Vec<Mutex<&mut [f32]>> = values.chunks_exact_mut(width).map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let read = || {
        let mut reader = Reader::new(model, tokenizer, prompt, texts)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(text) = texts.get(index) else {
                return Ok(());
            };
            let mut row = rows[index].lock().expect("each row is one thread's");
            reader.read(index, text, &mut row)?;
            done();
        }
    };
    let ended: Vec<Result<(), FeatureError>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(read)).collect();
        all.into_iter()
            .map(|one| one.join().expect("reading texts does not panic"))
            .collect()
    });
    drop(rows);
    ended.into_iter().collect::<Result<(), _>>()?;
    Ok(Features { width, values })
}

/// One thread's buffers.
struct Reader<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    prompt: &'a str,
    scratch: Scratch,
    text: String,
    text_scratch: Vec<u8>,
    ids: Vec<u32>,
    offsets: [Vec<u32>; 2],
    types: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        prompt: &'a str,
        texts: &[String],
    ) -> Result<Self, FeatureError> {
        let tokens = model.info().tokens_max;
        let longest = texts.iter().map(String::len).max().unwrap_or(0) + prompt.len();
        let shape = BatchShape {
            tokens,
            sequences: 1,
            tokens_longest: tokens,
        };
        Ok(Reader {
            model,
            tokenizer,
            prompt,
            scratch: Scratch::new(model.forward_scratch(shape).bytes())?,
            text: String::with_capacity(longest),
            text_scratch: vec![0; tokenizer.scratch_bytes(longest)],
            ids: vec![0; tokens],
            offsets: [vec![0; tokens], vec![0; tokens]],
            types: vec![0; tokens],
        })
    }

    fn read(&mut self, index: usize, text: &str, out: &mut [f32]) -> Result<(), FeatureError> {
        self.text.clear();
        self.text.push_str(self.prompt);
        self.text.push_str(text);
        let options = EncodeOptions {
            add_special_tokens: true,
            tokens_max: self.ids.len(),
            truncation: Truncation::Right,
            count_all: false,
        };
        let [starts, ends] = &mut self.offsets;
        let mut slots = TokenSlots {
            ids: &mut self.ids,
            starts,
            ends,
            types: &mut self.types,
        };
        let count = self
            .tokenizer
            .encode(&self.text, &options, &mut self.text_scratch, &mut slots)
            .map_err(|source| FeatureError::Encode { index, source })?
            .count;
        let lens = [count as u32];
        let batch = Batch {
            ids: &self.ids[..count],
            types: &[],
            lens: &lens,
        };
        let frame = self.scratch.frame();
        let hidden = self
            .model
            .forward(&batch, &frame)
            .map_err(|source| FeatureError::Forward { index, source })?;
        let (mean, first) = out.split_at_mut(hidden.width());
        self.model.kernel().mean_pool(hidden.rows(0..count), mean);
        first.copy_from_slice(hidden.token(0));
        Ok(())
    }
}
