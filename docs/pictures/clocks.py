"""What tick rates do to each feedback, as an SVG, from finished runs of `dnicomm bench clocks`.

    python docs/pictures/clocks.py clocks.svg RUNS_FOLDER

First accuracy at the end against tick rate; a dot is the mean over seeds, its bar reaches from the
worst seed to the best. Then one rate on the way, a line a seed, against world time, updates and
seconds of one processor.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curves import COLOURS, FAINT, INK, shown, ticks

from dnicomm.runs import RunFolder

METHODS = {"dni": "synthetic feedback", "exact": "exact feedback", "none": "no feedback"}
COLOUR = dict(zip(METHODS, COLOURS, strict=False))
WIDTH, HEIGHT, LEFT, TOP = 200, 200, 58, 36  # of one panel, in pixels
LOW, HIGH = 0.1, 1.0  # accuracy
RATE = 0.25  # of the runs that are shown on the way

Curve = list[tuple[float, float]]


def height(accuracy: float) -> float:
    return TOP + HEIGHT * (HIGH - accuracy) / (HIGH - LOW)


def frame(left: float, title: str) -> list[str]:
    """The accuracy axis of a panel."""
    out = [f'<text x="{left}" y="{TOP - 12}" font-weight="600">{title}</text>']
    for y in ticks(LOW, HIGH):
        out.append(f'<path d="M{left} {height(y):.1f}h{WIDTH}" stroke="{FAINT}"/>')
        out.append(f'<text x="{left - 6}" y="{height(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    return out


def label(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{text}</text>'


def rates_panel(runs: list[RunFolder], left: float) -> list[str]:
    """Accuracies at the end by tick rate."""
    found: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        reached = run.metrics()[-1]["metrics"]["accuracy"]
        found[run.config["rate"]][run.config["method"]["name"]].append(reached)
    out = frame(left, "accuracy at the end, by tick rate")
    for i, rate in enumerate(sorted(found)):
        x = left + WIDTH * (i + 0.5) / len(found)
        out.append(label(x, f"{rate:g}"))
        for j, method in enumerate(METHODS):
            values, at, colour = found[rate][method], x + 10 * (j - 1), COLOUR[method]
            low, high = height(min(values)), height(max(values))
            middle = height(sum(values) / len(values))
            out.append(f'<path d="M{at:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
            out.append(f'<circle cx="{at:.1f}" cy="{middle:.1f}" r="4" fill="{colour}"/>')
    return out


def way_panel(curves: list[tuple[str, Curve]], left: float, title: str) -> list[str]:
    """Accuracies on the way."""
    out, right = frame(left, title), max(x for _, curve in curves for x, _ in curve)
    out += [label(left + WIDTH * x / right, shown(x)) for x in ticks(0, right)]
    for method, curve in curves:
        path = " ".join(f"{left + WIDTH * x / right:.1f},{height(y):.1f}" for x, y in curve)
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOUR[method]}" stroke-width="1.5"/>'
        )
    return out


def seconds(run: RunFolder, record: dict[str, Any]) -> float:
    """By the processor's clock; the wall's depends on what else a machine does."""
    summary = run.summary()
    assert summary is not None, "only finished runs are drawn"
    return record["time"] * summary["cost"]["step_ms"] / 1000


def picture(runs: list[RunFolder]) -> str:
    """The whole SVG."""
    lefts = [LEFT + i * (WIDTH + LEFT) for i in range(4)]
    ways: list[tuple[str, Callable[[RunFolder, dict[str, Any]], float]]] = [
        (f"rate {RATE:g}: by world time", lambda run, r: r["time"] * run.config["horizon"]),
        ("by updates of all agents", lambda run, r: r["metrics"]["agent_updates"]),
        ("by seconds of one processor", seconds),
    ]
    shown_ones = [run for run in runs if run.config["rate"] == RATE]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{lefts[-1] + WIDTH + 20}" '
        f'height="{TOP + HEIGHT + 60}" font-family="sans-serif" font-size="12" fill="{INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        *rates_panel(runs, lefts[0]),
    ]
    for left, (title, x) in zip(lefts[1:], ways, strict=True):
        curves = [
            (run.config["method"]["name"],
             [(x(run, r), r["metrics"]["accuracy"]) for r in run.metrics()])
            for run in shown_ones
        ]  # fmt: skip
        out += way_panel(curves, left, title)
    for i, (method, name) in enumerate(METHODS.items()):
        x, y = LEFT + 180 * i, TOP + HEIGHT + 46
        out.append(f'<circle cx="{x + 5}" cy="{y - 4}" r="5" fill="{COLOUR[method]}"/>')
        out.append(f'<text x="{x + 16}" y="{y}">{name}</text>')
    return "\n".join([*out, "</svg>\n"])


if __name__ == "__main__":
    target, folder = sys.argv[1:]
    found = [RunFolder.open(path.parent) for path in sorted(Path(folder).rglob("summary.json"))]
    Path(target).write_text(picture(found), encoding="utf-8")
