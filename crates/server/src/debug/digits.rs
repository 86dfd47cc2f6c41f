//! Numbers as digits, eight at a time.
//!
//! Most numbers of a trace are short, and all of its times have the same first digits for minutes. Eight digits are worked out side by side in one word, and written as
//! a piece of fixed length of which the rest is cut off again: a copy of known length is one instruction, any other a call.

/// The digits of numbers below this are one word.
pub(super) const EIGHT_DIGITS: u64 = 100_000_000;

/// The eight digits of a number below [`EIGHT_DIGITS`], with zeros in front.
pub(super) fn eight(number: u64) -> [u8; 8] {
    (digits(number) | 0x3030_3030_3030_3030).to_le_bytes()
}

/// The digits of a number below [`EIGHT_DIGITS`] without zeros in front, and how many they are.
pub(super) fn short(number: u64) -> ([u8; 8], usize) {
    let digits = digits(number);
    // The first digit is the lowest byte; the last is there in any case.
    let zeros = (digits | 1 << 56).trailing_zeros() / 8;
    let text = (digits | 0x3030_3030_3030_3030) >> (8 * zeros);
    (text.to_le_bytes(), 8 - zeros as usize)
}

/// Eight digits as the bytes of a word, the first in the lowest: halves of four digits are split into twos and these into ones, all of them at once. A division by 100 or 10
/// is a multiplication whose rounding is exact for numbers so small.
fn digits(number: u64) -> u64 {
    debug_assert!(number < EIGHT_DIGITS);
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - 10 * tens) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let numbers = (0..20_000).chain((0..EIGHT_DIGITS).step_by(9_973));
        for number in numbers.chain([EIGHT_DIGITS - 1]) {
            assert_eq!(eight(number), format!("{number:08}").as_bytes());
            let (text, length) = short(number);
            assert_eq!(text[..length], *number.to_string().as_bytes());
        }
    }
}
