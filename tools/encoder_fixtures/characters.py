"""A model whose entity head labels the characters inside pieces, with what the training code's own decoding (`train/joint`) makes of it."""

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "train"))
from joint.labels import LABELS, SLOTS, to_spans, viterbi  # noqa: E402
from joint.tokens import pieces  # noqa: E402

SPECIAL = 1
# Pieces with white space inside and around, one that an earlier one covers (as byte-level pieces of one character), long ones.
TEXTS = [
    ["北京", "大学", "的", "李四光", "在", "内蒙古自治区", "。"],
    ["Ada", " Lovelace", " lived", " in", " ", "London", ".\u3000"],
    ["中华人民共和国", "\t\n", "a", "bcdefgh", "😀", "=😀", "é\u001c", "x"],
    ["我"],
    [" "],
]


def save(directory, model, shake):
    directory.mkdir(parents=True, exist_ok=True)
    shake(model)
    width = model.config.hidden_size
    heads = {"sequence_classifier": 2, "token_classifier": SLOTS * len(LABELS)}
    tensors = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, rows in heads.items():
        tensors[f"plimsoll.{name}.weight"] = torch.randn(rows, width)
        tensors[f"plimsoll.{name}.bias"] = torch.randn(rows) * 0.3
    # Single characters are the cheapest entities; with fewer of them, longer ones occur.
    tensors["plimsoll.token_classifier.bias"] -= torch.tensor([3.0 * label.startswith("S-") for label in LABELS] * SLOTS)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors", {"format": "pt"})
    fields = model.config.to_dict() | {"architectures": ["BertModel"]}
    fields["plimsoll_heads"] = {
        "sequence_classifier": {"id2label": {"0": "negative", "1": "positive"}},
        "token_classifier": {"id2label": dict(enumerate(LABELS)), "slots": SLOTS},
    }
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    random.seed(5)
    head = [tensors["plimsoll.token_classifier.weight"], tensors["plimsoll.token_classifier.bias"]]
    cases = [case(model, head, parts) for parts in TEXTS for _ in range(2)]
    (directory / "expected.json").write_text(json.dumps(cases, separators=(",", ":"), ensure_ascii=False) + "\n")


@torch.no_grad()
def case(model, head, parts):
    text, offsets = "", [(0, 0)]
    for part in parts:
        again = part.startswith("=")
        start = len(text) - len(part) + 1 if again else len(text)
        text += "" if again else part
        offsets.append((start, len(text)))
    offsets.append((0, 0))
    ids = [SPECIAL, *(random.randrange(3, model.config.vocab_size) for _ in parts), SPECIAL]
    found = pieces(SimpleNamespace(ids=ids, offsets=offsets), text, 0)
    hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    logits = torch.nn.functional.linear(hidden, *head).view(-1, len(LABELS))
    scores = logits.log_softmax(-1).numpy()[found.places].reshape(-1, len(LABELS))
    labels = viterbi(scores)
    chosen = np.exp(scores[np.arange(len(labels)), labels])
    spans = [
        [found.chars[start], found.chars[end - 1] + 1, kind, round(float(chosen[start:end].mean()), 6)] for start, end, kind in to_spans(labels)
    ]
    return {"text": text, "ids": ids, "offsets": offsets, "rows": found.places, "labels": labels, "spans": spans}
