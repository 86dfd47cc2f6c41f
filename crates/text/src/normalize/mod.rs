//! Normalizers: each a small rewrite of characters that remembers which bytes of the text every character came from.
//!
//! A rewrite is a list of `(char, change)` as the `tokenizers` crate defines it for `NormalizedString::transform`:
//! `0` replaces the next old character, `1` is inserted after the one before (and shares its source bytes), `-n`
//! replaces one old character and removes the `n` after it.
//!
//! `precompiled::Precompiled` offers, as inherent functions:
//!
//! ```text
//! fn from_json(normalizer: &serde_json::Value) -> Result<Self, TokenizerError>   // {"type": "Precompiled", "precompiled_charsmap": base64}
//! fn transform(&self, chunk: &str, push: &mut impl FnMut(char, isize))            // the whole rewrite of `chunk`, in order; allocates nothing
//! fn ascii_unchanged(&self) -> bool                                              // every printable ASCII character alone maps to itself
//! ```
//!
//! A chunk is cut only between two ASCII characters other than CR LF, where a grapheme always ends.

pub(crate) mod precompiled;
