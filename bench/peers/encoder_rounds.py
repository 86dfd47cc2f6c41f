"""Peers as processes, the search for each one's best way, and the rounds."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
OURS = "plimsoll"
VARIANTS = {
    "f32": ["openvino f32", "onnxruntime f32", "onnxruntime-fused f32", "ctranslate2 f32", "torch f32"],
    "bf16": ["openvino bf16", "torch bf16"],
    "int8": ["openvino int8", "openvino-bf16 int8", "openvino-dynamic int8", "onnxruntime int8", "onnxruntime-fused int8", "ctranslate2 int8"],
}
# A peer this much slower than the best one is not carried through the rounds; what it took when it was tried is in the record.
FAR_BEHIND = 1.35
# What a first run costs beside its work is nothing in larger cells.
WARM_UP_TOKENS = 4096
# Threads that spin after their work would run into the next one's turn.
PAUSE = 0.03


@dataclass
class Files:
    ours: Path
    model: Path
    models: Path
    ids: Path
    work: Path


class Process:
    """A peer, or ours, that answers a question a line."""

    def __init__(self, variant, dtype, threads, files):
        self.variant, self.threads = variant, threads
        if variant == OURS:
            command = [files.ours, files.model, files.ids, dtype, str(threads)]
        else:
            command = [sys.executable, HERE / "encoder_worker.py", variant, str(threads), files.model, files.models, files.ids]
        core = sorted(os.sched_getaffinity(0))[-1]
        bind = (lambda: os.sched_setaffinity(0, {core})) if threads == 1 else None
        settings = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        log = open(files.work / f"{variant.replace(' ', '-')}-{dtype}-{threads}.log", "w")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=settings, preexec_fn=bind)
        self.log = log.name

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.variant} ended; see {self.log}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def ways(self, cell):
        """Every way to batch a cell's texts and to share the threads."""
        one = cell.startswith("1x")
        if self.variant == OURS:
            sharings = ["split"] if self.threads == 1 else ["joint"] if one else ["joint", "split"]
            return [("packed", sharing) for sharing in sharings]
        groupings = ["padded"] if one else ["padded", "sorted8", "single"]
        sharings = ["joint"] if one or self.threads == 1 else ["joint", "split"]
        return [(grouping, sharing) for grouping in groupings for sharing in sharings]

    def turn(self, cell, way, seconds):
        """Seconds on the clock (the median of the turn) and of CPU for the whole cell."""
        answer = self.ask(cell=cell, way=way, seconds=seconds)
        return statistics.median(answer["wall"]), answer["cpu"]


def figure(threads, turn):
    """What is compared while ways are tried: one thread's CPU time hardly notices other programs."""
    wall, cpu = turn
    return cpu if threads == 1 and cpu > 0.02 else wall


def group(options, files, dtype, threads, record):
    """All cells of a dtype and a number of threads."""
    cells = json.loads(files.ids.read_text())["cells"]
    cells = {name: texts for name, texts in cells.items() if not options.cells or name in options.cells}
    variants = [name for name in VARIANTS[dtype] if not options.peers or name.startswith(tuple(options.peers))]
    processes = [Process(name, dtype, threads, files) for name in ([] if options.no_ours else [OURS]) + variants]
    try:
        if not options.no_ours:
            record.machine(dtype, threads, processes[0].ask(peak=1.0))
        for cell, texts in cells.items():
            contest(options, processes, dtype, threads, cell, texts, record)
        if threads == options.threads[0] and not options.no_cosines:
            cosines(processes, dtype, files, record)
        if not options.no_ours:
            memory(processes[0], dtype, threads, record)
    finally:
        for process in processes:
            process.close()


def contest(options, processes, dtype, threads, cell, texts, record):
    entries = []
    for process in processes:
        tries = {}
        for way in process.ways(cell):
            if sum(map(len, texts)) <= WARM_UP_TOKENS:
                process.ask(cell=cell, way=way, seconds=0)
            tries[way] = process.turn(cell, way, options.seconds / 4)
            time.sleep(PAUSE)
        way = min(tries, key=lambda way: figure(threads, tries[way]))
        entries.append((process, way, tries[way]))
    best = min(figure(threads, tried) for process, _, tried in entries if process.variant != OURS or len(entries) == 1)
    running, turns = [], {}
    for process, way, tried in entries:
        if process.variant == OURS or figure(threads, tried) <= FAR_BEHIND * best:
            running.append((process, way))
        else:
            record.behind(dtype, threads, cell, texts, process.variant, way, tried)
    for _ in range(options.rounds):
        for process, way in random.sample(running, len(running)):
            turns.setdefault((process.variant, way), []).append(process.turn(cell, way, options.seconds))
            time.sleep(PAUSE)
    record.cell(dtype, threads, cell, texts, turns)


def cosines(processes, dtype, files, record):
    """The least and the mean cosine of each one's vectors to PyTorch's in f32."""
    reference_file = files.work / "torch-f32.npy"
    if not reference_file.exists():
        reference = Process("torch f32", "f32", 1, files)
        reference.ask(embed=str(reference_file))
        reference.close()
    reference = unit(np.load(reference_file))
    for process in processes:
        file = files.work / f"{process.variant.replace(' ', '-')}.npy"
        process.ask(embed=str(file))
        vectors = np.fromfile(file, dtype="<f4").reshape(len(reference), -1) if process.variant == OURS else np.load(file)
        cosine = (unit(vectors) * reference).sum(-1)
        record.cosine(dtype, process.variant, cosine.min(), cosine.mean(), len(reference))


def unit(vectors):
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def memory(ours, dtype, threads, record):
    """What is resident, weights apart, after passes of 2,048 tokens on every thread, and then after every length in an order that looks random."""
    ours.ask(cell="32x128", way=("packed", "split"), seconds=0)
    ours.ask(lengths=4)
    before = ours.ask(memory=True)
    ours.ask(lengths=512)
    record.memory(dtype, threads, before, ours.ask(memory=True))
