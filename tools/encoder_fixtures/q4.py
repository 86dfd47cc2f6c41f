"""A model with 4-bit matrices and with the heads of `plimsoll_heads`: the layout of the default model."""

import json
import struct

import torch
from safetensors.torch import save_file

Q4_KEY = "plimsoll.q4_0"
SEQUENCE_LABELS = ["negative", "positive"]


def save(directory, model, token_labels, expected):
    directory.mkdir(parents=True, exist_ok=True)
    family, width = model.config.model_type, model.config.hidden_size
    tensors, names = {}, []
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 2 and tensor.shape[1] % 32 == 0 and "position" not in name:
            blocks, rounded = quantised(tensor)
            tensors[f"bert.{name}"] = blocks
            names.append(f"bert.{name}")
            tensor.copy_(rounded)
        else:
            tensors[f"bert.{name}"] = tensor
    heads = {name: torch.randn(rows, width) * 0.3 for name, rows in [("sequence_classifier", 2), ("token_classifier", len(token_labels))]}
    biases = {name: torch.randn(len(weight)) * 0.3 for name, weight in heads.items()}
    dense, dense_bias = torch.randn(width, width) * 0.3, torch.randn(width) * 0.3
    for name in heads:
        tensors[f"plimsoll.{name}.weight"], tensors[f"plimsoll.{name}.bias"] = heads[name], biases[name]
    dense_blocks, dense = quantised(dense)
    tensors["plimsoll.sequence_classifier.dense.weight"], tensors["plimsoll.sequence_classifier.dense.bias"] = dense_blocks, dense_bias
    names.append("plimsoll.sequence_classifier.dense.weight")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors", {Q4_KEY: ",".join(names)})
    write_config(directory, model.config, token_labels)
    cases = expected(model, family)
    add_heads(model, cases, heads, biases, dense, dense_bias)
    (directory / "expected.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def rounded(tensor):
    return [rounded(part) for part in tensor] if tensor.dim() else float(f"{tensor.item():.6f}")


@torch.no_grad()
def add_heads(model, cases, heads, biases, dense, dense_bias):
    linear = torch.nn.functional.linear
    for case in cases:
        ids, types = torch.tensor([case["ids"]]), torch.tensor([case["types"]])
        hidden = model(input_ids=ids, token_type_ids=types).last_hidden_state[0]
        pooled = torch.relu(linear(hidden.mean(0), dense, dense_bias))
        case["sequence_logits"] = rounded(linear(pooled, heads["sequence_classifier"], biases["sequence_classifier"]))
        case["token_probabilities"] = rounded(linear(hidden, heads["token_classifier"], biases["token_classifier"]).softmax(-1))


def write_config(directory, config, token_labels):
    fields = config.to_dict()
    fields["architectures"] = ["BertModel"]
    fields["plimsoll_heads"] = {
        "sequence_classifier": {"id2label": dict(enumerate(SEQUENCE_LABELS)), "pooling": "mean", "activation": "relu"},
        "token_classifier": {"id2label": dict(enumerate(token_labels))},
    }
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    (directory / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ], indent=2) + "\n")  # fmt: skip
    (directory / "1_Pooling").mkdir(exist_ok=True)
    modes = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": config.hidden_size, **modes}) + "\n")
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 17, "do_lower_case": False}) + "\n")


def quantised(tensor):
    """Q4_0 blocks as a U8 tensor [rows, columns / 32 * 18], and the values they stand for."""
    rows, columns = tensor.shape
    groups = tensor.float().reshape(rows, columns // 32, 32)
    scales = (groups.abs().amax(-1, keepdim=True) / 7.5).half().float().clamp(min=1e-4).half().float()
    nibbles = ((groups / scales) + 8).round().clamp(0, 15).to(torch.uint8)
    packed = nibbles[..., :16] | nibbles[..., 16:] << 4
    halves = [struct.pack("<e", scale) for scale in scales.flatten().tolist()]
    heads = torch.frombuffer(bytearray(b"".join(halves)), dtype=torch.uint8).reshape(rows, columns // 32, 2)
    blocks = torch.cat([heads, packed], -1).reshape(rows, columns // 32 * 18)
    values = (nibbles.float() - 8) * scales
    return blocks, values.reshape(rows, columns)
