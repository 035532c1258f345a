# SPDX-License-Identifier: MIT
"""The textures and scores of the vision job in PyTorch, over streams, from decoded images in pinned memory.

    vision_pytorch.py FOLDER [--json FILE] [--ours FILE] [--device DEVICE]

FOLDER is what bench_vision_stages --dump left: images, and what came of one of them. PyTorch's textures,
scores and tokens of that one are compared with ours; then it is timed as multi-stream PyTorch code is
usually written: each image (or batch) on the next of some streams, the three scorers on streams of their
own where that is faster, results copied to pinned memory. The best of all ways is the measure. It shares
tokens out, but compresses nothing.
"""
import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F

RUNS = 3
IMAGES = 128
CELLS = 4
COLOURS = [(0, 0, 0), (128, 128, 128), (255, 255, 255), (215, 20, 25), (250, 130, 10),
           (250, 220, 20), (30, 150, 50), (20, 70, 200), (125, 35, 150), (250, 160, 185),
           (120, 70, 30)]


def linear_light(stored):
    return torch.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def lab_curve(t):
    return torch.where(t > (6 / 29) ** 3, t.clamp(min=1e-6) ** (1 / 3),
                       t / (3 * (6 / 29) ** 2) + 4 / 29)


def lab_of(linear):
    """L, a, b over 100, 128, 128 of (batch, 3, ...), and luminance."""
    red, green, blue = linear[:, 0], linear[:, 1], linear[:, 2]
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = lab_curve(x), lab_curve(y), lab_curve(z)
    lab = torch.stack([1.16 * fy - 0.16, 500 / 128 * (fx - fy), 200 / 128 * (fy - fz)], 1)
    return lab, y


class Model:
    """What is made once: constants, places of pixels, the query."""

    def __init__(self, shape, folder, device):
        self.width, self.height = shape["width"], shape["height"]
        self.columns, self.rows = shape["columns"], shape["rows"]
        self.budget, self.least, self.most = shape["budget"], 64, 400
        self.device = device
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=device) / 4
        self.sobel = torch.stack([sobel, sobel.T])[:, None]
        x = (2 * torch.arange(self.width, device=device) + 1 - self.width).float()
        y = (2 * torch.arange(self.height, device=device) + 1 - self.height).float()
        corner = (self.width**2 + self.height**2) ** 0.5
        plane = (1, 1, self.height, self.width)
        self.places = torch.stack([
            (x / self.width).expand(self.height, -1),
            (y / self.height)[:, None].expand(-1, self.width),
            torch.sqrt(x**2 + y[:, None] ** 2) / corner])[None]
        column = torch.div(torch.arange(self.width, device=device) * self.columns, self.width,
                           rounding_mode="floor")
        row = torch.div(torch.arange(self.height, device=device) * self.rows, self.height,
                        rounding_mode="floor")
        self.patch_bins = ((row[:, None] * self.columns + column) * 64).reshape(plane[2:])
        terms = torch.tensor(COLOURS, dtype=torch.float64, device=device).T[None] / 255
        self.terms = lab_of(linear_light(terms))[0][0].float()
        query = torch.frombuffer(bytearray(open(os.path.join(folder, "query.f32"), "rb").read()),
                                 dtype=torch.float32).to(device)
        self.query, self.weights = query[:24] * query[24:], query[24:]
        self.one = torch.ones(1, dtype=torch.int32, device=device)
        self.is_scattered = False

    # ---- textures ----

    def textures(self, image):
        """(batch, height, width, 3) of u8 to (batch, 13, height, width)."""
        stored = image.permute(0, 3, 1, 2).float() / 255
        lab, luminance = lab_of(linear_light(stored))
        luminance = luminance[:, None]
        edges = F.conv2d(F.pad(luminance, (1, 1, 1, 1), mode="replicate"), self.sobel)
        magnitude = torch.sqrt(edges[:, :1] ** 2 + edges[:, 1:] ** 2)
        places = self.places.expand(image.shape[0], -1, -1, -1)
        return torch.cat([stored, lab, edges, magnitude, places, luminance], 1)

    # ---- scores ----

    def entropy(self, bins):
        """Of bins (batch, height, width), by patch, in bits."""
        patches = self.columns * self.rows
        batch = bins.shape[0]
        offsets = torch.arange(batch, device=bins.device)[:, None, None] * (patches * 64)
        places = (bins + self.patch_bins + offsets).reshape(-1)
        total = batch * patches * 64
        if self.is_scattered: # bincount waits for the device
            counts = torch.zeros(total, dtype=torch.int32, device=bins.device)
            counts.scatter_add_(0, places, self.one.expand(places.numel()))
        else:
            counts = torch.bincount(places, minlength=total)
        counts = counts.reshape(batch, patches, 64)
        share = counts.float() / counts.sum(-1, keepdim=True)
        return -(share * torch.log2(share.clamp(min=1e-30))).sum(-1)

    def propositional(self, image):
        values = image.int()
        red, green, blue = values[..., 0], values[..., 1], values[..., 2]
        luminance = (54 * red + 183 * green + 19 * blue) >> 10
        colour = (red >> 6) * 16 + (green >> 6) * 4 + (blue >> 6)
        return (self.entropy(luminance) + self.entropy(colour)) / 12

    def cells(self, planes):
        """Means over cells, which are whole: (batch, planes, cell rows, cell columns)."""
        return F.avg_pool2d(planes, (self.height // (CELLS * self.rows),
                                     self.width // (CELLS * self.columns)))

    def by_patch(self, cells):
        return F.avg_pool2d(cells, CELLS).flatten(2)

    def perspectival(self, textures):
        means = self.cells(torch.cat([textures[:, 3:6], textures[:, 8:9]], 1))
        total = 0
        for reach in (1, 2, 4):
            side = 2 * reach + 1
            count = F.avg_pool2d(torch.ones_like(means[:1, :1]), side, 1, reach) * side**2
            box = F.avg_pool2d(means, side, 1, reach) * side**2
            difference = means - (box - means) / (count - 1)
            colour = torch.sqrt(difference[:, :1] ** 2 +
                                1.6384 * (difference[:, 1:2] ** 2 + difference[:, 2:3] ** 2))
            total = total + colour + difference[:, 3:4].abs()
        score = self.by_patch(total / 3)[:, 0]
        return score / score.amax(1, keepdim=True).clamp(min=1 / 64)

    def participatory(self, textures):
        lab, magnitude = textures[:, 3:6], textures[:, 8:9]
        means = self.cells(lab)
        distance = means[:, None] - self.terms.T[None, :, :, None, None]
        squares = distance[:, :, 0] ** 2 + 1.6384 * (distance[:, :, 1] ** 2 + distance[:, :, 2] ** 2)
        colours = self.by_patch(torch.softmax(-squares * 12.5, 1))
        mean = self.by_patch(means)
        variance = self.by_patch(self.cells(lab * lab)) - mean * mean
        turns = torch.round(torch.atan2(textures[:, 7:8], textures[:, 6:7]) * (8 / math.pi)) % 8
        parts = torch.cat([torch.where(turns == k, magnitude, torch.zeros_like(magnitude))
                           for k in range(8)], 1)
        parts = self.by_patch(self.cells(parts))
        edges = parts.sum(1, keepdim=True)
        bounded = (4 * edges).clamp(max=1)
        descriptor = torch.cat([colours, mean[:, :1], 2 * torch.sqrt(variance.clamp(min=0)),
                                bounded, bounded * parts / edges.clamp(min=1e-30)], 1)
        weighed = descriptor * self.weights[None, :, None]
        product = (weighed * self.query[None, :, None]).sum(1)
        return (product / (weighed.norm(dim=1) * self.query.norm()).clamp(min=1e-30)).clamp(0, 1)

    def relevance(self, scores):
        z = scores.mean(1)
        return torch.exp((z - z.amax(1, keepdim=True)) / 0.25)

    # ---- tokens ----

    def tokens(self, relevance):
        """As ours where no patch is full: shares, and the rest to the largest remainders."""
        weight = 1 + torch.round(relevance.double() * 2**24)
        share = weight / weight.sum(1, keepdim=True) * (self.budget - self.least * weight.shape[1])
        whole = share.floor()
        order = torch.sort(share - whole, dim=1, descending=True, stable=True)[1]
        rest = torch.argsort(order, 1)
        left = share.sum(1, keepdim=True).round() - whole.sum(1, keepdim=True)
        return (self.least + whole + (rest < left)).int().clamp(max=self.most)


class Streams:
    """One image or batch after another, each on the next stream, and its scorers on others."""

    def __init__(self, count, has_scorers):
        self.streams = [torch.cuda.Stream() for _ in range(count)]
        self.scorers = [[torch.cuda.Stream() for _ in range(3)] for _ in range(count)]
        self.has_scorers = has_scorers

    def score(self, model, image, textures, index):
        work = [lambda: model.propositional(image), lambda: model.perspectival(textures),
                lambda: model.participatory(textures)]
        if not self.has_scorers:
            return [score() for score in work]
        own, found = torch.cuda.current_stream(), []
        for stream, score in zip(self.scorers[index], work):
            stream.wait_stream(own)
            with torch.cuda.stream(stream):
                found.append(score())
            image.record_stream(stream)
            textures.record_stream(stream)
        for stream, score in zip(self.scorers[index], found):
            own.wait_stream(stream)
            score.record_stream(own)
        return found

    def run(self, model, images, outputs, batch):
        for k, first in enumerate(range(0, len(outputs), batch)):
            index = k % len(self.streams)
            with torch.cuda.stream(self.streams[index]):
                at = first % len(images)
                image = images[at : at + batch].to(model.device, non_blocking=True)
                textures = model.textures(image)
                scores = torch.stack(self.score(model, image, textures, index), 1)
                relevance = model.relevance(scores)
                tokens = model.tokens(relevance)
                result = torch.cat([scores, relevance[:, None], tokens[:, None].float()], 1)
                outputs[first : first + batch].copy_(result, non_blocking=True)
        torch.cuda.synchronize()


def load(folder, name, dtype, shape):
    block = bytearray(open(os.path.join(folder, name), "rb").read())
    return torch.frombuffer(block, dtype=dtype).reshape(shape)


def compare(model, folder):
    """The greatest differences from ours; ends the program where one is out of bounds."""
    height, width, patches = model.height, model.width, model.columns * model.rows
    image = load(folder, "image.u8", torch.uint8, (1, height, width, 3)).to(model.device)
    ours = load(folder, "textures.f32", torch.float32, (13, height, width)).to(model.device)
    scores = load(folder, "scores.f32", torch.float32, (4, patches)).to(model.device)
    tokens = load(folder, "tokens.u32", torch.int32, (patches,)).to(model.device)
    textures = model.textures(image)
    found = torch.stack([model.propositional(image), model.perspectival(textures),
                         model.participatory(textures)], 1)
    relevance = model.relevance(found)
    texture_difference = (textures[0] - ours).abs().amax().item()
    score_difference = (torch.cat([found[0], relevance]) - scores).abs().amax().item()
    token_difference = (model.tokens(relevance)[0] - tokens).abs().max().item()
    rows = [("largest difference of a texture", texture_difference, 1e-4),
            ("largest difference of a score", score_difference, 2e-3),
            ("largest difference of a patch's tokens", token_difference, 1)]
    for name, difference, bound in rows:
        if difference > bound:
            sys.exit(f"{name}: {difference:g}; at most {bound:g}")
    return rows


def measure(model, images, streams, batch):
    """Images per second: the median of some runs after one to warm up, each checked."""
    outputs = torch.full((IMAGES, 5, model.columns * model.rows), -1.0).pin_memory()
    rates = []
    for run in range(RUNS + 1):
        outputs.fill_(-1)
        began = time.perf_counter()
        streams.run(model, images, outputs, batch)
        spent = time.perf_counter() - began
        if not torch.equal(outputs[:, 4].sum(1), torch.full((IMAGES,), float(model.budget))):
            sys.exit("PyTorch: the tokens are not the budget")
        if run:
            rates.append(IMAGES / spent)
    return statistics.median(rates)


def ours_rate(path, size):
    for row in json.load(open(path, encoding="utf-8"))["rows"]:
        if row["name"].startswith(f"{size}: over "):
            return row["value"]
    return None


def measure_all(model, folder, ours, rows):
    shape = (-1, model.height, model.width, 3)
    images = load(folder, "images.u8", torch.uint8, shape).pin_memory()
    best = 0
    for count, has_scorers, batch, model.is_scattered in itertools.product(
            (1, 4), (False, True), (1, 8), (False, True)):
        rate = measure(model, images, Streams(count, has_scorers), batch)
        best = max(best, rate)
        name = (f"PyTorch, {count} streams{' and 3 for scores' if has_scorers else ''}, "
                f"{batch} at a time, {'scatter_add' if model.is_scattered else 'bincount'}")
        rows.append({"name": name, "value": rate, "unit": "images/s"})
    rows.append({"name": "PyTorch, the best", "value": best, "unit": "images/s"})
    mine = ours and ours_rate(ours, f"{model.width} x {model.height}")
    if mine:
        rows.append({"name": "ours against PyTorch's best", "value": mine / best, "unit": "x",
                     "relation": ">=", "bound": 2})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--json")
    parser.add_argument("--ours")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    shape = json.load(open(os.path.join(given.folder, "shape.json"), encoding="utf-8"))
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    rows = []
    with torch.no_grad():
        model = Model(shape, given.folder, given.device)
        for name, difference, bound in compare(model, given.folder):
            rows.append({"name": name, "value": difference, "unit": "", "relation": "<=",
                         "bound": bound})
        if given.device.startswith("cuda"):
            measure_all(model, given.folder, given.ours, rows)
    for row in rows:
        print(f"  {row['name']:<64} {row['value']:12.4g} {row['unit']}")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"bench": "vision_pytorch", "torch": torch.__version__, "rows": rows}, file)


if __name__ == "__main__":
    main()
