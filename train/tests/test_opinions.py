import numpy as np
from joint import opinions


def test_nobody_judges_a_review_that_it_learnt():
    good, bad = ["质量很好，喜欢", "非常满意，很好", "真的喜欢"], ["质量很差，失望", "太失望了，很差", "真的太差"]
    texts = [f"{text}{i}" for i in range(20) for text in [*good, *bad]]
    labels = np.array([1, 1, 1, 0, 0, 0] * 20)
    wrong = 7
    labels[wrong] = 0
    logits = opinions.out_of_fold(texts, labels)
    assert ((logits > 0) == labels).sum() == len(texts) - 1
    assert logits[wrong] > 0


def test_a_text_of_unknown_characters_has_no_opinion():
    bags, size = opinions.grams(["好好", "好", "龘"])
    assert size == 1 and [ids.tolist() for ids, _ in bags] == [[0], [0], []]
    model = opinions.fit(bags, size, np.array([1, 1, 0]), np.array([0, 1]))
    assert opinions.answer(model, bags, [2])[0] == 0 < opinions.answer(model, bags, [0])[0]
