//! Mixed text: jieba where there is Han, Unicode word rules (UAX #29) everywhere else.
//!
//! jieba knows two kinds of characters: those of its blocks (Han of U+4E00..=U+9FD5, ASCII letters and digits, a few signs)
//! and the rest, which it cuts one by one: `naïve` becomes `na`, `ï`, `ve`. Here a block goes to jieba only if it
//! holds Han. Its ASCII head or tail stays with it (`B超`, `阿Q`) unless Unicode would not cut at the block's edge: in
//! `中文don't` the tail `don` belongs to `don't`. A mark after Han (a variation selector) belongs to jieba's last word.

use unicode_segmentation::UnicodeSegmentation;

use super::block::{block_end, is_block_ascii, is_han_at, width};
use super::jieba;
use super::route::Window;
use super::sink::EndSink;

/// Bytes of a Han character of jieba's range.
const HAN_BYTES: usize = 3;

/// Cuts a whole text. `scratch` is as long as the text.
pub(super) fn cut(text: &str, scratch: &mut [u8], sink: &mut EndSink<'_>) {
    let bytes = text.as_bytes();
    let mut window = Window::new();
    let mut at = 0;
    while let Some(han) = next_han(bytes, at) {
        let head = han
            - bytes[at..han]
                .iter()
                .rev()
                .take_while(|&&byte| is_block_ascii(byte))
                .count();
        let start = cut_unicode(text, at, head, han, sink);
        let block = block_end(bytes, han);
        let tail = block
            - bytes[han..block]
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii())
                .count();
        let (end, after) = block_limits(text, tail, block);
        jieba::cut(&text[start..end], start, true, &mut window, scratch, sink);
        if after > end {
            sink.extend_last(after);
        }
        at = after;
    }
    cut_unicode(text, at, text.len(), text.len(), sink);
}

/// The first Han character at or after `at`.
fn next_han(bytes: &[u8], mut at: usize) -> Option<usize> {
    while at < bytes.len() {
        if is_han_at(bytes, at) {
            return Some(at);
        }
        at += width(bytes[at]);
    }
    None
}

/// For a block whose last Han character ends at `tail` and which ends at `block`: where jieba's part ends, and where its
/// last word ends once the marks that follow are counted in.
fn block_limits(text: &str, tail: usize, block: usize) -> (usize, usize) {
    let last_han = tail - HAN_BYTES;
    let mut ends = text[last_han..]
        .split_word_bound_indices()
        .map(|(at, word)| last_han + at + word.len());
    match ends.find(|&end| end >= block) {
        Some(end) if tail == block => (block, end),
        Some(end) if end == block => (block, block),
        _ => (tail, tail),
    }
}

/// Cuts `text[from..to]` by Unicode's rules, but stops at `head` if a word starts there. Returns where it stopped.
fn cut_unicode(text: &str, from: usize, head: usize, to: usize, sink: &mut EndSink<'_>) -> usize {
    let mut run = None;
    for (at, word) in text[from..to].split_word_bound_indices() {
        let start = from + at;
        if start == head {
            return head;
        }
        let first = word.chars().next();
        let script = first.and_then(unspaced_script);
        let is_long_vowel = run == Some(Script::Hiragana) && first == Some('ー');
        if is_long_vowel || (script.is_some() && script == run) {
            sink.extend_last(start + word.len());
        } else {
            sink.push(start + word.len());
            run = script;
        }
    }
    to
}

/// Scripts written without spaces, which UAX #29 alone would cut at every character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Hiragana,
    Thai,
    Lao,
    Khmer,
    Myanmar,
}

/// The script of a letter (no digit, no punctuation) of such a script.
fn unspaced_script(c: char) -> Option<Script> {
    match c {
        '\u{3041}'..='\u{309F}' => Some(Script::Hiragana),
        '\u{0E01}'..='\u{0E3A}' | '\u{0E40}'..='\u{0E4E}' => Some(Script::Thai),
        '\u{0E81}'..='\u{0ECE}' | '\u{0EDC}'..='\u{0EDF}' => Some(Script::Lao),
        '\u{1780}'..='\u{17D3}' => Some(Script::Khmer),
        '\u{1000}'..='\u{103F}' | '\u{1050}'..='\u{108F}' => Some(Script::Myanmar),
        _ => None,
    }
}
