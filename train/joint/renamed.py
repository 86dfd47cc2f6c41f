"""Sentences whose names are others of the same kind: a name nobody has seen is found by what stands around it, and the tokenizer cuts each new
name elsewhere. Half of the Chinese persons get a family name and a given name that never stood together. And lists of persons: in the news
they often have no separators, and no list is like another."""

import random
from itertools import accumulate

from . import items, tokens

CHINESE_PERSON = "Chinese PER"
FAMILY_SHARE = 0.5
FOREIGN_DOT = "·"
# Fewer names that end alike are too few to draw from.
ALIKE_MIN = 8
SEPARATOR = "、"
JOINED_SHARE = 0.2
LIST_SHARE = 0.03
LISTED_NAMES = (4, 24)


class Names:
    """The names of the training sentences, each once. Names of one character (`中美`) are left alone: they live by their neighbours."""

    def __init__(self, found):
        self.pools = {}
        for name, kind in sorted({name for item in found for name in _names(item)}):
            for group in (_group(name, kind), _alike(name, kind)):
                self.pools.setdefault(group, []).append(name)

    def renamed(self, item, rng):
        """The item's text with each of its names replaced, as a row; the same name by the same. Some persons lose the separator between them."""
        text, spans, done, replaced, joined = "", [], 0, {}, rng.random() < JOINED_SHARE
        for start, end, kind in item.entities:
            name = item.text[start:end]
            if name not in replaced:
                replaced[name] = self._another(name, kind, rng) if end - start > 1 else name
            between = item.text[done:start]
            if joined and between == SEPARATOR and spans and spans[-1][2] == kind == "PER":
                between = ""
            text += between + replaced[name]
            spans.append((len(text) - len(replaced[name]), len(text), kind))
            done = end
        return {"text": text + item.text[done:], "entities": spans}

    def _another(self, name, kind, rng):
        alike = self.pools[_alike(name, kind)]
        pool = alike if len(alike) >= ALIKE_MIN and kind != "PER" else self.pools[_group(name, kind)]
        return self._chinese_person(rng) if _is_chinese_person(name, kind) else rng.choice(pool)

    def listed(self, rng):
        """A row that is a list of persons; half of the lists are in the order of the family names."""
        names = [self._chinese_person(rng) for _ in range(rng.randint(*LISTED_NAMES))]
        if rng.random() < 0.5:
            names.sort()
        ends = list(accumulate(map(len, names)))
        return {"text": "".join(names), "entities": [(end - len(name), end, "PER") for name, end in zip(names, ends)]}

    def _chinese_person(self, rng):
        pool = self.pools[CHINESE_PERSON]
        if rng.random() < FAMILY_SHARE:
            return rng.choice(pool)[0] + rng.choice(pool)[1:]
        return rng.choice(pool)


def _names(item):
    return [(item.text[start:end], kind) for start, end, kind in item.entities or () if end - start > 1]


def _group(name, kind):
    return CHINESE_PERSON if _is_chinese_person(name, kind) else kind


def _alike(name, kind):
    """Names that end alike are mostly of one sort: cities, rivers, companies, schools."""
    return f"{kind} like {name[-1]}"


def _is_chinese_person(name, kind):
    return kind == "PER" and len(name) <= 3 and FOREIGN_DOT not in name


def some(found, names, share, seed):
    """The items, of which a share of those with names is renamed, or becomes a list. What the teacher answered keeps its text."""
    rng = random.Random(seed)
    chosen = [i for i, item in enumerate(found) if _names(item) and not item.taught and rng.random() < share]
    rows = [names.listed(rng) if rng.random() < LIST_SHARE else names.renamed(found[i], rng) for i in chosen]
    changed = list(found)
    for i, item in zip(chosen, items.encoded(rows, tokens.TRAINING_TOKENS, tokens.prompt_of)):
        changed[i] = item
    return changed
