//! The pull reader.

use super::path::{Level, Path};
use super::{DEPTH_MAX, ErrorKind, JsonError, Kind, Span, number, string};

/// Reads one JSON value out of a body that it may overwrite. See the [module](super).
///
/// Calls must follow the document: after [`begin_array`](Self::begin_array), each [`next_item`](Self::next_item) that gives `true` is
/// followed by exactly one value; likewise [`next_key`](Self::next_key). A string may be read once: its bytes are its plain text afterwards.
#[derive(Debug)]
pub struct Reader<'a> {
    body: &'a mut [u8],
    at: usize,
    /// Just after an opening bracket: no comma may come.
    fresh: bool,
    path: Path,
}

/// A place in the body to come back to: the start of a field's value.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: usize,
    depth: usize,
    level: Option<Level>,
}

/// What to do with fields that a route does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Refuse them by name.
    Refuse,
    /// Check that they are JSON and ignore them.
    Ignore,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `body`.
    pub fn new(body: &'a mut [u8]) -> Self {
        Reader {
            body,
            at: 0,
            fresh: false,
            path: Path::new(),
        }
    }

    /// The bytes that a span of this body names.
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(self.body)
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// An error of this kind at the value that is being read.
    pub fn error(&self, kind: ErrorKind) -> JsonError {
        self.error_at((kind, self.at))
    }

    fn error_at(&self, (kind, offset): (ErrorKind, usize)) -> JsonError {
        JsonError {
            kind,
            offset: offset.min(self.body.len()),
            path: self.path.text(self.body),
        }
    }

    fn skip_space(&mut self) {
        let rest = &self.body[self.at..];
        let space = rest
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        self.at += space;
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self, expected: &'static str) -> Result<u8, JsonError> {
        self.skip_space();
        match self.body.get(self.at) {
            Some(&byte) => Ok(byte),
            None => Err(self.error(ErrorKind::UnexpectedEnd { expected })),
        }
    }

    /// The kind of the next value, which is not read yet.
    pub fn peek(&mut self) -> Result<Kind, JsonError> {
        self.peek_for("a value")
    }

    fn peek_for(&mut self, expected: &'static str) -> Result<Kind, JsonError> {
        Ok(match self.next_byte(expected)? {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'-' | b'0'..=b'9' => Kind::Number,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => {
                return Err(self.error(ErrorKind::Unexpected {
                    expected,
                    found: "something else",
                }));
            }
        })
    }

    fn expect(&mut self, kind: Kind) -> Result<(), JsonError> {
        match self.peek_for(kind.name())? {
            found if found == kind => Ok(()),
            found => Err(self.unexpected(kind.name(), found)),
        }
    }

    /// The error "expected this, found that kind" at the next value.
    pub fn unexpected(&self, expected: &'static str, found: Kind) -> JsonError {
        self.error(ErrorKind::Unexpected {
            expected,
            found: found.name(),
        })
    }

    fn literal(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !self.body[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error(ErrorKind::Unexpected {
                expected: word,
                found: "something else",
            }));
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads `null` if it comes next, and says whether it did.
    pub fn null(&mut self) -> Result<bool, JsonError> {
        let is_null = self.peek()? == Kind::Null;
        if is_null {
            self.literal("null")?;
        }
        Ok(is_null)
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool, JsonError> {
        self.expect(Kind::Bool)?;
        let value = self.body[self.at] == b't';
        self.literal(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// Reads a string and undoes its escapes in place.
    pub fn string(&mut self) -> Result<Span, JsonError> {
        self.expect(Kind::String)?;
        let start = self.at + 1;
        let (end, escaped) = string::scan(self.body, start).map_err(|e| self.error_at(e))?;
        self.at = end + 1;
        let len = if escaped {
            string::unescape(&mut self.body[start..end])
        } else {
            end - start
        };
        Ok(Span { start, len })
    }

    /// Checks a string and leaves its bytes as they are; the span is the raw text between the quotes.
    fn raw_string(&mut self) -> Result<Span, JsonError> {
        self.expect(Kind::String)?;
        let start = self.at + 1;
        let (end, _) = string::scan(self.body, start).map_err(|e| self.error_at(e))?;
        self.at = end + 1;
        Ok(Span {
            start,
            len: end - start,
        })
    }

    /// Checks a number; its digits and whether it is a whole number.
    fn number(&mut self) -> Result<(&str, bool), JsonError> {
        self.expect(Kind::Number)?;
        let start = self.at;
        let (end, is_whole) = number::scan(self.body, start).map_err(|e| self.error_at(e))?;
        self.at = end;
        Ok((
            std::str::from_utf8(&self.body[start..end]).unwrap_or_default(),
            is_whole,
        ))
    }

    /// Reads a whole number from 0 to 4,294,967,295; a fraction or an exponent is refused even where its value is whole.
    pub fn u32(&mut self) -> Result<u32, JsonError> {
        const EXPECTED: &str = "a whole number from 0 to 4294967295";
        let mark = self.mark();
        let (digits, is_whole) = self.number()?;
        let value = if is_whole { digits.parse().ok() } else { None };
        value.ok_or_else(|| {
            self.go_to(mark);
            self.error(ErrorKind::OutOfRange { expected: EXPECTED })
        })
    }

    /// Reads a number as the nearest `f64`.
    pub fn f64(&mut self) -> Result<f64, JsonError> {
        let mark = self.mark();
        let value = self
            .number()?
            .0
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| {
            self.go_to(mark);
            self.error(ErrorKind::OutOfRange {
                expected: "a finite 64-bit float",
            })
        })
    }

    /// Opens an array.
    pub fn begin_array(&mut self) -> Result<(), JsonError> {
        self.expect(Kind::Array)?;
        self.open(Level::Array { next: 0 })
    }

    /// Opens an object.
    pub fn begin_object(&mut self) -> Result<(), JsonError> {
        self.expect(Kind::Object)?;
        self.open(Level::Object(None))
    }

    fn open(&mut self, level: Level) -> Result<(), JsonError> {
        if !self.path.push(level) {
            return Err(self.error(ErrorKind::TooDeep { depth_max: DEPTH_MAX }));
        }
        self.at += 1;
        self.fresh = true;
        Ok(())
    }

    /// After a value or an opening bracket: reads the comma (`true`) or the closing bracket (`false`, the container is left).
    fn next(&mut self, close: u8, expected: &'static str) -> Result<bool, JsonError> {
        let byte = self.next_byte(expected)?;
        if byte == close {
            self.at += 1;
            self.path.pop();
            self.fresh = false;
            return Ok(false);
        }
        if !std::mem::take(&mut self.fresh) {
            if byte != b',' {
                return Err(self.error(ErrorKind::Unexpected {
                    expected,
                    found: "something else",
                }));
            }
            self.at += 1;
        }
        Ok(true)
    }

    /// Whether the array has another item; it is then read next. After the last one the array is closed.
    pub fn next_item(&mut self) -> Result<bool, JsonError> {
        let more = self.next(b']', "',' or ']'")?;
        if let (true, Some(Level::Array { next })) = (more, self.path.top()) {
            self.path.set_top(Level::Array {
                next: next.saturating_add(1),
            });
        }
        Ok(more)
    }

    /// The object's next key, as it is spelled between its quotes (see [`key_is`](Self::key_is)); its value is read next. After the last
    /// field the object is closed and there is none.
    pub fn next_key(&mut self) -> Result<Option<Span>, JsonError> {
        if let Some(Level::Object(_)) = self.path.top() {
            self.path.set_top(Level::Object(None));
        }
        if !self.next(b'}', "',' or '}'")? {
            return Ok(None);
        }
        let key = self.raw_string()?;
        self.path.set_top(Level::Object(Some(key)));
        if self.next_byte("':'")? != b':' {
            return Err(self.error(ErrorKind::Unexpected {
                expected: "':'",
                found: "something else",
            }));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether the key spells `name`.
    pub fn key_is(&self, key: Span, name: &str) -> bool {
        string::spells(self.bytes(key), name)
    }

    /// Checks the next value, whatever it is, and passes over it.
    pub fn skip_value(&mut self) -> Result<(), JsonError> {
        let outside = self.path.depth();
        loop {
            match self.peek()? {
                Kind::Null => self.literal("null")?,
                Kind::Bool => drop(self.boolean()?),
                Kind::Number => drop(self.number()?),
                Kind::String => drop(self.raw_string()?),
                Kind::Array => self.begin_array()?,
                Kind::Object => self.begin_object()?,
            }
            while self.path.depth() > outside {
                let more = match self.path.top() {
                    Some(Level::Array { .. }) => self.next_item()?,
                    _ => self.next_key()?.is_some(),
                };
                if more {
                    break;
                }
            }
            if self.path.depth() == outside {
                return Ok(());
            }
        }
    }

    /// Here, to come back to.
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            depth: self.path.depth(),
            level: self.path.top(),
        }
    }

    /// Goes back to a mark inside the container that is open now (or one around it), or inside the one that [`fields`](Self::fields) just
    /// closed. No string between the mark and here may have been read with [`string`](Self::string).
    pub fn go_to(&mut self, mark: Mark) {
        self.at = mark.at;
        self.fresh = false;
        self.path.restore(mark.depth, mark.level);
    }

    /// Reads over a whole object and gives the places of the named fields' values. A field given twice is refused.
    pub fn fields<const N: usize>(
        &mut self,
        names: [&'static str; N],
        unknown: Unknown,
    ) -> Result<[Option<Mark>; N], JsonError> {
        let mut marks = [None; N];
        self.begin_object()?;
        while let Some(key) = self.next_key()? {
            match names.iter().position(|name| self.key_is(key, name)) {
                Some(known) if marks[known].is_some() => return Err(self.error(ErrorKind::DuplicateField)),
                Some(known) => marks[known] = Some(self.mark()),
                None if unknown == Unknown::Refuse => return Err(self.error(ErrorKind::UnknownField)),
                None => {}
            }
            self.skip_value()?;
        }
        Ok(marks)
    }

    /// The error for a field of the object just read that must be there.
    pub fn missing(&self, name: &'static str) -> JsonError {
        self.error(ErrorKind::MissingField { name })
    }

    /// Checks that nothing but white space follows the value.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        match self.at == self.body.len() {
            true => Ok(()),
            false => Err(self.error(ErrorKind::TrailingData)),
        }
    }
}
