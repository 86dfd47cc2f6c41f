//! Protocol buffers written straight into a buffer, without a tree of messages first.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

/// A message in the making. It never grows its buffer: who writes leaves off in time.
pub(super) struct Writer<'a>(pub(super) &'a mut BytesMut);

/// Where an open message's length belongs.
#[must_use]
pub(super) struct Open(usize);

/// The length of a nested message is known at its end; until then so many bytes are kept for it, and a varint may be longer than it has to be.
const LENGTH_BYTES: usize = 4;

impl Writer<'_> {
    /// Opens a nested message.
    pub(super) fn open(&mut self, tag: u32) -> Open {
        encode_key(tag, WireType::LengthDelimited, self.0);
        self.0.put_bytes(0, LENGTH_BYTES);
        Open(self.0.len())
    }

    /// Closes it.
    pub(super) fn close(&mut self, open: Open) {
        let length = self.0.len() - open.0;
        debug_assert!(length < 1 << (7 * LENGTH_BYTES), "{length}");
        for place in 0..LENGTH_BYTES {
            let more = if place + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            self.0[open.0 - LENGTH_BYTES + place] = (length >> (7 * place)) as u8 & 0x7f | more;
        }
    }

    /// A nested message.
    pub(super) fn nest(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        let open = self.open(tag);
        write(self);
        self.close(open);
    }

    pub(super) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        encode_key(tag, WireType::LengthDelimited, self.0);
        encode_varint(bytes.len() as u64, self.0);
        self.0.put_slice(bytes);
    }

    pub(super) fn text(&mut self, tag: u32, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    pub(super) fn varint(&mut self, tag: u32, value: u64) {
        encode_key(tag, WireType::Varint, self.0);
        encode_varint(value, self.0);
    }

    pub(super) fn fixed32(&mut self, tag: u32, value: u32) {
        encode_key(tag, WireType::ThirtyTwoBit, self.0);
        self.0.put_u32_le(value);
    }

    pub(super) fn fixed64(&mut self, tag: u32, value: u64) {
        encode_key(tag, WireType::SixtyFourBit, self.0);
        self.0.put_u64_le(value);
    }

    pub(super) fn double(&mut self, tag: u32, value: f64) {
        encode_key(tag, WireType::SixtyFourBit, self.0);
        self.0.put_f64_le(value);
    }

    /// A `KeyValue` of a string.
    pub(super) fn text_attribute(&mut self, tag: u32, key: &str, value: &str) {
        self.nest(tag, |pair| {
            pair.text(1, key);
            pair.nest(2, |any| any.text(1, value));
        });
    }

    /// A `KeyValue` of a whole number.
    pub(super) fn int_attribute(&mut self, tag: u32, key: &str, value: u64) {
        self.nest(tag, |pair| {
            pair.text(1, key);
            pair.nest(2, |any| any.varint(3, value));
        });
    }

    /// A `KeyValue` of a truth.
    pub(super) fn bool_attribute(&mut self, tag: u32, key: &str, value: bool) {
        self.nest(tag, |pair| {
            pair.text(1, key);
            pair.nest(2, |any| any.varint(2, u64::from(value)));
        });
    }

    /// Whose telemetry it is (`Resource`), and what wrote it (`InstrumentationScope`), as all signals have them: the first inside what `open`s, the second before
    /// the things themselves.
    pub(super) fn resource(&mut self, service_name: &str) {
        self.nest(1, |resource| {
            resource.text_attribute(1, "service.name", service_name);
            resource.text_attribute(1, "service.version", env!("CARGO_PKG_VERSION"));
            resource.int_attribute(1, "process.pid", u64::from(std::process::id()));
        });
    }

    /// See [`Writer::resource`].
    pub(super) fn scope(&mut self) {
        self.nest(1, |scope| {
            scope.text(1, "plimsoll");
            scope.text(2, env!("CARGO_PKG_VERSION"));
        });
    }
}
