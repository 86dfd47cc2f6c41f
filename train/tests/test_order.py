import numpy as np
from joint import items, trainer
from joint.order import Order

ROWS = [
    {"text": "李明在北京", "entities": [(0, 2, "PER"), (3, 5, "LOC")]},
    {"text": "他在那里读书", "entities": []},
    {"text": "质量很好", "sentiment": 1},
]


PLAN = trainer.Plan(easy_share=1.0, batch_tokens=64, taught_times=2)


def chosen(order, found, seed):
    return sorted(int(i) for batch in order.batches(found, seed) for i in batch)


def test_easy_sentences_come_now_and_then():
    found = items.encoded(ROWS, 16, lambda text: "")
    order = Order(found, trainer.Plan(easy_share=0.5, easy_below=0.01))
    passes = [chosen(order, found, seed) for seed in range(40)]
    assert all({0, 2} <= set(items) for items in passes)
    assert 10 < sum(1 in items for items in passes) < 30
    order.seen([0, 1], [0.001, 0.5])
    passes = [chosen(order, found, seed) for seed in range(40)]
    assert all({1, 2} <= set(items) for items in passes)
    assert 10 < sum(0 in items for items in passes) < 30


def test_what_is_taught_stands_together():
    found = items.encoded(ROWS * 20, 16, lambda text: "")
    for item in found[:30]:
        item.taught = True
    batches = Order(found, PLAN).batches(found, 3)
    assert sorted(i for batch in batches for i in batch) == sorted([*range(30), *range(60)])
    assert all(len({found[i].taught for i in batch}) == 1 for batch in batches)
    assert all(len({len(found[i].pieces.ids) for i in batch}) == 1 for batch in batches)
    assert [batch.tolist() for batch in Order(found, PLAN).batches(found, 3)] == [b.tolist() for b in batches]
    assert np.concatenate(batches).tolist() != sorted(np.concatenate(batches).tolist())
