//! What the framework asks of a model: the pieces of one word.
//!
//! A model sees one pre-tokenised, normalised word at a time and knows nothing of the text around it. It names its
//! pieces by where each ends in that word; the framework turns those ends into offsets of the request's bytes. So
//! a model needs no alignment, no output slices and no truncation.
//!
//! Every model offers, as inherent functions (there is no dynamic dispatch on this road):
//!
//! ```text
//! fn from_json(model: &ModelJson) -> Result<Self, TokenizerError>           // the "model" object of tokenizer.json
//! fn scratch_bytes(&self, word_bytes: usize) -> usize                       // monotone in word_bytes, no larger than needed
//! fn encode_word<S: PieceSink>(&self, word: &str, scratch: &mut [u8], sink: &mut S) -> Result<(), EncodeError>
//! fn token_text(&self, id: u32) -> Option<&str>
//! fn token_to_id(&self, text: &str) -> Option<u32>
//! fn vocab_size(&self) -> usize
//! ```
//!
//! `scratch` is at least `scratch_bytes(word.len())` long and holds no particular contents.

/// Receives the pieces of one word, in order.
pub(crate) trait PieceSink {
    /// The next piece of the word is `id` and covers the bytes from the end of the piece before (0 for the first) up
    /// to `end`.
    fn piece(&mut self, id: u32, end: usize);
}
