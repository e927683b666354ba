"""Draws traffic.svg: the roads of the three levels, with cars on them and where they are going."""

from pathlib import Path

import numpy as np
import torch

from dnicomm.envs import Traffic
from dnicomm.envs.traffic_roads import LEVELS, Cell, entries, routes

CELL, LEFT, TOP, GAP = 18, 24, 66, 56
INK, ROAD, CROSSING, BLUE, GREY = "#1f2933", "#e6eaef", "#c3cdd8", "#2f6fb3", "#66788a"
MOMENTS = {"easy": (296, 9), "medium": (297, 12), "hard": (234, 15)}  # seed, time


def cars_at(difficulty: str, seed: int, time: int) -> list[tuple[Cell, ...]]:
    """What is left of the routes of the cars on the road then, if nobody brakes."""
    world = Traffic(difficulty).make(1, "train", torch.device("cpu"))
    world.reset(0, np.random.default_rng(seed))
    for _ in range(time):
        world.step()
    assert world.score()["success"].item() == 1, "a picture without collisions"
    paths = [path for found in routes(LEVELS[difficulty]) for path in found]
    there = world.there[:, 0].nonzero().flatten().tolist()
    return [paths[world.route[n, 0]][world.progress[n, 0] :] for n in there]


def level(difficulty: str, left: float) -> list[str]:
    """The drawing of one level, with its upper left corner at ``left``."""
    facts = LEVELS[difficulty]
    lanes = {first + lane for first in facts.roads for lane in range(1 + facts.two_way)}
    found = routes(facts)
    starts = entries(facts)

    def centre(cell: Cell) -> tuple[float, float]:
        return left + CELL * (cell[1] + 0.5), TOP + CELL * (cell[0] + 0.5)

    parts = []
    for row, column in sorted({cell for paths in found for path in paths for cell in path}):
        fill = CROSSING if {row, column} <= lanes else ROAD
        parts.append(
            f'<rect x="{left + CELL * column}" y="{TOP + CELL * row}" width="{CELL}" '
            f'height="{CELL}" fill="{fill}" stroke="white"/>'
        )
    for start, (down, right) in starts:  # where cars come from
        x, y = centre(start)
        away, near = 0.95 * CELL, 0.5 * CELL
        parts.append(
            f'<line x1="{x - away * right}" y1="{y - away * down}" x2="{x - near * right}" '
            f'y2="{y - near * down}" stroke="{GREY}" marker-end="url(#grey)"/>'
        )
    for path in cars_at(difficulty, *MOMENTS[difficulty]):
        if len(path) > 1:
            points = " ".join(f"{x},{y}" for x, y in map(centre, path))
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="1.4" '
                'opacity="0.75" marker-end="url(#blue)"/>'
            )
        x, y = centre(path[0])
        parts.append(f'<circle cx="{x}" cy="{y}" r="{0.34 * CELL}" fill="{INK}"/>')
    each = len(found[0])
    said = f"{len(starts)} entries, {each} route{'s' if each > 1 else ''} from each"
    said += f", up to {facts.num_agents} cars"
    parts.append(
        f'<text x="{left}" y="{TOP - 46}" font-weight="600">{difficulty}</text>'
        f'<text x="{left}" y="{TOP - 30}" fill="{GREY}" font-size="12">{said}</text>'
    )
    return parts


parts, left = [], LEFT
for name in LEVELS:
    parts += level(name, left)
    left += CELL * LEVELS[name].size + GAP
    if name == "easy":
        left += 90  # its title is wider than it is
marker = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
    f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    for name, colour in (("blue", BLUE), ("grey", GREY))
)
height = TOP + CELL * LEVELS["hard"].size + 24
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left - GAP + LEFT} {height}" '
    f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
    f'<rect width="100%" height="100%" fill="white"/><defs>{marker}</defs>'
    + "".join(parts)
    + "</svg>\n"
)
Path(__file__).with_suffix(".svg").write_text(svg)
