//! The grammar of JSON numbers.

use super::ErrorKind;

/// The number that starts at `at`: its end, and whether it is written without fraction and exponent.
pub(super) fn scan(bytes: &[u8], at: usize) -> Result<(usize, bool), (ErrorKind, usize)> {
    let mut end = at + usize::from(bytes.get(at) == Some(&b'-'));
    let whole = end;
    end = digits(bytes, end)?;
    if bytes[whole] == b'0' && end > whole + 1 {
        return Err((ErrorKind::BadNumber, whole));
    }
    let mut is_whole = true;
    if bytes.get(end) == Some(&b'.') {
        is_whole = false;
        end = digits(bytes, end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        is_whole = false;
        end += 1;
        end += usize::from(matches!(bytes.get(end), Some(b'+' | b'-')));
        end = digits(bytes, end)?;
    }
    Ok((end, is_whole))
}

/// The end of the run of at least one digit at `at`.
fn digits(bytes: &[u8], at: usize) -> Result<usize, (ErrorKind, usize)> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.iter().take_while(|b| b.is_ascii_digit()).count() {
        0 if rest.is_empty() => Err((ErrorKind::UnexpectedEnd { expected: "a digit" }, at)),
        0 => Err((ErrorKind::BadNumber, at)),
        count => Ok(at + count),
    }
}
