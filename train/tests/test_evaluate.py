from joint import evaluate


def test_rows_are_scored_by_their_length():
    rows = [{"text": "x" * length} for length in (1, 15, 16, 500)]
    assert evaluate.lengths(rows, lambda chosen: list(chosen)) == {"to 15": (2, [0, 1]), "16 to 31": (1, [2]), "from 128": (1, [3])}
