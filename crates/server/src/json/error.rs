//! What can be wrong with a body, said with a place and without an echo.

use std::fmt;

use super::path::PathText;

/// A refusal of a body: what is wrong, in which field, at which byte.
///
/// Its text holds at most 32 bytes of any one key of the input and 64 of the whole path, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The byte of the body at which it was noticed.
    pub offset: usize,
    pub(super) path: PathText,
}

impl JsonError {
    /// The field's path, such as `inputs[3].text`; empty for the body itself.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }
}

/// The kinds of [`JsonError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The body ends inside a value, or is empty.
    UnexpectedEnd {
        /// What should have come.
        expected: &'static str,
    },
    /// Another kind of value, or no value at all.
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A string holds bytes that are not UTF-8.
    InvalidUtf8,
    /// `\ud800` without its other half.
    LoneSurrogate,
    /// A backslash followed by something JSON does not know.
    BadEscape,
    /// A control character that should have been escaped.
    ControlCharacter,
    /// Not a JSON number.
    BadNumber,
    /// A number outside what the field holds.
    OutOfRange {
        /// What the field holds.
        expected: &'static str,
    },
    /// Nested deeper than the limit.
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// Something follows the body's one value.
    TrailingData,
    /// A field that the route does not know.
    UnknownField,
    /// A field given twice.
    DuplicateField,
    /// A field that must be there is not.
    MissingField {
        /// Its name.
        name: &'static str,
    },
    /// An empty string or array where something has to be.
    Empty,
    /// A value of the right kind that the field cannot take.
    BadValue {
        /// What the field takes.
        expected: &'static str,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path().is_empty() {
            "body"
        } else {
            self.path()
        };
        match self.kind {
            ErrorKind::MissingField { name } if self.path().is_empty() => write!(f, "{name}: missing field"),
            ErrorKind::MissingField { name } => write!(f, "{path}.{name}: missing field"),
            ErrorKind::Empty => write!(f, "`{path}` {}", self.kind),
            kind => write!(f, "{path}: {kind} (byte {})", self.offset),
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ErrorKind::UnexpectedEnd { expected } => {
                write!(f, "expected {expected}, found the end of the body")
            }
            ErrorKind::Unexpected { expected, found } => write!(f, "expected {expected}, found {found}"),
            ErrorKind::InvalidUtf8 => f.write_str("string is not valid UTF-8"),
            ErrorKind::LoneSurrogate => f.write_str("lone surrogate in a string"),
            ErrorKind::BadEscape => f.write_str("unknown escape in a string"),
            ErrorKind::ControlCharacter => f.write_str("unescaped control character in a string"),
            ErrorKind::BadNumber => f.write_str("malformed number"),
            ErrorKind::OutOfRange { expected } => write!(f, "number out of range, expected {expected}"),
            ErrorKind::TooDeep { depth_max } => write!(f, "nested deeper than {depth_max} levels"),
            ErrorKind::TrailingData => f.write_str("unexpected data after the value"),
            ErrorKind::UnknownField => f.write_str("unknown field"),
            ErrorKind::DuplicateField => f.write_str("field given twice"),
            ErrorKind::MissingField { name } => write!(f, "missing field {name}"),
            ErrorKind::Empty => f.write_str("cannot be empty"),
            ErrorKind::BadValue { expected } => write!(f, "expected {expected}"),
        }
    }
}

impl std::error::Error for JsonError {}
