//! JSON read where it landed.
//!
//! A request's body lies in a leased slot that was debited before the first byte was read. A reader that builds a tree of values would
//! multiply that figure by a factor that the sender chooses; this one builds nothing. [`Reader`] pulls one value at a time out of the slot
//! and gives strings back as [`Span`]s of the same slot: escapes are undone in place, since the plain text of a JSON string is never longer
//! than its escaped form. Numbers are read from their digits. The only state is a position and a stack of [`DEPTH_MAX`] path entries, so
//! that an error can say *where* (`inputs[3].text`, byte 57) without remembering or echoing the input.
//!
//! Time is linear in the body's length, whatever it holds: each byte is looked at a fixed number of times, nesting is counted and not
//! recursed into, and text is checked as UTF-8 once a pass.
//!
//! Objects are read in two steps, because their fields come in any order and a handler wants them in its own: [`Reader::fields`] checks
//! the whole object and notes where each wanted field's value starts; [`Reader::go_to`] then reads the values in the order that suits.
//!
//! ```
//! use plimsoll::json::{Reader, Unknown};
//! let mut body = *br#"{"texts": ["na\u00efve", "b"], "query": "a\nb"}"#;
//! let mut reader = Reader::new(&mut body);
//! let [query, texts] = reader.fields(["query", "texts"], Unknown::Refuse).unwrap();
//! reader.end().unwrap();
//! reader.go_to(query.unwrap());
//! let span = reader.string().unwrap();
//! assert_eq!(reader.bytes(span), b"a\nb");
//! reader.go_to(texts.unwrap());
//! reader.begin_array().unwrap();
//! assert!(reader.next_item().unwrap());
//! let span = reader.string().unwrap();
//! assert_eq!(reader.bytes(span), "naïve".as_bytes());
//! ```

mod error;
mod number;
mod path;
mod reader;
mod string;

pub use error::{ErrorKind, JsonError};
pub use path::DEPTH_MAX;
pub use reader::{Mark, Reader, Unknown};

/// A string's place in the body: `len` bytes of valid UTF-8 from byte `start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Span {
    /// The bytes that the span names, in the body it was read from.
    pub fn of(self, body: &[u8]) -> &[u8] {
        &body[self.start..self.start + self.len]
    }
}

/// What kind of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// `[`
    Array,
    /// `{`
    Object,
}

impl Kind {
    /// The kind with its article, as error texts name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}
