import random

from joint import items, renamed

ROWS = [
    {"text": "李明和李明的弟弟在北京大学。", "entities": [(0, 2, "PER"), (3, 5, "PER"), (9, 13, "ORG")]},
    {"text": "中美两国", "entities": [(0, 1, "LOC"), (1, 2, "LOC")]},
    {"text": "欧阳修、陈毅和比尔·盖茨", "entities": [(0, 3, "PER"), (4, 6, "PER"), (7, 12, "PER")]},
    *({"text": f"{place}大学", "entities": [(0, 4, "ORG")]} for place in ["南京", "东海", "西安", "吉林", "山东", "中山", "南开"]),
    {"text": "联合国", "entities": [(0, 3, "ORG")]},
    {"text": "质量很好", "sentiment": 1},
]
FOUND = items.encoded(ROWS, 32, lambda text: "")


def test_names_become_others_of_their_kind():
    names, seen = renamed.Names(FOUND), set()
    for seed in range(50):
        row = names.renamed(FOUND[0], random.Random(seed))
        (first, second, school) = [row["text"][start:end] for start, end, _ in row["entities"]]
        assert row["text"] == f"{first}和{second}的弟弟在{school}。" and first == second
        assert [kind for _, _, kind in row["entities"]] == ["PER", "PER", "ORG"]
        # Eight universities are enough to stay among them.
        assert school.endswith("大学") and "·" not in first and 2 <= len(first) <= 3
        seen.add(first)
    assert {"李明", "陈毅", "欧阳修"} < seen and "李毅" in seen


def test_some_persons_lose_the_separator_between_them():
    names = renamed.Names(FOUND)
    rows = [names.renamed(FOUND[2], random.Random(seed)) for seed in range(100)]
    joined = [row for row in rows if "、" not in row["text"]]
    assert 5 < len(joined) < 40
    assert all(row["entities"][0][1] == row["entities"][1][0] and "和" in row["text"] for row in joined)


def test_lists_are_of_persons_one_after_the_other():
    for seed in range(20):
        row = renamed.Names(FOUND).listed(random.Random(seed))
        spans = row["entities"]
        assert 4 <= len(spans) <= 24 and {kind for _, _, kind in spans} == {"PER"}
        assert [start for start, _, _ in spans] == [0, *(end for _, end, _ in spans[:-1])] and spans[-1][1] == len(row["text"])


def test_names_of_one_character_stay():
    names = renamed.Names(FOUND)
    assert names.renamed(FOUND[1], random.Random(0)) == ROWS[1]


def test_a_share_of_the_sentences_with_names_is_renamed():
    many = FOUND * 20
    many[0].taught = True
    changed = renamed.some(many, renamed.Names(many), 0.5, seed=1)
    different = [i for i, (old, new) in enumerate(zip(many, changed)) if old is not new]
    assert changed[0] is many[0] and all(i % len(FOUND) not in (1, len(FOUND) - 1) for i in different)
    assert 0.3 < len(different) / len(many) < 0.6
    assert all(changed[i].labels and changed[i].pieces.ids for i in different)
    many[0].taught = False
