//! Passes, heads and spans do not touch the heap.

mod fixtures;

use fixtures::{Packed, cases, load, scratch_for};
use plimsoll_encoder::spans::{Aggregation, EntitySpan, TokenLabels, entities};
use plimsoll_memory::CountingAllocator;
use plimsoll_memory::alloc;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn forward_heads_and_spans_allocate_nothing() {
    for name in [
        "bert-q4-heads",
        "bert-sequence",
        "roberta-token",
        "distilbert",
        "xlm-roberta-sequence",
    ] {
        let model = load(name);
        let cases = cases(name);
        let packed = Packed::new(&cases);
        let info = model.info();
        let tokens = packed.ids.len();
        let mut scratch = scratch_for(&model, packed.batch().shape());
        let mut vector = vec![0.0; info.hidden];
        let mut logits = vec![0.0; info.sequence_head.as_ref().map_or(0, |head| head.labels.len())];
        let (mut labels, mut scores) = (vec![0; tokens], vec![0.0; tokens]);
        let mut probabilities = vec![0.0; info.token_head.as_ref().map_or(0, |l| l.len()) * tokens];
        let starts: Vec<u32> = (0..tokens as u32).collect();
        let ends: Vec<u32> = (1..=tokens as u32).collect();
        let subwords = vec![false; tokens];
        let mut spans = vec![EntitySpan::default(); tokens];

        let before = alloc::thread_counts();
        let frame = scratch.frame();
        let hidden = model.forward(&packed.batch(), &frame).unwrap();
        model.pool(&hidden, 0..tokens, true, &mut vector);
        if !logits.is_empty() {
            model.classify(&hidden, 0..tokens, &mut logits);
            model.scores(&mut logits);
        }
        if let Some(names) = &info.token_head {
            model.label_tokens(&hidden, 0..tokens, &mut labels, &mut scores);
            model.label_probabilities(&hidden, 0..tokens, &mut probabilities);
            let tokens = TokenLabels {
                labels: &labels,
                scores: &scores,
                starts: &starts,
                ends: &ends,
                subwords: &subwords,
                probabilities: &probabilities,
            };
            for aggregation in [
                Aggregation::None,
                Aggregation::Simple,
                Aggregation::Average,
                Aggregation::Max,
            ] {
                entities(names, &tokens, aggregation, &mut spans).unwrap();
            }
        }
        drop(frame);
        assert_eq!(alloc::thread_counts(), before, "{name}");
    }
    let before = alloc::thread_counts();
    drop(std::hint::black_box(Box::new(1)));
    assert_ne!(alloc::thread_counts(), before, "the counter counts");
}
