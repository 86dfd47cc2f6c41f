"""Token labels and the entities that `transformers`' own TokenClassificationPipeline makes of them."""

import random
from types import SimpleNamespace

import numpy as np
from transformers.pipelines.token_classification import AggregationStrategy, TokenClassificationPipeline

SCHEMES = [
    ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    ["O", "I-PER", "I-LOC"],  # IOB1 as old models have it
    ["O", "PER", "LOC"],  # no prefixes
    ["B-X-Y", "I-X-Y", "O", "MISC-A"],  # dashes inside
]
WORDS = ["Ada", "Love", "in", "London", "saw", "naïve", "北京", "x", "unknown", "York", ","]
UNKNOWN, SPECIAL = 0, 1


def cases():
    random.seed(7)
    rng = np.random.default_rng(7)
    return [case(rng, labels, prefixed) for labels in SCHEMES for prefixed in (True, False) for _ in range(6)]


def case(rng, labels, prefixed):
    text, tokens = tokenised(prefixed)
    # Few distinct labels in a row, so that entities of several tokens occur.
    favourites = np.repeat(rng.integers(0, len(labels), len(tokens)), 2)[: len(tokens)]
    logits = rng.normal(size=(len(tokens), len(labels))).astype(np.float32)
    logits[np.arange(len(tokens)), favourites] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    pipeline = bare_pipeline(labels, [token for token, *_ in tokens], prefixed)
    ids = np.array([SPECIAL if special else UNKNOWN if token == "[UNK]" else 2 + i for i, (token, _, _, special) in enumerate(tokens)])
    specials = np.array([special for *_, special in tokens])
    offsets = np.array([(start, end) for _, start, end, _ in tokens])
    expected = {}
    for strategy in AggregationStrategy:
        gathered = pipeline.gather_pre_entities(text, ids, scores, offsets, specials, strategy)
        entities = pipeline.aggregate(gathered, strategy)
        kept = [e for e in entities if e.get("entity", e.get("entity_group")) != "O"]
        expected[strategy.value] = [
            [e.get("entity", e.get("entity_group")), byte(text, e["start"]), byte(text, e["end"]), round(float(e["score"]), 6)] for e in kept
        ]
    subwords = iter([g["is_subword"] for g in gathered])
    return {
        "text": text,
        "labels": labels,
        "prefixed": prefixed,
        "tokens": [token for token, *_ in tokens],
        "starts": [byte(text, start) for _, start, _, _ in tokens],
        "ends": [byte(text, end) for _, _, end, _ in tokens],
        "subwords": [bool(not special and next(subwords)) for *_, special in tokens],
        "probabilities": [[round(float(p), 7) for p in row] for row in scores],
        "entities": expected,
    }


def tokenised(prefixed):
    """Random words cut into random pieces: (token, start, end, special), offsets in characters."""
    text, tokens = "", [("[CLS]", 0, 0, True)]
    for _ in range(random.randint(3, 9)):
        if text and random.random() < 0.8:
            text += " "
        word = random.choice(WORDS)
        start = len(text)
        text += word
        if word == "unknown":
            tokens.append(("[UNK]", start, len(text), False))
            continue
        while start < len(text):
            end = random.randint(start + 1, len(text))
            first = start == len(text) - len(word)
            mark = "##" if prefixed and not first else "▁" if not prefixed and first else ""
            tokens.append((mark + text[start:end], start, end, False))
            start = end
    return text, [*tokens, ("[SEP]", 0, 0, True)]


def bare_pipeline(labels, tokens, prefixed):
    """The pipeline without model and tokenizer: grouping asks them for names only."""
    pipeline = object.__new__(TokenClassificationPipeline)
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(labels))))
    fast = SimpleNamespace(model=SimpleNamespace(continuing_subword_prefix="##" if prefixed else None))
    pipeline.tokenizer = SimpleNamespace(
        _tokenizer=fast,
        unk_token_id=UNKNOWN,
        convert_ids_to_tokens=lambda id_: tokens[id_ - 2] if id_ > 1 else "[UNK]",
        convert_tokens_to_string=" ".join,
    )
    return pipeline


def byte(text, index):
    return len(text[:index].encode())
