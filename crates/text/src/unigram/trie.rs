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
/// Blocks whose free places are searched; what is left in older ones stays empty, which bounds the time of a build.
const OPEN_BLOCKS: usize = 16;
/// The base of units without children. Nothing is ever placed by it.
const CHILDLESS: u32 = 0;

/// In a unit: a key ends here.
const ENDS: u32 = 1 << 8;
const BASE_SHIFT: u32 = 9;

/// An immutable map from byte strings to ids.
#[derive(Debug)]
pub(super) struct Trie {
    /// Label in bits 0-7, [`ENDS`], base above. Kept apart from the ids, which fewer steps need: more of it stays in cache.
    units: Box<[u32]>,
    /// By place, for the units where a key ends.
    ids: Box<[u32]>,
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: u32,
    unit: u32,
}

impl Trie {
    /// Builds from keys sorted by bytes and distinct.
    pub(super) fn new(keys: &[(&[u8], u32)]) -> Result<Self, TokenizerError> {
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
    pub(super) fn root(&self) -> Place {
        Place {
            at: 0,
            unit: self.units[0],
        }
    }

    /// One byte further.
    #[inline]
    pub(super) fn step(&self, place: Place, byte: u8) -> Option<Place> {
        let at = place.unit >> BASE_SHIFT ^ u32::from(byte);
        let unit = *self.units.get(at as usize)?;
        (unit as u8 == byte).then_some(Place { at, unit })
    }

    /// The id of the key that ends here.
    #[inline]
    pub(super) fn id(&self, place: Place) -> Option<u32> {
        if place.unit & ENDS == 0 {
            None
        } else {
            self.ids.get(place.at as usize).copied()
        }
    }

    /// The id of exactly this key.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_from(self.root(), key)
    }

    /// The id of the key that `rest` completes.
    #[inline]
    pub(super) fn find_from(&self, from: Place, rest: &[u8]) -> Option<u32> {
        self.id(self.walk(from, rest)?)
    }

    /// Several bytes further.
    #[inline]
    pub(super) fn walk(&self, from: Place, bytes: &[u8]) -> Option<Place> {
        bytes.iter().try_fold(from, |place, &byte| self.step(place, byte))
    }
}

/// The array while it grows; free places form a doubly linked list.
struct Build {
    units: Vec<u32>,
    ids: Vec<u32>,
    used: Vec<bool>,
    base_used: Vec<bool>,
    next: Vec<u32>,
    previous: Vec<u32>,
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
            next: Vec::new(),
            previous: Vec::new(),
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
        self.next
            .extend((start..end).map(|place| if place + 1 == end { NONE } else { place as u32 + 1 }));
        self.previous.extend((start..end).map(|place| {
            if place == start {
                self.tail
            } else {
                place as u32 - 1
            }
        }));
        match self.tail {
            NONE => self.head = start as u32,
            tail => self.next[tail as usize] = start as u32,
        }
        self.tail = end as u32 - 1;
    }

    fn take(&mut self, place: usize) {
        self.used[place] = true;
        self.unlink(place);
    }

    fn unlink(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        match before {
            NONE => self.head = after,
            _ => self.next[before as usize] = after,
        }
        match after {
            NONE => self.tail = before,
            _ => self.previous[after as usize] = before,
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
        let depth = work.depth;
        for keys in work.keys.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
            todo.push(Work {
                unit: 0,
                depth: depth + 1,
                keys,
            });
        }
        let children = &mut todo[first..];
        let base = self.find_base(children, depth)?;
        self.base_used[base] = true;
        self.units[work.unit] |= (base as u32) << BASE_SHIFT;
        for child in children {
            let label = child.keys[0].0[depth];
            child.unit = base ^ usize::from(label);
            self.take(child.unit);
            self.units[child.unit] = u32::from(label);
        }
        Ok(())
    }

    fn find_base(&mut self, children: &[Work<'_>], depth: usize) -> Result<usize, TokenizerError> {
        let label = |child: &Work<'_>| usize::from(child.keys[0].0[depth]);
        let mut free = self.head;
        while free != NONE {
            let base = free as usize ^ label(&children[0]);
            if !self.base_used[base] && children[1..].iter().all(|child| !self.used[base ^ label(child)]) {
                return Ok(base);
            }
            free = self.next[free as usize];
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
