"""The `tokenizer.json` of a set of pieces: XLM-RoBERTa's pipeline (character map, runs of spaces, Metaspace, Unigram, template)."""

import base64

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
MASK = "<mask>"


def tokenizer_json(pieces, scores, charsmap):
    """`pieces` begin with the specials and end with the mask; ids are positions."""
    if pieces[:4] != SPECIALS or pieces[-1] != MASK:
        raise ValueError("the special pieces are not where XLM-RoBERTa has them")
    ids = {piece: pieces.index(piece) for piece in [*SPECIALS, MASK]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(ids[piece], piece) for piece in ids],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": _metaspace(),
        "post_processor": _template(ids),
        "decoder": _metaspace(),
        "model": {"type": "Unigram", "unk_id": ids["<unk>"], "vocab": [list(pair) for pair in zip(pieces, scores)], "byte_fallback": False},
    }


def _metaspace():
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def _special(id_, content):
    return {"id": id_, "content": content, "single_word": False, "lstrip": content == MASK, "rstrip": False, "normalized": False, "special": True}


def _template(ids):
    def special(piece):
        return {"SpecialToken": {"id": piece, "type_id": 0}}

    def text(name):
        return {"Sequence": {"id": name, "type_id": 0}}

    start, end = special("<s>"), special("</s>")
    return {
        "type": "TemplateProcessing",
        "single": [start, text("A"), end],
        "pair": [start, text("A"), end, end, text("B"), end],
        "special_tokens": {piece: {"id": piece, "ids": [ids[piece]], "tokens": [piece]} for piece in ["<s>", "</s>"]},
    }
