"""Texts to pieces, and characters to (piece, slot)."""

import hashlib
from dataclasses import dataclass

from tokenizers import Tokenizer

from . import TEACHER
from .labels import SLOTS, slot

PROMPTS = ["query: ", "query: ", "passage: ", ""]
DEFAULT_PROMPT = "query: "
TRAINING_TOKENS = 256
TOKENS_MAX = 512


@dataclass
class Pieces:
    """One text: ids with specials, and for each labelled character its place `piece * SLOTS + slot` and index in the text."""

    ids: list
    places: list
    chars: list


def tokenizer(tokens_max):
    loaded = Tokenizer.from_file(str(TEACHER / "tokenizer.json"))
    loaded.enable_truncation(tokens_max)
    return loaded


def prompt_of(text):
    """The prompt that a text is trained with: half of the texts the server's default one. By hash, so that a text keeps it."""
    return PROMPTS[hashlib.sha256(text.encode()).digest()[0] % len(PROMPTS)]


def encode(loaded, texts, prompts):
    """A Pieces for each text behind its prompt."""
    encodings = loaded.encode_batch([prompt + text for prompt, text in zip(prompts, texts)])
    return [pieces(encoding, text, len(prompt)) for encoding, text, prompt in zip(encodings, texts, prompts)]


def pieces(encoding, text, skip):
    """Each character belongs to the first piece that covers it; white space and the prompt to none."""
    places, chars, done = [], [], 0
    for piece, (start, end) in enumerate(encoding.offsets):
        own = [i for i in range(max(start - skip, done), end - skip) if not text[i].isspace()]
        for position, i in enumerate(own):
            places.append(piece * SLOTS + slot(position, len(own)))
            chars.append(i)
        done = max(done, end - skip)
    return Pieces(encoding.ids, places, chars)
