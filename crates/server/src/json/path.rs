//! Where in the body the reader stands: a fixed stack, turned into text only when something is wrong.

use super::Span;

/// Deepest nesting that is read.
pub const DEPTH_MAX: usize = 64;

/// Bytes of one key that an error shows.
const KEY_SHOWN_BYTES: usize = 32;
/// Bytes of a whole path that an error shows.
const PATH_SHOWN_BYTES: usize = 64;

/// One open container and the place inside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// In an object, at the key whose raw bytes are at the span (none yet: before the first key).
    Object(Option<Span>),
    /// In an array, before or at item `next - 1`.
    Array {
        /// Items begun so far.
        next: u32,
    },
}

/// The stack of open containers.
#[derive(Clone, Debug)]
pub(super) struct Path {
    levels: [Level; DEPTH_MAX],
    depth: usize,
}

impl Path {
    pub(super) fn new() -> Self {
        Path {
            levels: [Level::Object(None); DEPTH_MAX],
            depth: 0,
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Opens a container; `false` when that would be deeper than [`DEPTH_MAX`].
    pub(super) fn push(&mut self, level: Level) -> bool {
        let Some(slot) = self.levels.get_mut(self.depth) else {
            return false;
        };
        *slot = level;
        self.depth += 1;
        true
    }

    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    pub(super) fn top(&self) -> Option<Level> {
        self.depth.checked_sub(1).map(|top| self.levels[top])
    }

    pub(super) fn set_top(&mut self, level: Level) {
        if let Some(top) = self.depth.checked_sub(1) {
            self.levels[top] = level;
        }
    }

    /// Goes back to a depth at which `top` was the innermost level; the levels below it must be those of that time.
    pub(super) fn restore(&mut self, depth: usize, top: Option<Level>) {
        self.depth = depth;
        if let Some(level) = top {
            self.set_top(level);
        }
    }

    /// The path as text, its keys cut out of `body`.
    pub(super) fn text(&self, body: &[u8]) -> PathText {
        let mut text = PathText::default();
        for level in &self.levels[..self.depth] {
            match *level {
                Level::Object(None) | Level::Array { next: 0 } => {}
                Level::Object(Some(key)) => text.push_key(key.of(body)),
                Level::Array { next } => text.push_index(next - 1),
            }
        }
        text
    }
}

/// A path of at most [`PATH_SHOWN_BYTES`] bytes, held inline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathText {
    bytes: [u8; PATH_SHOWN_BYTES],
    len: u8,
}

const _: () = assert!(PATH_SHOWN_BYTES <= u8::MAX as usize);

impl Default for PathText {
    fn default() -> Self {
        PathText {
            bytes: [0; PATH_SHOWN_BYTES],
            len: 0,
        }
    }
}

impl PathText {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?")
    }

    fn push_key(&mut self, key: &[u8]) {
        let shown = utf8_prefix(key, KEY_SHOWN_BYTES);
        if self.len > 0 {
            self.push(".");
        }
        self.push(shown);
        if shown.len() < key.len() {
            self.push("...");
        }
    }

    fn push_index(&mut self, index: u32) {
        let mut piece = [0; "[4294967295]".len()];
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(index).as_bytes();
        let end = digits.len() + 1;
        piece[0] = b'[';
        piece[1..end].copy_from_slice(digits);
        piece[end] = b']';
        self.push_bytes(&piece[..=end]);
    }

    fn push(&mut self, piece: &str) {
        self.push_bytes(piece.as_bytes());
    }

    /// Adds the piece if it fits whole.
    fn push_bytes(&mut self, piece: &[u8]) {
        let start = usize::from(self.len);
        let end = start + piece.len();
        if end <= PATH_SHOWN_BYTES {
            self.bytes[start..end].copy_from_slice(piece);
            self.len = end as u8;
        }
    }
}

/// The longest valid UTF-8 beginning of `bytes` that is at most `len_max` long.
fn utf8_prefix(bytes: &[u8], len_max: usize) -> &str {
    let cut = &bytes[..bytes.len().min(len_max)];
    match std::str::from_utf8(cut) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&cut[..e.valid_up_to()]).unwrap_or_default(),
    }
}
