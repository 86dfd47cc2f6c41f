"""Measures a student: sentiment, entities, closeness to the teacher. Validation by default, test parts only when asked for."""

import hashlib
import json
from functools import partial

import numpy as np
import torch

from . import SEED, corpora, items, metrics, say, teacher, together, tokens, write_atomically
from .batches import by_length
from .labels import LABELS, to_spans, viterbi
from .model import SENTIMENTS, embedding, load_teacher

BATCH_TOKENS = 4096
SIMILARITY_TEXTS = 1000
# Characters at which the next group of lengths begins.
LENGTHS = [16, 32, 64, 128]


class Outputs:
    """A student's answers to a list of items."""

    def __init__(self, student, found):
        count = len(found)
        self.vectors = np.zeros((count, student.sentiment.in_features), np.float32)
        self.sentiment = np.zeros((count, len(SENTIMENTS)), np.float32)
        self.spans = [[] for _ in range(count)]
        with torch.inference_mode():
            for batch in by_length([len(item.pieces.ids) for item in found], BATCH_TOKENS, SEED):
                hidden = student(torch.tensor([found[i].pieces.ids for i in batch]))
                self.vectors[batch] = embedding(hidden).numpy()
                self.sentiment[batch] = student.sentiment_logits(hidden).numpy()
                self._decode(student.entity_logits(hidden), [found[i].pieces for i in batch], batch)

    def _decode(self, logits, texts, batch):
        scores = torch.log_softmax(logits, -1).view(len(batch), -1, len(LABELS)).numpy()
        for row, pieces, index in zip(scores, texts, batch):
            found = to_spans(viterbi(row[pieces.places]))
            self.spans[index] = [(pieces.chars[start], pieces.chars[end - 1] + 1, kind) for start, end, kind in found]


def answers(student, out, part, prompt=tokens.DEFAULT_PROMPT, limit=None):
    """(rows of the part, the student's outputs)"""
    rows = corpora.load(out, part)[:limit]
    return rows, Outputs(student, items.encoded(rows, tokens.TOKENS_MAX, lambda _: prompt))


def lengths(rows, score):
    """Length in characters -> (texts, `score` of the rows of that length)."""
    places = np.digitize([len(row["text"]) for row in rows], LENGTHS)
    names = [f"to {LENGTHS[0] - 1}", *(f"{a} to {b - 1}" for a, b in zip(LENGTHS, LENGTHS[1:])), f"from {LENGTHS[-1]}"]
    groups = [(name, np.flatnonzero(places == place)) for place, name in enumerate(names)]
    return {name: (len(chosen), score(chosen)) for name, chosen in groups if len(chosen)}


def sentiment_elsewhere(student, out, limit=None):
    """Source -> (texts, accuracy) on English text, which has no labels in training."""
    report = {}
    for source, rows in corpora.english(out).items():
        rows = rows[:limit]
        outputs = Outputs(student, items.encoded(rows, tokens.TOKENS_MAX, lambda _: tokens.DEFAULT_PROMPT))
        truth = np.array([row["sentiment"] for row in rows])
        report[source] = (len(rows), float((outputs.sentiment.argmax(1) == truth).mean()))
    return report


def sentiment(student, out, part, **how):
    """Accuracy, log loss, calibration error before and after the temperature, and confusion [true][answer]."""
    rows, outputs = answers(student, out, part, **how)
    truth = np.array([row["sentiment"] for row in rows])
    found = outputs.sentiment.argmax(1)
    confusion = [[int(((truth == a) & (found == b)).sum()) for b in range(len(SENTIMENTS))] for a in range(len(SENTIMENTS))]
    report = {"texts": len(rows), "accuracy": float((found == truth).mean()), "confusion": confusion}
    report["by length"] = lengths(rows, lambda chosen: float((found == truth)[chosen].mean()))
    return report, outputs.sentiment, truth


def calibrated(logits, truth, temperature):
    """Calibration error and log loss at a temperature."""
    probabilities = metrics.softmax(logits / temperature)
    loss = -np.log(probabilities[np.arange(len(truth)), truth]).mean()
    return {"temperature": temperature, "calibration error": metrics.calibration_error(probabilities, truth), "log loss": float(loss)}


def entities(student, out, part, kinds=None, **how):
    """Exact spans by kind and together, and confusion; with `kinds` only those count on both sides."""
    rows, outputs = answers(student, out, part, **how)

    def only(spans):
        return [tuple(span) for span in spans if kinds is None or span[2] in kinds]

    gold, found = [only(row["entities"]) for row in rows], [only(spans) for spans in outputs.spans]
    confusion = {f"{truth} -> {answer}": n for (truth, answer), n in sorted(metrics.span_confusion(gold, found).items())}
    f1 = lengths(rows, lambda chosen: metrics.span_scores([gold[i] for i in chosen], [found[i] for i in chosen]).get("all", (0, 0, 0))[2])
    scores = metrics.span_scores(gold, found)
    return {"texts": len(rows), "spans": sum(map(len, gold)), "scores": scores, "confusion": confusion, "by length": f1}


def similarity_texts(out, part):
    """Up to 1,000 Chinese and 1,000 English texts that no training step saw: for the test 2,000, for validation other reviews and news."""
    chinese = [row["text"] for name in ("reviews", "entities") for row in corpora.load(out, f"{name}-{part}")]
    held = corpora.load(out, "unlabelled-held-out")
    wanted = 0 if part == "test" else 1
    english = [row["text"] for row in held if row["source"].startswith("en") and _half(row["text"]) == wanted]
    return [sorted(texts, key=_digest)[:SIMILARITY_TEXTS] for texts in (chinese, english)]


def _digest(text):
    return hashlib.sha256(text.encode()).digest()


def _half(text):
    return _digest(text)[-1] % 2


def closeness(student, out, part, limit=None):
    """Cosine to the teacher, and rank correlation of all pairs' similarities: Chinese, English, across, together."""
    languages = [texts[:limit] for texts in similarity_texts(out, part)]
    ours, theirs = [], []
    for number, texts in enumerate(languages):
        ours.append(Outputs(student, _prompted(texts)).vectors)
        theirs.append(np.load(_vectors_path(out, part, number, len(texts))))
    pairs = {"zh": (0, None), "en": (1, None), "zh to en": (0, 1)}
    report = {"texts": [len(texts) for texts in languages]}
    report["cosine"] = {name: float((a * b).sum(1).mean()) for name, a, b in zip(["zh", "en"], ours, theirs)}
    report["cosine"]["all"] = float((np.concatenate(ours) * np.concatenate(theirs)).sum(1).mean())
    report["spearman"] = {}
    for name, (left, right) in pairs.items():
        a, b = (metrics.pair_similarities(v[left], None if right is None else v[right]) for v in (ours, theirs))
        report["spearman"][name] = metrics.spearman(a, b)
    report["spearman"]["all"] = metrics.spearman(*(metrics.pair_similarities(np.concatenate(v)) for v in (ours, theirs)))
    return report


def teach(out, limit=None):
    """Writes the teacher's vectors of the texts for closeness once."""
    for part in ("validation", "test"):
        for number, texts in enumerate(similarity_texts(out, part)):
            path = _vectors_path(out, part, number, len(texts[:limit]))
            if not path.is_file():
                say(f"teacher: {path.stem}")
                vectors, _ = teacher.answers(load_teacher(), [item.pieces.ids for item in _prompted(texts[:limit])], torch.float32)
                write_atomically(path, lambda temporary, vectors=vectors: teacher.save(temporary, vectors))


def _vectors_path(out, part, number, count):
    return out / "teacher" / f"closeness-{part}-{number}-{count}.npy"


def _prompted(texts):
    return items.encoded([{"text": text} for text in texts], tokens.TOKENS_MAX, lambda _: tokens.DEFAULT_PROMPT)


def validation(student, out, limit=None, processes=1):
    """The figures to tune by, and the temperature they give."""
    (report, logits, truth), spans, close = together.run(
        [
            partial(sentiment, student, out, "reviews-validation", limit=limit),
            partial(entities, student, out, "entities-validation", limit=limit),
            partial(closeness, student, out, "validation", limit=limit),
        ],
        processes,
    )
    fitted = metrics.temperature(logits, truth)
    report["calibration"] = [calibrated(logits, truth, t) for t in (1.0, fitted)]
    return {"sentiment": report, "entities": spans, "closeness": close, "temperature": fitted}


def temperature(student, out, limit=None):
    """The divisor of the sentiment logits that validation texts ask for."""
    _, logits, truth = sentiment(student, out, "reviews-validation", limit=limit)
    return metrics.temperature(logits, truth)


def tests(student, out, temperature, limit=None, everything=True):
    """Name -> what measures it for the card; nothing may be chosen by them. Without `everything` only those with a bar."""
    found = {
        "sentiment": partial(calibrated_sentiment, student, out, temperature, limit),
        "entities": partial(entities, student, out, "entities-test", limit=limit),
        "closeness": partial(closeness, student, out, "test", limit=limit),
    }
    if everything:
        found["sentiment without a prompt"] = partial(calibrated_sentiment, student, out, temperature, limit, prompt="")
        found["sentiment elsewhere"] = partial(sentiment_elsewhere, student, out, limit)
        found["entities without a prompt"] = partial(entities, student, out, "entities-test", prompt="", limit=limit)
        found["entities elsewhere"] = partial(entities, student, out, "daily-test", kinds=("PER", "LOC"), limit=limit)
    return found


def calibrated_sentiment(student, out, temperature, limit, **how):
    report, logits, truth = sentiment(student, out, "reviews-test", limit=limit, **how)
    report["calibration"] = [calibrated(logits, truth, t) for t in (1.0, temperature)]
    return report


def summary(report):
    """The barred figures in one line."""
    calibration = report["sentiment"]["calibration"][-1]["calibration error"]
    return (
        f"sentiment {report['sentiment']['accuracy']:.4f} (calibration error {calibration:.4f}), "
        f"entities F1 {report['entities']['scores']['all'][2]:.4f}, "
        f"cosine {report['closeness']['cosine']['all']:.4f}, spearman {report['closeness']['spearman']['all']:.4f}"
    )


def write(path, report):
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))
