//! The size of a pass is exact, batches of any shape fit the size of a larger one, and bad batches change nothing.

mod fixtures;

use fixtures::{load, scratch_for};
use plimsoll_encoder::{Batch, BatchShape, ForwardError, Model};
use plimsoll_memory::Scratch;

fn with_bytes(model: &Model, batch: &Batch<'_>, bytes: usize) -> Result<usize, ForwardError> {
    let mut scratch = Scratch::new(bytes).unwrap();
    let frame = scratch.frame();
    model.forward(batch, &frame)?;
    drop(frame);
    Ok(scratch.high_water_bytes())
}

fn ids_of(lens: &[u32]) -> Vec<u32> {
    let tokens = lens.iter().sum();
    (0..tokens).map(|i| 3 + i % 50).collect()
}

#[test]
fn exactly_enough_passes_and_one_byte_less_does_not() {
    for name in ["bert", "roberta", "distilbert", "xlm-roberta", "bert-q4-heads"] {
        let model = load(name);
        // Less than a tile, several chunks, and more than a feed-forward tile.
        for lens in [&[1][..], &[7, 28, 1], &[28; 30], &[3; 101]] {
            let ids = ids_of(lens);
            let batch = Batch {
                ids: &ids,
                types: &[],
                lens,
            };
            let bytes = model.forward_scratch(batch.shape()).bytes();
            assert_eq!(with_bytes(&model, &batch, bytes), Ok(bytes), "{name} {lens:?}");
            match with_bytes(&model, &batch, bytes - 1) {
                Err(ForwardError::Scratch(error)) => {
                    assert_eq!((error.needed_bytes, error.available_bytes), (bytes, bytes - 1));
                }
                other => panic!("{name} {lens:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_largest_shape_bounds_all_others() {
    let model = load("bert-q4-heads");
    let need = |tokens, sequences, tokens_longest| {
        model
            .forward_scratch(BatchShape {
                tokens,
                sequences,
                tokens_longest,
            })
            .bytes()
    };
    for tokens in [1, 100, 255, 256, 257, 1000] {
        for longest in [1, 28, 100, 300].into_iter().filter(|&longest| longest <= tokens) {
            assert!(need(tokens, 1, longest) <= need(1000, 1000, 300));
            assert!(need(tokens, 1, longest) <= need(tokens + 1, 1, longest));
            assert!(need(tokens, 1, longest) <= need(tokens, 1, longest + 1));
        }
    }
    // O(tokens x hidden): beyond a chunk only the result grows.
    let (hidden, more) = (model.info().hidden, 4096);
    assert_eq!(need(1000 + more, 1, 28) - need(1000, 1, 28), more * hidden * 4);
    assert_eq!(need(usize::MAX, 1, 28), usize::MAX, "no overflow");
}

#[test]
fn nothing_of_a_pass_stays_but_the_result() {
    let model = load("bert");
    let (ids, lens) = (ids_of(&[28; 4]), [28; 4]);
    let batch = Batch {
        ids: &ids,
        types: &[],
        lens: &lens,
    };
    let mut scratch = scratch_for(&model, batch.shape());
    let frame = scratch.frame();
    let before = frame.available_bytes();
    let hidden = model.forward(&batch, &frame).unwrap();
    assert_eq!(
        before - frame.available_bytes(),
        hidden.tokens() * hidden.width() * 4
    );
}

#[test]
fn batches_that_do_not_fit_are_errors() {
    let model = load("bert");
    let run = |ids: &[u32], types: &[u8], lens: &[u32]| {
        let batch = Batch { ids, types, lens };
        let mut scratch = Scratch::new(1 << 20).unwrap();
        let frame = scratch.frame();
        model.forward(&batch, &frame).map(|hidden| hidden.tokens())
    };
    let shape = |ids, types, lens| Err(ForwardError::BatchShape { ids, types, lens });
    assert_eq!(run(&[3, 4], &[], &[1, 1]), Ok(2));
    assert_eq!(run(&[], &[], &[]), Ok(0));
    assert_eq!(run(&[3, 4], &[], &[1]), shape(2, 0, 1));
    assert_eq!(run(&[3, 4], &[0], &[2]), shape(2, 1, 2));
    assert_eq!(run(&[3], &[], &[u32::MAX, 2]), shape(1, 0, 4_294_967_297));
    assert_eq!(
        run(&[3], &[], &[0, 1]),
        Err(ForwardError::EmptySequence { sequence: 0 })
    );
    let long = ForwardError::TooLong {
        sequence: 1,
        tokens: 31,
        positions_max: 30,
    };
    assert_eq!(run(&[3; 32], &[], &[1, 31]), Err(long));
    assert_eq!(
        run(&[3, 60], &[], &[2]),
        Err(ForwardError::UnknownId {
            index: 1,
            id: 60,
            vocab_size: 60
        })
    );
    let types = ForwardError::UnknownType {
        index: 1,
        token_type: 2,
        type_vocab_size: 2,
    };
    assert_eq!(run(&[3, 4], &[1, 2], &[2]), Err(types));
    // RoBERTa's positions start behind the padding id: 30 - 2.
    let roberta = load("roberta");
    assert_eq!(roberta.info().positions_max, 28);
}
