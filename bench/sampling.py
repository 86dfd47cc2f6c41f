#!/usr/bin/env python3
"""What a diagnosis costs: processor time a request, without its listener, with it, and while a profile and a trace are being recorded.

    python3 bench/sampling.py target/release/plimsoll [--answers cache] [--seconds 2] [--rounds 4] [--launches 8]

One client asks /embed for texts of 40 characters: past the cache, where the encoder is the work, or from it, where everything else is. A turn lasts --seconds; those of
all cases take place in a changing order, so that whatever else the machine does hits all. Processor time is the kernel's, in nanoseconds, over all threads. A recording
turn begins before its recordings and ends after them, so it pays for their making, naming and sending, at shorter recordings than anybody takes. They are read by processes
of their own.

Where a process lies in memory alone makes one up to a twentieth faster than the next, far more than what is looked for. So "recording" and "listening" are turns of one
process, and their ratio is taken within a round. "off" can only be another process: that ratio is known as well as launches are many. Standard errors say how well. What
the thread that answers a diagnosis takes is told apart: nothing else of the process is in it, so it is known to hundredths of a microsecond.
"""

import argparse
import http.client
import json
import math
import multiprocessing
import pathlib
import random
import socket
import statistics
import subprocess
import time

RECORDINGS = ["/debug/pprof/profile", "/debug/trace"]
CASES = ["off", "listening", "recording"]
CACHE = {"cache": "on", "encoder": "off"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(port, path):
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nhost: debug\r\nconnection: close\r\n\r\n".encode())
        while one.recv(1 << 20):
            pass


class Server:
    def __init__(self, binary, listens):
        self.port, self.debug = free_port(), free_port()
        flags = ["--debug-listen", f"127.0.0.1:{self.debug}"] if listens else []
        command = [binary, "serve", "--port", str(self.port), "--memory-limit", "256MiB", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.02)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def cpu_us(self):
        """Of all threads, and of the one that answers a diagnosis."""
        every, debug = 0, 0
        for thread in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            ns = int((thread / "schedstat").read_text().split()[0])
            every += ns
            debug += ns if (thread / "comm").read_text() == "debug\n" else 0
        return every / 1e3, debug / 1e3

    def ask(self, bodies, cache):
        headers = {"content-type": "application/json", "x-plimsoll-cache": cache}
        for body in bodies:
            self.connection.request("POST", "/embed", body, headers)
            answer = self.connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status

    def turn(self, bodies, cache, seconds, recordings):
        """Microseconds a request: of the processors, of them in the thread that answers a diagnosis, and from request to request."""
        paths = [f"{path}?seconds={seconds}" for path in recordings]
        readers = [multiprocessing.Process(target=read, args=(self.debug, path), daemon=True) for path in paths]
        count, began, before = 0, time.perf_counter(), self.cpu_us()
        for reader in readers:
            reader.start()
        while time.perf_counter() < began + seconds or any(reader.is_alive() for reader in readers):
            self.ask(bodies, cache)
            count += len(bodies)
        wall, after = time.perf_counter() - began, self.cpu_us()
        return [(after[0] - before[0]) / count, (after[1] - before[1]) / count, 1e6 * wall / count]


def launch(options, bodies, rng):
    """All turns of two new servers, by case."""
    cache = CACHE[options.answers]
    off, on = (Server(options.binary, listens) for listens in (False, True))
    for server in (off, on):
        server.ask(10 * bodies, cache)
    turns = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case in rng.sample(CASES, len(CASES)):
            recordings = RECORDINGS if case == "recording" else []
            turns[case].append((off if case == "off" else on).turn(bodies, cache, options.seconds, recordings))
    off.end()
    on.end()
    return turns


def typical(values):
    """Median with its standard error, from the quartiles: a turn in which something else had the machine must not decide."""
    if len(values) < 4:
        return f"{statistics.median(values):.4f}"
    low, _, high = statistics.quantiles(values)
    return f"{statistics.median(values):.4f} ± {0.93 * (high - low) / math.sqrt(len(values)):.4f}"


def ratio(launches, case, of, which):
    """Within rounds: of one process, all of them count; between two, only launches are independent of each other."""
    ratios = [[a[which] / b[which] for a, b in zip(turns[case], turns[of])] for turns in launches]
    if of == "off":
        return typical([statistics.median(rounds) for rounds in ratios])
    return typical([value for rounds in ratios for value in rounds])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--answers", choices=CACHE, default="cache", help="where they come from")
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--launches", type=int, default=8)
    options = parser.parse_args()
    rng = random.Random(1)
    bodies = [json.dumps({"inputs": "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(40))}) for _ in range(64)]
    launches = [launch(options, bodies, rng) for _ in range(options.launches)]
    print(f"Answers from the {options.answers}:\n")
    print("| case | processor µs a request | of which diagnosis | processor, to listening | to off | wall µs | wall, to listening |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        cells = [statistics.median(turn[which] for turns in launches for turn in turns[case]) for which in range(3)]
        ratios = ["1" if case == of else ratio(launches, case, of, which) for of, which in (("listening", 0), ("off", 0), ("listening", 2))]
        if case == "off":
            ratios[0] = ratios[2] = ""
        print(f"| {case} | {cells[0]:.1f} | {cells[1]:.2f} | {ratios[0]} | {ratios[1]} | {cells[2]:.0f} | {ratios[2]} |")


if __name__ == "__main__":
    main()
