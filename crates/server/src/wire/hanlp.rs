//! `POST /parse` as HanLP's RESTful server has it, for words and entities.
//!
//! A text is a sentence: this server does not split texts at full stops, so a client sends the sentences that it wants apart.

use plimsoll_engine::{Inputs, JobOptions, Tasks};

use super::body::Body;
use super::{Abilities, Request, Shape, WireError};
use crate::json::{Kind, Mark, Unknown};

/// What HanLP calls the tasks, with and without the standard that they follow.
const NAMES: [&str; 4] = ["tok", "tok/fine", "ner", "ner/msra"];
const TASKS: [Tasks; 4] = [Tasks::WORDS, Tasks::WORDS, Tasks::ENTITIES, Tasks::ENTITIES];
const EXPECTED: &str = r#""tok", "tok/fine", "ner" or "ner/msra""#;
/// All are read alike, by the script of each word.
const LANGUAGES: [&str; 3] = ["zh", "en", "mul"];

/// All tasks of the route that the model can do: words need no model.
pub fn tasks(abilities: &Abilities) -> Tasks {
    match abilities.tasks.has(Tasks::ENTITIES) {
        true => Tasks::WORDS.with(Tasks::ENTITIES),
        false => Tasks::WORDS,
    }
}

/// Reads `{text, tasks?, skip_tasks?, language?}`; other fields are ignored. `text` is a sentence or an array of them; `tasks` names what
/// is answered, by default all that the model can do.
///
/// # Errors
/// [`WireError`], naming the field, or the task that the model cannot do.
pub fn read(bytes: &mut [u8], inputs: &mut Inputs<'_>, abilities: &Abilities) -> Result<Request, WireError> {
    let mut body = Body::new(bytes, inputs, "text", abilities.batch_max);
    let names = ["text", "tokens", "tasks", "skip_tasks", "language"];
    let [text, tokens, wanted, skipped, language] = body.reader.fields(names, Unknown::Ignore)?;
    body.reader.end()?;
    if body.optional(tokens)? {
        let (field, instead) = ("tokens", "send the sentences as `text`");
        return Err(WireError::NotServed { field, instead });
    }
    let text = body.must(text, "text")?;
    if body.optional(language)? {
        body.word(LANGUAGES, r#""zh", "en" or "mul""#)?;
    }
    let tasks = wanted_tasks(&mut body, wanted)?.unwrap_or(tasks(abilities));
    let skipped = wanted_tasks(&mut body, skipped)?.unwrap_or(Tasks::NONE);
    let tasks = tasks.without(skipped);
    if tasks == Tasks::NONE {
        return Err(WireError::Empty { field: "tasks" });
    }
    if tasks.has(Tasks::ENTITIES) {
        abilities.need(Tasks::ENTITIES, "named entities")?;
    }
    body.reader.go_to(text);
    let single = body.push_text_or_texts()?;
    let options = JobOptions {
        wanted: tasks,
        prompt: abilities.default_prompt,
        // Entities are given by the words that they cover.
        ..JobOptions::new(tasks.with(Tasks::WORDS))
    };
    Ok(Request::new(
        options,
        Shape::Parse {
            tasks,
            dropped: Tasks::NONE,
        },
        single,
    ))
}

/// A name or an array of names.
fn wanted_tasks(body: &mut Body<'_, '_>, mark: Option<Mark>) -> Result<Option<Tasks>, WireError> {
    if !body.optional(mark)? {
        return Ok(None);
    }
    if body.reader.peek()? == Kind::String {
        return task(body).map(Some);
    }
    let mut tasks = Tasks::NONE;
    body.reader.begin_array()?;
    while body.reader.next_item()? {
        tasks = tasks.with(task(body)?);
    }
    Ok(Some(tasks))
}

fn task(body: &mut Body<'_, '_>) -> Result<Tasks, WireError> {
    Ok(TASKS[body.word(NAMES, EXPECTED)?])
}
