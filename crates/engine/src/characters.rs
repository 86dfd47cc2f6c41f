//! Entities by models that label the characters inside tokens.
//!
//! Labels lie in the label slot character by character. Which character is whose follows from the tokens' offsets, so nothing about
//! them is stored but a count. Each window is decoded for itself, over all of its content, and keeps the part that is its own: its edges
//! lie half an overlap away.

use std::ops::Range;

use plimsoll_encoder::spans::{CharacterLabels, Characters, EntitySpan, Labels, Pieces, Taken, join};
use plimsoll_encoder::{Hidden, Model};

use crate::error::JobError;
use crate::inputs::{Input, Kind};
use crate::pass::Part;
use crate::work::{Counted, Tokens, Work};

/// The characters of some of an input's tokens, behind what earlier ones have `taken`.
fn characters<'a>(
    body: &'a [u8],
    tokens: &'a Tokens,
    input: &Input,
    range: Range<usize>,
    taken: Taken,
    rules: &'a CharacterLabels,
) -> Characters<'a> {
    let (starts, ends) = (&tokens.starts()[range.clone()], &tokens.ends()[range]);
    // All that is left to take lies from here to the last end: only so much of a long text is looked at.
    let end = ends.iter().copied().max().unwrap_or(0).max(taken.bytes);
    let text = match input.kind() {
        Kind::Ids => &[],
        Kind::Text | Kind::Pair => &body[input.first.range()][taken.bytes as usize..end as usize],
    };
    let pieces = Pieces {
        text: std::str::from_utf8(text).expect("the reader of the body checks its texts"),
        text_start: taken.bytes,
        starts,
        ends,
    };
    Characters::new(pieces, taken, rules)
}

/// Characters of an input that will have labels.
pub(crate) fn count(work: &Work, input: &Input, rules: &CharacterLabels) -> usize {
    let all = characters(
        &work.body,
        &work.tokens,
        input,
        input.tokens.range(),
        Taken::default(),
        rules,
    );
    all.taken().characters as usize
}

/// What the tokens before a window have taken.
fn taken_before(work: &mut Work, part: &Part, input: &Input, rules: &CharacterLabels) -> Taken {
    let start = part.window.content_start;
    let mut counted = work.progress.counted;
    if counted.input != part.input || counted.token > start {
        counted = Counted {
            input: part.input,
            token: input.tokens.range().start,
            taken: Taken::default(),
        };
    }
    let between = counted.token..start;
    counted.taken = characters(&work.body, &work.tokens, input, between, counted.taken, rules).taken();
    counted.token = start;
    work.progress.counted = counted;
    counted.taken
}

/// Labels the characters of a window and keeps those of its own part. `log_probabilities` has room for those of the longest window.
pub(crate) fn label(
    model: &Model,
    rules: &CharacterLabels,
    hidden: &Hidden<'_>,
    part: &Part,
    work: &mut Work,
    log_probabilities: &mut [f32],
) {
    let (window, input) = (part.window, work.inputs.get(part.input));
    let taken = taken_before(work, part, &input, rules);
    let labels_max = rules.labels();
    let first = part.rows.start + window.lead_len + window.prompt_len;
    let log_probabilities = &mut log_probabilities[..window.content_len * rules.slots() * labels_max];
    model.label_characters(hidden, first..first + window.content_len, log_probabilities);
    let content = window.content_start..window.content_start + window.content_len;
    let found = characters(&work.body, &work.tokens, &input, content, taken, rules);
    let search = work.labels.search_mut();
    let mut count = 0;
    for (step, character) in search.steps.iter_mut().zip(found) {
        step.row = character.row;
        count += 1;
    }
    rules.decode(log_probabilities, &mut search.steps[..count]);
    let row_of = |token: usize| (token - window.content_start) * rules.slots();
    let own = row_of(window.own_start)..row_of(window.own_end);
    let start = (input.labels.start + taken.characters) as usize;
    let steps = search.steps[..count].iter().enumerate();
    for (index, step) in steps.filter(|(_, step)| own.contains(&(step.row as usize))) {
        let score = log_probabilities[step.row as usize * labels_max + step.label as usize].exp();
        search.labels[start + index] = step.label as u16;
        search.scores[start + index] = score;
    }
}

/// Writes the entities of an input behind the `used` ones of those before it; returns how many.
pub(crate) fn entities(
    work: &mut Work,
    input: &Input,
    names: &Labels,
    rules: &CharacterLabels,
    used: usize,
) -> Result<usize, JobError> {
    let all = work.labels.all_mut();
    let own = input.labels.range();
    let labelled = all.labels[own.clone()].iter().zip(&all.scores[own]);
    let found = characters(
        &work.body,
        &work.tokens,
        input,
        input.tokens.range(),
        Taken::default(),
        rules,
    );
    let parts = found
        .zip(labelled)
        .map(|(character, (&label, &score))| EntitySpan {
            label: label.into(),
            start: character.start,
            end: character.end,
            score,
        });
    join(names, parts, &mut all.entities[used..]).map_err(|_| JobError::Internal {
        stage: crate::config::Stage::Finish.name(),
    })
}
