"""The record: a CSV with every figure, and a page with the ratios."""

import csv
import json
import os
import platform
import statistics
from datetime import date
from importlib.metadata import version

from encoder_rounds import OURS

FIELDS = ["measure", "dtype", "threads", "cell", "tokens", "peer", "way", "rounds", "value", "unit", "low", "high", "cpu_value"]
PACKAGES = ["openvino", "onnxruntime", "ctranslate2", "torch", "nncf"]


class Record:
    def __init__(self, options, files):
        self.options, self.rows, self.lines = options, [], {}
        self.config = json.loads((files.model / "config.json").read_text())
        self.peaks, self.load = {}, os.getloadavg()[0]

    def path(self, extension):
        return self.options.record / f"{self.options.name}.{extension}"

    def add(self, measure, dtype, threads, **fields):
        self.rows.append({"measure": measure, "dtype": dtype, "threads": threads, **fields})
        shown = [str(value) for value in self.rows[-1].values() if value != ""]
        print(" ".join(shown), flush=True)

    def machine(self, dtype, threads, peak):
        self.peaks[dtype, threads] = peak["operations_per_second"]
        if peak["operations_per_second"]:
            self.add("peak", dtype, threads, value=round(peak["operations_per_second"] / 1e9, 1), unit="GFLOP/s")
        self.add("read", dtype, threads, value=round(peak["read_bytes_per_second"] / 1e9, 1), unit="GB/s")

    def behind(self, dtype, threads, cell, texts, peer, way, tried):
        """A peer that was tried once."""
        tokens = sum(map(len, texts))
        wall, cpu = tried
        self.add("tried", dtype, threads, cell=cell, tokens=tokens, peer=peer, way="/".join(way), rounds=1, **milliseconds(wall, cpu))

    def cell(self, dtype, threads, cell, texts, turns):
        """All rounds of a cell."""
        tokens = sum(map(len, texts))
        medians = {name: [statistics.median(values) for values in zip(*rounds)] for name, rounds in turns.items()}
        for (peer, way), rounds in turns.items():
            wall, cpu = medians[peer, way]
            spread = [1e3 * pick(turn[0] for turn in rounds) for pick in (min, max)]
            fields = milliseconds(wall, cpu) | {"low": digits(spread[0]), "high": digits(spread[1])}
            self.add("time", dtype, threads, cell=cell, tokens=tokens, peer=peer, way="/".join(way), rounds=len(rounds), **fields)
        ours = next((name for name in turns if name[0] == OURS), None)
        peers = [name for name in turns if name[0] != OURS]
        line = {"tokens": tokens, "texts": texts, "medians": medians, "ours": ours}
        if peers:
            line["best"] = min(peers, key=lambda name: medians[name][0])
        if ours and peers:
            # The peer that needs least CPU may be another than the one that needs least time.
            thrifty = min(peers, key=lambda name: medians[name][1])
            walls = [theirs[0] / own[0] for theirs, own in zip(turns[line["best"]], turns[ours])]
            cpus = [theirs[1] / own[1] for theirs, own in zip(turns[thrifty], turns[ours])]
            line["ratio"] = statistics.median(walls), min(walls), max(walls), statistics.median(cpus)
            ratio, low, high, cpu = map(digits, line["ratio"])
            way = "/".join(line["best"][1])
            self.add("ratio", dtype, threads, cell=cell, tokens=tokens, peer=line["best"][0], way=way, rounds=len(walls), value=ratio, unit="x",
                     low=low, high=high, cpu_value=cpu)  # fmt: skip
        self.lines[dtype, threads, cell] = line

    def cosine(self, dtype, peer, least, mean, texts):
        self.add("cosine", dtype, "", peer=peer, rounds=texts, value=f"{mean:.7f}", low=f"{least:.7f}")

    def memory(self, dtype, threads, before, after):
        for name in before:
            self.add(f"memory {name}", dtype, threads, peer=OURS, value=before[name], unit="bytes", high=after[name])

    def write(self):
        self.options.record.mkdir(parents=True, exist_ok=True)
        with open(self.path("csv"), "w", newline="") as file:
            file.write(f"# {self.heading()}\n")
            writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        self.path("md").write_text(self.page())

    def heading(self):
        with open("/proc/cpuinfo") as file:
            names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            cpu = next(names, platform.machine())
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        loads = f"load average {self.load:.1f} before, {os.getloadavg()[0]:.1f} after"
        return f"encoder_speed, all-MiniLM-L6-v2, {date.today()}, {cpu}, {os.cpu_count()} cores, {loads}; {packages}"

    def share(self, dtype, threads, line):
        peak = self.peaks.get((dtype, threads))
        if not peak or not line["ours"]:
            return ""
        operations = sum(flops(self.config, len(text)) for text in line["texts"])
        wall, cpu = line["medians"][line["ours"]]
        return f"{operations / wall / peak:.0%}" + (f" ({operations / cpu / peak:.0%})" if threads == 1 else "")

    def page(self):
        lines = ["# The encoder beside its peers", "", self.heading() + ".", "", NOTE, ""]
        for dtype, threads in dict.fromkeys((dtype, threads) for dtype, threads, _ in self.lines):
            peak = self.peaks.get((dtype, threads))
            title = f"{dtype}, {threads} thread" + "s" * (threads > 1) + (f", peak {peak / 1e9:.0f} G/s" if peak else "")
            lines += [f"## {title}", "", "| cell | ours | best peer | which, how | ratio | range | by CPU time | share of the peak |", "|" + "---|" * 8]
            for (line_dtype, line_threads, cell), line in self.lines.items():
                if (line_dtype, line_threads) == (dtype, threads):
                    lines.append(self.table_row(dtype, threads, cell, line))
            lines.append("")
        lines += ["## Cosine to PyTorch in f32", "", "| dtype | who | least | mean | texts |", "|" + "---|" * 5]
        for row in self.rows:
            if row["measure"] == "cosine":
                lines.append(f"| {row['dtype']} | {row['peer']} | {row['low']} | {row['value']} | {row['rounds']} |")
        lines += ["", "## Memory beside the weights", "", "| dtype | threads | after passes of 2,048 tokens | after every length from 1 to 512 |", "|" + "---|" * 4]
        for row in self.rows:
            if row["measure"] == "memory rest_bytes":
                lines.append(f"| {row['dtype']} | {row['threads']} | {row['value'] / 2**20:.1f} MiB | {row['high'] / 2**20:.1f} MiB |")
        return "\n".join(lines) + "\n"

    def table_row(self, dtype, threads, cell, line):
        def shown(name):
            wall = line["medians"][name][0]
            return f"{digits(1e3 * wall)} ms" if cell.startswith("1x") else f"{line['tokens'] / wall / 1e3:.2f} k/s"

        own = shown(line["ours"]) if line["ours"] else ""
        best = line.get("best")
        peer = f"{shown(best)} | {best[0]}, {'/'.join(best[1])}" if best else " | "
        ratio, low, high, cpu = line.get("ratio", [None] * 4)
        ratios = f"{ratio:.2f} | {low:.2f} to {high:.2f} | {cpu:.2f}" if ratio else " | | "
        return f"| {cell} | {own} | {peer} | {ratios} | {self.share(dtype, threads, line)} |"


NOTE = """Cells are texts x tokens; `k/s` are thousand real tokens a second (padding does not count), `ms` the time of one text. A ratio above 1 says that we are
faster than the best peer of that cell: the median over the rounds, each round's ratio its own, with their range. `By CPU time` compares CPU time with the peer that
needs least of it. The share of the peak counts the operations of products and attention; in brackets by CPU time."""


def milliseconds(wall, cpu):
    return {"value": digits(1e3 * wall), "unit": "ms", "cpu_value": digits(1e3 * cpu)}


def digits(value):
    return float(f"{value:.4g}")


def flops(config, length):
    """Operations of one text: the six products of every layer, and the two of attention."""
    hidden, middle = config["hidden_size"], config["intermediate_size"]
    products = 2 * (4 * hidden * hidden + 2 * hidden * middle)
    return config["num_hidden_layers"] * length * (products + 4 * length * hidden)
