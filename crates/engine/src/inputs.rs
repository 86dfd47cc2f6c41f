//! The inputs of a request: a table of records in one leased slot.

use plimsoll_memory::Lease;

use crate::error::TooManyInputs;
use crate::request::Span;

/// What an input is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One text.
    Text,
    /// A pair of texts, read as one sequence.
    Pair,
    /// Token ids.
    Ids,
}

plimsoll_memory::pod_struct! {
    /// One input, and what has been found out about it.
    pub(crate) struct Input {
        /// A [`Kind`].
        kind: u32,
        /// Text (bytes of the body) or ids (elements of the id slot).
        pub(crate) first: Span,
        /// The second text of a pair.
        pub(crate) second: Span,
        /// Its tokens in the token slot, specials included.
        pub(crate) tokens: Span,
        /// Tokens before anything was cut.
        pub(crate) token_total: u32,
        /// 1: something that was asked for has not read the whole text.
        pub(crate) truncated: u32,
        /// Sequences it is read in.
        pub(crate) windows: u32,
        /// Its words in the word slot.
        pub(crate) words: Span,
        /// Its labelled tokens, or characters, in the label slot.
        pub(crate) labels: Span,
        /// Its entity spans in the label slot.
        pub(crate) entities: Span,
        /// Its token vectors in the feature slot, counted in rows.
        pub(crate) rows: Span,
        /// Which vector is its: of the feature slot, or, if it is cached and read in place, of the pins.
        pub(crate) vector: u32,
        /// The number of its pin and one more, where its vector was found in the cache, so that it is not read at all; else 0.
        pub(crate) pin: u32,
    }
}

impl Input {
    fn new(kind: Kind, first: Span, second: Span) -> Input {
        Input {
            kind: kind as u32,
            first,
            second,
            ..Input::default()
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.kind {
            0 => Kind::Text,
            1 => Kind::Pair,
            _ => Kind::Ids,
        }
    }

    /// Bytes of its text.
    pub(crate) fn text_bytes(&self) -> usize {
        match self.kind() {
            Kind::Ids => 0,
            Kind::Text | Kind::Pair => self.first.len as usize + self.second.len as usize,
        }
    }

    /// Token ids that it came in as.
    pub(crate) fn ids(&self) -> usize {
        match self.kind() {
            Kind::Ids => self.first.len as usize,
            Kind::Text | Kind::Pair => 0,
        }
    }

    /// Whether its vector was found in the cache.
    pub(crate) fn is_cached(&self) -> bool {
        self.pin != 0
    }
}

/// The records of a request.
pub(crate) struct InputTable {
    records: Lease<Input>,
    len: usize,
}

impl InputTable {
    pub(crate) fn new(records: Lease<Input>) -> InputTable {
        InputTable { records, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, index: usize) -> Input {
        self.records[..self.len][index]
    }

    pub(crate) fn set(&mut self, index: usize, input: Input) {
        self.records[..self.len][index] = input;
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.records.slot_bytes()
    }

    pub(crate) fn was_warm(&self) -> bool {
        self.records.was_warm()
    }

    /// Discards the slot instead of returning it.
    pub(crate) fn discard(self) {
        self.records.discard();
    }

    fn push(&mut self, input: Input) -> Result<(), TooManyInputs> {
        let inputs_max = self.records.len();
        if self.len == inputs_max {
            return Err(TooManyInputs { inputs_max });
        }
        self.len += 1;
        self.set(self.len - 1, input);
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Input> {
        (0..self.len).map(|index| self.get(index))
    }

    /// True when some input is a pair.
    pub(crate) fn first_pair(&self) -> Option<usize> {
        (0..self.len).find(|&index| self.get(index).kind() == Kind::Pair)
    }
}

/// Where a reader of the body puts the inputs that it finds.
///
/// Spans are bytes of the body as the reader leaves it: strings may be unescaped in place before their span is given.
pub struct Inputs<'a> {
    table: &'a mut InputTable,
    ids: &'a mut [u32],
    ids_used: &'a mut usize,
    ids_begun: usize,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(table: &'a mut InputTable, ids: &'a mut [u32], ids_used: &'a mut usize) -> Inputs<'a> {
        let ids_begun = *ids_used;
        Inputs {
            table,
            ids,
            ids_used,
            ids_begun,
        }
    }

    /// Inputs so far.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True before the first input.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a text.
    ///
    /// # Errors
    /// When the request carries more inputs than are allowed.
    pub fn push_text(&mut self, text: Span) -> Result<(), TooManyInputs> {
        self.table.push(Input::new(Kind::Text, text, Span::default()))
    }

    /// Adds a pair of texts.
    ///
    /// # Errors
    /// As [`Inputs::push_text`].
    pub fn push_pair(&mut self, first: Span, second: Span) -> Result<(), TooManyInputs> {
        self.table.push(Input::new(Kind::Pair, first, second))
    }

    /// Makes a pair of the text at `index`, whose second text comes later than the firsts of all.
    ///
    /// # Panics
    /// When there is no such input.
    pub fn pair(&mut self, index: usize, second: Span) {
        let first = self.table.get(index).first;
        self.table.set(index, Input::new(Kind::Pair, first, second));
    }

    /// Begins an input of token ids.
    pub fn begin_ids(&mut self) {
        self.ids_begun = *self.ids_used;
    }

    /// Adds a token id to the input begun. A body of n bytes holds fewer ids than were reserved for it, so this cannot run
    /// out for a reader that takes at least two bytes for each.
    pub fn push_id(&mut self, id: u32) {
        self.ids[*self.ids_used] = id;
        *self.ids_used += 1;
    }

    /// Ends the input begun.
    ///
    /// # Errors
    /// As [`Inputs::push_text`].
    pub fn end_ids(&mut self) -> Result<(), TooManyInputs> {
        let ids = Span {
            start: self.ids_begun as u32,
            len: (*self.ids_used - self.ids_begun) as u32,
        };
        self.table.push(Input::new(Kind::Ids, ids, Span::default()))
    }
}
