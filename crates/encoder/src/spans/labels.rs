//! Label names and the part of an entity each stands for.

use std::ops::Range;

/// Where in an entity a token with this label stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// `B-`: opens.
    Begin,
    /// `I-`, `M-`, or a label without prefix: continues when the entity before is of its kind, else opens.
    Inside,
    /// `E-`: continues, and closes.
    End,
    /// `S-`: opens, and closes.
    Single,
}

#[derive(Clone, Debug)]
struct Label {
    name: String,
    /// The entity's name within `name`: what follows the first dash.
    entity: Range<usize>,
    /// What must agree for two tokens to join: what follows a prefix of the scheme.
    kind: Range<usize>,
    position: Position,
    outside: bool,
}

/// The labels of a head, in index order (`id2label`).
#[derive(Clone, Debug)]
pub struct Labels {
    labels: Vec<Label>,
}

impl Labels {
    /// Takes names in index order and finds out whether their scheme is BIO or one with `E-`, `S-` or `M-`.
    pub fn new(names: Vec<String>) -> Self {
        let prefixed = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        // A lone "E-" may be part of a name. Only beside an opening label is it a scheme.
        let closes = prefixed("B-") && (prefixed("E-") || prefixed("S-") || prefixed("M-"));
        let labels = names.into_iter().map(|name| Label::new(name, closes)).collect();
        Labels { labels }
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The full name, `B-PER`.
    ///
    /// # Panics
    /// When `index` is not below [`Labels::len`].
    pub fn name(&self, index: usize) -> &str {
        &self.labels[index].name
    }

    /// The name without prefix, `PER`: what follows the first dash, as the pipeline's `entity_group`.
    ///
    /// # Panics
    /// When `index` is not below [`Labels::len`].
    pub fn entity(&self, index: usize) -> &str {
        let label = &self.labels[index];
        &label.name[label.entity.clone()]
    }

    /// The kinds of entities, `PER`, each once, in the order of the labels.
    pub fn entities(&self) -> Vec<String> {
        let mut kinds: Vec<String> = Vec::new();
        for label in (0..self.len()).filter(|&label| !self.is_outside(label)) {
            if !kinds.iter().any(|kind| kind == self.entity(label)) {
                kinds.push(self.entity(label).to_owned());
            }
        }
        kinds
    }

    /// Whether this label means "no entity": `O`.
    ///
    /// # Panics
    /// When `index` is not below [`Labels::len`].
    pub fn is_outside(&self, index: usize) -> bool {
        self.labels[index].outside
    }

    /// The index of a full name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label.name == name)
    }

    pub(crate) fn position(&self, index: usize) -> Position {
        self.labels[index].position
    }

    /// Whether two labels belong to one kind of entity.
    pub(crate) fn same_kind(&self, a: usize, b: usize) -> bool {
        let kind = |index: usize| &self.labels[index].name[self.labels[index].kind.clone()];
        kind(a) == kind(b)
    }
}

impl Label {
    fn new(name: String, closes: bool) -> Self {
        let position = match name.get(..2) {
            Some("B-") => Some(Position::Begin),
            Some("I-") => Some(Position::Inside),
            Some("M-") if closes => Some(Position::Inside),
            Some("E-") if closes => Some(Position::End),
            Some("S-") if closes => Some(Position::Single),
            _ => None,
        };
        Label {
            entity: name.find('-').map_or(0, |dash| dash + 1)..name.len(),
            kind: if position.is_some() { 2 } else { 0 }..name.len(),
            position: position.unwrap_or(Position::Inside),
            outside: name == "O",
            name,
        }
    }
}
