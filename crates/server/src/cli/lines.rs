//! Lines of any file in constant memory.

use std::io::{BufRead, Result};

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// Its bytes.
    pub(super) text: Text,
    /// Where the next line starts in the file.
    pub(super) end: u64,
}

/// The bytes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// As they are.
    Bytes(Vec<u8>),
    /// More than are kept.
    TooLong {
        /// How many there are.
        bytes: u64,
    },
}

/// Reads lines, of which no more than `line_bytes_max` are ever held.
pub(super) struct Lines<R> {
    reader: R,
    line_bytes_max: usize,
    number: u64,
    at: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, line_bytes_max: usize) -> Self {
        Lines {
            reader,
            line_bytes_max,
            number: 0,
            at: 0,
        }
    }

    /// The next line; `None` at the end of the file. A last line without `\n` counts; `\r\n` ends a line as `\n` does.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        let mut bytes = Vec::new();
        let start = self.at;
        let complete = loop {
            let piece = self.reader.fill_buf()?;
            let end = piece.iter().position(|&byte| byte == b'\n');
            let text = &piece[..end.unwrap_or(piece.len())];
            // One byte more than the limit may be a `\r` that does not count.
            let room = (self.line_bytes_max + 1).saturating_sub(bytes.len());
            bytes.extend_from_slice(&text[..text.len().min(room)]);
            let taken = text.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            self.at += taken as u64;
            if end.is_some() || taken == 0 {
                break end.is_some();
            }
        };
        if self.at == start {
            return Ok(None);
        }
        self.number += 1;
        let mut len = self.at - start - u64::from(complete);
        if complete && bytes.len() as u64 == len && bytes.last() == Some(&b'\r') {
            bytes.pop();
            len -= 1;
        }
        let text = if len > self.line_bytes_max as u64 {
            Text::TooLong { bytes: len }
        } else {
            Text::Bytes(bytes)
        };
        Ok(Some(Line {
            number: self.number,
            text,
            end: self.at,
        }))
    }
}

/// Complete lines of `reader`, and where the last of them ends.
pub(super) fn count(mut reader: impl BufRead) -> Result<(u64, u64)> {
    let (mut lines, mut at, mut end) = (0, 0, 0);
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok((lines, end));
        }
        for (place, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines += 1;
            end = at + place as u64 + 1;
        }
        let len = piece.len();
        at += len as u64;
        reader.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn lines(file: &[u8], line_bytes_max: usize) -> Vec<Text> {
        let mut lines = Lines::new(BufReader::with_capacity(3, file), line_bytes_max);
        std::iter::from_fn(|| lines.next().unwrap())
            .map(|line| line.text)
            .collect()
    }

    fn text(bytes: &str) -> Text {
        Text::Bytes(bytes.into())
    }

    #[test]
    fn lines_end_in_any_way() {
        assert_eq!(lines(b"", 8), []);
        assert_eq!(lines(b"\n", 8), [text("")]);
        assert_eq!(lines(b"ab\r\n\ncdefg", 8), [text("ab"), text(""), text("cdefg")]);
        assert_eq!(lines(b"a\rb\r\n", 8), [text("a\rb")]);
    }

    #[test]
    fn long_lines_are_measured_not_kept() {
        let table = [
            ("12345\n", text("12345")),
            ("12345\r\n", text("12345")),
            ("123456\n", Text::TooLong { bytes: 6 }),
        ];
        for (file, expected) in table {
            assert_eq!(lines(file.as_bytes(), 5), [expected]);
        }
        let long = [&[b'x'; 1000][..], b"\nok"].concat();
        assert_eq!(lines(&long, 5), [Text::TooLong { bytes: 1000 }, text("ok")]);
    }

    #[test]
    fn only_complete_lines_are_counted() {
        let count = |file: &[u8]| count(BufReader::with_capacity(2, file)).unwrap();
        assert_eq!(count(b""), (0, 0));
        assert_eq!(count(b"a\nbc\ntorn"), (2, 5));
        assert_eq!(count(b"torn"), (0, 0));
    }
}
