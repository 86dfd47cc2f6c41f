"""The encoder of the BERT family with its two heads, and the teacher read from the repository's 4-bit file."""

import json
import struct

import numpy as np
import torch
from e5.source import dequantise
from e5.weights import Q4_KEY
from torch import nn
from torch.nn import functional as F

from . import TEACHER
from .labels import LABELS, SLOTS

SENTIMENTS = ["negative", "positive"]
# 0-based layers of the teacher that the student starts from; chosen by `run.py layers` (see README.md).
STUDENT_LAYERS = [0, 2, 4, 9, 10, 11]


class Layer(nn.Module):
    """One transformer layer, norms behind the residual sums."""

    def __init__(self, hidden, heads, intermediate, eps):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.attended = (nn.Linear(hidden, hidden) for _ in range(4))
        self.attended_norm, self.output_norm = nn.LayerNorm(hidden, eps), nn.LayerNorm(hidden, eps)
        self.wide, self.output = nn.Linear(hidden, intermediate), nn.Linear(intermediate, hidden)

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        # Not scaled_dot_product_attention: on a CPU its backward pass takes three times as long at these lengths.
        shares = torch.softmax(q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5), -1)
        mixed = (shares @ v).transpose(1, 2).flatten(2)
        x = self.attended_norm(x + self.attended(mixed))
        return self.output_norm(x + self.output(F.gelu(self.wide(x))))


# This module's names -> those of `BertModel` in `transformers`, below `encoder.layer.N`.
NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "wide": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
EMBEDDINGS = {
    "words.weight": "embeddings.word_embeddings.weight",
    "positions.weight": "embeddings.position_embeddings.weight",
    "types.weight": "embeddings.token_type_embeddings.weight",
    "norm.weight": "embeddings.LayerNorm.weight",
    "norm.bias": "embeddings.LayerNorm.bias",
}


class Encoder(nn.Module):
    """ids [batch, length], all of one length, -> hidden states [batch, length, hidden]."""

    def __init__(self, config, layers):
        super().__init__()
        hidden, eps = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], hidden)
        self.positions = nn.Embedding(config["max_position_embeddings"], hidden)
        self.types = nn.Embedding(config["type_vocab_size"], hidden)
        self.norm = nn.LayerNorm(hidden, eps)
        self.layers = nn.ModuleList(Layer(hidden, config["num_attention_heads"], config["intermediate_size"], eps) for _ in range(layers))

    def forward(self, ids):
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def published(self):
        """This module's parameter names -> `transformers`' names."""
        names = dict(EMBEDDINGS)
        for layer in range(len(self.layers)):
            for own, theirs in NAMES.items():
                for kind in ("weight", "bias"):
                    names[f"layers.{layer}.{own}.{kind}"] = f"encoder.layer.{layer}.{theirs}.{kind}"
        return names


class Student(nn.Module):
    """The encoder with a head for sentiment on the first token and a head for entities on every piece."""

    def __init__(self, config, layers):
        super().__init__()
        hidden = config["hidden_size"]
        self.encoder = Encoder(config, layers)
        self.sentiment_dense = nn.Linear(hidden, hidden)
        self.sentiment = nn.Linear(hidden, len(SENTIMENTS))
        self.entities = nn.Linear(hidden, SLOTS * len(LABELS))

    def forward(self, ids):
        return self.encoder(ids)

    def sentiment_logits(self, hidden):
        return self.sentiment(torch.tanh(self.sentiment_dense(hidden[:, 0])))

    def entity_logits(self, hidden):
        """[batch * length * SLOTS, labels]"""
        return self.entities(hidden).view(-1, len(LABELS))


def embedding(hidden):
    """Mean over the tokens, length 1."""
    return F.normalize(hidden.float().mean(1), dim=-1)


def read_file(path):
    """(name -> array, names of 4-bit tensors) of a safetensors file as the converter writes it; 4-bit blocks stay bytes."""
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + size])
    q4 = set(header.pop("__metadata__")[Q4_KEY].split(","))
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        kind = {"U8": np.uint8, "F32": np.float32}[entry["dtype"]]
        tensors[name] = np.frombuffer(raw[8 + size + start : 8 + size + end], kind).reshape(entry["shape"])
    return tensors, q4


def read_config(folder=TEACHER):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def load_teacher(layers=None, folder=TEACHER, prefix=""):
    """The encoder of a model directory, dequantised; with `layers` only those of its layers."""
    tensors, q4 = read_file(folder / "model.safetensors")
    config = read_config(folder)
    layers = list(range(config["num_hidden_layers"])) if layers is None else layers
    encoder = Encoder(config, len(layers))
    state = {}
    for own, theirs in encoder.published().items():
        if own.startswith("layers."):
            index = int(own.split(".")[1])
            theirs = theirs.replace(f"layer.{index}.", f"layer.{layers[index]}.")
        array = tensors[prefix + theirs]
        if prefix + theirs in q4:
            array = dequantise(array, array.shape[1] // 18 * 32)
        state[own] = torch.tensor(np.array(array, np.float32))
    encoder.load_state_dict(state)
    return encoder.eval()


def new_student(layers=None):
    """A student with the chosen layers of the teacher; word embeddings do not learn."""
    layers = STUDENT_LAYERS if layers is None else layers
    student = Student(read_config(), len(layers))
    student.encoder = load_teacher(layers)
    student.encoder.words.weight.requires_grad_(False)
    return student
