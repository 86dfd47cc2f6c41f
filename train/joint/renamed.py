"""Sentences whose names are others of the same kind: a name nobody has seen is found by what stands around it, and the tokenizer cuts each new
name elsewhere. Half of the Chinese persons get a family name and a given name that never stood together."""

import random

from . import items, tokens

FAMILY_SHARE = 0.5
FOREIGN_DOT = "·"
# Fewer names that end alike are too few to draw from.
ALIKE_MIN = 8


class Names:
    """The names of the training sentences, each once. Names of one character (`中美`) are left alone: they live by their neighbours."""

    def __init__(self, found):
        self.pools = {}
        for name, kind in sorted({name for item in found for name in _names(item)}):
            for group in (_group(name, kind), _alike(name, kind)):
                self.pools.setdefault(group, []).append(name)

    def renamed(self, item, rng):
        """The item's text with each of its names replaced, as a row; the same name by the same."""
        text, spans, done, replaced = "", [], 0, {}
        for start, end, kind in item.entities:
            name = item.text[start:end]
            if name not in replaced:
                replaced[name] = self._another(name, kind, rng) if end - start > 1 else name
            text += item.text[done:start] + replaced[name]
            spans.append((len(text) - len(replaced[name]), len(text), kind))
            done = end
        return {"text": text + item.text[done:], "entities": spans}

    def _another(self, name, kind, rng):
        alike = self.pools[_alike(name, kind)]
        pool = alike if len(alike) >= ALIKE_MIN and kind != "PER" else self.pools[_group(name, kind)]
        if _is_chinese_person(name, kind) and rng.random() < FAMILY_SHARE:
            return rng.choice(pool)[0] + rng.choice(pool)[1:]
        return rng.choice(pool)


def _names(item):
    return [(item.text[start:end], kind) for start, end, kind in item.entities or () if end - start > 1]


def _group(name, kind):
    return f"Chinese {kind}" if _is_chinese_person(name, kind) else kind


def _alike(name, kind):
    """Names that end alike are mostly of one sort: cities, rivers, companies, schools."""
    return f"{kind} like {name[-1]}"


def _is_chinese_person(name, kind):
    return kind == "PER" and len(name) <= 3 and FOREIGN_DOT not in name


def some(found, names, share, seed):
    """The items, of which a share of those with names is renamed. What the teacher answered keeps its text."""
    rng = random.Random(seed)
    chosen = [i for i, item in enumerate(found) if _names(item) and not item.taught and rng.random() < share]
    rows = [names.renamed(found[i], rng) for i in chosen]
    changed = list(found)
    for i, item in zip(chosen, items.encoded(rows, tokens.TRAINING_TOKENS, tokens.prompt_of)):
        changed[i] = item
    return changed
