from joint import card


def report():
    entities = {"texts": 2, "spans": 3, "scores": {"PER": (1, 0.5, 0.6667), "all": (1, 0.5, 0.9123)}, "confusion": {"PER -> missed": 1}}
    entities["by length"] = {"to 15": (2, 0.9)}
    part = {
        "sentiment": {
            "accuracy": 0.8765, "confusion": [[7, 1], [0, 8]], "by length": {"to 15": (9, 0.8), "from 128": (7, 0.7)},
            "calibration": [{"calibration error": 0.11}, {"calibration error": 0.022}],
        },
        "sentiment without a prompt": {"accuracy": 0.87},
        "sentiment elsewhere": {"en tweets": (5, 0.6)},
        "entities": entities,
        "entities without a prompt": entities,
        "entities elsewhere": entities,
        "closeness": {"cosine": {"all": 0.9812}, "spearman": {"zh": 0.96, "all": 0.9731}},
    }
    return {"test": part, "8 bits": part, "run": {"step": 5, "passes": 1.25, "seconds": 3600}, "layers": 6, "slots": 4}


def test_the_card_has_the_measured_figures_beside_the_bars():
    text = card.card(report())
    assert "| sentiment, accuracy | 0.8765 | 0.88 |" in text
    assert "| entities, exact-span micro-F1 | 0.9123 | 0.90 |" in text
    assert "| embedding, Spearman of pairs, all | 0.9731 | 0.97 |" in text
    assert "| PER -> missed | 1 |" in text
    assert "| to 15 | 9 | 0.8000 | 2 | 0.9000 |" in text and "| from 128 | 7 | 0.7000 | 0 |  |" in text
    assert "| en tweets | 5 | 0.6000 |" in text
    assert "5 steps,\n1.2 passes, 1.0 hours" in text
