//! One line as fields, in either format, written without allocating.

use std::fmt::{self, Display, Write};

use super::LINE_BYTES_MAX;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `name=value`, for people.
    #[default]
    Plain,
    /// A JSON object a line.
    Json,
}

/// A line in the making, at the end of the queue.
pub(super) struct Fields<'a> {
    format: Format,
    lines: &'a mut Vec<u8>,
    start: usize,
    too_long: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(format: Format, lines: &'a mut Vec<u8>) -> Self {
        let start = lines.len();
        Fields {
            format,
            lines,
            start,
            too_long: false,
        }
    }

    /// The time and how much it matters, which every line begins with.
    pub(super) fn begin(&mut self, unix_ns: u64, severity: &'static str) {
        match self.format {
            Format::Plain => self.print(format_args!("{} {severity}", Timestamp(unix_ns))),
            Format::Json => self.print(format_args!(
                "{{\"timestamp\":\"{}\",\"level\":\"{severity}\"",
                Timestamp(unix_ns)
            )),
        }
    }

    /// What the line says. In the plain format it has no name.
    pub(super) fn message(&mut self, message: &dyn Display) {
        match self.format {
            Format::Plain => self.print(format_args!(" {}", Escaped(message))),
            Format::Json => self.print(format_args!(",\"message\":\"{}\"", Escaped(message))),
        }
    }

    pub(super) fn text(&mut self, name: &str, value: &dyn Display) {
        match self.format {
            Format::Plain => self.print(format_args!(" {name}={}", Escaped(value))),
            Format::Json => self.print(format_args!(",\"{name}\":\"{}\"", Escaped(value))),
        }
    }

    /// A number, `true` or `false`, or what is JSON already.
    pub(super) fn raw(&mut self, name: &str, value: &dyn Display) {
        match self.format {
            Format::Plain => self.print(format_args!(" {name}={value}")),
            Format::Json => self.print(format_args!(",\"{name}\":{value}")),
        }
    }

    /// Ends the line. False, and no line, when it is too long.
    pub(super) fn end(mut self) -> bool {
        self.print(match self.format {
            Format::Plain => format_args!("\n"),
            Format::Json => format_args!("}}\n"),
        });
        if self.too_long {
            self.lines.truncate(self.start);
        }
        !self.too_long
    }

    fn print(&mut self, arguments: fmt::Arguments<'_>) {
        self.too_long |= self.write_fmt(arguments).is_err();
    }
}

impl Write for Fields<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let bytes = self.lines.len() - self.start + text.len();
        if self.too_long || bytes > LINE_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.lines.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// A value as part of a JSON string; the plain format has the same escapes, so that a line stays one.
struct Escaped<'a>(&'a dyn Display);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(place) = rest.find(|c: char| c.is_control() || matches!(c, '"' | '\\')) {
            let (before, after) = rest.split_at(place);
            let c = after.chars().next().unwrap_or_default();
            self.0.write_str(before)?;
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                _ => write!(self.0, "\\u{:04x}", u32::from(c))?,
            }
            rest = &after[c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Bytes of a header: UTF-8, or else each a character.
pub(super) struct HeaderText<'a>(pub(super) &'a [u8]);

impl Display for HeaderText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) => f.write_str(text),
            Err(_) => self.0.iter().try_for_each(|&byte| f.write_char(char::from(byte))),
        }
    }
}

/// Nanoseconds since 1970 as RFC 3339 has them, to the microsecond.
struct Timestamp(u64);

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1000);
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

/// Year, month and day of a day since 1970, by Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is their last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, write: impl FnOnce(&mut Fields)) -> Option<String> {
        let mut lines = b"before\n".to_vec();
        let mut fields = Fields::new(format, &mut lines);
        write(&mut fields);
        let is_whole = fields.end();
        let text = String::from_utf8(lines).unwrap();
        let line = text
            .strip_prefix("before\n")
            .expect("earlier lines stay")
            .to_owned();
        assert_eq!(is_whole, !line.is_empty());
        is_whole.then_some(line)
    }

    #[test]
    fn a_line_stays_one_line_in_both_formats() {
        let write = |fields: &mut Fields| {
            fields.begin(1_795_551_839_123_456_789, "INFO");
            fields.message(&"a \"word\"\nand more");
            fields.text("id", &HeaderText(b"x\xff\\"));
            fields.raw("count", &7);
        };
        let json = line(Format::Json, write).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "timestamp": "2026-11-24T20:23:59.123456Z", "level": "INFO", "message": "a \"word\"\nand more",
                "id": "x\u{ff}\\", "count": 7,
            })
        );
        let plain = line(Format::Plain, write).unwrap();
        assert_eq!(
            plain,
            "2026-11-24T20:23:59.123456Z INFO a \\\"word\\\"\\u000aand more id=x\u{ff}\\\\ count=7\n"
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_none() {
        let long = "a".repeat(LINE_BYTES_MAX);
        assert_eq!(line(Format::Json, |fields| fields.message(&long)), None);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_788, (2026, 12, 1)),
        ];
        for (days, expected) in dates {
            assert_eq!(date(days), expected);
        }
    }
}
