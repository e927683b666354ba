"""Predator-prey: the grid, what predators see of it, and the prey."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import GREEN, INK, PAPER, RED, TICKS, Canvas, Grey, mixed
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.predator_prey import PredatorPreyWorld

LEFT, TOP, SIDE = 20, 46, 400
SEEN = mixed(TICKS, PAPER, 0.75)


def grey(world: PredatorPreyWorld, index: int) -> Grey:
    """The grid: predators, and the prey darker than they are."""
    image = np.zeros((world.dim, world.dim), np.float32)
    image[tuple(world.places[:, index].T.cpu().numpy())] = 0.5
    image[tuple(world.prey[index].cpu().numpy())] += 0.4
    return image + 0.1


def draw(world: PredatorPreyWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    canvas = Canvas(SIDE + 2 * LEFT, TOP + SIDE + 70, "predator-prey", moment, world.horizon)
    cell = SIDE / world.dim
    cells: list[list[int]] = world.places[:, index].tolist()
    seen = np.zeros((world.dim, world.dim), bool)
    for row, column in cells:
        near = world.vision
        seen[max(row - near, 0) : row + near + 1, max(column - near, 0) : column + near + 1] = True
    for row in range(world.dim):
        for column in range(world.dim):
            fill = SEEN if seen[row, column] else "#f4f6f8"
            canvas.rectangle(LEFT + cell * column + 1, TOP + cell * row + 1, cell - 2, cell - 2,
                             fill, radius=3)  # fmt: skip
    row, column = world.prey[index].tolist()
    x, y = LEFT + cell * (column + 0.5), TOP + cell * (row + 0.5)
    half = 0.36 * cell
    diamond = [(x, y - half), (x + half, y), (x, y + half), (x - half, y), (x, y - half)]
    canvas.polygon(diamond, GREEN)
    places = {}
    for i, own in enumerate(cells):
        # those who share a cell stand side by side
        here = [k for k, other in enumerate(cells) if other == own]
        turn = 2 * np.pi * here.index(i) / len(here)
        aside = 0.24 * cell if len(here) > 1 else 0.0
        middle = LEFT + cell * (own[1] + 0.5), TOP + cell * (own[0] + 0.5)
        places[i] = (middle[0] + aside * np.cos(turn), middle[1] + aside * np.sin(turn))
    radius = min(0.24 * cell, 15)
    canvas.messages(places, radius)
    for i, at in places.items():
        canvas.agent(i, at, str(i), radius)
        if bool(world.there[i, index]):
            canvas.circle(at, radius + 3, None, GREEN, 2.5)
    there = int(world.there[:, index].sum())
    y = TOP + SIDE + 22
    canvas.text(LEFT, y, f"{there} of {len(cells)} are at the prey", 13, INK)
    total = float(world.total[:, index].mean())
    canvas.text(canvas.width - LEFT, y, f"return {total:.2f}", 13, RED if total < 0 else INK, "rm")
    canvas.legend((GREEN, "prey"), (SEEN, "in sight"))
    return canvas.array()
