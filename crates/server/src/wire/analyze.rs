//! `POST /v1/analyze`: every task of one or more texts by one encoder pass.
//!
//! ```json
//! {"text": "Plimsoll lives in Derby.", "tasks": ["words", "embedding"], "session": "a1"}
//! ```
//!
//! A string as `text` is answered by one object, an array of strings by `{"results": [...]}` with an object for each, in order. `tasks`
//! names any of `words`, `entities`, `sentiment` and `embedding`; left out, it is all that the model can do. A task that it cannot do is
//! refused by name. Fields that are not of these three are refused by name. Offsets are in characters (code points). `session` groups
//! requests whose vectors may be kept together; at most [`SESSION_BYTES_MAX`] bytes.

use plimsoll_engine::{Inputs, JobOptions, Tasks};

use super::body::{Body, engine_span, unsaid};
use super::{Abilities, Request, Shape, WireError};
use crate::json::{ErrorKind, Unknown};

/// Longest `session`.
pub const SESSION_BYTES_MAX: usize = 128;

const NAMES: [&str; 4] = ["words", "entities", "sentiment", "embedding"];
const TASKS: [Tasks; 4] = [Tasks::WORDS, Tasks::ENTITIES, Tasks::CLASSES, Tasks::EMBEDDING];

/// All tasks of the route.
pub const ALL: Tasks = TASKS[0].with(TASKS[1]).with(TASKS[2]).with(TASKS[3]);

/// All tasks of the route that the model can do.
pub fn tasks(abilities: &Abilities) -> Tasks {
    let able = TASKS.into_iter().filter(|&task| abilities.tasks.has(task));
    able.fold(Tasks::NONE, Tasks::with)
}

/// The same, and what every answer says of the tokens: what a request is admitted for.
pub fn all_tasks(abilities: &Abilities) -> Tasks {
    tasks(abilities).with(Tasks::TOKEN_COUNT)
}

/// The task that goes by this name.
pub fn task(name: &str) -> Option<Tasks> {
    NAMES
        .iter()
        .position(|known| *known == name)
        .map(|index| TASKS[index])
}

/// The names of `tasks`.
pub fn names(tasks: Tasks) -> impl Iterator<Item = &'static str> {
    let all = TASKS.into_iter().zip(NAMES);
    all.filter(move |(task, _)| tasks.has(*task))
        .map(|(_, name)| name)
}

/// Reads a body of `/v1/analyze`.
///
/// # Errors
/// [`WireError`], naming the field, or the task that the model cannot do.
pub fn read(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    let mut body = Body::new(bytes, inputs, "text", abilities.inputs_max);
    let [text, wanted, session] = body
        .reader
        .fields(["text", "tasks", "session"], Unknown::Refuse)?;
    body.reader.end()?;
    let text = body.must(text, "text")?;
    let session = match body.optional(session)? {
        true => Some(session_name(&mut body)?),
        false => None,
    };
    let tasks = if body.optional(wanted)? {
        wanted_tasks(&mut body, abilities)?
    } else {
        tasks(abilities)
    };
    body.reader.go_to(text);
    let single = body.push_text_or_texts()?;
    let options = JobOptions {
        wanted: tasks,
        prompt: abilities.default_prompt,
        overflow: unsaid(abilities, tasks),
        ..JobOptions::new(tasks.with(Tasks::TOKEN_COUNT))
    };
    Ok(Request {
        session,
        ..Request::new(
            options,
            Shape::Analyze {
                tasks,
                dropped: Tasks::NONE,
                single,
            },
            single,
        )
    })
}

fn session_name(body: &mut Body<'_, '_>) -> Result<plimsoll_engine::Span, WireError> {
    let place = body.reader.mark();
    let name = body.reader.string()?;
    if name.len > SESSION_BYTES_MAX {
        body.reader.go_to(place);
        return Err(body
            .reader
            .error(ErrorKind::BadValue {
                expected: "a string of at most 128 bytes",
            })
            .into());
    }
    Ok(engine_span(name))
}

fn wanted_tasks(body: &mut Body<'_, '_>, abilities: &Abilities) -> Result<Tasks, WireError> {
    const EXPECTED: &str = r#""words", "entities", "sentiment" or "embedding""#;
    let mut tasks = Tasks::NONE;
    body.reader.begin_array()?;
    while body.reader.next_item()? {
        let task = body.word(NAMES, EXPECTED)?;
        abilities.need(TASKS[task], NAMES[task])?;
        tasks = tasks.with(TASKS[task]);
    }
    if tasks == Tasks::NONE {
        Err(body.empty())
    } else {
        Ok(tasks)
    }
}
