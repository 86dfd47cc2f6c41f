//! Ids back to text.

use super::Tokenizer;
use crate::bpe::byte_of;
use crate::error::short;
use crate::vocab::limit;
use crate::{DecodeError, TokenizerError};
use serde_json::Value;

/// Longest continuation prefix.
const PREFIX_BYTES_MAX: usize = 256;

/// How token texts become text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decoder {
    /// Tokens with spaces between.
    Spaced,
    WordPiece {
        prefix: String,
        cleanup: bool,
    },
    Metaspace {
        mark: char,
        drops_first: bool,
    },
    ByteLevel,
}

/// What `cleanup` of the WordPiece decoder replaces, in order; nothing grows.
const CLEANUP: [(&str, &str); 11] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

impl Decoder {
    pub(super) fn from_json(decoder: &Value) -> Result<Self, TokenizerError> {
        let malformed = |what: &str| TokenizerError::Malformed(format!("decoder {what}"));
        if decoder.is_null() {
            return Ok(Decoder::Spaced);
        }
        match decoder["type"].as_str() {
            Some("WordPiece") => {
                let prefix = decoder["prefix"]
                    .as_str()
                    .ok_or_else(|| malformed("has no prefix"))?;
                limit("length of the decoder's prefix", prefix.len(), PREFIX_BYTES_MAX)?;
                Ok(Decoder::WordPiece {
                    prefix: prefix.into(),
                    cleanup: decoder["cleanup"].as_bool().unwrap_or(true),
                })
            }
            Some("Metaspace") => {
                let mut marks = decoder["replacement"].as_str().unwrap_or_default().chars();
                let mark = marks
                    .next()
                    .ok_or_else(|| malformed("Metaspace has no replacement"))?;
                let never = decoder["prepend_scheme"] == "never" || decoder["add_prefix_space"] == false;
                Ok(Decoder::Metaspace {
                    mark,
                    drops_first: !never,
                })
            }
            Some("ByteLevel") => Ok(Decoder::ByteLevel),
            Some(other) => Err(TokenizerError::Unsupported {
                part: "decoder",
                name: short(other),
            }),
            None => Err(malformed("has no type")),
        }
    }
}

/// A text that grows in the caller's slice.
struct Text<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl Text<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let available = self.out.len();
        let slot = self.out.get_mut(self.len..self.len + bytes.len());
        slot.ok_or(DecodeError::OutputTooSmall { available })?
            .copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    fn push_char(&mut self, c: char) -> Result<(), DecodeError> {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    /// Replaces every `old` from `from` on by `new`, which is no longer.
    fn replace(&mut self, from: usize, old: &str, new: &str) {
        let (mut read, mut write) = (from, from);
        while read < self.len {
            if self.out[read..self.len].starts_with(old.as_bytes()) {
                self.out[write..write + new.len()].copy_from_slice(new.as_bytes());
                write += new.len();
                read += old.len();
            } else {
                self.out[write] = self.out[read];
                write += 1;
                read += 1;
            }
        }
        self.len = write;
    }

    /// Replaces what is not UTF-8 by U+FFFD.
    fn make_valid(&mut self) -> Result<(), DecodeError> {
        let mark = "\u{FFFD}".len();
        let bytes = &self.out[..self.len];
        let full: usize = bytes
            .utf8_chunks()
            .map(|c| c.valid().len() + if c.invalid().is_empty() { 0 } else { mark })
            .sum();
        if full > self.out.len() {
            return Err(DecodeError::OutputTooSmall {
                available: self.out.len(),
            });
        }
        // An invalid sequence has at most three bytes, so the text never shrinks: read from its end, write from its front.
        let mut read = full - self.len;
        self.out.copy_within(..self.len, read);
        self.len = 0;
        while let Some((valid, invalid)) = self.out[read..full]
            .utf8_chunks()
            .next()
            .map(|c| (c.valid().len(), c.invalid().len()))
        {
            self.out.copy_within(read..read + valid, self.len);
            self.len += valid;
            read += valid + invalid;
            if invalid > 0 {
                self.push_char('\u{FFFD}')?;
            }
        }
        Ok(())
    }
}

impl Tokenizer {
    /// Writes the text of `ids` to `out`; how many bytes, which are UTF-8. Ids without a token are skipped.
    ///
    /// # Errors
    /// When `out` is too small.
    pub fn decode(
        &self,
        ids: &[u32],
        skip_special_tokens: bool,
        out: &mut [u8],
    ) -> Result<usize, DecodeError> {
        let mut text = Text { out, len: 0 };
        let known = ids
            .iter()
            .filter(|id| !(skip_special_tokens && self.is_special(**id)));
        for (number, token) in known.filter_map(|id| self.token_text(*id)).enumerate() {
            self.decode_token(number, token, &mut text)?;
        }
        if self.decoder == Decoder::ByteLevel {
            text.make_valid()?;
        }
        Ok(text.len)
    }

    fn decode_token(&self, number: usize, token: &str, text: &mut Text<'_>) -> Result<(), DecodeError> {
        match &self.decoder {
            Decoder::Spaced => {
                if number > 0 {
                    text.push(b" ")?;
                }
                text.push(token.as_bytes())
            }
            Decoder::WordPiece { prefix, cleanup } => {
                let from = text.len;
                match token.strip_prefix(prefix.as_str()) {
                    Some(rest) if number > 0 => text.push(rest.as_bytes())?,
                    _ if number > 0 => {
                        text.push(b" ")?;
                        text.push(token.as_bytes())?;
                    }
                    _ => text.push(token.as_bytes())?,
                }
                if *cleanup {
                    CLEANUP.iter().for_each(|(old, new)| text.replace(from, old, new));
                }
                Ok(())
            }
            Decoder::Metaspace { mark, drops_first } => token.chars().try_for_each(|c| match c == *mark {
                true if number == 0 && *drops_first => Ok(()),
                true => text.push(b" "),
                false => text.push_char(c),
            }),
            Decoder::ByteLevel => {
                if token.chars().all(|c| byte_of(c).is_some()) {
                    return token
                        .chars()
                        .filter_map(byte_of)
                        .try_for_each(|byte| text.push(&[byte]));
                }
                text.push(token.as_bytes())
            }
        }
    }
}
