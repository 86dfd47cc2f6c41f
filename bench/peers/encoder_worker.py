"""One peer, loaded once and kept warm, in a process of its own.

    python encoder_worker.py VARIANT THREADS MODEL_DIRECTORY MODELS_FOLDER IDS.json

Reads a JSON object a line and answers with one:

    {"cell": "32x64", "way": ["padded", "joint"], "seconds": 0.4}  ->  {"wall": [s, ...], "cpu": s}
    {"embed": "FILE"}                                              ->  {}   mean-pooled vectors of the texts, as .npy

`wall` has the time of each repetition of the whole cell, at least one, `cpu` the mean CPU time of one, all threads summed; 0 seconds are one repetition
that is not timed. A way says how texts become batches (`padded`: one
batch; `sorted8`: sorted by length, eight a batch; `single`: one by one) and how threads share them (`joint`: all threads on each batch; `split`: batches
side by side, one thread each). Only the forward pass is timed: batches are padded beforehand, and pooling is not part of it.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

NAMES = ["input_ids", "attention_mask", "token_type_ids"]


def padded(batch):
    ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return dict(zip(NAMES, (ids, mask, np.zeros_like(ids))))


class OnnxRuntime:
    """`file` is the model; a session of `threads` threads, and where batches run side by side, of one each."""

    def __init__(self, file, threads, models):
        self.path, self.sessions = str(models / file), {}

    def prepare(self, batch):
        return padded(batch)

    def session(self, threads):
        import onnxruntime

        if threads not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            self.sessions[threads] = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        return self.sessions[threads]

    def runner(self, threads, _slot):
        session = self.session(threads)
        return lambda inputs: session.run(None, inputs)[0]


class OpenVino:
    """One stream of all threads, or as many streams as threads."""

    def __init__(self, file, hint, threads, models, **settings):
        import openvino

        self.core, self.compiled = openvino.Core(), {}
        self.model = self.core.read_model(models / file)
        self.settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **settings}
        self.threads = threads

    def prepare(self, batch):
        return padded(batch)

    def runner(self, threads, _slot):
        streams = self.threads // threads
        if streams not in self.compiled:
            self.compiled[streams] = self.core.compile_model(self.model, "CPU", {**self.settings, "NUM_STREAMS": streams})
        request = self.compiled[streams].create_infer_request()
        return lambda inputs: request.infer(inputs, share_inputs=True, share_outputs=True)[0]


class CTranslate2:
    """Pads by itself, and leaves padding out of its matrix products."""

    def __init__(self, compute, threads, models):
        self.path, self.compute, self.threads, self.encoders = str(models / "ctranslate2"), compute, threads, {}

    def prepare(self, batch):
        return batch

    def runner(self, threads, _slot):
        import ctranslate2

        if threads not in self.encoders:
            settings = {"compute_type": self.compute, "intra_threads": threads, "inter_threads": self.threads // threads}
            self.encoders[threads] = ctranslate2.Encoder(self.path, device="cpu", **settings)
        encoder = self.encoders[threads]
        return lambda batch: encoder.forward_batch(batch).last_hidden_state


class Torch:
    """Eager PyTorch with its fused attention."""

    def __init__(self, dtype, threads, model):
        import torch
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(model, attn_implementation="sdpa", add_pooling_layer=False, dtype=getattr(torch, dtype)).eval()

    def prepare(self, batch):
        import torch

        inputs = {name: torch.from_numpy(array) for name, array in padded(batch).items()}
        if inputs["attention_mask"].all():
            del inputs["attention_mask"]
        return inputs

    def runner(self, threads, _slot):
        import torch

        def run(inputs):
            # Counts for the calling thread and those it forks.
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return self.model(**inputs).last_hidden_state

        return run


def peer(variant, threads, model, models):
    """A peer by its name in `encoder_speed.py`."""
    dynamic = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}
    return {
        "onnxruntime f32": lambda: OnnxRuntime("plain.onnx", threads, models),
        "onnxruntime-fused f32": lambda: OnnxRuntime("fused.onnx", threads, models),
        "onnxruntime int8": lambda: OnnxRuntime("plain-int8.onnx", threads, models),
        "onnxruntime-fused int8": lambda: OnnxRuntime("fused-int8.onnx", threads, models),
        "openvino f32": lambda: OpenVino("openvino.xml", "f32", threads, models),
        "openvino bf16": lambda: OpenVino("openvino.xml", "bf16", threads, models),
        "openvino int8": lambda: OpenVino("openvino-int8.xml", "f32", threads, models),
        "openvino-bf16 int8": lambda: OpenVino("openvino-int8.xml", "bf16", threads, models),
        "openvino-dynamic int8": lambda: OpenVino("openvino-weights-int8.xml", "f32", threads, models, **dynamic),
        "ctranslate2 f32": lambda: CTranslate2("float32", threads, models),
        "ctranslate2 int8": lambda: CTranslate2("int8_float32", threads, models),
        "torch f32": lambda: Torch("float32", threads, model),
        "torch bf16": lambda: Torch("bfloat16", threads, model),
    }[variant]()


class Worker:
    def __init__(self, variant, threads, model, models, ids):
        self.ids = json.loads(ids.read_text())
        self.threads, self.peer = threads, peer(variant, threads, model, models)
        self.pool = ThreadPoolExecutor(threads)
        self.ready = {}

    def batches(self, cell, grouping):
        texts = self.ids["cells"][cell]
        if grouping == "sorted8":
            texts = sorted(texts, key=len)
        size = {"padded": len(texts), "sorted8": 8, "single": 1}[grouping]
        return [texts[at : at + size] for at in range(0, len(texts), size)]

    def lanes(self, cell, way):
        """Per thread of ours, what runs a batch and its batches. One batch for several threads is cut into as many."""
        grouping, sharing = way
        batches = self.batches(cell, grouping)
        if sharing == "joint":
            return [(self.peer.runner(self.threads, 0), [self.peer.prepare(batch) for batch in batches])]
        if len(batches) < self.threads:
            (texts,) = batches
            batches = [texts[lane :: self.threads] for lane in range(self.threads)]
        # The longest first to whoever has least, so that lanes end together.
        shares = [[] for _ in range(self.threads)]
        for batch in sorted(batches, key=cost, reverse=True):
            min(shares, key=lambda share: sum(map(cost, share))).append(batch)
        return [(self.peer.runner(1, lane), [self.peer.prepare(batch) for batch in share]) for lane, share in enumerate(shares)]

    def run(self, lanes):
        def work(lane):
            run, batches = lane
            for inputs in batches:
                run(inputs)

        if len(lanes) == 1:
            work(lanes[0])
        else:
            list(self.pool.map(work, lanes))

    def time(self, cell, way, seconds):
        key = (cell, tuple(way))
        if key not in self.ready:
            self.ready[key] = self.lanes(cell, way)
        lanes = self.ready[key]
        if seconds == 0:
            self.run(lanes)
            return {"wall": [], "cpu": 0}
        wall, cpu_start, start = [], time.process_time(), time.perf_counter()
        while not wall or time.perf_counter() - start < seconds:
            before = time.perf_counter()
            self.run(lanes)
            wall.append(time.perf_counter() - before)
        return {"wall": wall, "cpu": (time.process_time() - cpu_start) / len(wall)}

    def embed(self, file):
        run, vectors = self.peer.runner(self.threads, 0), []
        for text in self.ids["texts"]:
            hidden = run(self.peer.prepare([text]))
            vectors.append(np.asarray(hidden.float() if hasattr(hidden, "float") else hidden, dtype=np.float32)[0].mean(0))
        np.save(file, np.array(vectors))
        return {}


def cost(batch):
    return len(batch) * max(map(len, batch))


def main():
    from pathlib import Path

    variant, threads, model, models, ids = sys.argv[1:]
    # Whatever libraries print belongs to standard error; answers keep the pipe.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker(variant, int(threads), Path(model), Path(models), Path(ids))
    for line in sys.stdin:
        ask = json.loads(line)
        answer = worker.embed(ask["embed"]) if "embed" in ask else worker.time(ask["cell"], ask["way"], ask["seconds"])
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
