//! Texts whose vectors are known: what is spared, what is the same, and what is never shared.

mod common;

use std::task::Poll;

use common::{Rig, now_or_never, rig_with};
use plimsoll_engine::*;

const EMBED: Tasks = Tasks::EMBEDDING;

fn rig() -> Rig {
    rig_with(|config| config.cache = CacheSettings::new(Some(1 << 20)))
}

fn options() -> JobOptions {
    JobOptions::new(EMBED)
}

/// What the cache did for `body`, and in how many sequences the encoder read of it.
fn ask(rig: &mut Rig, body: &str, options: JobOptions) -> (Cached, usize) {
    let job = rig.job(body, options);
    let mut read = 0;
    loop {
        match rig.worker.turn() {
            Turn::Idle => break,
            Turn::Text => {}
            Turn::Pass { sequences, .. } => read += sequences,
        }
    }
    (now_or_never(job).unwrap().cache(), read)
}

#[test]
fn a_text_that_was_read_is_not_read_again_and_its_answer_is_the_same() {
    let mut rig = rig();
    let long = "a b c d e f g h i j ".repeat(20);
    for (body, tasks) in [
        ("我 在 上 海", EMBED),
        (long.as_str(), EMBED.with(Tasks::TOKEN_COUNT)),
        ("", EMBED),
    ] {
        let options = JobOptions::new(tasks);
        let first = rig.answer(body, options).unwrap();
        let job = rig.job(body, options);
        assert_eq!(rig.worker.turn(), Turn::Idle, "no worker is needed");
        let second = now_or_never(job).unwrap();
        assert_eq!((first.cache(), second.cache()), (Cached::Miss, Cached::Hit));
        assert_eq!(first.embedding(0), second.embedding(0));
        let said = |answer: &Answer| (answer.token_count(0), answer.token_total(0), answer.truncated(0));
        assert_eq!(said(&first), said(&second));
        assert_eq!(first.truncated(0), body.len() > 100);
    }
    rig.assert_all_back();
}

#[test]
fn a_large_request_is_looked_up_by_a_worker() {
    let mut rig = rig_with(|config| {
        config.cache = CacheSettings::new(Some(1 << 20));
        config.inputs_max = 64;
    });
    let body = vec!["a"; 33].join("\n");
    assert_eq!(ask(&mut rig, &body, options()).0, Cached::Miss);
    let job = rig.job(&body, options());
    assert_eq!(rig.worker.turn(), Turn::Text);
    assert_eq!(rig.worker.turn(), Turn::Idle);
    assert_eq!(now_or_never(job).unwrap().cache(), Cached::Hit);
    rig.assert_all_back();
}

#[test]
fn a_cached_vector_is_read_in_place_and_pinned_until_the_answer_is_dropped() {
    let mut rig = rig();
    assert_eq!(ask(&mut rig, "a b\nc", options()), (Cached::Miss, 2));
    let pinned = |rig: &Rig| rig.engine.cache().unwrap().stats().pinned_bytes;
    assert_eq!(pinned(&rig), 0);
    let answer = rig.answer("a b\nc\na b", options()).unwrap();
    assert_eq!(answer.cache(), Cached::Hit);
    let neighbours = pinned(&rig);
    assert_eq!(
        neighbours,
        rig.engine.cache().unwrap().bytes(),
        "both lie in the one chunk"
    );
    assert_eq!(answer.embedding(0).as_ptr(), answer.embedding(2).as_ptr());
    let again = rig.answer("a b", options()).unwrap();
    assert_eq!(again.embedding(0).as_ptr(), answer.embedding(0).as_ptr());
    drop(answer);
    assert_eq!(pinned(&rig), neighbours);
    drop(again);
    assert_eq!(pinned(&rig), 0);
    let cancelled = rig.job("a b\nc", options());
    rig.work();
    assert!(pinned(&rig) > 0);
    drop(cancelled);
    rig.assert_all_back();
}

#[test]
fn of_a_batch_only_what_is_unknown_is_read() {
    let mut rig = rig();
    let alone: Vec<Vec<f32>> = ["a", "b b", "c c c", "d"]
        .map(|text| {
            rig.answer(
                text,
                JobOptions {
                    cache: CacheUse::Off,
                    ..options()
                },
            )
            .unwrap()
            .embedding(0)
            .to_vec()
        })
        .into();
    assert_eq!(ask(&mut rig, "b b\nd", options()), (Cached::Miss, 2));
    let job = rig.job("a\nb b\nc c c\nd", options());
    assert_eq!(rig.worker.turn(), Turn::Text);
    assert_eq!(
        rig.worker.turn(),
        Turn::Pass {
            sequences: 2,
            tokens: 3 + 5
        }
    );
    let answer = now_or_never(job).unwrap();
    assert_eq!(answer.cache(), Cached::Partial);
    for (index, alone) in alone.iter().enumerate() {
        let worst = answer
            .embedding(index)
            .iter()
            .zip(alone)
            .map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f32::max) < 1e-5, "input {index}");
        assert_eq!(answer.token_count(index), [3, 4, 5, 3][index]);
    }
    drop(answer);
    rig.assert_all_back();
}

#[test]
fn whatever_changes_the_vector_changes_the_key() {
    let mut rig = rig();
    let long = "a b c d e f g h i j ".repeat(20);
    let with = |change: fn(&mut JobOptions)| {
        let mut changed = options();
        change(&mut changed);
        changed
    };
    let prompt = rig.engine.prompt("query");
    let one = rig.engine.session(b"one");
    assert_ne!(one, rig.engine.session(b"two"));
    let all = [
        options(),
        with(|options| options.normalize = false),
        with(|options| options.add_special_tokens = false),
        with(|options| options.overflow = Overflow::CutLeft),
        JobOptions { prompt, ..options() },
        JobOptions {
            session: one,
            ..options()
        },
    ];
    for options in all {
        assert_eq!(ask(&mut rig, &long, options).0, Cached::Miss, "{options:?}");
    }
    for options in all {
        assert_eq!(ask(&mut rig, &long, options).0, Cached::Hit, "{options:?}");
    }
    let same = with(|options| options.overflow = Overflow::CutRight);
    assert_eq!(
        ask(&mut rig, &long, same).0,
        Cached::Hit,
        "windows begin with that cut"
    );
    let error = with(|options| options.overflow = Overflow::Error);
    for _ in 0..2 {
        assert!(
            rig.answer(&long, error).is_err(),
            "a refusal is not answered from a cut"
        );
    }
    rig.assert_all_back();
}

#[test]
fn fewer_dimensions_come_from_the_same_entry() {
    for normalize in [true, false] {
        let mut rig = rig();
        let whole = JobOptions {
            normalize,
            ..options()
        };
        let short = JobOptions {
            dimensions: Some(8),
            ..whole
        };
        let first = rig.answer("a b\nc", short).unwrap();
        let second = rig.answer("a b\nc\nd", short).unwrap();
        assert_eq!((first.cache(), second.cache()), (Cached::Miss, Cached::Partial));
        for index in 0..2 {
            assert_eq!(first.embedding(index).len(), 8);
            assert_eq!(first.embedding(index), second.embedding(index));
        }
        assert_eq!(second.embedding(2).len(), 8);
        let found = rig.answer("a b", whole).unwrap();
        assert_eq!(found.cache(), Cached::Hit);
        let fresh = rig
            .answer(
                "a b",
                JobOptions {
                    cache: CacheUse::Off,
                    ..whole
                },
            )
            .unwrap();
        assert_eq!(found.embedding(0), fresh.embedding(0));
    }
}

#[test]
fn a_request_may_do_without_or_refresh() {
    let mut rig = rig();
    let off = JobOptions {
        cache: CacheUse::Off,
        ..options()
    };
    let refresh = JobOptions {
        cache: CacheUse::Refresh,
        ..options()
    };
    assert_eq!(ask(&mut rig, "a", off), (Cached::Off, 1));
    assert_eq!(ask(&mut rig, "a", refresh), (Cached::Miss, 1));
    assert_eq!(ask(&mut rig, "a", options()), (Cached::Hit, 0));
    assert_eq!(ask(&mut rig, "a", refresh), (Cached::Miss, 1));
    assert_eq!(ask(&mut rig, "a", off), (Cached::Off, 1));
    let entities = JobOptions::new(EMBED.with(Tasks::ENTITIES));
    assert_eq!(
        ask(&mut rig, "a", entities),
        (Cached::Off, 1),
        "a vector spares these nothing"
    );
    let words = JobOptions::new(EMBED.with(Tasks::WORDS).with(Tasks::TOKEN_COUNT));
    let answer = rig.answer("a", words).unwrap();
    assert_eq!((answer.cache(), answer.words(0)), (Cached::Hit, &[1][..]));
    assert_eq!(ask(&mut rig, "a\tb", options()), (Cached::Miss, 1));
    assert_eq!(
        ask(&mut rig, "a\tb", options()),
        (Cached::Miss, 1),
        "pairs are not kept"
    );
    assert_eq!(ask(&mut rig, "#5 6 7", options()), (Cached::Miss, 1));
    assert_eq!(ask(&mut rig, "#5 6 7", options()), (Cached::Hit, 0));
}

/// The door prices what a route may ask for; the body then asks for a part of it, and what is found is pinned on top of what is computed.
#[test]
fn pins_are_paid_for_whatever_else_was_priced() {
    let mut rig = rig();
    let texts = ["a", "b", "c", "d e", "f g h"];
    ask(&mut rig, texts[0], options());
    for count in 2..=texts.len() {
        let body = texts[..count].join("\n");
        for priced in [EMBED, EMBED.with(Tasks::CLASSES), common::all_tasks()] {
            let ticket = rig.ticket(priced, &body);
            let deadline = rig.engine.now().after(Nanos::from_ms(1000));
            let job = rig.engine.submit(ticket, options(), deadline);
            rig.work();
            assert_ne!(now_or_never(job).unwrap().cache(), Cached::Miss);
        }
    }
    rig.assert_all_back();
}

#[test]
fn what_is_not_used_for_the_time_to_live_is_gone() {
    let mut rig = rig_with(|config| {
        config.cache = CacheSettings {
            ttl: Nanos::from_ms(100),
            ..CacheSettings::new(Some(1 << 20))
        };
    });
    assert_eq!(ask(&mut rig, "a", options()).0, Cached::Miss);
    rig.clock.advance(Nanos::from_ms(99));
    assert_eq!(ask(&mut rig, "a", options()).0, Cached::Hit);
    rig.clock.advance(Nanos::from_ms(99));
    assert_eq!(ask(&mut rig, "a", options()).0, Cached::Hit);
    rig.clock.advance(Nanos::from_ms(100));
    assert_eq!(ask(&mut rig, "a", options()).0, Cached::Miss);
}

#[test]
fn the_bill_with_a_cache_sums_to_the_limit_and_asks_for_no_more_than_without() {
    let least = |cache: CacheSettings| {
        let mut needed = 64 * 1024;
        for _ in 0..2 {
            let clock = std::sync::Arc::new(ManualClock::default());
            let mut config = EngineConfig::new(needed, clock);
            config.cache = cache.clone();
            match Engine::new(config, common::model(), common::tokenizer()) {
                Ok(engine) => assert_eq!(engine.limits().body_bytes_max, 2_000_000 >> 6),
                Err(StartError::LimitTooSmall { needed_bytes, .. }) => needed = needed_bytes,
                Err(error) => panic!("{error}"),
            }
        }
        needed
    };
    assert_eq!(
        least(CacheSettings::new(None)),
        least(CacheSettings::new(Some(0)))
    );

    let rig = rig_with(|config| {
        config.memory_limit_bytes *= 2;
        config.cache = CacheSettings::new(None);
    });
    let plan = rig.engine.plan();
    let sum: usize = plan.lines.iter().map(BillLine::total_bytes).sum();
    assert_eq!(sum, plan.limit_bytes);
    assert!((1..plan.request_slots_bytes).contains(&plan.cache_bytes_max));
    let tables = plan.lines.iter().find(|line| line.owner == "cache tables");
    assert!(tables.is_some_and(|line| line.total_bytes() > 0));
    assert!(rig_with(|_| {}).engine.cache().is_none());
}

#[test]
fn a_request_takes_back_what_the_cache_has_borrowed() {
    let mut rig = rig_with(|config| {
        config.body_bytes_max = Some(64 * 1024);
        config.requests_max = 512;
        config.memory_limit_bytes *= 3;
        config.cache = CacheSettings::new(Some(4 << 20));
    });
    let texts = |from: usize| {
        (from..from + 32)
            .map(|n| format!("{n}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for from in (0..).step_by(32) {
        let before = rig.engine.cache().unwrap().stats();
        ask(&mut rig, &texts(from), options());
        if rig.engine.cache().unwrap().stats().evictions > before.evictions {
            break;
        }
    }
    let ledger_bytes = rig.engine.ledger().limit_bytes();
    let cached_bytes = rig.engine.cache().unwrap().bytes();
    assert!(
        cached_bytes > ledger_bytes / 10,
        "{cached_bytes} of {ledger_bytes}"
    );
    let mut inside = Vec::new();
    let ask_in = Ask {
        inputs_max: None,
        tasks: EMBED,
        body_bytes: Some(64 * 1024),
    };
    while let Poll::Ready(Ok(ticket)) = common::poll(&mut rig.engine.admit(ask_in)) {
        inside.push(ticket);
    }
    let each = inside[0].held_bytes();
    let free = ledger_bytes - rig.engine.ledger().in_use();
    assert_eq!(inside.len(), ledger_bytes / each, "as many as without a cache");
    assert!(free < each && rig.engine.cache().unwrap().bytes() < cached_bytes);
    drop(inside);
    rig.assert_all_back();
    assert_eq!(ask(&mut rig, "0", options()).0, Cached::Miss);
}
