from joint import batches, tokens
from joint.labels import SLOTS


def test_every_character_but_spaces_has_one_place():
    loaded = tokens.tokenizer(64)
    for text in ["我们在北京大学", "Bill Clinton在华盛顿。", "㎏和ﬁ 5", "１９９８年"]:
        for prompt in ["", "query: "]:
            (found,) = tokens.encode(loaded, [text], [prompt])
            assert found.chars == [i for i, char in enumerate(text) if not char.isspace()]
            assert max(found.places) < SLOTS * (len(found.ids) - 1)
            assert sorted(found.places) == found.places


def test_a_cut_text_loses_its_last_characters():
    (found,) = tokens.encode(tokens.tokenizer(8), ["天地玄黄宇宙洪荒日月盈昃"], [""])
    assert len(found.ids) == 8
    assert found.chars == list(range(len(found.chars))) and len(found.chars) < 12


def test_batches_hold_one_length_and_every_text_once():
    lengths = [5, 7, 5, 5, 90, 7]
    found = batches.by_length(lengths, 12, seed=1)
    assert sorted(i for batch in found for i in batch) == list(range(6))
    assert all(len({lengths[i] for i in batch}) == 1 for batch in found)
    assert all(len(batch) == 1 or sum(lengths[i] for i in batch) <= 12 for batch in found)
    assert found == batches.by_length(lengths, 12, seed=1)
