"""Points on a plane: landmarks, bodies and where they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import FAINT, GREEN, GREY, INK, PURPLE, RED, Canvas, Grey, Point
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.particles import ParticleWorld

LEFT, TOP, SIDE, REACH = 20, 46, 400, 1.5
COLOURS = (RED, GREEN, PURPLE)  # of the landmarks
CELLS = 25  # of the small grey picture


def grey(world: ParticleWorld, index: int) -> Grey:
    """The plane from above: bodies 1, goals 0.6, other landmarks 0.3.

    It shows [-1.5, 1.5] x [-1.5, 1.5]; what is farther out is drawn at the edge.
    """
    image = np.zeros((CELLS, CELLS), dtype=np.float32)
    landmarks = world.landmarks[:, index]
    goals = landmarks[world.goal[:, index]]
    for points, light in ((landmarks, 0.3), (goals, 0.6), (world.position[:, index], 1.0)):
        cells = ((points.cpu().numpy() / 3 + 0.5) * CELLS).astype(int).clip(0, CELLS - 1)
        image[CELLS - 1 - cells[:, 1], cells[:, 0]] = light
    return image


def draw(world: ParticleWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    watchers = world.first  # agents without a body stand beside the plane
    side = 130 if watchers else 0
    title = "speaker and listener" if watchers else "reference"
    canvas = Canvas(SIDE + 2 * LEFT + side, TOP + SIDE + 70, title, moment, world.horizon)
    left = LEFT + side
    canvas.rectangle(left, TOP, SIDE, SIDE, "#f4f6f8", FAINT, 1, 6)

    def place(point: list[float]) -> Point:
        across, up = (min(max(number, -REACH), REACH) / REACH for number in point)
        return left + SIDE * (0.5 + across / 2), TOP + SIDE * (0.5 - up / 2)

    landmarks = [place(point) for point in world.landmarks[:, index].tolist()]
    goals: list[int] = world.goal[:, index].tolist()
    for colour, (x, y) in zip(COLOURS, landmarks, strict=True):
        canvas.rectangle(x - 11, y - 11, 22, 22, colour, radius=4)
    places: dict[int, Point] = {}
    bodies = world.position[:, index].tolist()
    for body, point in enumerate(bodies):
        places[world.first + body] = at = place(point)
        canvas.dashes(at, landmarks[goals[body]], COLOURS[goals[body]], 2)
        ahead = world.position[body, index] + 0.4 * world.velocity[body, index]
        canvas.line([at, place(ahead.tolist())], INK, 3)
    for agent in range(watchers):
        places[agent] = (LEFT + 50.0, TOP + SIDE / 2)
        x, y = places[agent]
        canvas.text(x, y - 52, "sees", 12, GREY, "mm")
        canvas.rectangle(x - 11, y - 40, 22, 22, COLOURS[goals[0]], radius=4)
    canvas.messages(places)
    for agent, at in places.items():
        canvas.agent(agent, at, str(agent), name=world.agents[agent])
        if agent >= watchers:
            canvas.circle(at, 18, None, COLOURS[goals[agent - watchers]], 3)
    y = TOP + SIDE + 22
    distance = float(world.score()["distance"][index])
    canvas.text(LEFT, y, f"distance {distance:.2f}", 13, INK)
    total = float(world.total[index])
    canvas.text(canvas.width - LEFT, y, f"return {total:.2f}", 13, INK, "rm")
    canvas.legend(*((COLOURS[goal], f"goal of {watchers + i}")
                    for i, goal in enumerate(goals)))  # fmt: skip
    return canvas.array()
