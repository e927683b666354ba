"""Log-log plots of cost curves as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dnicomm.bench.speed.scaling import Curve

WIDTH, HEIGHT, LEFT, TOP, COLUMNS = 240, 180, 62, 34, 3  # of one panel, in pixels
INK, FAINT, LINE, GUIDE = "#333", "#ddd", "#1b6ca8", "#d1495b"


def picture(curves: Sequence[Curve]) -> str:
    """One panel a curve, with the line of its fitted exponent."""
    rows = -(-len(curves) // COLUMNS)
    wide, high = LEFT + WIDTH + 16, TOP + HEIGHT + 46
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide * min(len(curves), COLUMNS)}" '
        f'height="{high * rows}" font-family="sans-serif" font-size="11" fill="{INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, curve in enumerate(curves):
        x, y = wide * (number % COLUMNS), high * (number // COLUMNS)
        out += [f'<g transform="translate({x + LEFT} {y + TOP})">', *_panel(curve), "</g>"]
    return "\n".join([*out, "</svg>\n"])


def _panel(curve: Curve) -> list[str]:
    x, y = ([math.log10(p[i]) for p in curve.points] for i in (0, 1))
    low_x, high_x = min(x), max(x)
    low_y, high_y = math.floor(min(y)), max(math.ceil(max(y)), math.floor(min(y)) + 1)

    def place(a: float, b: float) -> tuple[float, float]:
        across = WIDTH * (a - low_x) / (high_x - low_x)
        return across, HEIGHT * (high_y - b) / (high_y - low_y)

    out = [f'<text x="0" y="-10">seconds {curve.cost}, exponent {curve.exponent:z.2f}</text>']
    for power in range(low_y, high_y + 1):
        _, at = place(low_x, power)
        out.append(f'<path d="M0 {at:.1f}h{WIDTH}" stroke="{FAINT}"/>')
        out.append(f'<text x="-6" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for a, (value, _) in zip(x, curve.points, strict=True):
        at, _ = place(a, low_y)
        text = f'<text x="{at:.1f}" y="{HEIGHT + 15}" text-anchor="middle">{value:g}</text>'
        out.append(text)
    slope = curve.exponent
    ends = [place(a, y[-1] + slope * (a - x[-1])) for a in (low_x, high_x)]
    (a, b), (c, d) = ends
    out.append(
        f'<path d="M{a:.1f} {min(max(b, 0), HEIGHT):.1f}L{c:.1f} {d:.1f}" stroke="{GUIDE}" '
        'stroke-dasharray="4 3"/>'
    )
    points = [place(*point) for point in zip(x, y, strict=True)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    out.append(f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{LINE}"/>' for a, b in points]
    middle = WIDTH / 2
    out.append(f'<text x="{middle}" y="{HEIGHT + 32}" text-anchor="middle">{curve.name}</text>')
    return out
