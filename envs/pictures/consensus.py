"""Consensus: the graph and its links, and how far what is said has come together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import BLUE, FAINT, GREEN, GREY, INK, PURPLE, Canvas, Grey, Point, mixed
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.consensus import ConsensusWorld

LEFT, TOP, RADIUS = 20, 60, 180
START, END = 460, 640  # of the lines from the private numbers to what is said
SLOPES, LINKS = 400, 1_000  # no more of each are drawn
CIRCLE = 120  # agents that stand in a circle, at most; more fill a disc
ABOVE, BELOW = PURPLE, GREEN


def grey(world: ConsensusWorld, index: int) -> Grey:
    """A row of private numbers and a row of what is said of them, from -3 (dark) to 3."""
    rows = np.stack([x[:, index].cpu().numpy() for x in (world.numbers, world.estimates)])
    light: Grey = (rows / 6 + 0.5).astype(np.float32)
    return light


def draw(world: ConsensusWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    canvas = Canvas(720, TOP + 2 * RADIUS + 74, "consensus", moment, world.horizon)
    count, mean = len(world.agents), float(world.mean[index])
    numbers = (world.numbers[:, index] - mean).tolist()
    said = (world.estimates[:, index] - mean).tolist()
    centre = LEFT + RADIUS + 6.0, TOP + RADIUS + 6.0
    places = {i: (centre[0] + x, centre[1] + y) for i, (x, y) in enumerate(_seats(count))}
    links = zip(world.links.tolist(), world.up[:, index].tolist(), strict=True)
    for (a, b), up in links if len(world.links) <= LINKS else ():
        if up:
            canvas.line([places[a], places[b]], FAINT, 1)
    radius = min(0.75 * math.pi * RADIUS / count, 12.0)
    if count > CIRCLE:
        radius = 0.8 * RADIUS / math.sqrt(count)
    canvas.messages(places, radius)
    for i, at in places.items():
        canvas.circle(at, max(radius, 1.5), _colour(said[i]), INK if radius > 3 else None, 1)
        if i in moment.ticking and radius > 3:
            canvas.circle(at, radius + 2.5, None, BLUE, 2)

    def point(x: float, away: float) -> Point:
        return x, TOP + RADIUS + 6 - RADIUS * max(min(away / 3, 1.0), -1.0)

    for own, estimate in list(zip(numbers, said, strict=True))[:SLOPES]:
        colour = mixed(_colour(own), GREY, 0.25)
        canvas.line([point(START, own), point(END, estimate)], colour, 1)
    for own, estimate in list(zip(numbers, said, strict=True))[:SLOPES]:
        canvas.circle(point(START, own), 3, _colour(own), GREY, 0.7)
        canvas.circle(point(END, estimate), 3, _colour(estimate), GREY, 0.7)
    canvas.dashes(point(START - 14, 0), point(END + 14, 0), INK, 1.5)
    canvas.text(END + 18, point(END, 0)[1], "mean", 12, INK)
    canvas.text(START, TOP - 4, "private", 12, GREY, "mm")
    canvas.text(END, TOP - 4, "says", 12, GREY, "mm")
    error = float(world.score()["error"][index])
    y = TOP + 2 * RADIUS + 26
    canvas.text(canvas.width - 20, y, f"error {error:.3f}", 14, INK, "rm")
    canvas.legend((ABOVE, "above the mean"), (BELOW, "below"))
    return canvas.array()


def _seats(count: int) -> list[Point]:
    """Where agents stand around the centre: in a circle, or as the seeds of a sunflower."""
    if count <= CIRCLE:
        turns = [2 * math.pi * i / count - math.pi / 2 for i in range(count)]
        return [(RADIUS * math.cos(turn), RADIUS * math.sin(turn)) for turn in turns]
    golden = math.pi * (3 - math.sqrt(5))
    seats = [(RADIUS * math.sqrt((i + 0.5) / count), golden * i) for i in range(count)]
    return [(away * math.cos(turn), away * math.sin(turn)) for away, turn in seats]


def _colour(away: float) -> str:
    """Lighter the nearer to the mean."""
    return mixed("#f5f5f5", BELOW if away < 0 else ABOVE, min(abs(away) / 2, 1.0))
