//! Strings: checked where they stand, unescaped in place.

use super::ErrorKind;

/// Checks the string whose text starts at `at` (just after its quote): control characters, escapes, surrogates, UTF-8. Returns where its
/// closing quote is and whether it holds escapes.
pub(super) fn scan(bytes: &[u8], at: usize) -> Result<(usize, bool), (ErrorKind, usize)> {
    let mut end = at;
    let mut escaped = false;
    loop {
        match bytes.get(end) {
            Some(b'"') => break,
            Some(b'\\') => {
                escaped = true;
                end += decode(bytes, end).map_err(|kind| (kind, end))?.1;
            }
            Some(0..0x20) => return Err((ErrorKind::ControlCharacter, end)),
            Some(_) => end += 1,
            None => {
                return Err((
                    ErrorKind::UnexpectedEnd {
                        expected: "the end of a string",
                    },
                    end,
                ));
            }
        }
    }
    match std::str::from_utf8(&bytes[at..end]) {
        Ok(_) => Ok((end, escaped)),
        Err(e) => Err((ErrorKind::InvalidUtf8, at + e.valid_up_to())),
    }
}

/// Undoes the escapes of `text`, which [`scan`] accepted, in place. Returns the plain text's length.
pub(super) fn unescape(text: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        let run = text[from..]
            .iter()
            .position(|&b| b == b'\\')
            .unwrap_or(text.len() - from);
        text.copy_within(from..from + run, to);
        from += run;
        to += run;
        if from < text.len() {
            let (c, taken) = decode(text, from).expect("scan accepted this escape");
            from += taken;
            to += c.encode_utf8(&mut text[to..]).len();
        }
    }
    to
}

/// Whether `raw`, a key between its quotes that [`scan`] accepted, spells `name` once its escapes are undone.
pub(super) fn spells(raw: &[u8], name: &str) -> bool {
    let (mut at, mut rest) = (0, name.as_bytes());
    while at < raw.len() {
        let mut buffer = [0; 4];
        let (piece, taken): (&[u8], usize) = match raw[at] {
            b'\\' => {
                let Ok((c, taken)) = decode(raw, at) else {
                    return false;
                };
                (c.encode_utf8(&mut buffer).as_bytes(), taken)
            }
            _ => (&raw[at..at + 1], 1),
        };
        let Some(left) = rest.strip_prefix(piece) else {
            return false;
        };
        rest = left;
        at += taken;
    }
    rest.is_empty()
}

/// The character that the escape at `at` (a backslash) stands for, and the escape's length.
fn decode(bytes: &[u8], at: usize) -> Result<(char, usize), ErrorKind> {
    let Some(&letter) = bytes.get(at + 1) else {
        return Err(ErrorKind::UnexpectedEnd {
            expected: "the end of an escape",
        });
    };
    let c = match letter {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return decode_unit(bytes, at),
        _ => return Err(ErrorKind::BadEscape),
    };
    Ok((c, 2))
}

/// `\uXXXX`, or two of them that make a surrogate pair.
fn decode_unit(bytes: &[u8], at: usize) -> Result<(char, usize), ErrorKind> {
    let first = unit(bytes, at)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, 6));
    }
    let is_pair = first < 0xdc00 && bytes.get(at + 6..at + 8) == Some(b"\\u");
    let second = if is_pair { unit(bytes, at + 6)? } else { 0 };
    if !(0xdc00..0xe000).contains(&second) {
        return Err(ErrorKind::LoneSurrogate);
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(code)
        .map(|c| (c, 12))
        .ok_or(ErrorKind::LoneSurrogate)
}

/// The four hexadecimal digits after `\u` at `at`.
fn unit(bytes: &[u8], at: usize) -> Result<u32, ErrorKind> {
    let Some(digits) = bytes.get(at + 2..at + 6) else {
        return Err(ErrorKind::UnexpectedEnd {
            expected: "the end of an escape",
        });
    };
    digits.iter().try_fold(0, |code, &b| {
        char::from(b)
            .to_digit(16)
            .map(|digit| code << 4 | digit)
            .ok_or(ErrorKind::BadEscape)
    })
}
