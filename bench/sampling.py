#!/usr/bin/env python3
"""What a diagnosis costs: processor time a request, without its listener, with it, and while a profile and a trace are being recorded.

    python3 bench/sampling.py target/release/plimsoll [--requests 100] [--rounds 10] [--launches 8]

One client asks /embed for texts of 40 characters: past the cache, where the encoder is the work, and ten times as often from it, where everything else is. The
three servers take short turns in a changing order, so that whatever else the machine does hits all. They are launched anew several times, as where a process lies in
memory alone makes one up to a twentieth faster than the next. A ratio is taken within a round; the median of the launches' medians is given with the launches' range.
Processor time is the kernel's, in nanoseconds, over all threads.
Recordings are read by a process of its own all the time, and their making is the server's work.
"""

import argparse
import http.client
import json
import multiprocessing
import pathlib
import random
import socket
import statistics
import subprocess
import time

CASES = ["off", "listening", "recording"]
RECORDINGS = ["/debug/pprof/profile?seconds=30", "/debug/trace?seconds=30"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(port, path):
    """Takes one recording after the other."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(f"GET {path} HTTP/1.1\r\nhost: debug\r\nconnection: close\r\n\r\n".encode())
            while one.recv(1 << 20):
                pass


class Server:
    def __init__(self, binary, case):
        self.port, self.debug, self.case = free_port(), free_port(), case
        flags = [] if case == "off" else ["--debug-listen", f"127.0.0.1:{self.debug}"]
        command = [binary, "serve", "--port", str(self.port), "--memory-limit", "256MiB", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.02)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        paths = RECORDINGS if case == "recording" else []
        self.readers = [multiprocessing.Process(target=read, args=(self.debug, path), daemon=True) for path in paths]
        for reader in self.readers:
            reader.start()

    def end(self):
        for reader in self.readers:
            reader.terminate()
        self.process.terminate()
        self.process.wait()

    def cpu_seconds(self):
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def turn(self, bodies, cache):
        """Processor and wall microseconds a request."""
        cpu, wall = self.cpu_seconds(), time.perf_counter()
        headers = {"content-type": "application/json", "x-plimsoll-cache": cache}
        for body in bodies:
            self.connection.request("POST", "/embed", body, headers)
            answer = self.connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        wall, cpu = time.perf_counter() - wall, self.cpu_seconds() - cpu
        return 1e6 * cpu / len(bodies), 1e6 * wall / len(bodies)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--launches", type=int, default=8)
    options = parser.parse_args()
    rng = random.Random(1)
    bodies = [json.dumps({"inputs": "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(40))}) for _ in range(options.requests)]
    launches = [launch(options, bodies, rng) for _ in range(options.launches)]
    print("| answers | case | processor µs a request | of off | wall µs a request | of off |\n|---|---|---|---|---|---|")
    for key in launches[0]:
        cells = []
        for which in range(2):
            times = [statistics.median(turn[which] for turn in turns[key]) for turns in launches]
            ratios = [ratio(turns, key, which) for turns in launches]
            cells += [f"{statistics.median(times):.0f}", f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"]
        print(f"| {' | '.join([*key, *cells])} |")


def launch(options, bodies, rng):
    """All turns of three new servers, by what was asked and of whom."""
    servers = [Server(options.binary, case) for case in rng.sample(CASES, len(CASES))]
    known = bodies[:64]
    for server in servers:
        server.turn(bodies, "off")
        server.turn(known, "on")
    asked = known * (10 * len(bodies) // len(known))
    asks = [("past the cache", bodies, "off"), ("from the cache", asked, "on")]
    turns = {(name, case): [] for name, _, _ in asks for case in CASES}
    for _ in range(options.rounds):
        for name, texts, cache in asks:
            for server in rng.sample(servers, len(servers)):
                turns[name, server.case].append(server.turn(texts, cache))
    for server in servers:
        server.end()
    return turns


def ratio(turns, key, which):
    """Of processor (0) or wall (1) time to what the server without the listener took in the same round."""
    without = turns[key[0], "off"]
    return statistics.median(turn[which] / off[which] for turn, off in zip(turns[key], without))


if __name__ == "__main__":
    main()
