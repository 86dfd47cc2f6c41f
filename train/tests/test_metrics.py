import numpy as np
import pytest
from joint import metrics


def test_spans_count_only_when_exact():
    gold = [[(0, 2, "PER"), (3, 5, "LOC")], [(0, 1, "ORG")]]
    found = [[(0, 2, "PER"), (3, 4, "LOC")], []]
    scores = metrics.span_scores(gold, found)
    assert scores["all"] == (1 / 2, 1 / 3, 2 / 5)
    assert scores["PER"] == (1, 1, 1)
    assert metrics.span_confusion(gold, found) == {("PER", "PER"): 1, ("LOC", "borders"): 1, ("ORG", "missed"): 1}


def test_inventions_are_counted():
    assert metrics.span_confusion([[]], [[(0, 1, "LOC")]]) == {("none", "LOC"): 1}


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    probabilities = np.array([[0.9, 0.1]] * 10)
    labels = np.array([0] * 6 + [1] * 4)
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_temperature_undoes_a_scale():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 4000)
    evidence = rng.normal(size=4000) + np.where(truth == 1, 0.8, -0.8)
    logits = np.stack([-0.8 * evidence, 0.8 * evidence], 1)
    assert metrics.temperature(3 * logits, truth) == pytest.approx(3, rel=0.1)


def test_spearman_shares_ranks():
    assert metrics.spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])) == pytest.approx(1)
    assert metrics.ranks(np.array([5.0, 1.0, 5.0])).tolist() == [2.5, 1, 2.5]


def test_pairs_within_and_across():
    left, right = np.eye(3)[:2], np.eye(3)[1:]
    assert metrics.pair_similarities(left).tolist() == [0]
    assert metrics.pair_similarities(left, right).tolist() == [0, 0, 1, 0]
