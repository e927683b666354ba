"""Draws predator_prey.svg: where predators start, what they see, and what one tells the others."""

from pathlib import Path

import numpy as np
import torch

from dnicomm.envs import PredatorPrey

CELL, LEFT, TOP = 34, 16, 16
INK, FAINT, BLUE, ORANGE, GREY = "#1f2933", "#d8dee5", "#2f6fb3", "#d9822b", "#66788a"
SEED = 217  # one predator sees the prey, the others don't

env = PredatorPrey(num_agents=5, dim=10, vision=1)
world = env.make(1, "train", torch.device("cpu"))
world.reset(0, np.random.default_rng(SEED))
places, prey = world.places[:, 0].tolist(), world.prey[0].tolist()
sees = [max(abs(r - prey[0]), abs(c - prey[1])) <= env.vision for r, c in places]
finder = places[sees.index(True)]
size = CELL * env.dim


def centre(place: list[int]) -> tuple[float, float]:
    return LEFT + CELL * (place[1] + 0.5), TOP + CELL * (place[0] + 0.5)


parts = []
for row, column in places:  # what each one sees
    top, left = max(row - env.vision, 0), max(column - env.vision, 0)
    height = min(row + env.vision, env.dim - 1) - top + 1
    width = min(column + env.vision, env.dim - 1) - left + 1
    parts.append(
        f'<rect x="{LEFT + CELL * left}" y="{TOP + CELL * top}" width="{CELL * width}" '
        f'height="{CELL * height}" fill="{BLUE}" opacity="0.14"/>'
    )
for k in range(env.dim + 1):
    at = CELL * k
    parts.append(f'<path d="M{LEFT + at} {TOP}v{size}M{LEFT} {TOP + at}h{size}" stroke="{FAINT}"/>')
for place in places:
    (x, y), (a, b) = centre(place), centre(finder)
    if place == finder:
        continue
    length = ((x - a) ** 2 + (y - b) ** 2) ** 0.5
    u, v = (x - a) / length, (y - b) / length
    parts.append(
        f'<line x1="{a + 13 * u}" y1="{b + 13 * v}" x2="{x - 14 * u}" y2="{y - 14 * v}" '
        f'stroke="{BLUE}" stroke-width="1.5" marker-end="url(#arrow)"/>'
    )
for number, place in enumerate(places):
    x, y = centre(place)
    parts.append(
        f'<circle cx="{x}" cy="{y}" r="11" fill="{INK}"/>'
        f'<text x="{x}" y="{y + 4.5}" text-anchor="middle" fill="white">{number}</text>'
    )
x, y = centre(prey)
parts.append(f'<path d="M{x} {y - 11}l11 11l-11 11l-11 -11z" fill="{ORANGE}"/>')
side, line = LEFT + size + 28, TOP + 24
parts.append(
    f'<circle cx="{side + 8}" cy="{line - 4}" r="8" fill="{INK}"/>'
    f'<text x="{side + 26}" y="{line}">a predator</text>'
    f'<path d="M{side + 8} {line + 18}l9 9l-9 9l-9 -9z" fill="{ORANGE}"/>'
    f'<text x="{side + 26}" y="{line + 31}">the prey</text>'
    f'<rect x="{side}" y="{line + 50}" width="17" height="17" fill="{BLUE}" opacity="0.14"/>'
    f'<text x="{side + 26}" y="{line + 63}">what predators see</text>'
    f'<line x1="{side}" x2="{side + 17}" y1="{line + 90}" y2="{line + 90}" stroke="{BLUE}" '
    f'stroke-width="1.5" marker-end="url(#arrow)"/>'
    f'<text x="{side + 26}" y="{line + 94}">what the others have to be told</text>'
)
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 240} {TOP * 2 + size}" '
    f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
    '<rect width="100%" height="100%" fill="white"/><defs>'
    '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
    f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{BLUE}"/></marker></defs>'
    + "".join(parts)
    + "</svg>\n"
)
Path(__file__).with_suffix(".svg").write_text(svg)
