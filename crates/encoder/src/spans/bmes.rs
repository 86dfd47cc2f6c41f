//! The best legal sequence of character labels.
//!
//! A head scores each character for itself, and the most probable labels one by one may begin an entity that never ends. The best legal
//! sequence is found by the usual dynamic program (Viterbi, 1967) over log-probabilities. What may follow what is so regular that the way
//! back needs one number a character: every label outside or at the beginning of an entity has the same best predecessor, and
//! within an entity there are two to choose from.

use super::Labels;

plimsoll_memory::pod_struct! {
    /// One character in the search. Plain data, so that it can live in leased slots.
    pub struct Step {
        /// In: the row of log-probabilities that the character reads.
        pub row: u32,
        /// Out: its label.
        pub label: u32,
    }
}

/// Kinds of entities there may be: one bit of a step's way back for each.
const KINDS_MAX: usize = 16;
const LABELS_MAX: usize = 4 * KINDS_MAX + 1;
/// Bits of a label in a step's way back; the kinds' bits are above.
const LABEL_BITS: u32 = 8;
const _: () = assert!(LABELS_MAX < 1 << LABEL_BITS && KINDS_MAX as u32 + LABEL_BITS <= u32::BITS);
const SLOTS_MAX: usize = 16;

/// How a head labels the characters inside pieces: by BMES, in so many slots a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharacterLabels {
    slots: usize,
    labels: usize,
    outside: usize,
    kinds: Vec<Kind>,
}

/// The labels of one kind of entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    begin: usize,
    middle: usize,
    end: usize,
    single: usize,
}

impl CharacterLabels {
    /// The rules for these labels; `None` unless they are `O` and, for each of 1 to 16 kinds, `B-`, `M-`, `E-` and `S-`, and there are 2 to 16 slots.
    pub fn new(labels: &Labels, slots: usize) -> Option<Self> {
        let find = |prefix: &str, kind: &str| {
            (0..labels.len()).find(|&i| labels.name(i) == format!("{prefix}-{kind}"))
        };
        let begins = (0..labels.len()).filter_map(|i| labels.name(i).strip_prefix("B-"));
        let kinds: Option<Vec<Kind>> = begins
            .map(|kind| {
                Some(Kind {
                    begin: find("B", kind)?,
                    middle: find("M", kind)?,
                    end: find("E", kind)?,
                    single: find("S", kind)?,
                })
            })
            .collect();
        let kinds = kinds.filter(|kinds| (1..=KINDS_MAX).contains(&kinds.len()))?;
        let outside = labels.index("O")?;
        let whole = labels.len() == 4 * kinds.len() + 1 && (2..=SLOTS_MAX).contains(&slots);
        whole.then_some(CharacterLabels {
            slots,
            labels: labels.len(),
            outside,
            kinds,
        })
    }

    /// Rows of labels that a piece has.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Labels that each row has.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// The slot of the character at `position` in a piece of `length`: its own while they last; in a longer piece the last
    /// slot is the last character's, and those that have none share the one before.
    pub fn slot(&self, position: usize, length: usize) -> usize {
        let last = self.slots - 1;
        if position >= last && position + 1 == length {
            last
        } else {
            position.min(last - 1)
        }
    }

    /// Writes the label of each step: the legal sequence with the largest sum of `log_probabilities` `[rows, labels]`, the
    /// lower label where two are equal. A text begins and ends outside of entities.
    ///
    /// # Panics
    /// When a step's row is not in `log_probabilities`.
    pub fn decode(&self, log_probabilities: &[f32], steps: &mut [Step]) {
        let mut best = Best::start();
        for step in steps.iter_mut() {
            let row = &log_probabilities[step.row as usize * self.labels..][..self.labels];
            step.label = self.advance(&mut best, row);
        }
        let mut label = best.closed;
        for step in steps.iter_mut().rev() {
            let before = self.before(label, step.label);
            step.label = label as u32;
            label = before;
        }
    }

    /// One character further: `best` becomes that of sequences ending in it; returns the way back.
    fn advance(&self, best: &mut Best, row: &[f32]) -> u32 {
        let mut way = best.closed as u32;
        let before = best.score;
        let mut closed = (self.outside, before + row[self.outside]);
        let mut offer = |label: usize, score: f32| {
            if score > closed.1 || (score == closed.1 && label < closed.0) {
                closed = (label, score);
            }
        };
        for (bit, kind) in self.kinds.iter().enumerate() {
            let open = &mut best.open[bit];
            let from_middle =
                open.middle > open.begin || (open.middle == open.begin && kind.middle < kind.begin);
            way |= u32::from(from_middle) << (LABEL_BITS + bit as u32);
            let inside = open.begin.max(open.middle);
            offer(kind.end, inside + row[kind.end]);
            offer(kind.single, before + row[kind.single]);
            *open = Open {
                begin: before + row[kind.begin],
                middle: inside + row[kind.middle],
            };
        }
        (best.closed, best.score) = closed;
        way
    }

    /// The label before one labelled `label`, by that one's way back.
    fn before(&self, label: usize, way: u32) -> usize {
        let inside = self
            .kinds
            .iter()
            .position(|kind| label == kind.middle || label == kind.end);
        match inside {
            Some(bit) if way >> (LABEL_BITS + bit as u32) & 1 == 1 => self.kinds[bit].middle,
            Some(bit) => self.kinds[bit].begin,
            None => (way & ((1 << LABEL_BITS) - 1)) as usize,
        }
    }
}

/// Scores of the best sequences so far, by how they end.
struct Best {
    /// Of those that end outside: `O`, `E`, `S`; and which of them.
    score: f32,
    closed: usize,
    /// Of those that end within an entity, by kind.
    open: [Open; KINDS_MAX],
}

#[derive(Clone, Copy)]
struct Open {
    begin: f32,
    middle: f32,
}

impl Best {
    fn start() -> Best {
        let none = Open {
            begin: f32::NEG_INFINITY,
            middle: f32::NEG_INFINITY,
        };
        Best {
            score: 0.0,
            closed: 0,
            open: [none; KINDS_MAX],
        }
    }
}
