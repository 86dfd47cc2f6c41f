//! The road's answers, held against the model driven by hand, one sequence at a time.

mod common;

use common::{all_tasks, model, now_or_never, rig, rig_of, rig_with, tokenizer};
use plimsoll_encoder::{Batch, Hidden, Model, ModelFiles};
use plimsoll_engine::*;
use plimsoll_memory::{Mapping, Scratch};
use plimsoll_text::{BertOptions, EncodeOptions, TokenSlots, Tokenizer, Truncation};

/// Ids of a text with specials, by the tokenizer alone.
fn ids(text: &str) -> Vec<u32> {
    let tokenizer = tokenizer();
    let (mut ids, mut starts, mut ends, mut types) = (vec![0; 256], vec![0; 256], vec![0; 256], vec![0; 256]);
    let mut out = TokenSlots {
        ids: &mut ids,
        starts: &mut starts,
        ends: &mut ends,
        types: &mut types,
    };
    let options = EncodeOptions {
        add_special_tokens: true,
        tokens_max: 256,
        truncation: Truncation::Right,
        count_all: true,
    };
    let mut scratch = vec![0; tokenizer.scratch_bytes(text.len())];
    let count = tokenizer
        .encode(text, &options, &mut scratch, &mut out)
        .unwrap()
        .count;
    ids.truncate(count);
    ids
}

/// The naive road: one sequence, one pass.
fn read_alone<T>(ids: &[u32], take: impl FnOnce(&Model, &Hidden<'_>) -> T) -> T {
    let model = model();
    let lens = [ids.len() as u32];
    let batch = Batch {
        ids,
        types: &[],
        lens: &lens,
    };
    let mut scratch = Scratch::new(model.forward_scratch(batch.shape()).bytes()).unwrap();
    let frame = scratch.frame();
    let hidden = model.forward(&batch, &frame).unwrap();
    take(&model, &hidden)
}

fn embed(ids: &[u32], normalize: bool) -> Vec<f32> {
    read_alone(ids, |model, hidden| {
        let mut out = vec![0.0; model.info().hidden];
        model.pool(hidden, 0..ids.len(), normalize, &mut out);
        out
    })
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "they differ by {worst}");
}

#[test]
fn vectors_do_not_depend_on_what_shares_the_pass() {
    let texts = [
        "我 在 北 京",
        "a",
        "hello world 123",
        "好 的 ！",
        "",
        "z z z z z z z z z z z z",
    ];
    let mut rig = rig();
    let answer = rig
        .answer(&texts.join("\n"), JobOptions::new(Tasks::EMBEDDING))
        .unwrap();
    assert_eq!(answer.len(), texts.len());
    for (index, text) in texts.iter().enumerate() {
        assert_close(answer.embedding(index), &embed(&ids(text), true));
        assert_eq!(answer.token_count(index), ids(text).len());
        assert!(!answer.truncated(index));
    }
    drop(answer);
    rig.assert_all_back();
}

#[test]
fn jobs_share_passes_and_one_job_may_need_several() {
    let mut rig = rig();
    let many = vec!["a b c d e f g h"; 20].join("\n");
    let first = rig.job(&many, JobOptions::new(Tasks::EMBEDDING));
    let second = rig.job("x y", JobOptions::new(Tasks::EMBEDDING));
    let mut passes = Vec::new();
    loop {
        match rig.worker.turn() {
            Turn::Idle => break,
            Turn::Text => {}
            Turn::Pass { sequences, tokens } => passes.push((sequences, tokens)),
        }
    }
    // 10 tokens each, 64 a pass: 3 of the first job, which may take half of it, the second's 4 tokens, as they are fewest, and 3 of the first again.
    assert_eq!(passes, [(7, 64), (6, 60), (6, 60), (2, 20)]);
    let (first, second) = (now_or_never(first).unwrap(), now_or_never(second).unwrap());
    assert_close(first.embedding(19), &embed(&ids("a b c d e f g h"), true));
    assert_close(second.embedding(0), &embed(&ids("x y"), true));
}

#[test]
fn every_task_is_answered_by_one_pass() {
    let mut rig = rig();
    let job = rig.job("我 在 上 海", JobOptions::new(all_tasks()));
    assert_eq!(rig.worker.turn(), Turn::Text);
    assert_eq!(
        rig.worker.turn(),
        Turn::Pass {
            sequences: 1,
            tokens: 6
        }
    );
    assert_eq!(rig.worker.turn(), Turn::Idle);
    let answer = now_or_never(job).unwrap();
    assert_eq!(answer.text(0), "我 在 上 海");
    assert_eq!(answer.logits(0).len(), 2);
    assert_eq!(answer.tokens(0).ids, ids("我 在 上 海"));
    assert_eq!(answer.words(0).last(), Some(&("我 在 上 海".len() as u32)));
    for nth in 0..answer.entity_count(0) {
        let entity = answer.entity(0, nth).unwrap();
        assert!(["PER", "LOC"].contains(&entity.label));
        assert!(
            answer
                .text(0)
                .get(entity.start..entity.end)
                .is_some_and(|text| !text.is_empty())
        );
    }
    assert!(answer.entity(0, answer.entity_count(0)).is_none());
}

#[test]
fn words_alone_need_no_pass() {
    let mut rig = rig();
    let job = rig.job("我在上海", JobOptions::new(Tasks::WORDS));
    assert_eq!(rig.worker.turn(), Turn::Text);
    let answer = now_or_never(job).unwrap();
    assert_eq!(answer.words(0).last(), Some(&12));
    assert_eq!(rig.worker.turn(), Turn::Idle);
}

#[test]
fn long_texts_are_cut_on_the_side_that_was_asked_for_and_say_so() {
    let long = "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h";
    let all = ids(long);
    let mut rig = rig();
    let tokens_max = rig.engine.limits().tokens_max;
    let content = tokens_max - 2;
    let cut = |overflow| JobOptions {
        overflow,
        ..JobOptions::new(Tasks::EMBEDDING)
    };

    let right = rig.answer(long, cut(Overflow::CutRight)).unwrap();
    let kept = [&all[..=content], &all[all.len() - 1..]].concat();
    assert!(right.truncated(0));
    assert_eq!(
        (right.token_count(0), right.token_total(0)),
        (tokens_max, all.len())
    );
    assert_close(right.embedding(0), &embed(&kept, true));

    let left = rig.answer(long, cut(Overflow::CutLeft)).unwrap();
    let kept = [&all[..1], &all[all.len() - 1 - content..]].concat();
    assert_close(left.embedding(0), &embed(&kept, true));

    let error = rig.answer(long, cut(Overflow::Error)).err().unwrap();
    assert_eq!(
        error,
        JobError::Input {
            index: 0,
            fault: InputFault::TooManyTokens {
                tokens: all.len(),
                tokens_max
            }
        }
    );
    drop((right, left));
    rig.assert_all_back();
}

#[test]
fn entities_of_a_long_text_come_from_windows_that_overlap() {
    let words = "我 在 上 海 人 a b c d e f g 你 好 中 国 h i j k 北 京 大 的 l m n o p q r s t u v w x y z"
        .repeat(3);
    let mut rig = rig();
    let options = JobOptions::new(Tasks::ENTITIES.with(Tasks::EMBEDDING));
    let answer = rig.answer(&words, options).unwrap();
    assert!(answer.truncated(0), "the vector has read the first window only");
    let last = (0..answer.entity_count(0))
        .filter_map(|nth| answer.entity(0, nth))
        .next_back()
        .unwrap();
    assert!(last.end > words.len() / 2, "the end of the text was read");
    let starts: Vec<usize> = (0..answer.entity_count(0))
        .map(|nth| answer.entity(0, nth).unwrap().start)
        .collect();
    assert!(starts.is_sorted());
    let only = rig.answer(&words, JobOptions::new(Tasks::ENTITIES)).unwrap();
    assert!(!only.truncated(0), "entities read the whole text");
}

/// As sentence-transformers leaves them out: with the special token before them, but for poolings of one token.
#[test]
fn a_prompt_may_be_left_out_of_the_vector() {
    let load = |pooling: &str| {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/encoder/bert");
        let directory = std::path::Path::new(directory);
        let files = ModelFiles {
            config: &std::fs::read(directory.join("config.json")).unwrap(),
            weights: Mapping::open(&directory.join("model.safetensors")).unwrap(),
            modules: None,
            pooling: Some(pooling.as_bytes()),
            sentence_bert: None,
            format: None,
        };
        Model::from_parts(files).unwrap()
    };
    let read = ids("q a b");
    for (mode, tokens) in [("mean", 2..5), ("max", 2..5), ("cls", 0..5), ("lasttoken", 0..5)] {
        let file = |include| format!(r#"{{"pooling_mode":"{mode}","include_prompt":{include}}}"#);
        let model = load(&file(true));
        let batch = Batch {
            ids: &read,
            types: &[],
            lens: &[5],
        };
        let mut scratch = Scratch::new(model.forward_scratch(batch.shape()).bytes()).unwrap();
        let frame = scratch.frame();
        let hidden = model.forward(&batch, &frame).unwrap();
        for (include, tokens) in [(true, 0..5), (false, tokens)] {
            let mut expected = vec![0.0; model.info().hidden];
            model.pool(&hidden, tokens, true, &mut expected);
            let mut rig = rig_of(load(&file(include)), tokenizer(), |_| {});
            let prompt = rig.engine.prompt("query");
            let options = JobOptions {
                prompt,
                ..JobOptions::new(Tasks::EMBEDDING)
            };
            let answer = rig.answer("a b", options).unwrap();
            assert_close(answer.embedding(0), &expected);
            let bare = JobOptions {
                add_special_tokens: false,
                ..options
            };
            let nothing = rig.answer("", bare).unwrap();
            let left_out = !include && ["mean", "max"].contains(&mode);
            assert_eq!(nothing.embedding(0).iter().all(|&x| x == 0.0), left_out, "{mode}");
        }
    }
}

#[test]
fn prompts_ids_pairs_and_dimensions() {
    let mut rig = rig();
    let prompt = rig.engine.prompt("query");
    assert!(prompt.is_some() && rig.engine.prompt("passage").is_none());
    let prompted = rig
        .answer(
            "a b",
            JobOptions {
                prompt,
                ..JobOptions::new(Tasks::EMBEDDING)
            },
        )
        .unwrap();
    assert_close(prompted.embedding(0), &embed(&ids("q a b"), true));
    assert_eq!(prompted.token_count(0), ids("q a b").len());

    let given = ids("a b c").iter().map(u32::to_string).collect::<Vec<_>>();
    let bare = given[1..given.len() - 1].join(" ");
    let body = format!("#{}\n#{bare}", given.join(" "));
    let answer = rig.answer(&body, JobOptions::new(Tasks::EMBEDDING)).unwrap();
    assert_close(answer.embedding(0), &embed(&ids("a b c"), true));
    assert_close(answer.embedding(1), answer.embedding(0));

    let short = rig
        .answer(
            "a b",
            JobOptions {
                dimensions: Some(8),
                ..JobOptions::new(Tasks::EMBEDDING)
            },
        )
        .unwrap();
    let whole = embed(&ids("a b"), false);
    let norm = whole[..8].iter().map(|x| x * x).sum::<f32>().sqrt();
    assert_close(
        short.embedding(0),
        &whole[..8].iter().map(|x| x / norm).collect::<Vec<_>>(),
    );

    let pair = rig.answer("a b\tc d", JobOptions::new(Tasks::CLASSES)).unwrap();
    assert_eq!((pair.text(0), pair.second(0)), ("a b", Some("c d")));
    assert_eq!(pair.token_count(0), 7);
}

#[test]
fn pairs_of_a_model_with_one_type_are_of_that_type() {
    // Its tokenizer, which is BERT's, knows two.
    let mut rig = rig_of(common::load("roberta-sequence"), common::tokenizer(), |_| {});
    let answer = rig.answer("a b\tc d", JobOptions::new(Tasks::CLASSES)).unwrap();
    assert!(answer.logits(0).iter().all(|logit| logit.is_finite()));
}

#[test]
fn specials_are_known_where_no_text_shows_them() {
    // No letter has a token, so that all words are the unknown one, which is special.
    let tokenizer = Tokenizer::from_vocab_txt(
        b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n\xe4\xba\xac\n",
        BertOptions::default(),
    )
    .unwrap();
    let mut rig = rig_of(common::model(), tokenizer, |_| {});
    for (text, tokens) in [("a", 3), ("\u{4eac}", 3), ("a \u{4eac} b", 5)] {
        let answer = rig.answer(text, JobOptions::new(Tasks::EMBEDDING)).unwrap();
        assert_eq!(answer.token_count(0), tokens, "{text}");
    }
}

#[test]
fn what_cannot_be_done_is_named() {
    let mut rig = rig();
    let unknown = rig.answer("#1 9999", JobOptions::new(Tasks::EMBEDDING)).err();
    assert_eq!(
        unknown,
        Some(JobError::Input {
            index: 0,
            fault: InputFault::UnknownToken {
                id: 9999,
                vocab_size: 60
            }
        })
    );
    let pair = rig.answer("a\nb\tc", JobOptions::new(Tasks::ENTITIES)).err();
    assert_eq!(
        pair,
        Some(JobError::Input {
            index: 1,
            fault: InputFault::PairNotSupported { task: "entities" }
        })
    );
    rig.assert_all_back();
}

#[test]
fn token_vectors_are_the_hidden_states() {
    let mut rig = rig();
    let answer = rig
        .answer("a b\nc", JobOptions::new(Tasks::TOKEN_EMBEDDINGS))
        .unwrap();
    let width = rig.engine.model().info().hidden;
    assert_eq!(answer.token_embeddings(0).len(), 4 * width);
    let alone = read_alone(&ids("c"), |_, hidden| hidden.rows(0..3).to_vec());
    assert_close(answer.token_embeddings(1), &alone);
}

#[test]
fn a_budget_that_cannot_hold_one_request_names_the_shortfall() {
    let clock = std::sync::Arc::new(ManualClock::default());
    let config = EngineConfig::new(64 * 1024, clock);
    let Err(error) = Engine::new(config, model(), tokenizer()) else {
        panic!("it fits")
    };
    let StartError::LimitTooSmall {
        limit_bytes,
        needed_bytes,
        shortfall_bytes,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(limit_bytes, 64 * 1024);
    assert_eq!(shortfall_bytes, needed_bytes - limit_bytes);

    let clock = std::sync::Arc::new(ManualClock::default());
    let least = Engine::new(
        EngineConfig::new(needed_bytes, clock.clone()),
        model(),
        tokenizer(),
    );
    assert!(least.is_ok(), "exactly the bytes that were named are enough");
    assert!(Engine::new(EngineConfig::new(needed_bytes - 1, clock), model(), tokenizer()).is_err());
}

#[test]
fn the_bill_sums_to_the_limit() {
    let rig = rig_with(|config| {
        config.fixed.push(BillLine {
            owner: "binary",
            count: 1,
            each_bytes: 123_456,
        });
    });
    let plan = rig.engine.plan();
    assert_eq!(
        plan.lines.iter().map(BillLine::total_bytes).sum::<usize>(),
        plan.limit_bytes
    );
    assert_eq!(rig.engine.ledger().limit_bytes(), plan.request_slots_bytes);
}

#[test]
fn counting_tokens_counts_them_all_and_truncates_nothing() {
    let long = "a b c d e f g h i j ".repeat(20);
    let mut rig = rig();
    let answer = rig
        .answer(&long, JobOptions::new(Tasks::WORDS.with(Tasks::TOKEN_COUNT)))
        .unwrap();
    assert_eq!(answer.token_total(0), ids_of_any_length(&long));
    assert!(!answer.truncated(0), "words have read the whole text");
    let both = JobOptions::new(Tasks::EMBEDDING.with(Tasks::TOKEN_COUNT));
    assert!(
        rig.answer(&long, both).unwrap().truncated(0),
        "the vector has not"
    );
}

fn ids_of_any_length(text: &str) -> usize {
    text.split_whitespace().count() + 2
}
