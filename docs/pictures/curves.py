"""Curves of finished runs as an SVG: a metric against what was seen, and against time.

    python docs/pictures/curves.py cifar.svg accuracy images "backprop=runs/a" "critic=runs/b" …

Each LABEL=FOLDER is one run, drawn from its metrics.jsonl: left against samples, right against
seconds of training.
"""

import sys
from pathlib import Path

from dnicomm.runs import RunFolder

COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8a5fbf", "#c77d0a", "#444444", "#00868b", "#b0417b")
WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 260, 56, 34, 44  # of one panel, in pixels
INK, FAINT = "#333", "#ddd"

Curve = list[tuple[float, float]]


def curves(runs: dict[str, Path], metric: str, x: str) -> dict[str, Curve]:
    """Points of every run, oldest first."""
    found = {}
    for label, folder in runs.items():
        records = RunFolder.open(folder).metrics()
        found[label] = [(record[x], record["metrics"][metric]) for record in records]
    return found


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers from ``low`` to ``high``."""
    steps = (m * 10.0**e for e in range(-4, 9) for m in (1, 2, 5))
    step = next(s for s in steps if (high - low) / s <= 6)
    first = -(-low // step) * step
    return [first + i * step for i in range(8) if first + i * step <= high + 1e-9]


def shown(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e4 else f"{value:g}"


def panel(drawn: dict[str, Curve], left: float, x_name: str, y_name: str) -> list[str]:
    """One pair of axes with every curve."""
    points = [point for curve in drawn.values() for point in curve]
    right = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        return left + WIDTH * x / right, TOP + HEIGHT * (high - y) / (high - low)

    out = []
    for y in ticks(low, high):
        _, at = place(0, y)
        out.append(f'<path d="M{left} {at:.1f}h{WIDTH}" stroke="{FAINT}"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{shown(y)}</text>')
    for x in ticks(0, right):
        at, _ = place(x, low)
        out.append(
            f'<text x="{at:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{shown(x)}</text>'
        )
    for colour, curve in zip(COLOURS, drawn.values(), strict=False):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in curve))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    middle = left + WIDTH / 2
    out.append(f'<text x="{middle}" y="{TOP + HEIGHT + 36}" text-anchor="middle">{x_name}</text>')
    out.append(f'<text x="{left}" y="{TOP - 12}">{y_name}</text>')
    return out


def picture(runs: dict[str, Path], metric: str, sample: str) -> str:
    """The whole SVG."""
    second = LEFT + WIDTH + LEFT + GAP
    height = TOP + HEIGHT + 60 + 20 * ((len(runs) + 3) // 4)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{second + WIDTH + 20}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        *panel(curves(runs, metric, "samples"), LEFT, f"{sample} seen", metric),
        *panel(curves(runs, metric, "seconds"), second, "seconds of training", metric),
    ]
    for number, label in enumerate(runs):
        x, y = LEFT + 215 * (number % 4), TOP + HEIGHT + 58 + 20 * (number // 4)
        out.append(f'<path d="M{x} {y - 4}h22" stroke="{COLOURS[number]}" stroke-width="3"/>')
        out.append(f'<text x="{x + 28}" y="{y}">{label}</text>')
    return "\n".join([*out, "</svg>\n"])


if __name__ == "__main__":
    target, metric, sample, *named = sys.argv[1:]
    pairs = [word.split("=", 1) for word in named]
    runs = {label: Path(folder) for label, folder in pairs}
    Path(target).write_text(picture(runs, metric, sample), encoding="utf-8")
