import pytest
from joint import corpora


class Archive:
    def __init__(self, **files):
        self.files = files

    def text(self, ending):
        (found,) = [text for name, text in self.files.items() if ending.rsplit("/", 1)[1].startswith(name)]
        return found


def test_reviews_are_split_after_deduplication():
    positive = [f"good {i % 50}" for i in range(100)] + ["both"]
    negative = [f"bad {i}" for i in range(50)] + ["both", " bad 1 "]
    parts = corpora.reviews(Archive(pos="\n".join(positive), neg="\n".join(negative)))
    texts = [row["text"] for rows in parts.values() for row in rows]
    assert len(texts) == len(set(texts)) == 100
    assert [len(parts[f"reviews-{part}"]) for part in ("train", "validation", "test")] == [80, 10, 10]


def test_a_test_sentence_that_stands_in_training_is_dropped():
    train = "".join(f"甲 O\n{chr(0x4E00 + i)} O\n\n" for i in range(3000))
    parts = corpora.entities(Archive(msra_train=train + "甲 O\n一 O\n", msra_test="甲 O\n一 O\n\n新 S-LOC\n"))
    assert [row["text"] for row in parts["entities-test"]] == ["新"]
    assert len(parts["entities-validation"]) == corpora.VALIDATION_SENTENCES
    assert len(parts["entities-train"]) == 3000 - corpora.VALIDATION_SENTENCES


def test_bmes_is_read_and_a_sentence_may_begin_inside_an_entity():
    assert corpora.bmes_spans(["B-PER", "M-PER", "E-PER", "S-LOC", "O"]) == [(0, 3, "PER"), (3, 4, "LOC")]
    assert corpora.bmes_spans(["E-ORG", "O"]) == [(0, 1, "ORG")]


@pytest.mark.parametrize("labels", [["O", "M-PER"], ["B-PER", "O"], ["B-LOC"]])
def test_an_illegal_order_is_an_error(labels):
    with pytest.raises(ValueError):
        corpora.bmes_spans(labels)


def test_only_clear_ratings_of_held_out_lines_count():
    table = b"1\t2.5\tgood line\t[3]\n2\t-1.2\t bad line\n3\t0.4\tso so\n4\t3\tseen in training\nno columns\n"
    rows = corpora.rated(table, {"good line", "bad line", "so so"})
    assert rows == [{"text": "good line", "sentiment": 1}, {"text": "bad line", "sentiment": 0}]


def test_tagged_words_become_persons_and_places():
    row = corpora.read_tagged("江/nr  泽民/nr  在/p  北京/ns  上海/ns  １/m")
    assert row == {"text": "江泽民在北京上海１", "entities": [(0, 3, "PER"), (4, 6, "LOC"), (6, 8, "LOC")]}
