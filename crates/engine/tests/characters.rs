//! Entities of a model that labels the characters inside tokens, held against the model driven by hand, window by window.

mod common;

use std::ops::Range;

use common::{Rig, character_model, character_tokenizer, now_or_never, rig_of};
use plimsoll_encoder::Batch;
use plimsoll_encoder::spans::{Character, Characters, EntitySpan, Pieces, Step, Taken, join};
use plimsoll_engine::*;
use plimsoll_memory::Scratch;
use plimsoll_text::Tokenizer;
use proptest::prelude::*;

const OVERLAP: usize = 6;
const TASKS: Tasks = Tasks::ENTITIES.with(Tasks::TOKENS);

fn rig() -> Rig {
    rig_of(character_model(), character_tokenizer(), |_| {})
}

/// What an answer says of one input: kind, bytes, score.
fn found(answer: &Answer, index: usize) -> Vec<(String, usize, usize, f32)> {
    let entities = (0..answer.entity_count(index)).map(|nth| answer.entity(index, nth).unwrap());
    entities
        .map(|e| (e.label.to_owned(), e.start, e.end, e.score))
        .collect()
}

/// The sequences of a text by its content tokens: what each reads, and which part of it is its own.
fn windows(tokens: usize, tokens_max: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let mut all: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let mut start = 0;
    loop {
        let end = tokens.min(start + tokens_max);
        let own = all.last().map_or(0, |(_, own)| own.end);
        let last = end == tokens;
        all.push((start..end, own..if last { end } else { end - OVERLAP / 2 }));
        if last {
            return all;
        }
        start += tokens_max - OVERLAP;
    }
}

/// The naive road: each window alone, its labels decoded alone, all characters listed.
fn by_hand(text: &str, answer: &Answer, index: usize) -> Vec<(String, usize, usize, f32)> {
    let model = character_model();
    let (rules, names) = (
        model.info().character_labels.as_ref().unwrap(),
        model.info().token_head.as_ref().unwrap(),
    );
    let tokens = answer.tokens(index);
    let content = 1..tokens.ids.len() - 1;
    let (ids, starts, ends) = (
        &tokens.ids[content.clone()],
        &tokens.starts[content.clone()],
        &tokens.ends[content],
    );
    let pieces = Pieces {
        text,
        text_start: 0,
        starts,
        ends,
    };
    let characters: Vec<Character> = Characters::new(pieces, Taken::default(), rules).collect();
    let token = |c: &Character| c.row as usize / rules.slots();
    let mut parts = Vec::new();
    for (read, own) in windows(ids.len(), model.info().tokens_max - 2) {
        let sequence = [
            &tokens.ids[..1],
            &ids[read.clone()],
            &tokens.ids[tokens.ids.len() - 1..],
        ]
        .concat();
        let batch = Batch {
            ids: &sequence,
            types: &[],
            lens: &[sequence.len() as u32],
        };
        let mut scratch = Scratch::new(model.forward_scratch(batch.shape()).bytes()).unwrap();
        let frame = scratch.frame();
        let hidden = model.forward(&batch, &frame).unwrap();
        let mut rows = vec![0.0; read.len() * rules.slots() * names.len()];
        model.label_characters(&hidden, 1..1 + read.len(), &mut rows);
        let here: Vec<&Character> = characters.iter().filter(|c| read.contains(&token(c))).collect();
        let row = |c: &Character| c.row - (read.start * rules.slots()) as u32;
        let mut steps: Vec<Step> = here
            .iter()
            .map(|c| Step {
                row: row(c),
                label: 0,
            })
            .collect();
        rules.decode(&rows, &mut steps);
        for (c, step) in here.iter().zip(steps).filter(|(c, _)| own.contains(&token(c))) {
            let score = rows[step.row as usize * names.len() + step.label as usize].exp();
            parts.push(EntitySpan {
                label: step.label,
                start: c.start,
                end: c.end,
                score,
            });
        }
    }
    let mut out = vec![EntitySpan::default(); parts.len()];
    let count = join(names, parts, &mut out).unwrap();
    let spans = out[..count].iter();
    spans
        .map(|s| {
            (
                names.entity(s.label as usize).to_owned(),
                s.start as usize,
                s.end as usize,
                s.score,
            )
        })
        .collect()
}

#[track_caller]
fn check(texts: &[&str], answer: &Answer) {
    for (index, text) in texts.iter().enumerate() {
        let (found, wanted) = (found(answer, index), by_hand(text, answer, index));
        assert_eq!(found.len(), wanted.len(), "{text:?}");
        for (a, b) in found.iter().zip(&wanted) {
            assert_eq!((&a.0, a.1, a.2), (&b.0, b.1, b.2), "{text:?}");
            assert!((a.3 - b.3).abs() < 1e-4, "{a:?} {b:?}");
        }
    }
}

#[test]
fn short_and_long_texts_of_one_request() {
    let long = "dabcdab, cdab 京ab ".repeat(30);
    let texts = ["abcdab 京上 cab", "", &long, "a", " ", &long[5..], "海"];
    let mut rig = rig();
    let answer = rig.answer(&texts.join("\n"), JobOptions::new(TASKS)).unwrap();
    check(&texts, &answer);
    assert!(answer.entity_count(2) > 20 && !answer.truncated(2));
    drop(answer);
    rig.assert_all_back();
}

#[test]
fn a_text_that_is_cut_has_entities_where_it_was_read() {
    let text = "dabcdab, cdab 京ab ".repeat(8);
    let mut rig = rig();
    for overflow in [Overflow::CutRight, Overflow::CutLeft] {
        let answer = rig
            .answer(
                &text,
                JobOptions {
                    overflow,
                    ..JobOptions::new(TASKS)
                },
            )
            .unwrap();
        check(&[&text], &answer);
        assert!(answer.truncated(0) && answer.entity_count(0) > 0);
    }
}

#[test]
fn a_request_without_any_character_has_no_entities() {
    let mut rig = rig();
    for text in ["", " \n\u{3000}"] {
        let answer = rig.answer(text, JobOptions::new(TASKS)).unwrap();
        assert!((0..answer.len()).all(|index| answer.entity_count(index) == 0));
    }
}

#[test]
fn ids_have_no_characters() {
    let mut rig = rig();
    let answer = rig.answer("#5 6 7\ncab 京\n#9", JobOptions::new(TASKS)).unwrap();
    assert_eq!((answer.entity_count(0), answer.entity_count(2)), (0, 0));
    assert!(answer.entity_count(1) > 0);
}

#[test]
fn other_tasks_of_the_same_pass_are_not_disturbed() {
    let text = "dabcdab, cdab 京ab";
    let mut rig = rig();
    let all = rig.answer(text, JobOptions::new(common::all_tasks())).unwrap();
    check(&[text], &all);
    for task in [Tasks::EMBEDDING, Tasks::CLASSES, Tasks::ENTITIES] {
        let alone = rig.answer(text, JobOptions::new(task)).unwrap();
        match task {
            Tasks::EMBEDDING => assert_eq!(alone.embedding(0), all.embedding(0)),
            Tasks::CLASSES => assert_eq!(alone.logits(0), all.logits(0)),
            _ => assert_eq!(found(&alone, 0), found(&all, 0)),
        }
    }
}

/// Two workers finish the windows of one text in any order.
#[test]
fn windows_may_be_read_in_any_order() {
    let text = "dabcdab, cdab 京ab ".repeat(150);
    let mut rig = rig_of(character_model(), character_tokenizer(), |config| {
        config.workers = 2
    });
    let alone = found(&rig.answer(&text, JobOptions::new(Tasks::ENTITIES)).unwrap(), 0);
    let mut second = rig.engine.worker().unwrap();
    for _ in 0..10 {
        let job = rig.job(&text, JobOptions::new(Tasks::ENTITIES));
        rig.worker.turn();
        std::thread::scope(|scope| {
            scope.spawn(|| while second.turn() != Turn::Idle {});
            while rig.worker.turn() != Turn::Idle {}
        });
        assert_eq!(found(&now_or_never(job).unwrap(), 0), alone);
    }
}

/// A tokenizer that writes spaces as a piece of their own.
fn spaced_tokenizer() -> Tokenizer {
    let json = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<unk>", 0.0], ["▁", -1.0], ["ab", -1.0], ["q", -1.0], ["▁c", -1.0]]}
    }"#;
    Tokenizer::from_json(json.as_bytes()).unwrap()
}

#[test]
fn behind_a_prompt_the_marker_of_its_space_has_no_character() {
    let mut rig = rig_of(character_model(), spaced_tokenizer(), |_| {});
    let mut ends = |text: &str, prompt| {
        let answer = rig
            .answer(
                text,
                JobOptions {
                    prompt,
                    ..JobOptions::new(TASKS)
                },
            )
            .unwrap();
        answer.tokens(0).ends.to_vec()
    };
    let query = Some(PromptId(0));
    assert_eq!(
        ends("abq", None),
        [1, 2, 3],
        "alone, the marker borrows the first character's place"
    );
    assert_eq!(ends("abq", query), [0, 2, 3]);
    assert_eq!(
        ends("cab", query),
        [1, 3],
        "a piece that begins with the marker keeps its character"
    );
    assert_eq!(ends("", query), [0u32; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_texts(texts in prop::collection::vec("([a-d]{1,9}|[京上海人q]|[ ,.\u{3000}x]){1,60}", 1..4)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut rig = rig();
        let answer = rig.answer(&texts.join("\n"), JobOptions::new(TASKS)).unwrap();
        check(&texts, &answer);
    }
}
