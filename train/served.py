#!/usr/bin/env python3
"""What the server itself says to the test parts, beside the labels: the figures that users get.

    python3 train/served.py --out DIR --plimsoll target/release/plimsoll [--model-id DIR/model-8-bit] [--part validation]

Texts go through `plimsoll analyze`. Prints accuracy, entity scores by kind, and confusions.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from joint import corpora, metrics  # noqa: E402
from joint.model import SENTIMENTS  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where run.py has its data")
    parser.add_argument("--plimsoll", required=True)
    parser.add_argument("--model-id")
    parser.add_argument("--part", choices=["validation", "test"], default="test")
    options = parser.parse_args()
    reviews(options)
    news(options)


def reviews(options):
    rows = corpora.load(options.out, f"reviews-{options.part}")
    found = [answer["sentiment"]["label"] for answer in answers(options, rows, "sentiment")]
    confusion = {name: [sum(row["sentiment"] == i and label == other for row, label in zip(rows, found)) for other in SENTIMENTS] for i, name in enumerate(SENTIMENTS)}
    right = sum(label == SENTIMENTS[row["sentiment"]] for row, label in zip(rows, found))
    print(f"sentiment: {right / len(rows):.4f} of {len(rows)}; answered {SENTIMENTS}: {confusion}")


def news(options):
    rows = corpora.load(options.out, f"entities-{options.part}")
    gold = [[tuple(span) for span in row["entities"]] for row in rows]
    found = [[(span["start"], span["end"], span["label"]) for span in answer["entities"]] for answer in answers(options, rows, "entities")]
    for kind, (precision, recall, f1) in metrics.span_scores(gold, found).items():
        print(f"entities {kind}: precision {precision:.4f}, recall {recall:.4f}, F1 {f1:.4f}")
    for (truth, answer), count in sorted(metrics.span_confusion(gold, found).items()):
        print(f"  {truth} -> {answer}: {count}")


def answers(options, rows, task):
    """The server's answers to the texts, in order."""
    model = ["--model-id", options.model_id] if options.model_id else []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "texts"), Path(folder, "answers")
        source.write_text("".join(f"{row['text']}\n" for row in rows), encoding="utf-8")
        subprocess.run([options.plimsoll, "analyze", source, "--tasks", task, "--output", target, *model], check=True, stderr=subprocess.DEVNULL)
        found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    if len(found) != len(rows):
        raise ValueError(f"{len(found)} answers to {len(rows)} texts")
    return found


if __name__ == "__main__":
    main()
