//! `jieba.cut` in precise mode: blocks of `re_han_default` are routed through the dictionary, all else is cut character
//! by character (with `\r\n` kept whole, as `re_skip_default` does).

use super::block::{code_at, is_alnum};
use super::hmm;
use super::route::{Step, Window};
use super::sink::EndSink;
use super::words::{WORD_CHARS_MAX, WORDS};

/// Cuts `text`, which starts at byte `base` of what the sink counts in: `__cut_DAG` or `__cut_DAG_NO_HMM` for its blocks.
/// `scratch` holds a byte for each byte of the text.
pub(super) fn cut(
    text: &str,
    base: usize,
    hmm: bool,
    window: &mut Window,
    scratch: &mut [u8],
    sink: &mut EndSink<'_>,
) {
    let text = text.as_bytes();
    let route = &mut scratch[..text.len()];
    window.best_route(text, route);
    sink.set_base(base);
    if hmm {
        emit_with_hmm(text, route, sink);
    } else {
        emit_without_hmm(text, route, sink);
    }
    sink.set_base(0);
}

/// Where the word at `at` ends.
#[inline(always)]
fn word_end(text: &[u8], at: usize, step: Step) -> usize {
    let is_line_break = text[at] == b'\r' && text.get(at + 1) == Some(&b'\n');
    at + step.bytes() + usize::from(is_line_break)
}

/// Adjacent single letters and digits become one word, every other word of the route stands.
fn emit_without_hmm(text: &[u8], route: &[u8], sink: &mut EndSink<'_>) {
    let mut at = 0;
    let mut in_run = false;
    while at < text.len() {
        let step = Step(route[at]);
        let end = word_end(text, at, step);
        let joins = step.bytes() == 1 && is_alnum(text[at]);
        sink.take_back(usize::from(in_run && joins));
        sink.push(end);
        in_run = joins;
        at = end;
    }
}

/// Runs of single characters go to the hidden Markov model, every other word of the route stands.
fn emit_with_hmm(text: &[u8], route: &mut [u8], sink: &mut EndSink<'_>) {
    let mut at = 0;
    let (mut run_start, mut run_chars) = (0, 0);
    while at < text.len() {
        let step = Step(route[at]);
        let end = word_end(text, at, step);
        let joins = step.is_block_single();
        if !joins & (run_chars > 1) {
            cut_run(text, run_start, at, run_chars, route, sink);
        }
        sink.push(end);
        run_start = if joins { run_start } else { end };
        run_chars = if joins { run_chars + 1 } else { 0 };
        at = end;
    }
    if run_chars > 1 {
        cut_run(text, run_start, at, run_chars, route, sink);
    }
}

/// Cuts the run `from..to` of single characters again, which the sink holds as so many words. If the run is a word, jieba
/// leaves it in characters. Its part of the route has been read, so it serves as scratch.
fn cut_run(text: &[u8], from: usize, to: usize, chars: usize, route: &mut [u8], sink: &mut EndSink<'_>) {
    if !is_word(&text[from..to]) {
        sink.take_back(chars);
        hmm::cut(text, from, to, &mut route[from..to], sink);
    }
}

/// jieba's `FREQ.get(run)`: whether the whole run is a word of the dictionary.
fn is_word(run: &[u8]) -> bool {
    if run.len() > 3 * WORD_CHARS_MAX {
        return false;
    }
    let (code, mut at) = code_at(run, 0);
    let mut node = WORDS.first(code);
    while at < run.len() && node.has_children() {
        let (code, width) = code_at(run, at);
        node = WORDS.next(node, code);
        at += width;
    }
    at == run.len() && node.is_word()
}
