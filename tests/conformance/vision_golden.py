#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints vision_golden.inc: what the vision model has to make of a few small images.

Everything is computed here once more, in double precision and from the formulas of millrace-vision(5) and
src/vision/vision_model.h alone, by lists and loops: no line is shared with the product, nor a library.
The images are those of tests/support/vision_images.h, which are made by a few whole numbers.
"""
import math

CASES = [
    dict(name="odd sizes, the grid by itself, a query", width=97, height=61, bytes=1, seed=3, budget=1000,
         query="blue"),
    dict(name="16 bits, all tensions, no query", width=64, height=48, bytes=2, seed=5, budget=2000,
         grid=(4, 3), tensions=(0.2, -0.3, 0.4)),
    dict(name="grey, weights, a query", width=50, height=40, bytes=1, seed=1, budget=900, grid=(3, 2),
         grey=True, weights=(1, 2, 0.5), query="white"),
    dict(name="a strip, its own limits, cold", width=33, height=7, bytes=1, seed=0, budget=200, grid=(5, 1),
         least=1, most=55, temperature=0.1, tensions=(0, 0.5, 0), query="purple"),
    dict(name="a column of 16 bits, full patches", width=3, height=41, bytes=2, seed=2, budget=760,
         grid=(1, 2), query="orange"),
]
TERMS = {"black": (0, 0, 0), "grey": (128, 128, 128), "white": (255, 255, 255), "red": (215, 20, 25),
         "orange": (250, 130, 10), "yellow": (250, 220, 20), "green": (30, 150, 50),
         "blue": (20, 70, 200), "purple": (125, 35, 150), "pink": (250, 160, 185), "brown": (120, 70, 30)}


# ---- the image ----

class Random:
    def __init__(self, state):
        self.state = state

    def below(self, limit):
        word = 2**64 - 1
        self.state ^= self.state << 13 & word
        self.state ^= self.state >> 7
        self.state ^= self.state << 17 & word
        return ((self.state * 0x2545F4914F6CDD1D & word) >> 11) % limit


def value_at(noise, x, y, channel, seed):
    inks = [(55000, 5000, 6000), (4000, 20000, 52000), (62000, 57000, 3000), (30000, 30000, 30000)]
    value = 9000 + 137 * x + 211 * y * (channel + 1) // 2
    for disc in range(4):
        if (x - (20 + 37 * disc + 11 * seed))**2 + (y - (14 + 23 * disc))**2 < 150 + 90 * disc:
            value = inks[disc][channel]
    if y % 32 < 9 and (x + y) // 3 % 2:
        value = 60000 - value % 60000
    return value % 60000 + noise.below(2500)


def make_image(case):
    """rows[y][x] = (r, g, b), whole numbers of the case's depth."""
    noise = Random(77 + case["seed"])
    rows = []
    for y in range(case["height"]):
        row = []
        for x in range(case["width"]):
            pixel = [value_at(noise, x, y, c, case["seed"]) for c in range(3)]
            pixel = [v >> 8 for v in pixel] if case["bytes"] == 1 else pixel
            row.append(tuple([pixel[0]] * 3 if case.get("grey") else pixel))
        rows.append(row)
    return rows


# ---- textures ----

def linear(c):
    return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055)**2.4


def lab(r, g, b):
    def f(t):
        return t**(1 / 3) if t > (6 / 29)**3 else t * (29 / 6)**2 / 3 + 4 / 29
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.0890
    return (116 * f(y) - 16) / 100, 500 * (f(x) - f(y)) / 128, 200 * (f(y) - f(z)) / 128


def textures_of(image, top):
    """planes[13][y][x]."""
    height, width = len(image), len(image[0])
    light = [[[linear(c / top) for c in pixel] for pixel in row] for row in image]
    bright = [[0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in row] for row in light]

    def at(i, j):
        return bright[min(max(j, 0), height - 1)][min(max(i, 0), width - 1)]

    planes = [[[0.0] * width for _ in range(height)] for _ in range(13)]
    for j in range(height):
        for i in range(width):
            sobel_x = (at(i + 1, j - 1) + 2 * at(i + 1, j) + at(i + 1, j + 1)
                       - at(i - 1, j - 1) - 2 * at(i - 1, j) - at(i - 1, j + 1)) / 4
            sobel_y = (at(i - 1, j + 1) + 2 * at(i, j + 1) + at(i + 1, j + 1)
                       - at(i - 1, j - 1) - 2 * at(i, j - 1) - at(i + 1, j - 1)) / 4
            across, down = 2 * i + 1 - width, 2 * j + 1 - height
            numbers = [c / top for c in image[j][i]] + list(lab(*light[j][i]))
            numbers += [sobel_x, sobel_y, math.sqrt(sobel_x**2 + sobel_y**2), across / width, down / height,
                        math.sqrt(across**2 + down**2) / math.sqrt(width**2 + height**2), bright[j][i]]
            for plane, number in zip(planes, numbers):
                plane[j][i] = number
    return planes


# ---- parts of an image ----

def cut(size, count):
    """Where each of `count` parts begins and ends."""
    return [(k * size // count, (k + 1) * size // count) for k in range(count)]


def parts_of(width, height, columns, rows):
    return [(x, y) for y in cut(height, rows) for x in cut(width, columns)]


def places(part):
    (left, right), (top, bottom) = part
    return [(i, j) for j in range(top, bottom) for i in range(left, right)]


def mean(plane, part):
    found = places(part)
    return math.fsum(plane[j][i] for i, j in found) / len(found)


def best_grid(width, height, limit):
    """Of at most `limit` boxes: the longer side shortest, then most boxes, then most columns."""
    grids = [(c, r) for c in range(1, min(width, limit) + 1) for r in range(1, min(height, limit // c) + 1)]
    return min(grids, key=lambda g: (max(width * g[1], height * g[0]) / (g[0] * g[1]), -g[0] * g[1], -g[0]))


# ---- scores ----

def entropy(values):
    counts = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return -math.fsum(n / len(values) * math.log2(n / len(values)) for n in counts.values())


def propositional(image, depth, part):
    pixels = [[c >> 8 * (depth - 1) for c in image[j][i]] for i, j in places(part)]
    luminance = entropy([(54 * r + 183 * g + 19 * b) // 1024 for r, g, b in pixels])
    colour = entropy([(r >> 6, g >> 6, b >> 6) for r, g, b in pixels])
    return (luminance / 2 + colour / 2) / 6


def colour_distance(a, b):
    """CIE 1976, over 100, of L / 100, a / 128, b / 128."""
    return math.sqrt((a[0] - b[0])**2 + (1.28 * (a[1] - b[1]))**2 + (1.28 * (a[2] - b[2]))**2)


def cell_contrasts(planes, width, height, columns, rows):
    """contrasts[(column, row)]: the mean over the three scales, and the cell's pixels."""
    across, down = cut(width, 4 * columns), cut(height, 4 * rows)
    looked_at = [planes[k] for k in (3, 4, 5, 8)]
    found = {}
    for row, y in enumerate(down):
        for column, x in enumerate(across):
            own = places((x, y))
            total = 0
            for reach in (1, 2, 4):
                wide = (across[max(column - reach, 0)][0],
                        across[min(column + reach, len(across) - 1)][1])
                tall = (down[max(row - reach, 0)][0], down[min(row + reach, len(down) - 1)][1])
                others = [p for p in places((wide, tall))
                          if not (x[0] <= p[0] < x[1] and y[0] <= p[1] < y[1])]
                if not own or not others:
                    continue
                here = [math.fsum(plane[j][i] for i, j in own) / len(own) for plane in looked_at]
                there = [math.fsum(plane[j][i] for i, j in others) / len(others) for plane in looked_at]
                total += colour_distance(here, there) + abs(here[3] - there[3])
            found[column, row] = total / 3, len(own)
    return found


def perspectival(contrasts, columns, rows):
    scores = []
    for row in range(rows):
        for column in range(columns):
            cells = [contrasts[4 * column + i, 4 * row + j] for j in range(4) for i in range(4)]
            scores.append(math.fsum(c * n for c, n in cells) / sum(n for _, n in cells))
    greatest = max(max(scores), 1 / 64)
    return [score / greatest for score in scores]


def shares_of(colour):
    terms = [lab(*[linear(c / 255) for c in rgb]) for rgb in TERMS.values()]
    near = [math.exp(-colour_distance(colour, term)**2 / (2 * 0.2**2)) for term in terms]
    return [n / sum(near) for n in near]


def descriptor(planes, part, cells):
    numbers = [0.0] * 11
    size = len(places(part))
    for cell in cells:
        count = len(places(cell))
        if count:
            for k, share in enumerate(shares_of([mean(planes[c], cell) for c in (3, 4, 5)])):
                numbers[k] += share * count / size
    numbers.append(mean(planes[3], part))
    for plane in planes[3:6]:
        middle = mean(plane, part)
        numbers.append(2 * math.sqrt(math.fsum((plane[j][i] - middle)**2
                                               for i, j in places(part)) / size))
    turns = [0.0] * 8
    for i, j in places(part):
        angle = math.degrees(math.atan2(planes[7][j][i], planes[6][j][i])) % 180
        turns[round(angle / 22.5) % 8] += planes[8][j][i]
    edges = min(4 * sum(turns) / size, 1)
    return numbers + [edges] + [edges * t / sum(turns) if sum(turns) else 0 for t in turns]


def participatory(planes, case, part, cells):
    if not case.get("query"):
        return 0.0
    own = descriptor(planes, part, cells)[:11] # of a word, the others weigh nothing
    asked = shares_of(lab(*[linear(c / 255) for c in TERMS[case["query"]]]))
    product = sum(a * b for a, b in zip(own, asked))
    return max(product / math.sqrt(sum(a * a for a in own) * sum(b * b for b in asked)), 0)


def relevance(case, scores):
    wp, ws, wq = case.get("weights", (1, 1, 1))
    wq = wq if case.get("query") else 0
    compress, exploit, focus = case.get("tensions", (0, 0, 0))

    def g(d):
        return 2 / (1 + math.exp(-4 * d)) - 1

    base = [(wp * p + ws * s + wq * q) / (wp + ws + wq) for p, s, q in scores]
    middle = sum(base) / len(base)
    z = [b + compress * g(s - p) + (exploit * g(q - (p + s) / 2) if wq else 0) + focus * g(b - middle)
         for b, (p, s, q) in zip(base, scores)]
    return [math.exp((v - max(z)) / case.get("temperature", 0.25)) for v in z]


# ---- tokens and boxes ----

def share_out(case, found):
    """Whole numbers; those whose share would pass the most are cut there, until none does."""
    least, most = case.get("least", 64), case.get("most", 400)
    weights = [1 + round(r * 2**24) for r in found]
    full = set()
    while True:
        left = case["budget"] - least * len(weights) - (most - least) * len(full)
        total = sum(w for k, w in enumerate(weights) if k not in full)
        more = {k for k, w in enumerate(weights) if k not in full and left * w >= (most - least) * total}
        if not more:
            break
        full |= more
    tokens = [most if k in full else least + left * w // total for k, w in enumerate(weights)]
    rest = case["budget"] - sum(tokens)
    open_ones = [k for k in range(len(weights)) if k not in full]
    for k in sorted(open_ones, key=lambda k: (-(left * weights[k] % total), k))[:rest]:
        tokens[k] += 1
    return tokens


def boxes_of(part, tokens):
    (left, right), (top, bottom) = part
    columns, rows = best_grid(right - left, bottom - top, tokens)
    return [((left + x[0], left + x[1]), (top + y[0], top + y[1]))
            for x, y in parts_of(right - left, bottom - top, columns, rows)]


# ---- the whole ----

def run(case):
    width, height = case["width"], case["height"]
    columns, rows = case.get("grid") or best_grid(width, height, case["budget"] // 128)
    image = make_image(case)
    planes = textures_of(image, 255 if case["bytes"] == 1 else 65535)
    parts = parts_of(width, height, columns, rows)
    cells = parts_of(width, height, 4 * columns, 4 * rows)
    salience = perspectival(cell_contrasts(planes, width, height, columns, rows), columns, rows)
    scores = []
    for k, part in enumerate(parts):
        column, row = k % columns, k // columns
        own = [cells[(4 * row + j) * 4 * columns + 4 * column + i] for j in range(4) for i in range(4)]
        scores.append((propositional(image, case["bytes"], part), salience[k],
                       participatory(planes, case, part, own)))
    found = relevance(case, scores)
    tokens = share_out(case, found)
    boxes = [boxes_of(part, count) for part, count in zip(parts, tokens)]
    return dict(columns=columns, rows=rows, tokens=tokens, boxes=[len(b) for b in boxes],
                scores=[list(s) for s in zip(*scores)] + [found],
                pixels=[[plane[j][i] for plane in planes]
                        for i, j in ((0, 0), (width // 2, height // 3), (width - 1, height - 1))],
                compressed=[[mean(plane, patch[len(patch) // 2]) for plane in planes]
                            for patch in (boxes[0], boxes[-1])])


def listed(numbers):
    return "{ " + ", ".join(f"{n:.7f}" if isinstance(n, float) else str(n) for n in numbers) + " }"


def print_case(case):
    made = run(case)
    print(f"    {{ /* {case['name']} */")
    for key, value in (("width", case["width"]), ("height", case["height"]), ("channel_bytes", case["bytes"]),
                       ("seed", case["seed"]), ("is_grey", "true" if case.get("grey") else "false"),
                       ("query", f'"{case["query"]}"' if case.get("query") else "NULL")):
        print(f"      .{key} = {value},")
    columns, rows = case.get("grid") or (0, 0)
    print(f"      .parameters = {{ .columns = {columns}, .rows = {rows}, .budget = {case['budget']},")
    print(f"                      .least = {case.get('least', 0)}, .most = {case.get('most', 0)},")
    print(f"                      .weights = {listed(case.get('weights', (0, 0, 0)))},")
    print(f"                      .tensions = {listed(case.get('tensions', (0, 0, 0)))},")
    print(f"                      .temperature = {case.get('temperature', 0)} }},")
    print(f"      .columns = {made['columns']}, .rows = {made['rows']},")
    print(f"      .tokens = {listed(made['tokens'])},")
    print(f"      .boxes = {listed(made['boxes'])},")
    for key in ("scores", "pixels", "compressed"):
        print(f"      .{key} = {{")
        for numbers in made[key]:
            print(f"          {listed(numbers)},")
        print("      },")
    print("    },")


print("/* SPDX-License-Identifier: MIT */\n/* Printed by vision_golden.py. */")
for one in CASES:
    print_case(one)
