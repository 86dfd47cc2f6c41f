//! A double-array trie over bytes: the longest key that starts here, one load a byte.
//!
//! The child of node `n` by byte `b` is node `base[n] ^ b`, and is a child of `n` only if its `check` says so
//! (Aoe 1989; the exclusive or keeps all children of a node in one block of 256, so an index can never leave the array).

/// No id.
pub(crate) const NONE: u32 = u32::MAX;
/// Blocks that are searched for free places; older blocks are nearly full.
const OPEN_BLOCKS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Node {
    base: u32,
    check: u32,
    value: u32,
}

const FREE: Node = Node {
    base: 0,
    check: NONE,
    value: NONE,
};

/// An immutable trie with several roots.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(u32);

impl Trie {
    /// Builds from groups of keys sorted by bytes and distinct within a group; group `i` hangs below [`Trie::root`]`(i)`.
    pub(crate) fn new(groups: &[Vec<(&[u8], u32)>]) -> Self {
        let mut build = Build {
            nodes: Vec::new(),
            used: Vec::new(),
        };
        for _ in 0..groups.len().div_ceil(256).max(1) {
            build.add_block();
        }
        for (root, node) in build.nodes.iter_mut().enumerate().take(groups.len()) {
            node.check = root as u32;
        }
        for used in build.used.iter_mut().take(groups.len()) {
            *used = true;
        }
        let mut todo: Vec<Work<'_>> = groups
            .iter()
            .enumerate()
            .map(|(root, keys)| Work {
                node: root,
                depth: 0,
                keys,
            })
            .collect();
        while let Some(work) = todo.pop() {
            build.expand(work, &mut todo);
        }
        Self { nodes: build.nodes }
    }

    /// The root of group `group`.
    pub(crate) fn root(&self, group: usize) -> At {
        At(group as u32)
    }

    /// The child by `byte`.
    #[inline]
    pub(crate) fn step(&self, at: At, byte: u8) -> Option<At> {
        let child = self.nodes.get(at.0 as usize)?.base ^ u32::from(byte);
        let found = self.nodes.get(child as usize)?.check == at.0 && child != at.0;
        found.then_some(At(child))
    }

    /// The id of the key that ends here, or [`NONE`].
    #[inline]
    pub(crate) fn value(&self, at: At) -> u32 {
        self.nodes.get(at.0 as usize).map_or(NONE, |node| node.value)
    }

    /// The longest key below `root` that `bytes` starts with: its id and length. The empty key is never found.
    #[inline]
    pub(crate) fn longest(&self, root: At, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut at = root;
        let mut found = (NONE, 0);
        for (depth, &byte) in bytes.iter().enumerate() {
            let Some(next) = self.step(at, byte) else { break };
            at = next;
            let value = self.value(at);
            if value != NONE {
                found = (value, depth + 1);
            }
        }
        (found.0 != NONE).then_some(found)
    }
}

/// Keys that share their first `depth` bytes, to be hung below `node`.
struct Work<'k> {
    node: usize,
    depth: usize,
    keys: &'k [(&'k [u8], u32)],
}

struct Build {
    nodes: Vec<Node>,
    used: Vec<bool>,
}

impl Build {
    fn add_block(&mut self) {
        self.nodes.resize(self.nodes.len() + 256, FREE);
        self.used.resize(self.nodes.len(), false);
    }

    fn expand<'k>(&mut self, work: Work<'k>, todo: &mut Vec<Work<'k>>) {
        let mut keys = work.keys;
        if let Some((key, id)) = keys.first()
            && key.len() == work.depth
        {
            self.nodes[work.node].value = *id;
            keys = &keys[1..];
        }
        if keys.is_empty() {
            return;
        }
        let groups: Vec<&'k [(&'k [u8], u32)]> =
            keys.chunk_by(|a, b| a.0[work.depth] == b.0[work.depth]).collect();
        let labels: Vec<u8> = groups.iter().map(|group| group[0].0[work.depth]).collect();
        let base = self.find_base(&labels);
        self.nodes[work.node].base = base as u32;
        for (label, keys) in labels.iter().zip(groups) {
            let child = base ^ usize::from(*label);
            self.used[child] = true;
            self.nodes[child].check = work.node as u32;
            todo.push(Work {
                node: child,
                depth: work.depth + 1,
                keys,
            });
        }
    }

    fn find_base(&mut self, labels: &[u8]) -> usize {
        let first_open = self.nodes.len().saturating_sub(OPEN_BLOCKS * 256);
        let fits = |used: &[bool], base: usize| labels.iter().all(|&label| !used[base ^ usize::from(label)]);
        // Bases of one block that differ only in their low byte reach the same 256 places in another order.
        for free in first_open..self.nodes.len() {
            let base = free ^ usize::from(labels[0]);
            if !self.used[free] && fits(&self.used, base) {
                return base;
            }
        }
        let block = self.nodes.len();
        self.add_block();
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn longest_match_agrees_with_a_map() {
        let mut keys = BTreeMap::new();
        let mut state = 1u64;
        for id in 0..3000u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = 1 + (state >> 60) as usize % 6;
            let key: Vec<u8> = (0..len).map(|i| (state >> (8 * i)) as u8 & 0x83).collect();
            keys.insert(key, id);
        }
        let sorted: Vec<(&[u8], u32)> = keys.iter().map(|(key, id)| (key.as_slice(), *id)).collect();
        let trie = Trie::new(&[vec![(b"other", 1)], sorted]);
        for probe in keys.keys() {
            let text = [probe.as_slice(), &[0, 0x81, 2]].concat();
            let naive = (1..=text.len())
                .rev()
                .find_map(|len| Some((*keys.get(&text[..len])?, len)));
            assert_eq!(trie.longest(trie.root(1), &text), naive);
        }
        assert_eq!(trie.longest(trie.root(0), b"others"), Some((1, 5)));
        assert_eq!(trie.longest(trie.root(0), b"oth"), None);
    }

    #[test]
    fn an_empty_trie_finds_nothing() {
        let trie = Trie::new(&[Vec::new()]);
        assert_eq!(trie.longest(trie.root(0), b"\0a"), None);
    }
}
