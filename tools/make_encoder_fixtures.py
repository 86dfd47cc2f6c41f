#!/usr/bin/env python3
"""Writes small random models of every family and head, with what PyTorch computes for them, to testdata/encoder.

    pip install torch transformers safetensors tokenizers
    python3 tools/make_encoder_fixtures.py testdata/encoder

Each directory is a Hugging Face model directory plus `expected.json`: batches of token ids and, for each sequence, hidden states and whatever
the model's head gives. Every sequence runs alone through PyTorch in f32, so padding and batching have no say. `spans.json` holds cases for
the token classification pipeline's grouping, answered by the pipeline's own code. The same versions of the packages give the same files.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
    logging,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))
from encoder_fixtures import characters, q4, spans  # noqa: E402

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SIDES = {"bert": (32, 4), "distilbert": (32, 2), "roberta": (24, 3), "xlm-roberta": (20, 2)}
VOCABULARY, POSITIONS, MIDDLE = 60, 30, 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for number, family in enumerate(SIDES):
        torch.manual_seed(100 + number)
        plain(out, family)
        sequence_heads(out, family)
        token_head(out, family)
    variants(out)
    (out / "spans.json").write_text(json.dumps(spans.cases(), indent=0) + "\n")


def config(family, layers=1, **more):
    width, heads = SIDES[family]
    shared = dict(vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, initializer_range=0.2)
    if family == "distilbert":
        return DistilBertConfig(dim=width, n_heads=heads, n_layers=layers, hidden_dim=MIDDLE, **shared, **more)
    kinds = {"bert": BertConfig, "roberta": RobertaConfig, "xlm-roberta": XLMRobertaConfig}
    sides = dict(hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=MIDDLE)
    types = {} if family == "bert" else {"type_vocab_size": 1}
    return kinds[family](**sides, **types, **shared, **more)


def plain(out, family):
    save(out / family, AutoModel.from_config(config(family, layers=2)))


def sequence_heads(out, family):
    labels = dict(id2label={0: "negative", 1: "neutral", 2: "positive"}, label2id={"negative": 0, "neutral": 1, "positive": 2})
    save(out / f"{family}-sequence", AutoModelForSequenceClassification.from_config(config(family, **labels)))


def token_head(out, family):
    labels = dict(id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)})
    save(out / f"{family}-token", AutoModelForTokenClassification.from_config(config(family, **labels)))


def variants(out):
    """What differs from the plain BERT in one respect each."""
    torch.manual_seed(200)
    one = dict(id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    save(out / "bert-reranker", AutoModelForSequenceClassification.from_config(config("bert", **one)))
    save(out / "bert-gelu-new", AutoModel.from_config(config("bert", hidden_act="gelu_new")))
    for dtype, name in [(torch.float16, "bert-f16"), (torch.bfloat16, "bert-bf16")]:
        save(out / name, AutoModel.from_config(config("bert")), dtype)
    q4.save(out / "bert-q4-heads", AutoModel.from_config(config("bert")), LABELS, expected)
    torch.manual_seed(300)
    small = BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, initializer_range=0.2, hidden_size=16,
        num_attention_heads=2, num_hidden_layers=1, intermediate_size=16,
    )  # fmt: skip
    characters.save(out / "bert-characters", AutoModel.from_config(small).eval(), shake)


def sequences(family):
    """Ids (and types) of lengths around the vectors' widths; pairs carry types where the family has them."""
    made = []
    for length in [1, 3, 17, POSITIONS - 2]:
        ids = torch.randint(3, VOCABULARY, (length,)).tolist()
        types = [0] * length
        if family == "bert" and length > 2:
            types = [0] * (length // 2) + [1] * (length - length // 2)
        made.append({"ids": ids, "types": types})
    if family.endswith("roberta"):
        made.append({"ids": [5, 1, 7, 1, 9], "types": [0] * 5})  # padding ids inside: they do not advance positions
    return made


@torch.no_grad()
def expected(model, family):
    model = model.eval().float()
    cases = sequences(family)
    for case in cases:
        inputs = {"input_ids": torch.tensor([case["ids"]])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if family == "bert":
            inputs["token_type_ids"] = torch.tensor([case["types"]])
        output = model(**inputs, output_hidden_states=True)
        hidden = output.hidden_states[-1][0]
        case["hidden"] = q4.rounded(hidden[[0, -1]])
        case["mean"] = q4.rounded(hidden.mean(0))
        case["max"] = q4.rounded(hidden.max(0).values)
        if "logits" in output:
            case["logits"] = q4.rounded(output.logits[0])
            case["probabilities"] = q4.rounded(output.logits[0].softmax(-1))
    return cases


def save(directory, model, dtype=torch.float32):
    directory.mkdir(parents=True, exist_ok=True)
    shake(model)
    model = model.to(dtype)
    logging.disable_progress_bar()
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    weights = load_file(directory / "model.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / "model.safetensors", {"format": "pt"})
    write(directory, expected(model, model.config.model_type))


def shake(model):
    """Biases and norms start at 0 and 1, which would hide mistakes; make them matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)


def write(directory, cases):
    (directory / "expected.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
