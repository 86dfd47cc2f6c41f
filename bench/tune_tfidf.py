#!/usr/bin/env python3
"""What TF-IDF with logistic regression makes of the same labelled texts as `plimsoll tune`.

    pip install scikit-learn
    python3 bench/tune_tfidf.py train.csv test.csv [--answers answers.jsonl]

Both files have the columns text and label. Characters in runs of one to three; the strength of the weights is chosen by cross-validation, as
`tune` does. With `--answers`, the output of `plimsoll analyze --head` over the texts of test.csv, a line each, its accuracy is printed beside.
"""

import argparse
import csv
import json
import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--answers")
    options = parser.parse_args()
    texts, labels = read(options.train)
    tested, truth = read(options.test)
    begun = time.perf_counter()
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    model = make_pipeline(vectors, LogisticRegressionCV(Cs=10, cv=5, max_iter=1000))
    model.fit(texts, labels)
    seconds = time.perf_counter() - begun
    print(f"TF-IDF + logistic regression: {model.score(tested, truth):.4f} of {len(truth)} texts, {seconds:.1f} s on {len(texts)}")
    if options.answers:
        with open(options.answers, encoding="utf-8") as file:
            found = [json.loads(line)["sentiment"]["label"] for line in file]
        right = sum(a == b for a, b in zip(found, truth, strict=True))
        print(f"plimsoll tune: {right / len(truth):.4f} of {len(truth)} texts")


if __name__ == "__main__":
    main()
