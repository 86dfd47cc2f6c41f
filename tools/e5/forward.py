"""The encoder in numpy, f32, for checks only: BERT with erf GELU, mean pooling, length 1."""

import math

import numpy as np

from .source import dequantise
from .weights import LAYER

_erf = np.vectorize(math.erf, otypes=[np.float32])


class Encoder:
    """Embeds lists of the package's own ids with the dequantised weights."""

    def __init__(self, source):
        self.source = source
        self.layers = []
        for layer in range(source.layers):
            part = {}
            for short in LAYER:
                weight = source.tensors[f"l{layer}.{short}.w"]
                if weight.dtype == np.uint8:
                    weight = dequantise(weight, source.intermediate if short == "fo" else source.hidden)
                part[short] = weight, source.tensors[f"l{layer}.{short}.b"]
            self.layers.append(part)

    def embed(self, ids):
        """[hidden] of length 1 for one text's ids, specials included."""
        source = self.source
        rows = source.tensors["emb.word"].reshape(source.rows, -1)[ids]
        x = dequantise(rows, source.hidden) + source.tensors["emb.pos"].reshape(-1, source.hidden)[: len(ids)]
        x = self._norm(x + source.tensors["emb.type"][: source.hidden], source.tensors["emb.ln.w"], source.tensors["emb.ln.b"])
        for layer in self.layers:
            x = self._norm(x + self._attention(x, layer), *layer["aln"])
            wide = _linear(x, layer["fi"])
            wide = 0.5 * wide * (1.0 + _erf(wide / math.sqrt(2.0)))
            x = self._norm(x + _linear(wide, layer["fo"]), *layer["oln"])
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _attention(self, x, layer):
        heads = self.source.heads
        q, k, v = (_linear(x, layer[name]).reshape(len(x), heads, -1).transpose(1, 0, 2) for name in "qkv")
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return _linear((scores @ v).transpose(1, 0, 2).reshape(len(x), -1), layer["ao"])

    def _norm(self, x, weight, bias):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.source.eps) * weight + bias


def _linear(x, pair):
    weight, bias = pair
    return x @ weight.T + bias
