"""The traffic junction: roads, cars with what is left of their routes, and collisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import GREEN, INK, PURPLE, RED, Canvas, Grey, Point, mixed
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.traffic import TrafficWorld

LEFT, TOP, SIDE = 20, 46, 420
ROAD, PAPER = "#e6eaef", "#ffffff"


def grey(world: TrafficWorld, index: int) -> Grey:
    """The roads, brighter where there is a car, brightest where several are."""
    light = np.array([0.3, 0.7, 1], np.float32)
    image = np.zeros((world.size, world.size), np.float32)
    row, column = world.place[:-1].T.cpu().numpy()
    image[row, column] = light[world.cars[:-1, index].clamp(max=2).cpu().numpy()]
    return image


def draw(world: TrafficWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    canvas = Canvas(SIDE + 2 * LEFT, TOP + SIDE + 70, "traffic", moment, world.horizon)
    side = SIDE / world.size
    cells = [
        (LEFT + side * (column + 0.5), TOP + side * (row + 0.5))
        for row, column in world.place[:-1].tolist()
    ]
    for x, y in cells:
        canvas.rectangle(x - side / 2 + 0.5, y - side / 2 + 0.5, side - 1, side - 1, ROAD)
    there = world.there[:, index].nonzero().flatten().tolist()
    places: dict[int, Point] = {}
    for car in there:
        route, gone = int(world.route[car, index]), int(world.progress[car, index])
        path = world.table[route, gone : int(world.length[route])].tolist()
        places[car] = cells[path[0]]
        if len(path) > 1:
            canvas.line([cells[c] for c in path], mixed(GREEN, PAPER, 0.45), 2)
            canvas.circle(cells[path[-1]], 3, mixed(GREEN, PAPER, 0.2))
    radius = 0.36 * side
    canvas.messages(places, radius)
    for car, at in places.items():
        canvas.agent(car, at, str(car), radius)
        if bool(world.brakes[car, index]):
            canvas.circle(at, radius + 2.5, None, PURPLE, 3)
    for cell in (world.cars[:-1, index] > 1).nonzero().flatten().tolist():
        canvas.circle(cells[cell], 0.62 * side, None, RED, 3)
        canvas.cross(cells[cell], 0.5 * side, RED)
    y = TOP + SIDE + 22
    collisions, through = int(world.collisions[index]), int(world.through[index])
    canvas.text(LEFT, y, f"{through} came through", 13, INK)
    canvas.text(
        canvas.width - LEFT, y, f"{collisions} in collisions", 13, RED if collisions else INK, "rm"
    )
    canvas.legend((PURPLE, "brakes"), (mixed(GREEN, PAPER, 0.2), "where it goes"))
    return canvas.array()
