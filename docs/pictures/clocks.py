"""What irregularity costs each feedback, as an SVG, from finished runs of `dnicomm bench clocks`.

    python docs/pictures/clocks.py clocks.svg RUNS_FOLDER

Above: accuracy at the end against tick rate, share of messages lost, delay, and kind of clock; a dot
is the mean over seeds, its bar reaches from the worst seed to the best. Below: the same agents on
the way (Poisson clocks of rate 0.25), against world time, updates and seconds.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curves import COLOURS, FAINT, INK, shown, ticks

from dnicomm.runs import RunFolder

METHODS = {"dni": "synthetic", "exact": "exact", "none": "none"}
COLOUR = dict(zip(METHODS, COLOURS, strict=False))
WIDTH, HEIGHT, LEFT, TOP, GAP, ROW = 205, 190, 52, 36, 34, 270  # of one panel, in pixels
LOW, HIGH = 0.3, 1.0  # accuracy
PLAIN = {"clock": "poisson", "rate": 0.25, "drop": 0.0, "delay": 0}

Dots = dict[str, dict[str, list[float]]]  # by method and place on the axis: a value a seed


def dots(runs: list[RunFolder], key: str, fixed: list[str]) -> Dots:
    """Final accuracies by method and ``key``, of the runs that have ``PLAIN`` values of the rest."""
    found: Dots = defaultdict(lambda: defaultdict(list))
    for run in runs:
        config, summary = run.config, run.summary()
        if summary is None or any(config[name] != PLAIN[name] for name in fixed):
            continue
        found[config["method"]["name"]][str(config[key])].append(summary["metrics"]["accuracy"])
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def height(accuracy: float, top: float) -> float:
    return top + HEIGHT * (HIGH - accuracy) / (HIGH - LOW)


def frame(left: float, top: float, title: str) -> list[str]:
    """The accuracy axis of a panel."""
    out = [f'<text x="{left}" y="{top - 12}" font-weight="600">{title}</text>']
    for y in ticks(LOW, HIGH):
        at = height(y, top)
        out.append(f'<path d="M{left} {at:.1f}h{WIDTH}" stroke="{FAINT}"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    return out


def end_panel(found: Dots, left: float, top: float, title: str, order: list[str]) -> list[str]:
    """Accuracies at the end, one place on the axis for each of ``order``."""
    out = frame(left, top, title)
    for i, name in enumerate(order):
        x = left + WIDTH * (i + 0.5) / len(order)
        out.append(f'<text x="{x:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{name}</text>')
        for j, (method, values) in enumerate((m, found[m].get(name, [])) for m in METHODS):
            if not values:
                continue
            at, colour = x + 9 * (j - 1), COLOUR[method]
            low, high = height(min(values), top), height(max(values), top)
            out.append(f'<path d="M{at:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
            middle = height(mean(values), top)
            out.append(f'<circle cx="{at:.1f}" cy="{middle:.1f}" r="4" fill="{colour}"/>')
    return out


def way_panel(
    curves: dict[str, list[list[tuple[float, float]]]], left: float, top: float, title: str
) -> list[str]:
    """A thin line a seed."""
    out = frame(left, top, title)
    right = max(x for seeds in curves.values() for curve in seeds for x, _ in curve)
    for x in ticks(0, right):
        at = left + WIDTH * x / right
        out.append(
            f'<text x="{at:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{shown(x)}</text>'
        )
    for method, seeds in curves.items():
        for curve in seeds:
            path = " ".join(
                f"{left + WIDTH * x / right:.1f},{height(y, top):.1f}" for x, y in curve
            )
            out.append(
                f'<polyline points="{path}" fill="none" stroke="{COLOUR[method]}" '
                'stroke-width="1.5"/>'
            )
    return out


def on_the_way(
    runs: list[RunFolder], x: Callable[[RunFolder, dict[str, Any]], float]
) -> dict[str, list[list[tuple[float, float]]]]:
    found: dict[str, list[list[tuple[float, float]]]] = {method: [] for method in METHODS}
    for run in runs:
        if all(run.config[name] == value for name, value in PLAIN.items()):
            points = [(x(run, r), r["metrics"]["accuracy"]) for r in run.metrics()]
            found[run.config["method"]["name"]].append(points)
    return found


def picture(runs: list[RunFolder]) -> str:
    """The whole SVG."""
    lefts = [LEFT + i * (WIDTH + LEFT + GAP - 20) for i in range(4)]
    second = TOP + ROW
    other = ["clock", "rate", "drop", "delay"]

    def column(key: str) -> Dots:
        return dots(runs, key, [name for name in other if name != key])

    ends = [
        ("tick rate", "rate", ["0.1", "0.25", "0.5"]),
        ("kind of clock", "clock", ["periodic", "poisson", "bursty"]),
        ("share of messages lost", "drop", ["0.0", "0.5", "0.75"]),
        ("delay", "delay", ["0", "4", "8"]),
    ]
    ways = [
        ("against world time", lambda run, r: r["time"] * run.config["horizon"]),
        ("against updates", lambda run, r: r["metrics"]["updates"]),
        ("against seconds, one process", lambda run, r: r["seconds"]),
    ]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{lefts[-1] + WIDTH + 20}" '
        f'height="{second + HEIGHT + 40}" font-family="sans-serif" font-size="12" fill="{INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for left, (title, key, order) in zip(lefts, ends, strict=True):
        out += end_panel(column(key), left, TOP, title, order)
    for left, (title, x) in zip(lefts, ways, strict=False):
        out += way_panel(on_the_way(runs, x), left, second, title)
    for i, (method, label) in enumerate(METHODS.items()):
        y = second + 30 + 24 * i
        out.append(f'<circle cx="{lefts[3] + 8}" cy="{y - 4}" r="5" fill="{COLOUR[method]}"/>')
        out.append(f'<text x="{lefts[3] + 22}" y="{y}">{label} feedback</text>')
    return "\n".join([*out, "</svg>\n"])


if __name__ == "__main__":
    target, folder = sys.argv[1:]
    found = [RunFolder.open(path.parent) for path in sorted(Path(folder).rglob("summary.json"))]
    Path(target).write_text(picture(found), encoding="utf-8")
