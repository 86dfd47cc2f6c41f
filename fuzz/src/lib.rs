//! What the fuzz targets share: a tokenizer is driven over any text and its answer held against what must always be true; so is a server.

mod road;

pub use road::Road;
use plimsoll_text::{EncodeOptions, TokenSlots, Tokenizer, Truncation};

/// Encodes whatever `data` holds as text, under options taken from its first bytes, and checks the answer.
pub fn drive(tokenizer: &Tokenizer, data: &[u8]) {
    let Some((&[flags, limit], text)) = data.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let options = EncodeOptions {
        add_special_tokens: flags & 1 != 0,
        tokens_max: if flags & 2 != 0 { 4 + limit as usize } else { usize::MAX },
        truncation: if flags & 4 != 0 { Truncation::Left } else { Truncation::Right },
        count_all: flags & 8 != 0,
    };
    let capacity = 20 * text.len() + 16;
    let (mut ids, mut starts, mut ends, mut types) =
        (vec![0; capacity], vec![0; capacity], vec![0; capacity], vec![0; capacity]);
    let mut scratch = vec![0xaa; tokenizer.scratch_bytes(text.len())];
    let mut out = TokenSlots { ids: &mut ids, starts: &mut starts, ends: &mut ends, types: &mut types };
    let encoded = tokenizer.encode(text, &options, &mut scratch, &mut out).expect("there is room for every token");
    assert!(encoded.count <= options.tokens_max && encoded.count <= encoded.total.max(encoded.count));
    for token in 0..encoded.count {
        let (start, end) = (starts[token] as usize, ends[token] as usize);
        assert!(text.get(start..end).is_some(), "token {token} lies at {start}..{end}");
        assert!((ids[token] as usize) < tokenizer.id_end());
    }
}

/// A tokenizer of the repository's test data.
pub fn tokenizer(path: &str) -> Tokenizer {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Tokenizer::from_json(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
