//! JSON, piece by piece, into chunks that come and go.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use super::source::{ChunkBytes, Source};

/// Where a full chunk waits for the transport to take it.
pub struct Slot<C>(Mutex<Option<C>>);

impl<C> Default for Slot<C> {
    fn default() -> Self {
        Slot(Mutex::new(None))
    }
}

impl<C> Slot<C> {
    /// Takes the full chunk.
    pub fn take(&self) -> Option<C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Puts a full chunk in, or gives it back when there is one already.
    fn put(&self, chunk: C) -> Result<(), C> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(_) => Err(chunk),
            None => {
                *slot = Some(chunk);
                Ok(())
            }
        }
    }
}

impl<C: AsRef<[u8]>> Slot<C> {
    /// Bytes of the full chunk.
    pub fn len(&self) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map_or(0, |chunk| chunk.as_ref().len())
    }

    /// True when no chunk waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The writers' end. Whatever is written goes into the chunk at hand; full chunks go into the [`Slot`].
pub struct Out<'a, S: Source> {
    source: &'a S,
    chunk: Option<S::Chunk>,
    len: usize,
    slot: Arc<Slot<S::Chunk>>,
}

impl<'a, S: Source> Out<'a, S> {
    /// A writer whose full chunks go into `slot`.
    pub fn new(source: &'a S, slot: Arc<Slot<S::Chunk>>) -> Self {
        Out {
            source,
            chunk: None,
            len: 0,
            slot,
        }
    }

    /// The last chunk, or `None` when nothing was written.
    pub fn finish(mut self) -> Option<S::Chunk> {
        self.take()
    }

    fn take(&mut self) -> Option<S::Chunk> {
        let mut chunk = self.chunk.take()?;
        chunk.truncate(self.len);
        Some(chunk)
    }

    /// Sends the chunk at hand off and waits for the next.
    async fn turn_over(&mut self) {
        let mut full = self.take();
        // Whoever polls the writer empties the slot first, so there is no one to wake.
        poll_fn(
            |_| match full.take().map_or(Ok(()), |chunk| self.slot.put(chunk)) {
                Ok(()) => Poll::Ready(()),
                Err(chunk) => {
                    full = Some(chunk);
                    Poll::Pending
                }
            },
        )
        .await;
        self.chunk = Some(self.another_chunk().await);
        self.len = 0;
    }

    /// A chunk beside the one at hand, as scratch.
    pub async fn another_chunk(&self) -> S::Chunk {
        poll_fn(|cx| self.source.poll_chunk(cx)).await
    }

    /// Writes bytes as they are.
    pub async fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self
                .chunk
                .as_mut()
                .map_or(&mut [][..], |chunk| &mut chunk.bytes_mut()[self.len..]);
            if room.is_empty() {
                self.turn_over().await;
                continue;
            }
            let now = bytes.len().min(room.len());
            room[..now].copy_from_slice(&bytes[..now]);
            self.len += now;
            bytes = &bytes[now..];
        }
    }

    /// Writes JSON as it is.
    pub async fn raw(&mut self, json: &str) {
        self.bytes(json.as_bytes()).await;
    }

    /// Writes a comma before every item but the first.
    pub async fn comma(&mut self, index: usize) {
        if index > 0 {
            self.raw(",").await;
        }
    }

    /// Writes a whole number.
    pub async fn uint(&mut self, number: usize) {
        self.raw(itoa::Buffer::new().format(number)).await;
    }

    /// Writes a string that no other answer has, behind `prefix`.
    pub async fn id(&mut self, prefix: &str) {
        self.raw("\"").await;
        self.raw(prefix).await;
        self.raw(itoa::Buffer::new().format(self.source.stamp().number))
            .await;
        self.raw("\"").await;
    }

    /// Writes the shortest number that reads back as the same `f32`; `null` for what JSON has no number for.
    pub async fn float(&mut self, number: f32) {
        if number.is_finite() {
            self.raw(zmij::Buffer::new().format_finite(number)).await;
        } else {
            self.raw("null").await;
        }
    }

    /// Writes an array of numbers.
    pub async fn floats(&mut self, numbers: &[f32]) {
        self.raw("[").await;
        for (index, &number) in numbers.iter().enumerate() {
            self.comma(index).await;
            self.float(number).await;
        }
        self.raw("]").await;
    }

    /// Writes a string with its quotes and escapes.
    pub async fn string(&mut self, text: &str) {
        self.raw("\"").await;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let run = rest
                .iter()
                .position(|&byte| escape(byte).is_some())
                .unwrap_or(rest.len());
            self.bytes(&rest[..run]).await;
            rest = &rest[run..];
            if let Some((&byte, after)) = rest.split_first() {
                self.escaped(byte).await;
                rest = after;
            }
        }
        self.raw("\"").await;
    }

    async fn escaped(&mut self, byte: u8) {
        match escape(byte) {
            Some(b'u') => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                self.bytes(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)])
                    .await;
            }
            Some(letter) => self.bytes(&[b'\\', letter]).await,
            None => self.bytes(&[byte]).await,
        }
    }

    /// Writes little-endian `f32` as a base64 string.
    pub async fn base64(&mut self, numbers: &[f32]) {
        self.raw("\"").await;
        // Three numbers are twelve bytes are sixteen digits, so that only the last group is padded.
        for group in numbers.chunks(3) {
            let mut bytes = [0; 12];
            for (to, number) in bytes.chunks_exact_mut(4).zip(group) {
                to.copy_from_slice(&number.to_le_bytes());
            }
            let mut digits = [b'='; 16];
            let len = 4 * group.len();
            for (to, from) in digits.chunks_exact_mut(4).zip(bytes[..len].chunks(3)) {
                base64_group(from, to);
            }
            self.bytes(&digits[..len.div_ceil(3) * 4]).await;
        }
        self.raw("\"").await;
    }
}

/// The letter after the backslash that `byte` needs in a JSON string, if it needs one.
fn escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' => Some(b'"'),
        b'\\' => Some(b'\\'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 => Some(b'b'),
        0x0c => Some(b'f'),
        0..0x20 => Some(b'u'),
        _ => None,
    }
}

/// One to three bytes as four digits; `to` comes filled with padding.
fn base64_group(from: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = from.iter().enumerate().fold(0_u32, |bits, (place, &byte)| {
        bits | u32::from(byte) << (16 - 8 * place)
    });
    for (place, digit) in to.iter_mut().take(from.len() + 1).enumerate() {
        *digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
    }
}
