//! One pool for each kind of work, never shared across kinds.

use plimsoll_memory::{
    Clear, CommitCap, Lease, LeaseError, Pod, Pool, PoolConfig, Reservation, ReserveError,
};

use crate::inputs::Input;
use crate::need::Need;
use crate::work::{LABEL_BYTES, TOKEN_BYTES};

/// The pools of an engine.
pub(crate) struct Pools {
    pub(crate) bodies: Pool<u8>,
    pub(crate) inputs: Pool<Input>,
    pub(crate) ids: Pool<u32>,
    pub(crate) tokens: Pool<u8>,
    pub(crate) words: Pool<u32>,
    pub(crate) labels: Pool<u8>,
    pub(crate) features: Pool<f32>,
    pub(crate) pins: Pool<u32>,
    pub(crate) chunks: Pool<u8>,
    cap: CommitCap,
}

impl Pools {
    /// Pools that together commit at most `bytes_max`, with leases up to `longest`. Without `reuse` they keep nothing idle.
    pub(crate) fn new(
        longest: &Need,
        chunk_bytes: usize,
        bytes_max: usize,
        requests_max: usize,
        reuse: bool,
    ) -> Result<Pools, ReserveError> {
        let configs = configs(longest, chunk_bytes, bytes_max, requests_max);
        let reservation = Reservation::new(configs.iter().map(Planned::reserve_bytes).sum())?;
        let cap = match reuse {
            true => CommitCap::new(bytes_max),
            false => CommitCap::keeping_nothing(bytes_max),
        };
        let [bodies, inputs, ids, tokens, words, labels, features, pins, chunks] = configs;
        Ok(Pools {
            bodies: Pool::new(&reservation, &cap, bodies.config)?,
            inputs: Pool::new(&reservation, &cap, inputs.config)?,
            ids: Pool::new(&reservation, &cap, ids.config)?,
            tokens: Pool::new(&reservation, &cap, tokens.config)?,
            words: Pool::new(&reservation, &cap, words.config)?,
            labels: Pool::new(&reservation, &cap, labels.config)?,
            features: Pool::new(&reservation, &cap, features.config)?,
            pins: Pool::new(&reservation, &cap, pins.config)?,
            chunks: Pool::new(&reservation, &cap, chunks.config)?,
            cap,
        })
    }

    /// Marks what is leased now, of all kinds.
    pub(crate) fn mark(&self) {
        self.bodies.mark();
        self.inputs.mark();
        self.ids.mark();
        self.tokens.mark();
        self.words.mark();
        self.labels.mark();
        self.features.mark();
        self.pins.mark();
        self.chunks.mark();
    }

    /// The cap that all of them share.
    pub(crate) fn cap(&self) -> &CommitCap {
        &self.cap
    }
}

/// Heap bytes of the tables that such pools keep of their slots.
pub(crate) fn bookkeeping_bytes(
    longest: &Need,
    chunk_bytes: usize,
    bytes_max: usize,
    requests_max: usize,
) -> usize {
    configs(longest, chunk_bytes, bytes_max, requests_max)
        .iter()
        .map(Planned::bookkeeping_bytes)
        .sum()
}

/// A pool to be, with the two sizes that follow from its element.
struct Planned {
    config: PoolConfig,
    element: Element,
}

#[derive(Clone, Copy)]
enum Element {
    Byte,
    Word,
    Input,
}

impl Planned {
    fn reserve_bytes(&self) -> usize {
        match self.element {
            Element::Byte => Pool::<u8>::reserve_bytes(&self.config),
            Element::Word => Pool::<u32>::reserve_bytes(&self.config),
            Element::Input => Pool::<Input>::reserve_bytes(&self.config),
        }
    }

    fn bookkeeping_bytes(&self) -> usize {
        match self.element {
            Element::Byte => Pool::<u8>::bookkeeping_bytes(&self.config),
            Element::Word => Pool::<u32>::bookkeeping_bytes(&self.config),
            Element::Input => Pool::<Input>::bookkeeping_bytes(&self.config),
        }
    }
}

fn configs(longest: &Need, chunk_bytes: usize, bytes_max: usize, requests_max: usize) -> [Planned; 9] {
    let planned = |name, element, len: usize| Planned {
        config: PoolConfig {
            name,
            len_max: len.max(1),
            bytes_max,
            // A request leases one slot of a kind.
            slots_max: requests_max,
            clear: Clear::Never,
        },
        element,
    };
    let mut chunks = planned("answer chunks", Element::Byte, chunk_bytes);
    // A chunk may come back after its request has given up its place, so only its debit bounds how many there are.
    chunks.config.slots_max = bytes_max / slot::<u8>(chunk_bytes);
    [
        planned("bodies", Element::Byte, longest.body),
        planned("inputs", Element::Input, longest.inputs),
        planned("ids", Element::Word, longest.ids),
        planned("tokens", Element::Byte, longest.tokens * TOKEN_BYTES),
        planned("words", Element::Word, longest.words),
        planned("labels", Element::Byte, longest.labels * LABEL_BYTES),
        planned("features", Element::Word, longest.features),
        planned("pins", Element::Word, longest.pins),
        chunks,
    ]
}

/// Exact bytes of the slots that `need` leases: what the door debits.
pub(crate) fn bytes(need: &Need, chunk_bytes: usize) -> usize {
    slot::<u8>(need.body.max(1))
        + slot::<Input>(need.inputs.max(1))
        + slot::<u32>(need.ids)
        + slot::<u8>(need.tokens * TOKEN_BYTES)
        + slot::<u32>(need.words)
        + slot::<u8>(need.labels * LABEL_BYTES)
        + slot::<f32>(need.features)
        + slot::<u32>(need.pins)
        + need.chunks * slot::<u8>(chunk_bytes)
}

/// Leases nothing for a length of 0.
pub(crate) fn lease<T: Pod>(pool: &Pool<T>, len: usize) -> Result<Option<Lease<T>>, LeaseError> {
    if len == 0 {
        Ok(None)
    } else {
        pool.lease(len).map(Some)
    }
}

/// The smallest slot of a pool: one page.
const SLOT_BYTES_MIN: usize = 4096;

/// Bytes of the slot that holds `len` elements, as [`Pool::slot_bytes`] gives them.
pub(crate) fn slot<T>(len: usize) -> usize {
    match len {
        0 => 0,
        len => (len * size_of::<T>()).next_power_of_two().max(SLOT_BYTES_MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_prices_slots_as_the_pools_make_them() {
        let need = Need {
            body: 1 << 20,
            inputs: 64,
            features: 5000,
            ..Need::default()
        };
        let pools = Pools::new(&need, 16384, 1 << 24, 8, true).unwrap();
        for len in [1, 4096, 4097, 70_000, 1 << 20] {
            assert_eq!(
                pools.bodies.slot_bytes(len).unwrap(),
                slot::<u8>(len),
                "{len} bytes"
            );
        }
        for len in [1, 1024, 1025, 5000] {
            assert_eq!(
                pools.features.slot_bytes(len).unwrap(),
                slot::<f32>(len),
                "{len} features"
            );
        }
        for len in [1, 63, 64] {
            assert_eq!(
                pools.inputs.slot_bytes(len).unwrap(),
                slot::<Input>(len),
                "{len} inputs"
            );
        }
    }
}
