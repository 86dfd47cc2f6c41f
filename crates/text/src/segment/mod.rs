//! Chinese word segmentation as jieba 0.42.1 does it, and Unicode word rules for everything else.
//!
//! Why here and not a crate: the server's promise is that a request allocates nothing and that start-up builds nothing.
//! The dictionary (349,044 words) is a double array laid out when the repository's data was built; the binary carries
//! it, so that a process pays only for the pages that its texts touch. Segmenting works in one scratch byte per text
//! byte, in linear time: no word of the dictionary is longer than 16 characters, so no position looks further.
//!
//! The answer is a list of ascending byte ends. Words tile the text, white space and punctuation included; leave
//! blank ones out with [`word_is_blank`].
//!
//! ```
//! use plimsoll_text::segment::{SegmentMode, Segmenter, word_is_blank};
//!
//! let segmenter = Segmenter::embedded();
//! let text = "我来到北京清华大学, don't panic";
//! let mut scratch = vec![0; segmenter.scratch_bytes(text.len())];
//! let mut ends = [0; 32];
//! let count = segmenter.segment(text, SegmentMode::Auto, &mut scratch, &mut ends).unwrap();
//!
//! let mut start = 0;
//! let mut words = Vec::new();
//! for &end in &ends[..count] {
//!     let word = &text[start..end as usize];
//!     start = end as usize;
//!     if !word_is_blank(word) {
//!         words.push(word);
//!     }
//! }
//! assert_eq!(words, ["我", "来到", "北京", "清华大学", ",", "don't", "panic"]);
//! ```

mod auto;
mod block;
mod hmm;
mod jieba;
mod route;
mod sink;
mod words;

use route::Window;
use sink::EndSink;

/// Which rules cut the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentMode {
    /// Exactly `jieba.cut(text, HMM=hmm)` of jieba 0.42.1.
    Jieba {
        /// Whether runs of single characters go through the hidden Markov model, which finds names and new words.
        hmm: bool,
    },
    /// What the product's `words` task uses: jieba with its HMM for Han runs and the ASCII that touches them
    /// (`阿Q`, `C++程序`), Unicode word rules (UAX #29) for the rest. Unlike jieba alone it never cuts `naïve`,
    /// Cyrillic, kana, Hangul or an emoji sequence character by character, and keeps `don't` and `1,000.5` whole.
    ///
    /// Beyond UAX #29 (which cuts scripts without spaces at every character) a run of Hiragana, Thai, Lao, Khmer or
    /// Myanmar letters is one word.
    Auto,
}

/// Why a text was not segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The scratch slice is smaller than [`Segmenter::scratch_bytes`] says.
    #[error("segment scratch needs {needed_bytes} bytes, {available_bytes} available")]
    ScratchTooSmall {
        /// Bytes that this text needs.
        needed_bytes: usize,
        /// Length of the slice that was passed.
        available_bytes: usize,
    },
    /// The text has more words than `ends` holds. One end per character is always enough.
    #[error("segment ends need {needed_words} entries, {available_words} available")]
    EndsTooSmall {
        /// Words in the text.
        needed_words: usize,
        /// Length of the slice that was passed.
        available_words: usize,
    },
    /// Byte ends are `u32`.
    #[error("segment takes texts of at most {limit_bytes} bytes, {text_bytes} given")]
    TextTooLong {
        /// Length of the text.
        text_bytes: usize,
        /// The longest text that byte ends can describe.
        limit_bytes: usize,
    },
}

/// jieba's dictionary and hidden Markov model. Holds nothing of its own: the tables are part of the binary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segmenter(());

impl Segmenter {
    /// The tables that the binary carries. Costs nothing: their headers were checked when the crate was compiled.
    pub const fn embedded() -> Self {
        Self(())
    }

    /// Scratch bytes that [`segment`](Self::segment) needs for a text of `text_bytes` bytes, in every mode.
    pub const fn scratch_bytes(&self, text_bytes: usize) -> usize {
        text_bytes
    }

    /// Cuts `text` into words: writes each word's byte end into `ends`, ascending, and returns their number.
    ///
    /// The words tile the text: the first starts at 0, each other where the one before ended, the last ends at
    /// `text.len()`. There are never more words than characters. Nothing is allocated; time is linear in the text.
    ///
    /// # Errors
    /// [`SegmentError`] when `scratch` or `ends` is too small, or the text is longer than `u32::MAX` bytes.
    /// What `scratch` and `ends` then hold is unspecified.
    pub fn segment(
        &self,
        text: &str,
        mode: SegmentMode,
        scratch: &mut [u8],
        ends: &mut [u32],
    ) -> Result<usize, SegmentError> {
        let (text_bytes, available_bytes) = (text.len(), scratch.len());
        let limit_bytes = u32::MAX as usize;
        if text_bytes > limit_bytes {
            return Err(SegmentError::TextTooLong {
                text_bytes,
                limit_bytes,
            });
        }
        let needed_bytes = self.scratch_bytes(text_bytes);
        let Some(scratch) = scratch.get_mut(..needed_bytes) else {
            return Err(SegmentError::ScratchTooSmall {
                needed_bytes,
                available_bytes,
            });
        };
        let mut sink = EndSink::new(ends);
        match mode {
            SegmentMode::Jieba { hmm } => jieba::cut(text, 0, hmm, &mut Window::new(), scratch, &mut sink),
            SegmentMode::Auto => auto::cut(text, scratch, &mut sink),
        }
        sink.finish()
    }
}

/// Whether a word shows a reader nothing: white space, control characters and zero-width spaces only.
///
/// ```
/// use plimsoll_text::segment::word_is_blank;
/// assert!(word_is_blank("\u{3000}\r\n"));
/// assert!(!word_is_blank("。"));
/// ```
pub fn word_is_blank(word: &str) -> bool {
    word.chars().all(|c| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
    })
}
