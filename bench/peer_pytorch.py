# SPDX-License-Identifier: MIT
"""What PyTorch makes of copy in, scale, copy out: the usual loop over four streams.

    peer_pytorch.py [--json FILE]

Rows are named as those of bench_gpu_stream. Outputs are poisoned before a run and checked after it.
"""
import json
import statistics
import sys
import time

import torch

GIB = 1 << 30
FACTOR = 1.5
STREAMS = 4
RUNS = 5


def make(count, is_pinned):
    source = torch.arange(count, dtype=torch.int32).remainder_(251).to(torch.float32)
    target = torch.empty(count, dtype=torch.float32)
    return (source.pin_memory(), target.pin_memory()) if is_pinned else (source, target)


def stream_through(source, target, item, streams):
    """Each item on the next stream: in, scaled, out."""
    for index, at in enumerate(range(0, source.numel(), item)):
        with torch.cuda.stream(streams[index % STREAMS]):
            part = source[at : at + item].to("cuda", non_blocking=True)
            part.mul_(FACTOR)
            target[at : at + item].copy_(part, non_blocking=True)


def stream_to_gpu(source, target, item, streams):
    """The results stay on the GPU."""
    for index, at in enumerate(range(0, source.numel(), item)):
        with torch.cuda.stream(streams[index % STREAMS]):
            part = source[at : at + item].to("cuda", non_blocking=True)
            torch.mul(part, FACTOR, out=target[at : at + item])


def measure(run, source, target, item):
    """Bytes per second: the median of some runs after one to warm up, each checked."""
    streams = [torch.cuda.Stream() for _ in range(STREAMS)]
    expected = source * FACTOR
    rates = []
    for index in range(RUNS + 1):
        target.fill_(float("nan"))
        torch.cuda.synchronize()
        began = time.perf_counter()
        run(source, target, item, streams)
        torch.cuda.synchronize()
        spent = time.perf_counter() - began
        if not torch.equal(target.cpu(), expected):
            sys.exit("PyTorch: wrong output")
        if index:
            rates.append(source.numel() * 4 / spent)
    return statistics.median(rates)


def main():
    rows = []

    def add(name, rate):
        rows.append({"name": name, "value": rate / 1e9, "unit": "GB/s"})
        print(f"  {name:60} {rate / 1e9:8.3f} GB/s")

    print("peer_pytorch", torch.__version__)
    count = GIB // 4
    labels = {"256 KiB": 1 << 18, "1 MiB": 1 << 20, "4 MiB": 1 << 22, "16 MiB": 1 << 24}
    source, target = make(count, True)
    for label, size in labels.items():
        rate = measure(stream_through, source, target, size // 4)
        add(f"PyTorch: pinned, 1 GiB, items of {label}", rate)
    del source, target

    source, target = make(count, False)
    for label in ("1 MiB", "16 MiB"):
        rate = measure(stream_through, source, target, labels[label] // 4)
        add(f"PyTorch: pageable to pageable, 1 GiB, items of {label}", rate)
    resident = torch.empty(count, dtype=torch.float32, device="cuda")
    rate = measure(stream_to_gpu, source, resident, labels["16 MiB"] // 4)
    add("PyTorch: pageable to GPU, 1 GiB, items of 16 MiB", rate)

    if "--json" in sys.argv:
        path = sys.argv[sys.argv.index("--json") + 1]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"bench": "peer_pytorch", "version": torch.__version__, "rows": rows}, file)


main()
