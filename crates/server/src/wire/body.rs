//! A body on its way into the engine's inputs: what the readers of all families share.

use plimsoll_engine::{Inputs, Overflow, PromptId, Tasks};

use super::{Abilities, WireError};
use crate::json::{ErrorKind, JsonError, Kind, Mark, Reader, Span};

/// Bytes of all pairs of a query and a text: a query is tokenised again with each text, so that a short body may ask for much work.
pub(super) const PAIRED_BYTES_MAX: usize = 16 << 20;

/// A body on its way into the engine's inputs.
pub(super) struct Body<'a, 'b> {
    pub(super) reader: Reader<'a>,
    pub(super) inputs: &'a mut Inputs<'b>,
    /// The field of the texts, for refusals.
    pub(super) field: &'static str,
    pub(super) count_max: usize,
}

/// The engine's form of a span.
pub(super) fn engine_span(span: Span) -> plimsoll_engine::Span {
    plimsoll_engine::Span {
        start: span.start as u32,
        len: span.len as u32,
    }
}

impl<'a, 'b> Body<'a, 'b> {
    pub(super) fn new(
        bytes: &'a mut [u8],
        inputs: &'a mut Inputs<'b>,
        field: &'static str,
        count_max: usize,
    ) -> Self {
        Body {
            reader: Reader::new(bytes),
            inputs,
            field,
            count_max,
        }
    }

    /// The place of a field of the object just read that must be there.
    pub(super) fn must(&self, mark: Option<Mark>, name: &'static str) -> Result<Mark, WireError> {
        mark.ok_or_else(|| self.reader.missing(name).into())
    }

    /// Goes to a field that may be absent or `null`; `false` when it is.
    pub(super) fn optional(&mut self, mark: Option<Mark>) -> Result<bool, JsonError> {
        let Some(mark) = mark else { return Ok(false) };
        self.reader.go_to(mark);
        Ok(!self.reader.null()?)
    }

    pub(super) fn flag(&mut self, mark: Option<Mark>, default: bool) -> Result<bool, JsonError> {
        if self.optional(mark)? {
            self.reader.boolean()
        } else {
            Ok(default)
        }
    }

    /// A string that is one of `words`, by its index.
    pub(super) fn word<const N: usize>(
        &mut self,
        words: [&str; N],
        expected: &'static str,
    ) -> Result<usize, JsonError> {
        let place = self.reader.mark();
        let span = self.reader.string()?;
        let word = self.reader.bytes(span);
        let index = words.iter().position(|known| known.as_bytes() == word);
        index.ok_or_else(|| {
            self.reader.go_to(place);
            self.reader.error(ErrorKind::BadValue { expected })
        })
    }

    /// A whole number of at least 1.
    pub(super) fn count(&mut self) -> Result<usize, WireError> {
        let place = self.reader.mark();
        match self.reader.u32()? {
            0 => {
                self.reader.go_to(place);
                let expected = "a whole number of at least 1";
                Err(self.reader.error(ErrorKind::BadValue { expected }).into())
            }
            count => Ok(count as usize),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self) -> Result<plimsoll_engine::Span, WireError> {
        let span = self.reader.string()?;
        if span.len == 0 {
            return Err(self.empty());
        }
        Ok(engine_span(span))
    }

    /// The error for an empty string or array that was just read.
    pub(super) fn empty(&self) -> WireError {
        self.reader.error(ErrorKind::Empty).into()
    }

    /// A text that may be empty, as one of two may be.
    pub(super) fn half(&mut self) -> Result<plimsoll_engine::Span, WireError> {
        Ok(engine_span(self.reader.string()?))
    }

    /// Pairs the query at a mark with each text of the array at another, whose items `text` reads.
    pub(super) fn push_pairs(
        &mut self,
        query: Mark,
        texts: Mark,
        mut text: impl FnMut(&mut Self) -> Result<plimsoll_engine::Span, WireError>,
    ) -> Result<(), WireError> {
        self.reader.go_to(query);
        let query = self.text()?;
        self.reader.go_to(texts);
        self.reader.begin_array()?;
        if !self.reader.next_item()? {
            return Err(self.empty());
        }
        let mut bytes = 0;
        self.push_each(|body| {
            let text = text(body)?;
            bytes += query.len as usize + text.len as usize;
            body.push(query, Some(text))
        })?;
        if bytes > PAIRED_BYTES_MAX {
            return Err(WireError::Paired { bytes });
        }
        Ok(())
    }

    pub(super) fn push(
        &mut self,
        first: plimsoll_engine::Span,
        second: Option<plimsoll_engine::Span>,
    ) -> Result<(), WireError> {
        let pushed = match second {
            None => self.inputs.push_text(first),
            Some(second) => self.inputs.push_pair(first, second),
        };
        pushed.map_err(|e| self.too_many(e))
    }

    pub(super) fn push_text(&mut self) -> Result<(), WireError> {
        let text = self.text()?;
        self.push(text, None)
    }

    /// Reads `[u32]` as one tokenised input; the array is open and its first item comes next.
    pub(super) fn push_ids(&mut self) -> Result<(), WireError> {
        self.inputs.begin_ids();
        loop {
            let id = self.reader.u32()?;
            self.inputs.push_id(id);
            if !self.reader.next_item()? {
                return self.inputs.end_ids().map_err(|e| self.too_many(e));
            }
        }
    }

    /// A text, or token ids.
    pub(super) fn push_text_or_ids(&mut self) -> Result<(), WireError> {
        match self.reader.peek()? {
            Kind::String => self.push_text(),
            Kind::Array => {
                self.reader.begin_array()?;
                if !self.reader.next_item()? {
                    return Err(self.empty());
                }
                self.push_ids()
            }
            found => Err(self
                .reader
                .unexpected("a string or an array of token ids", found)
                .into()),
        }
    }

    /// `"a"`, `["a", "b"]`, `[1, 2]` or `["a", [1, 2]]`. Whether it was a single input.
    pub(super) fn push_batch(&mut self) -> Result<bool, WireError> {
        match self.reader.peek()? {
            Kind::String => self.push_text().map(|()| true),
            Kind::Array => {
                self.reader.begin_array()?;
                if !self.reader.next_item()? {
                    return Err(self.empty());
                }
                if self.reader.peek()? == Kind::Number {
                    return self.push_ids().map(|()| true);
                }
                self.push_each(Self::push_text_or_ids).map(|()| false)
            }
            found => Err(self.reader.unexpected("a string or an array", found).into()),
        }
    }

    /// `"a"` or `["a", "b"]`. Whether it was a single text.
    pub(super) fn push_text_or_texts(&mut self) -> Result<bool, WireError> {
        match self.reader.peek()? {
            Kind::String => self.push_text().map(|()| true),
            Kind::Array => self.push_texts().map(|()| false),
            found => Err(self
                .reader
                .unexpected("a string or an array of strings", found)
                .into()),
        }
    }

    /// `["a", "b"]`, not empty.
    pub(super) fn push_texts(&mut self) -> Result<(), WireError> {
        self.reader.begin_array()?;
        if !self.reader.next_item()? {
            return Err(self.empty());
        }
        self.push_each(Self::push_text)
    }

    /// The items of an array whose first item comes next.
    pub(super) fn push_each(
        &mut self,
        mut push: impl FnMut(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        loop {
            push(self)?;
            if !self.reader.next_item()? {
                return Ok(());
            }
            self.check_room()?;
        }
    }

    /// Checks that the item that comes next may be one more input; if not, counts how many there are.
    pub(super) fn check_room(&mut self) -> Result<(), WireError> {
        let mut count = self.inputs.len() + 1;
        if count <= self.count_max {
            return Ok(());
        }
        self.reader.skip_value()?;
        while self.reader.next_item()? {
            self.reader.skip_value()?;
            count += 1;
        }
        Err(WireError::TooMany {
            field: self.field,
            count,
            count_max: self.count_max,
        })
    }

    pub(super) fn too_many(&self, error: plimsoll_engine::TooManyInputs) -> WireError {
        WireError::TooMany {
            field: self.field,
            count: self.inputs.len() + 1,
            count_max: error.inputs_max,
        }
    }

    pub(super) fn prompt(
        &mut self,
        mark: Option<Mark>,
        abilities: &Abilities,
    ) -> Result<Option<PromptId>, WireError> {
        if !self.optional(mark)? {
            return Ok(abilities.default_prompt);
        }
        let span = self.reader.string()?;
        let name = self.reader.bytes(span);
        let index = abilities
            .prompts
            .iter()
            .position(|prompt| prompt.as_bytes() == name);
        index
            .map(|index| Some(PromptId(index)))
            .ok_or(WireError::UnknownPrompt)
    }

    /// Checks that a model that is named is the one that is served.
    pub(super) fn model(&mut self, mark: Option<Mark>, abilities: &Abilities) -> Result<(), WireError> {
        if !self.optional(mark)? {
            return Ok(());
        }
        let span = self.reader.string()?;
        let name = self.reader.bytes(span);
        abilities.check_model(name)
    }

    pub(super) fn dimensions(
        &mut self,
        mark: Option<Mark>,
        abilities: &Abilities,
    ) -> Result<Option<usize>, WireError> {
        if !self.optional(mark)? {
            return Ok(None);
        }
        let dimensions = self.reader.u32()? as usize;
        match (1..=abilities.dimensions).contains(&dimensions) {
            true => Ok(Some(dimensions)),
            false => Err(WireError::Dimensions {
                dimensions_max: abilities.dimensions,
            }),
        }
    }
}

/// What happens to long texts where a request does not say: those that are read in windows lose nothing, but what is made of the first alone is a cut.
pub(super) fn unsaid(abilities: &Abilities, tasks: Tasks) -> Overflow {
    match tasks.any(Tasks::EMBEDDING.with(Tasks::CLASSES)) && !abilities.auto_truncate {
        true => Overflow::Error,
        false => Overflow::Windows,
    }
}

/// What happens to long texts where cutting them is a yes or a no.
pub(super) fn overflow(truncate: bool, left: bool) -> Overflow {
    match (truncate, left) {
        (false, _) => Overflow::Error,
        (true, false) => Overflow::CutRight,
        (true, true) => Overflow::CutLeft,
    }
}
