//! JSON, piece by piece, into chunks that come and go.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use super::source::{ChunkBytes, Source};

/// Numbers of an array that are written together.
const FLOATS_AT_ONCE: usize = 16;
/// More than the longest number and a comma, as in `,-1.1754944e-38`.
const FLOAT_BYTES_MAX: usize = 24;

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
    /// None: what is written is only counted.
    slot: Option<Arc<Slot<S::Chunk>>>,
    /// Whether what is written is the inside of a JSON string.
    quoting: bool,
}

impl<'a, S: Source> Out<'a, S> {
    /// A writer whose full chunks go into `slot`.
    pub fn new(source: &'a S, slot: Arc<Slot<S::Chunk>>) -> Self {
        Out {
            source,
            chunk: None,
            len: 0,
            slot: Some(slot),
            quoting: false,
        }
    }

    /// A writer that only counts, for formats that say how long something is before it comes. It never waits.
    pub fn counter(source: &'a S) -> Self {
        Out {
            source,
            chunk: None,
            len: 0,
            slot: None,
            quoting: false,
        }
    }

    /// What a counter has counted.
    pub fn counted(&self) -> usize {
        self.len
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
        let slot = self.slot.clone();
        let put = |chunk| slot.as_ref().map_or(Ok(()), |slot| slot.put(chunk));
        let mut full = self.take();
        // Whoever polls the writer empties the slot first, so there is no one to wake.
        poll_fn(|_| match full.take().map_or(Ok(()), put) {
            Ok(()) => Poll::Ready(()),
            Err(chunk) => {
                full = Some(chunk);
                Poll::Pending
            }
        })
        .await;
        self.chunk = Some(self.another_chunk().await);
        self.len = 0;
    }

    /// A chunk beside the one at hand, as scratch.
    pub async fn another_chunk(&self) -> S::Chunk {
        poll_fn(|cx| self.source.poll_chunk(cx)).await
    }

    /// Writes bytes; inside a quotation, as JSON has them in strings.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        if self.quoting {
            self.escaped(bytes).await;
        } else {
            self.plain(bytes).await;
        }
    }

    /// Writes bytes as they are.
    async fn plain(&mut self, mut bytes: &[u8]) {
        if self.slot.is_none() {
            self.len += bytes.len();
            return;
        }
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

    /// Begins a JSON string that holds what is written until [`Out::end_quotation`], itself JSON.
    pub async fn begin_quotation(&mut self) {
        self.plain(b"\"").await;
        self.quoting = true;
    }

    /// Ends it.
    pub async fn end_quotation(&mut self) {
        self.quoting = false;
        self.plain(b"\"").await;
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
        self.raw(json_float(number, &mut zmij::Buffer::new())).await;
    }

    /// Writes an array of numbers. To ask for each whether there is room costs more than to write it, so some go together.
    pub async fn floats(&mut self, numbers: &[f32]) {
        self.raw("[").await;
        for (index, group) in numbers.chunks(FLOATS_AT_ONCE).enumerate() {
            self.comma(index).await;
            let (mut text, mut len) = ([0; FLOATS_AT_ONCE * FLOAT_BYTES_MAX], 0);
            for (index, &number) in group.iter().enumerate() {
                text[len] = b',';
                len += usize::from(index > 0);
                let mut buffer = zmij::Buffer::new();
                let number = json_float(number, &mut buffer);
                text[len..][..number.len()].copy_from_slice(number.as_bytes());
                len += number.len();
            }
            self.bytes(&text[..len]).await;
        }
        self.raw("]").await;
    }

    /// Writes a string with its quotes and escapes.
    pub async fn string(&mut self, text: &str) {
        self.raw("\"").await;
        for (run, escape) in escapes(text.as_bytes()) {
            self.bytes(run).await;
            self.bytes(escape.as_ref()).await;
        }
        self.raw("\"").await;
    }

    async fn escaped(&mut self, bytes: &[u8]) {
        for (run, escape) in escapes(bytes) {
            self.plain(run).await;
            self.plain(escape.as_ref()).await;
        }
    }

    /// Writes numbers as their bytes, the lowest first.
    pub async fn floats_raw(&mut self, numbers: &[f32]) {
        for group in numbers.chunks(16) {
            let mut bytes = [0; 64];
            for (to, number) in bytes.chunks_exact_mut(4).zip(group) {
                to.copy_from_slice(&number.to_le_bytes());
            }
            self.bytes(&bytes[..4 * group.len()]).await;
        }
    }

    /// Writes a number as protobuf has it: seven bits a byte, the lowest first.
    pub async fn varint(&mut self, mut number: u64) {
        let (mut bytes, mut len) = ([0; 10], 0);
        loop {
            bytes[len] = number as u8 & 0x7f;
            number >>= 7;
            len += 1;
            if number == 0 {
                break;
            }
            bytes[len - 1] |= 0x80;
        }
        self.bytes(&bytes[..len]).await;
    }

    /// Begins a field of protobuf that is `len` bytes long.
    pub async fn begin_field(&mut self, number: u8, len: usize) {
        self.bytes(&[number << 3 | 2]).await;
        self.varint(len as u64).await;
    }

    /// Writes a field of protobuf that is a string or bytes.
    pub async fn field(&mut self, number: u8, bytes: &[u8]) {
        self.begin_field(number, bytes.len()).await;
        self.bytes(bytes).await;
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

/// A number as JSON has it.
fn json_float(number: f32, buffer: &mut zmij::Buffer) -> &str {
    if number.is_finite() {
        buffer.format_finite(number)
    } else {
        "null"
    }
}

/// What a byte is in a JSON string, where it is not itself.
#[derive(Clone, Copy)]
struct Escape {
    bytes: [u8; 6],
    len: u8,
}

impl AsRef<[u8]> for Escape {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Escape {
    const NONE: Escape = Escape {
        bytes: [0; 6],
        len: 0,
    };

    fn of(byte: u8) -> Option<Escape> {
        let letter = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                let bytes = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)];
                return Some(Escape { bytes, len: 6 });
            }
            _ => return None,
        };
        let bytes = [b'\\', letter, 0, 0, 0, 0];
        Some(Escape { bytes, len: 2 })
    }
}

/// Runs of bytes that are themselves in a JSON string, each with the escape that follows.
fn escapes(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], Escape)> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let found = rest
            .iter()
            .enumerate()
            .find_map(|(place, &byte)| Some((place, Escape::of(byte)?)));
        let (run, escape) = match found {
            Some((place, escape)) => (&rest[..place], escape),
            None => (rest, Escape::NONE),
        };
        rest = rest.get(run.len() + 1..).unwrap_or_default();
        Some((run, escape))
    })
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
