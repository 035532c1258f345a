# SPDX-License-Identifier: MIT
"""What PyTorch's DataLoader makes of the loop in bench_loader: same batches, same computation.

    loader_pytorch.py [--only CASE] [--workers N] [--epochs N] [--scale X] [--json FILE] [--ours FILE]

Every way in which one would use it takes part: samples collated one by one, or gathered a batch at a
time; uploads on the computing stream, or one batch ahead on another. All pin memory, copy with
non_blocking and keep their workers. A first epoch is not timed and checked whole; of the timed ones the
very last result is. With --ours, the file that bench_loader wrote, ratios to the best of them follow.
"""
import argparse
import json
import os
import shutil
import sys
import time

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

STORED_BYTES_MOST = 512 << 20
SHAPES = {  # batch size, values of a sample, samples, passes; bench/loader.c has the same
    "images": (256, 3 * 112 * 112, 25600, 60),
    "features": (1024, 4096, 204800, 60),
    "tokens": (64, 1024, 64000, 20),
}


class Samples(Dataset):
    """Sample k holds the values of the stored sample k modulo their number; its label is k."""

    def __init__(self, stored, count):
        self.stored, self.count = stored, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.stored[index % len(self.stored)], index


class Batches(Samples):
    """The same, a whole batch at a time."""

    def __getitem__(self, indices):
        labels = torch.tensor(indices)
        return self.stored[labels % len(self.stored)], labels


def store(values, count):
    stored = min(STORED_BYTES_MOST // (values * 4), count)
    rows = torch.arange(stored).unsqueeze(1) * 7
    return ((rows + torch.arange(values)) % 251).to(torch.float32)


def make_loader(stored, shape, workers, is_gathered):
    batch_size, _, count, _ = shape
    settings = {"num_workers": workers, "pin_memory": True, "persistent_workers": True}
    if is_gathered:
        data = Batches(stored, count)
        sampler = BatchSampler(RandomSampler(data), batch_size, drop_last=True)
        return DataLoader(data, sampler=sampler, batch_size=None, **settings)
    return DataLoader(Samples(stored, count), batch_size, shuffle=True, drop_last=True, **settings)


class Compute:
    """A fixed number of passes over the batch, to and fro between two results."""

    def __init__(self, shape, device):
        batch_size, values, _, self.passes = shape
        self.results = [torch.zeros(batch_size, values, device=device) for _ in range(2)]

    def __call__(self, source):
        torch.add(source, 1, out=self.results[0])
        for index in range(1, self.passes):
            torch.add(self.results[(index - 1) % 2], 1, out=self.results[index % 2])
        return self.results[(self.passes - 1) % 2]


def upload_here(batches):
    for values, labels in batches:
        yield values.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True)


def upload_ahead(batches):
    """One batch ahead, on a stream of its own."""
    side, ahead = torch.cuda.Stream(), None
    for values, labels in batches:
        with torch.cuda.stream(side):
            coming = (values.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True))
            uploaded = side.record_event()
        if ahead:
            yield claim(*ahead)
        ahead = (coming, uploaded)
    if ahead:
        yield claim(*ahead)


def claim(tensors, uploaded):
    stream = torch.cuda.current_stream()
    stream.wait_event(uploaded)
    for tensor in tensors:
        tensor.record_stream(stream)
    return tensors


def check(stored, passes, labels, result):
    labels = labels.cpu()
    if not torch.equal(result.cpu(), stored[labels % len(stored)] + passes):
        sys.exit("PyTorch: wrong output")


def run_epoch(loader, upload, compute, stored, is_checked, events):
    seen = []
    for values, labels in upload(loader):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = compute(values)
        end.record()
        events.append((start, end))
        if is_checked:
            check(stored, compute.passes, labels, result)
            seen.append(labels.cpu())
    if is_checked and len(torch.cat(seen).unique()) != sum(map(len, seen)):
        sys.exit("PyTorch: a sample came twice")
    return labels, result


def measure(loader, upload, compute, stored, epochs):
    """Seconds of a step, and the share of time in which nothing was computed."""
    run_epoch(loader, upload, compute, stored, True, [])
    events = []
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(epochs):
        last = run_epoch(loader, upload, compute, stored, False, events)
    torch.cuda.synchronize()
    step = (time.perf_counter() - began) / len(events)
    check(stored, compute.passes, *last)
    busy = sum(start.elapsed_time(end) for start, end in events)
    return step, 1 - busy / events[0][0].elapsed_time(events[-1][1])


def time_alone(compute):
    best = 1e9
    for _ in range(3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(20):
            compute(compute.results[1])
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / 20)
    return best


def limit_workers(workers, batch_bytes):
    """Workers hand batches over in /dev/shm, two for each ahead and one in the making."""
    room = shutil.disk_usage("/dev/shm").free * 0.8
    allowed = max(1, int(room // (3 * batch_bytes)))
    if allowed < workers:
        print(f"  [/dev/shm has room for {allowed} workers]")
    return min(workers, allowed)


def measure_case(name, shape, workers, epochs, add):
    stored = store(shape[1], shape[2])
    compute = Compute(shape, "cuda")
    workers = limit_workers(workers, shape[0] * shape[1] * 4)
    best = (1e9, 1.0)
    for is_gathered in (False, True):
        loader = make_loader(stored, shape, workers, is_gathered)
        for upload, how in ((upload_here, "here"), (upload_ahead, "ahead")):
            step, idle = measure(loader, upload, compute, stored, epochs)
            kind = "gathered" if is_gathered else "collated"
            add(f"PyTorch: {name}, {kind}, uploaded {how}: step", step * 1e3, "ms")
            add(f"PyTorch: {name}, {kind}, uploaded {how}: GPU idle share", idle, "")
            best = min(best, (step, idle))
        del loader
    add(f"PyTorch: {name}: computation alone", time_alone(compute) * 1e3, "ms")
    return best


def main():
    cpus = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--workers", type=int, default=max(1, cpus - 2))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--json")
    parser.add_argument("--ours")
    options = parser.parse_args()
    rows = []

    def add(name, value, unit, relation=None, bound=None):
        row = {"name": name, "value": value, "unit": unit}
        if relation:
            row |= {"relation": relation, "bound": bound}
        rows.append(row)
        wanted = f"{relation} {bound}" if relation else ""
        print(f"  {name:60} {value:10.4f} {unit:4} {wanted}", flush=True)

    print("loader_pytorch", torch.__version__)
    ours = {}
    if options.ours:
        with open(options.ours, encoding="utf-8") as file:
            ours = {row["name"]: row["value"] for row in json.load(file)["rows"]}
    for name, (batch_size, values, count, passes) in SHAPES.items():
        if options.only not in (None, name):
            continue
        shape = (batch_size, values, max(2 * batch_size, int(count * options.scale)), passes)
        step, idle = measure_case(name, shape, options.workers, options.epochs, add)
        if f"{name}: step" in ours:
            ratio = ours[f"{name}: step"] / (step * 1e3)
            more = ours[f"{name}: GPU idle share"] - idle
            add(f"ours / PyTorch's best: {name}, step", ratio, "x", "<=", 1)
            add(f"ours - PyTorch's best: {name}, GPU idle share", more, "", "<=", 0)

    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"bench": "loader_pytorch", "version": torch.__version__, "rows": rows}, file)


if __name__ == "__main__":
    main()
