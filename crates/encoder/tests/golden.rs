//! Small models of every family and head against PyTorch, on every instruction set this CPU has.

mod fixtures;

use fixtures::{Case, Packed, cases, check_close, cosine, forward, kernels, load, load_as, load_on};
use plimsoll_encoder::{Batch, Crew, Family, Format, Hidden, Model, Pooling, Problem};
use plimsoll_memory::Scratch;

const FAMILIES: [(&str, Family); 4] = [
    ("bert", Family::Bert),
    ("distilbert", Family::DistilBert),
    ("roberta", Family::Roberta),
    ("xlm-roberta", Family::XlmRoberta),
];

/// Runs all cases of a fixture as one batch on every instruction set and calls `check` for each.
fn check_each(name: &str, check: impl Fn(&Model, &Hidden<'_>, std::ops::Range<usize>, &Case)) {
    for kernel in kernels() {
        let model = load_on(kernel, name, Some(Format::F32));
        let cases = cases(name);
        let packed = Packed::new(&cases);
        forward(&model, &packed.batch(), |hidden| {
            let mut start = 0;
            for case in &cases {
                let tokens = start..start + case.ids.len();
                start = tokens.end;
                check_close(&model, name, hidden.token(tokens.start), &case.hidden[0]);
                check_close(&model, name, hidden.token(tokens.end - 1), &case.hidden[1]);
                check(&model, hidden, tokens, case);
            }
        });
    }
}

fn pooled(model: &Model, hidden: &Hidden<'_>, tokens: std::ops::Range<usize>, normalize: bool) -> Vec<f32> {
    let mut out = vec![f32::NAN; model.info().hidden];
    model.pool(hidden, tokens, normalize, &mut out);
    out
}

#[test]
fn hidden_states_and_means_of_every_family() {
    for (name, family) in FAMILIES {
        assert_eq!(load(name).info().family, family);
        check_each(name, |model, hidden, tokens, case| {
            check_close(
                model,
                name,
                &pooled(model, hidden, tokens.clone(), false),
                &case.mean,
            );
            let unit = pooled(model, hidden, tokens, true);
            let length: f32 = unit.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{name}: {length}");
        });
    }
}

#[test]
fn every_pooling() {
    let cases = cases("bert");
    let packed = Packed::new(&cases);
    for pooling in [Pooling::Mean, Pooling::Max, Pooling::Cls, Pooling::LastToken] {
        let model = load("bert").with_pooling(pooling);
        forward(&model, &packed.batch(), |hidden| {
            let mut start = 0;
            for case in &cases {
                let tokens = start..start + case.ids.len();
                start = tokens.end;
                let expected = match pooling {
                    Pooling::Mean => &case.mean,
                    Pooling::Max => &case.max,
                    Pooling::Cls => &case.hidden[0],
                    Pooling::LastToken => &case.hidden[1],
                };
                check_close(
                    &model,
                    pooling.name(),
                    &pooled(&model, hidden, tokens, false),
                    expected,
                );
            }
        });
    }
}

#[test]
fn sequence_heads_of_every_family() {
    for (family, _) in FAMILIES {
        let name = format!("{family}-sequence");
        check_each(&name, |model, hidden, tokens, case| {
            let head = model.info().sequence_head.as_ref().unwrap();
            let labels: Vec<&str> = (0..head.labels.len()).map(|i| head.labels.name(i)).collect();
            assert_eq!(
                (&labels[..], head.problem),
                (&["negative", "neutral", "positive"][..], Problem::SingleLabel)
            );
            let mut out = [f32::NAN; 3];
            model.classify(hidden, tokens, &mut out);
            check_close(model, &name, &out, &floats(&case.logits));
            model.scores(&mut out);
            check_close(model, &name, &out, &floats(&case.probabilities));
        });
    }
}

#[test]
fn one_label_is_a_relevance() {
    check_each("bert-reranker", |model, hidden, tokens, case| {
        assert_eq!(
            model.info().sequence_head.as_ref().unwrap().problem,
            Problem::Relevance
        );
        let mut out = [f32::NAN];
        model.classify(hidden, tokens, &mut out);
        let logits = floats(&case.logits);
        check_close(model, "bert-reranker", &out, &logits);
        model.scores(&mut out);
        check_close(model, "bert-reranker", &out, &[1.0 / (1.0 + (-logits[0]).exp())]);
    });
}

#[test]
fn token_heads_of_every_family() {
    for (family, _) in FAMILIES {
        let name = format!("{family}-token");
        check_each(&name, |model, hidden, tokens, case| {
            assert_eq!(model.info().token_head.as_ref().unwrap().entity(3), "LOC");
            let expected: Vec<Vec<f32>> = serde_json::from_value(case.probabilities.clone()).unwrap();
            check_labels(&name, model, hidden, tokens, &expected);
        });
    }
}

fn check_labels(
    name: &str,
    model: &Model,
    hidden: &Hidden<'_>,
    tokens: std::ops::Range<usize>,
    expected: &[Vec<f32>],
) {
    let count = tokens.len();
    let width = expected[0].len();
    let mut probabilities = vec![f32::NAN; count * width];
    model.label_probabilities(hidden, tokens.clone(), &mut probabilities);
    check_close(model, name, &probabilities, &expected.concat());
    let (mut labels, mut scores) = (vec![u16::MAX; count], vec![f32::NAN; count]);
    model.label_tokens(hidden, tokens, &mut labels, &mut scores);
    for (token, row) in probabilities.chunks(width).enumerate() {
        let best = (0..width).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!(usize::from(labels[token]), best, "{name}");
        check_close(model, name, &[scores[token]], &[row[best]]);
    }
}

#[test]
fn half_precision_weights_are_converted() {
    for (name, dtype) in [("bert-f16", "float16"), ("bert-bf16", "bfloat16")] {
        check_each(name, |model, hidden, tokens, case| {
            check_close(model, name, &pooled(model, hidden, tokens, false), &case.mean);
        });
        let info = load(name).info().clone();
        let bytes = info.weight_bytes;
        assert_eq!(info.dtype, dtype);
        // Products are packed; tables of bf16 are read where they are.
        let tables = if name == "bert-bf16" { 0 } else { bytes.embeddings };
        assert!(bytes.converted >= tables + bytes.layers, "{bytes:?}");
    }
    let bytes = load("bert").info().weight_bytes;
    assert!(
        bytes.mapped >= bytes.embeddings,
        "aligned f32 tables are mapped, not copied: {bytes:?}"
    );
}

#[test]
fn products_in_bf16_and_8_bits_stay_close() {
    for (name, _) in FAMILIES {
        for (format, least) in [(Format::Bf16, 0.9995), (Format::Int8, 0.995)] {
            let cases = cases(name);
            let packed = Packed::new(&cases);
            for kernel in kernels() {
                let model = load_on(kernel, name, Some(format));
                assert_eq!(model.info().format, format.name());
                forward(&model, &packed.batch(), |hidden| {
                    let mut start = 0;
                    for case in &cases {
                        let tokens = start..start + case.ids.len();
                        start = tokens.end;
                        let cosine = cosine(&pooled(&model, hidden, tokens, false), &case.mean);
                        assert!(
                            cosine > least,
                            "{name} {format:?} {}: {cosine}",
                            kernel.isa().name()
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn a_format_follows_from_the_file_when_nobody_says() {
    for (name, format) in [
        ("bert", "f32"),
        ("bert-f16", "f32"),
        ("bert-bf16", "bf16"),
        ("bert-q4-heads", "int8"),
    ] {
        assert_eq!(load_as(name, None).info().format, format, "{name}");
    }
}

#[test]
fn a_crew_computes_what_a_leader_alone_does() {
    for format in [Format::F32, Format::Bf16, Format::Int8] {
        let model = load_as("bert", Some(format));
        let cases = cases("bert");
        let packed = Packed::new(&cases);
        let batch = packed.batch();
        let alone = forward(&model, &batch, |hidden| hidden.rows(0..batch.ids.len()).to_vec());
        let crew = Crew::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| crew.serve());
            let mut scratch =
                Scratch::new(model.forward_scratch_with(batch.shape(), crew.lanes()).bytes()).unwrap();
            for _ in 0..20 {
                let frame = scratch.frame();
                let hidden = model.forward_with(&batch, &frame, &crew).unwrap();
                assert_eq!(hidden.rows(0..batch.ids.len()), alone);
            }
            crew.dismiss();
        });
    }
}

#[test]
fn gelu_by_tanh() {
    check_each("bert-gelu-new", |model, hidden, tokens, case| {
        check_close(
            model,
            "bert-gelu-new",
            &pooled(model, hidden, tokens, false),
            &case.mean,
        );
    });
}

#[test]
fn four_bit_weights_with_both_heads_in_one_file() {
    let name = "bert-q4-heads";
    let info = load(name).info().clone();
    assert_eq!(
        (info.dtype, info.pooling, info.normalize),
        ("q4_0", Pooling::Max, true)
    );
    assert_eq!(
        (info.tokens_max, info.positions_max),
        (17, 30),
        "sentence_bert_config.json limits tokens"
    );
    // The head's dense layer, 4-bit in the file, is expanded, and the layers are packed.
    let bytes = info.weight_bytes;
    assert!(bytes.converted > info.hidden * info.hidden * 4, "{bytes:?}");
    assert!(bytes.mapped >= bytes.embeddings, "{bytes:?}");
    check_each(name, |model, hidden, tokens, case| {
        check_close(
            model,
            name,
            &pooled(model, hidden, tokens.clone(), false),
            &case.max,
        );
        let mut logits = [f32::NAN; 2];
        model.classify(hidden, tokens.clone(), &mut logits);
        check_close(model, name, &logits, &case.sequence_logits);
        check_labels(name, model, hidden, tokens, &case.token_probabilities);
    });
}

#[test]
fn a_sequence_does_not_depend_on_its_batch() {
    for (name, _) in FAMILIES {
        let model = load(name);
        let cases = cases(name);
        let packed = Packed::new(&cases);
        forward(&model, &packed.batch(), |together| {
            let mut start = 0;
            for case in &cases {
                let lens = [case.ids.len() as u32];
                let batch = Batch {
                    ids: &case.ids,
                    types: &case.types,
                    lens: &lens,
                };
                let tokens = start..start + case.ids.len();
                start = tokens.end;
                forward(&model, &batch, |alone| {
                    assert_eq!(alone.rows(0..case.ids.len()), together.rows(tokens), "{name}");
                });
            }
        });
    }
}

#[test]
fn no_types_are_types_of_zero() {
    let model = load("bert");
    let ids = [5, 6, 7, 8];
    let batch = |types| Batch {
        ids: &ids,
        types,
        lens: &[4],
    };
    forward(&model, &batch(&[]), |without| {
        forward(&model, &batch(&[0; 4]), |with| {
            assert_eq!(without.rows(0..4), with.rows(0..4))
        });
        forward(&model, &batch(&[0, 0, 1, 1]), |pair| {
            assert_ne!(without.rows(0..4), pair.rows(0..4))
        });
    });
}

fn floats(json: &serde_json::Value) -> Vec<f32> {
    serde_json::from_value(json.clone()).unwrap()
}
