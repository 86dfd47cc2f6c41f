//! A double array over the pieces' bytes: one load a byte, four bytes a unit.
//!
//! The child of a unit with base `b` by byte `c` is the unit at `b ^ c`, if that unit's label is `c` (Aoe 1989, in the
//! form of darts-clone). No two units share a base, so the label alone tells whose child a unit is, and the exclusive or
//! keeps all children of a unit in one block of 256: whatever the bytes, an index never leaves the array.

use crate::TokenizerError;

/// The end of the list of free places.
const NONE: u32 = u32::MAX;

const BLOCK: usize = 256;
/// Bases have 23 bits.
const UNITS_MAX: usize = 1 << 23;
/// Blocks whose free places are searched; what is left in older ones stays empty.
const OPEN_BLOCKS: usize = 16;
/// Free places that are tried for a unit before it gets a block of its own, which bounds the time of a build.
const TRIES_MAX: usize = 256;
/// The base of units without children. Nothing is ever placed by it.
const CHILDLESS: u32 = 0;

/// In a unit: a key ends here.
const ENDS: u32 = 1 << 8;
const BASE_SHIFT: u32 = 9;

/// An immutable map from byte strings to ids.
#[derive(Debug)]
pub(crate) struct Trie {
    /// Label in bits 0-7, [`ENDS`], base above. Kept apart from the ids, which fewer steps need: more of it stays in cache.
    units: Box<[u32]>,
    /// By place, for the units where a key ends.
    ids: Box<[u32]>,
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    at: u32,
    unit: u32,
}

impl Trie {
    /// Builds from keys sorted by bytes and distinct.
    pub(crate) fn new(keys: &[(&[u8], u32)]) -> Result<Self, TokenizerError> {
        let mut build = Build::new();
        build.fill(keys)?;
        build.seal();
        Ok(Self {
            units: build.units.into_boxed_slice(),
            ids: build.ids.into_boxed_slice(),
        })
    }

    /// Where every walk starts.
    #[inline]
    pub(crate) fn root(&self) -> Place {
        Place {
            at: 0,
            unit: self.units[0],
        }
    }

    /// One byte further.
    #[inline]
    pub(crate) fn step(&self, place: Place, byte: u8) -> Option<Place> {
        let at = place.unit >> BASE_SHIFT ^ u32::from(byte);
        let unit = *self.units.get(at as usize)?;
        (unit as u8 == byte).then_some(Place { at, unit })
    }

    /// The id of the key that ends here.
    #[inline]
    pub(crate) fn id(&self, place: Place) -> Option<u32> {
        if place.unit & ENDS == 0 {
            None
        } else {
            self.ids.get(place.at as usize).copied()
        }
    }

    /// The id of exactly this key.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_from(self.root(), key)
    }

    /// The id of the key that `rest` completes.
    #[inline]
    pub(crate) fn find_from(&self, from: Place, rest: &[u8]) -> Option<u32> {
        self.id(self.walk(from, rest)?)
    }

    /// The longest key that `bytes` starts with: its id and length. The empty key is never found.
    #[inline]
    pub(crate) fn longest(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut place = self.root();
        let mut found = None;
        for (depth, &byte) in bytes.iter().enumerate() {
            let Some(next) = self.step(place, byte) else { break };
            place = next;
            if let Some(id) = self.id(place) {
                found = Some((id, depth + 1));
            }
        }
        found
    }

    /// Several bytes further.
    #[inline]
    pub(crate) fn walk(&self, from: Place, bytes: &[u8]) -> Option<Place> {
        bytes.iter().try_fold(from, |place, &byte| self.step(place, byte))
    }
}

/// The array while it grows; free places form a doubly linked list.
struct Build {
    units: Vec<u32>,
    ids: Vec<u32>,
    used: Vec<bool>,
    base_used: Vec<bool>,
    /// The free places before and after each free place.
    links: Vec<[u32; 2]>,
    head: u32,
    tail: u32,
}

/// Keys that share their first `depth` bytes and hang below `unit`.
struct Work<'k> {
    unit: usize,
    depth: usize,
    keys: &'k [(&'k [u8], u32)],
}

impl Build {
    fn new() -> Self {
        let mut build = Self {
            units: Vec::new(),
            ids: Vec::new(),
            used: Vec::new(),
            base_used: Vec::new(),
            links: Vec::new(),
            head: NONE,
            tail: NONE,
        };
        build.add_block();
        build.take(0); // the root
        build.take(BLOCK - 1); // stays empty, so that this block has a base to spare besides CHILDLESS
        build.base_used[CHILDLESS as usize] = true;
        build
    }

    fn add_block(&mut self) {
        let start = self.units.len();
        let end = start + BLOCK;
        if let Some(oldest) = start.checked_sub(OPEN_BLOCKS * BLOCK) {
            for place in oldest..oldest + BLOCK {
                if !self.used[place] {
                    self.unlink(place);
                }
            }
        }
        self.units.resize(end, 0);
        self.ids.resize(end, 0);
        self.used.resize(end, false);
        self.base_used.resize(end, false);
        let (first, last) = (start as u32, end as u32 - 1);
        self.links
            .extend((first..=last).map(|place| [place.wrapping_sub(1), place + 1]));
        self.links[start][0] = self.tail;
        self.links[end - 1][1] = NONE;
        match self.tail {
            NONE => self.head = first,
            tail => self.links[tail as usize][1] = first,
        }
        self.tail = last;
    }

    fn take(&mut self, place: usize) {
        self.used[place] = true;
        self.unlink(place);
    }

    fn unlink(&mut self, place: usize) {
        let [before, after] = self.links[place];
        match before {
            NONE => self.head = after,
            _ => self.links[before as usize][1] = after,
        }
        match after {
            NONE => self.tail = before,
            _ => self.links[after as usize][0] = before,
        }
    }

    fn fill(&mut self, keys: &[(&[u8], u32)]) -> Result<(), TokenizerError> {
        let mut todo = vec![Work {
            unit: 0,
            depth: 0,
            keys,
        }];
        while let Some(mut work) = todo.pop() {
            if let [(key, id), rest @ ..] = work.keys
                && key.len() == work.depth
            {
                self.units[work.unit] |= ENDS;
                self.ids[work.unit] = *id;
                work.keys = rest;
            }
            if !work.keys.is_empty() {
                self.expand(work, &mut todo)?;
            }
        }
        Ok(())
    }

    fn expand<'k>(&mut self, work: Work<'k>, todo: &mut Vec<Work<'k>>) -> Result<(), TokenizerError> {
        let first = todo.len();
        let mut labels = [0; BLOCK];
        let mut count = 0;
        for keys in work.keys.chunk_by(|a, b| a.0[work.depth] == b.0[work.depth]) {
            labels[count] = keys[0].0[work.depth];
            count += 1;
            todo.push(Work {
                unit: 0,
                depth: work.depth + 1,
                keys,
            });
        }
        let labels = &labels[..count];
        let base = self.find_base(labels)?;
        self.base_used[base] = true;
        self.units[work.unit] |= (base as u32) << BASE_SHIFT;
        for (child, &label) in todo[first..].iter_mut().zip(labels) {
            child.unit = base ^ usize::from(label);
            self.take(child.unit);
            self.units[child.unit] = u32::from(label);
        }
        Ok(())
    }

    fn find_base(&mut self, labels: &[u8]) -> Result<usize, TokenizerError> {
        let mut free = self.head;
        for _ in 0..TRIES_MAX {
            if free == NONE {
                break;
            }
            let base = free as usize ^ usize::from(labels[0]);
            let is_free = |label: &u8| !self.used[base ^ usize::from(*label)];
            if !self.base_used[base] && labels[1..].iter().all(is_free) {
                return Ok(base);
            }
            free = self.links[free as usize][1];
        }
        let block = self.units.len();
        if block + BLOCK > UNITS_MAX {
            return Err(TokenizerError::TooLarge {
                what: "trie places",
                found: block + BLOCK,
                max: UNITS_MAX,
            });
        }
        self.add_block();
        Ok(block)
    }

    /// Labels the empty places with a base that no unit of their block has, so that no step ever arrives there.
    ///
    /// A block with an empty place has one: it has at most as many bases as children, hence fewer than 256.
    fn seal(&mut self) {
        for start in (0..self.units.len()).step_by(BLOCK) {
            let spare = (start..start + BLOCK).find(|&base| !self.base_used[base]);
            for place in start..start + BLOCK {
                let empty = !self.used[place] || place == 0 || place == BLOCK - 1;
                if let (true, Some(spare)) = (empty, spare) {
                    self.units[place] |= (place ^ spare) as u32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn trie(map: &BTreeMap<Vec<u8>, u32>) -> Trie {
        let keys: Vec<(&[u8], u32)> = map.iter().map(|(key, id)| (key.as_slice(), *id)).collect();
        Trie::new(&keys).unwrap()
    }

    #[test]
    fn finds_what_a_map_finds() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let mut key = |mask: u8| -> Vec<u8> {
            let len = 1 + random() as usize % 6;
            (0..len).map(|_| random() as u8 & mask).collect()
        };
        for mask in [0x03, 0x83, 0xff] {
            let map: BTreeMap<Vec<u8>, u32> = (0..4000).map(|id| (key(mask), id)).collect();
            let trie = trie(&map);
            assert!(map.iter().all(|(key, &id)| trie.find(key) == Some(id)));
            for _ in 0..20_000 {
                let probe = key(mask);
                assert_eq!(trie.find(&probe), map.get(&probe).copied(), "{probe:?}");
            }
        }
    }

    #[test]
    fn every_byte_is_a_label() {
        let map: BTreeMap<Vec<u8>, u32> = (0..=255u8)
            .flat_map(|a| [(vec![a], u32::from(a)), (vec![a, 255 - a], 256 + u32::from(a))])
            .collect();
        let trie = trie(&map);
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                assert_eq!(trie.find(&[a, b]).is_some(), b == 255 - a);
            }
        }
    }

    #[test]
    fn the_empty_key_is_only_itself() {
        let trie = trie(&BTreeMap::from([(vec![], 9)]));
        assert_eq!(trie.find(b""), Some(9));
        assert!((0..=255).all(|byte| trie.find(&[byte]).is_none()));
    }
}
