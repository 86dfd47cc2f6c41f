"""Telemetry under load: what is exported, dropped and lost, and what it costs the server, with collectors that are well, slow, refusing and gone.

    python3 -m venv venv && venv/bin/pip install opentelemetry-proto grpcio prometheus_client
    venv/bin/python bench/telemetry.py target/release/plimsoll [--rate 1700] [--seconds 10] [--rounds 1] [--full]

Each case starts the server anew and asks /tokenize at a steady rate over 16 connections (--full: as fast as they go). The collector decodes what it gets with OpenTelemetry's own
Python messages and counts spans by id. /metrics is read with Prometheus' own parser. Lost are spans that the server counts as exported and the collector has not seen.

With --rounds the cases take turns, each round in another order, and a table of medians with the least and the most ends the run.
"""

import argparse
import http.server
import json
import multiprocessing
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request
from concurrent import futures

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_service
from prometheus_client.parser import text_string_to_metric_families

CONNECTIONS, PROCESSES = 16, 2
BODY = json.dumps({"inputs": "一句话 and a few words"}).encode()
REQUEST = (f"POST /tokenize HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(BODY)}\r\n\r\n").encode() + BODY


class Seen:
    """What a collector has been sent."""

    def __init__(self):
        self.ids, self.spans, self.metrics, self.batch_max = set(), 0, set(), 0

    def traces(self, message):
        spans = [span for r in message.resource_spans for s in r.scope_spans for span in s.spans]
        assert all(len(span.trace_id) == 16 and span.end_time_unix_nano >= span.start_time_unix_nano for span in spans)
        self.spans += len(spans)
        self.batch_max = max(self.batch_max, len(spans))
        self.ids.update(span.span_id for span in spans)

    def measurements(self, message):
        metrics = (m for r in message.resource_metrics for s in r.scope_metrics for m in s.metrics)
        self.metrics.update(metric.name for metric in metrics)


def http_collector(seen, health):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if health == "slow":
                time.sleep(5)
            if health == "refusing":
                self.send_response(503)
            else:
                is_traces = self.path == "/v1/traces"
                kind = trace_messages.ExportTraceServiceRequest if is_traces else metrics_messages.ExportMetricsServiceRequest
                (seen.traces if is_traces else seen.measurements)(kind.FromString(body))
                self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1], server.shutdown


def grpc_collector(seen, health):
    class Traces(trace_service.TraceServiceServicer):
        def Export(self, request, context):
            if health == "slow":
                time.sleep(5)
            if health == "refusing":
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            seen.traces(request)
            return trace_messages.ExportTraceServiceResponse()

    class Metrics(metrics_service.MetricsServiceServicer):
        def Export(self, request, context):
            seen.measurements(request)
            return metrics_messages.ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service.add_MetricsServiceServicer_to_server(Metrics(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return port, lambda: server.stop(0)


def ask(connections, port, rate, seconds, results):
    """Keeps each connection at its share of the rate; tells the latencies and the statuses that are not 200."""
    latencies, others, sockets = [], 0, []
    for _ in range(connections):
        tcp = socket.create_connection(("127.0.0.1", port))
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.append(tcp)
    ends, turn, pause = time.perf_counter() + seconds, 0, 1 / rate if rate else 0
    due = time.perf_counter()
    while time.perf_counter() < ends:
        due += pause
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        tcp = sockets[turn % connections]
        turn += 1
        began = time.perf_counter()
        tcp.sendall(REQUEST)
        reply = b""
        while True:
            reply += tcp.recv(65536)
            head, found, body = reply.partition(b"\r\n\r\n")
            if found and len(body) >= int(re.search(rb"content-length: (\d+)", head)[1]):
                break
        latencies.append(time.perf_counter() - began)
        others += not head.startswith(b"HTTP/1.1 200")
    results.put((latencies, others))


def scrape(port):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type != "unknown" and family.documentation, family.name
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.values()))] = sample.value
    return found


def peak_kib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def cpu_us(pid):
    """Processor time that a process has used."""
    user, system = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * 1e6 / os.sysconf("SC_CLK_TCK")


def measure(options, name, flags, seen):
    command = [options.plimsoll, "serve", "--hostname", "localhost", "--port", "0", "--memory-limit", options.memory_limit]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as server:
        lines = iter(server.stderr.readline, "")
        port = next(int(line.rsplit(":", 1)[1]) for line in lines if line.startswith("serving"))
        threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
        results = multiprocessing.Queue()
        rate = 0 if options.full else options.rate / PROCESSES
        workers = [
            multiprocessing.Process(target=ask, args=(CONNECTIONS // PROCESSES, port, rate, options.seconds, results))
            for _ in range(PROCESSES)
        ]
        before_us = cpu_us(server.pid)
        [worker.start() for worker in workers]
        told = [results.get() for _ in workers]
        [worker.join() for worker in workers]
        used_us = cpu_us(server.pid) - before_us
        metrics = scrape(port)
        peak = peak_kib(server.pid)
        waiting = lambda: scrape(port).get(("plimsoll_otlp_waiting_requests",), 0)
        deadline = time.time() + 12
        while seen is not None and name.startswith("well") and waiting() and time.time() < deadline:
            time.sleep(0.2)
        after = scrape(port)
        server.send_signal(signal.SIGTERM)
        began = time.time()
        server.wait(40)
        stopped_s = time.time() - began
    latencies = sorted(latency for part, _ in told for latency in part)
    quantile = lambda share: 1e6 * latencies[int(share * (len(latencies) - 1))]
    dropped = {key[1]: int(value) for key, value in after.items() if key[0] == "plimsoll_otlp_spans_dropped_total" and value}
    exported = int(after.get(("plimsoll_otlp_spans_exported_total",), 0))
    row = {
        "case": name,
        "requests_per_s": round(len(latencies) / options.seconds),
        "not_200": sum(others for _, others in told),
        "p50_us": round(quantile(0.5)),
        "p99_us": round(quantile(0.99)),
        "cpu_us": round(used_us / len(latencies)),
        "peak_resident_kib": peak,
        "heap_live_kib": round(metrics[("plimsoll_heap_live_bytes",)] / 1024),
        "spans_recorded": int(after.get(("plimsoll_otlp_spans_recorded_total",), 0)),
        "exported": exported,
        "dropped": dropped,
        "stopped_s": round(stopped_s, 2),
    }
    if seen is not None:
        # The last batch comes as the server stops, after its counters were read.
        row["collector_ids"] = len(seen.ids)
        row["lost"] = max(0, exported - len(seen.ids))
        row["twice"] = seen.spans - len(seen.ids)
        row["largest_batch"] = seen.batch_max
        row["metrics"] = len(seen.metrics)
    print(json.dumps(row), flush=True)
    return row


def show(rows):
    """Medians of the rounds, the least and the most behind them."""
    columns = ["requests_per_s", "p50_us", "p99_us", "cpu_us", "peak_resident_kib"]
    print("\n| case |", " | ".join(columns), "| spans recorded | exported | dropped | lost |")
    print("|---|" + "---|" * (len(columns) + 4))
    for name in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == name]
        cells = []
        for column in columns:
            values = sorted(row[column] for row in mine)
            cells.append(f"{statistics.median(values):,.0f} ({values[0]:,} to {values[-1]:,})")
        dropped = sum(sum(row["dropped"].values()) for row in mine)
        sums = [sum(row["spans_recorded"] for row in mine), sum(row["exported"] for row in mine), dropped, sum(row.get("lost", 0) for row in mine)]
        print(f"| {name} |", " | ".join([*cells, *(f"{value:,}" for value in sums)]), "|")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("plimsoll")
    parser.add_argument("--rate", type=float, default=1700, help="requests a second; each has six spans")
    parser.add_argument("--full", action="store_true", help="as fast as the connections go")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory-limit", default="256MiB")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose name has one of these in it")
    options = parser.parse_args()
    cases = [("off", None, None), ("off, access log", None, None)]
    cases += [(f"{health}, {protocol}", health, protocol) for health in ("well", "slow", "refusing", "gone") for protocol in ("grpc", "http/protobuf")]
    cases = [case for case in cases if any(part in case[0] for part in options.only)]
    rows = []
    for number in range(options.rounds):
        for name, health, protocol in random.Random(number).sample(cases, len(cases)) if number else cases:
            seen, stop, flags = None, None, ["--access-log"] if "log" in name else []
            if health:
                seen = Seen()
                start = grpc_collector if protocol == "grpc" else http_collector
                port, stop = (9, None) if health == "gone" else start(seen, health)
                flags = ["--otlp-endpoint", f"http://127.0.0.1:{port}", "--otlp-protocol", protocol]
            rows.append(measure(options, name, flags, seen))
            if stop:
                stop()
    if options.rounds > 1:
        show(rows)


if __name__ == "__main__":
    main()
