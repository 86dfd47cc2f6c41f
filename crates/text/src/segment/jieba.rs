//! `jieba.cut` in precise mode: blocks of `re_han_default` are routed through the dictionary, all else is cut character
//! by character (with `\r\n` kept whole, as `re_skip_default` does).

use super::block::{block_end, code_at, is_alnum, width};
use super::hmm;
use super::route::Window;
use super::sink::EndSink;
use super::words::{WORD_CHARS_MAX, WORDS};

/// Cuts a whole text. `scratch` is as long as the text.
pub(super) fn cut(text: &str, hmm: bool, scratch: &mut [u8], sink: &mut EndSink<'_>) {
    let text = text.as_bytes();
    let mut window = Window::new();
    let mut at = 0;
    while at < text.len() {
        let end = block_end(text, at);
        if end > at {
            cut_block(&text[at..end], at, hmm, &mut window, scratch, sink);
            at = end;
        } else {
            at += if text[at..].starts_with(b"\r\n") {
                2
            } else {
                width(text[at])
            };
            sink.push(at);
        }
    }
}

/// Cuts one block, which starts at byte `start` of the text: `__cut_DAG` or `__cut_DAG_NO_HMM`. `scratch` holds a byte
/// for each of its bytes.
pub(super) fn cut_block(
    block: &[u8],
    start: usize,
    hmm: bool,
    window: &mut Window,
    scratch: &mut [u8],
    sink: &mut EndSink<'_>,
) {
    let route = &mut scratch[..block.len()];
    window.best_route(block, route);
    sink.set_base(start);
    if hmm {
        emit_with_hmm(block, route, sink)
    } else {
        emit_without_hmm(block, route, sink)
    }
    sink.set_base(0);
}

/// Adjacent single letters and digits become one word, every other word of the route stands.
fn emit_without_hmm(block: &[u8], route: &[u8], sink: &mut EndSink<'_>) {
    let mut at = 0;
    let mut in_run = false;
    while at < block.len() {
        let word_bytes = usize::from(route[at]);
        let joins = word_bytes == 1 && is_alnum(block[at]);
        if in_run && !joins {
            sink.push(at);
        }
        in_run = joins;
        at += word_bytes;
        if !joins {
            sink.push(at);
        }
    }
    if in_run {
        sink.push(at);
    }
}

/// Runs of single characters go to the hidden Markov model, every other word of the route stands.
fn emit_with_hmm(block: &[u8], route: &mut [u8], sink: &mut EndSink<'_>) {
    let mut at = 0;
    let mut run_start = 0;
    while at < block.len() {
        let word_end = at + usize::from(route[at]);
        if word_end - at != width(block[at]) {
            emit_run(block, run_start, at, route, sink);
            sink.push(word_end);
            run_start = word_end;
        }
        at = word_end;
    }
    emit_run(block, run_start, at, route, sink);
}

/// The run `from..to` of single characters. Its part of the route has been read, so it serves as scratch.
fn emit_run(block: &[u8], from: usize, to: usize, route: &mut [u8], sink: &mut EndSink<'_>) {
    if from == to {
        return;
    }
    if to - from == width(block[from]) {
        sink.push(to);
    } else if is_word(&block[from..to]) {
        let mut at = from;
        while at < to {
            at += width(block[at]);
            sink.push(at);
        }
    } else {
        hmm::cut(block, from, to, &mut route[from..to], sink);
    }
}

/// jieba's `FREQ.get(run)`: whether the whole run is a word of the dictionary.
fn is_word(run: &[u8]) -> bool {
    if run.len() > 3 * WORD_CHARS_MAX {
        return false;
    }
    let (code, mut at) = code_at(run, 0);
    let mut node = WORDS.first(code);
    while at < run.len() {
        let (code, width) = code_at(run, at);
        node = WORDS.next(node, code);
        at += width;
    }
    node.is_word()
}
