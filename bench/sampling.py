#!/usr/bin/env python3
"""What a diagnosis costs: processor time a request, without its listener, with it, and while a profile and a trace are being recorded.

    python3 bench/sampling.py target/release/plimsoll [--requests 2000] [--rounds 5]

One client asks /embed for texts of 40 characters: past the cache, where the encoder is the work, and ten times as often from it, where everything else is. The
three servers take turns, so that whatever else the machine does hits all. Processor time is the kernel's, in nanoseconds, over all threads.
"""

import argparse
import http.client
import json
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

    def record(self):
        """Asks for a recording of half a minute, and hangs up at the end of a turn."""
        sockets = []
        for path in RECORDINGS:
            one = socket.create_connection(("127.0.0.1", self.debug))
            one.sendall(f"GET {path} HTTP/1.1\r\nhost: debug\r\n\r\n".encode())
            sockets.append(one)
        return sockets

    def cpu_seconds(self):
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def turn(self, bodies, cache):
        """Processor and wall microseconds a request."""
        recordings = self.record() if self.case == "recording" else []
        cpu, wall = self.cpu_seconds(), time.perf_counter()
        headers = {"content-type": "application/json", "x-plimsoll-cache": cache}
        for body in bodies:
            self.connection.request("POST", "/embed", body, headers)
            answer = self.connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        wall, cpu = time.perf_counter() - wall, self.cpu_seconds() - cpu
        for one in recordings:
            one.close()
        return 1e6 * cpu / len(bodies), 1e6 * wall / len(bodies)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rng = random.Random(1)
    bodies = [json.dumps({"inputs": "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(40))}) for _ in range(options.requests)]
    servers = [Server(options.binary, case) for case in CASES]
    known = bodies[:64]
    for server in servers:
        server.turn(bodies[:200], "off")
        server.turn(known, "on")
    turns = {(name, case): [] for name in ["past the cache", "from the cache"] for case in CASES}
    for _ in range(options.rounds):
        for server in servers:
            turns["past the cache", server.case].append(server.turn(bodies, "off"))
        for server in servers:
            asked = known * (10 * len(bodies) // len(known))
            turns["from the cache", server.case].append(server.turn(asked, "on"))
    print("| answers | case | processor µs a request | of off | wall µs a request | of off |\n|---|---|---|---|---|---|")
    for (name, case), mine in turns.items():
        cells = []
        for which in range(2):
            ratios = [turn[which] / off[which] for turn, off in zip(mine, turns[name, "off"])]
            times = [turn[which] for turn in mine]
            cells += [f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})", f"{statistics.median(ratios):.3f}"]
        print(f"| {name} | {case} | {' | '.join(cells)} |")
    for server in servers:
        server.process.terminate()
        server.process.wait()


if __name__ == "__main__":
    main()
