"""The signalling game: what the speaker sees, what the listener says, and when it was right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import FAINT, GREEN, GREY, INK, RED, Canvas, Grey
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.signalling import Signalling, SignallingWorld

WIDTH, HEIGHT, LEFT, TOP = 560, 250, 90, 92
CELL = 20  # of the table of attributes, at most
LINE = 204  # of the episode so far


def grey(world: SignallingWorld, index: int) -> Grey:
    """A row an attribute, a column a value: the object; below, in half tones, the guess."""
    env = world.env
    rows = np.zeros((2 * env.attributes, env.values), np.float32)
    shown, guess = int(world.shown[index]), int(world.guess[index])
    for row, value in enumerate(env.described(shown)):
        rows[row, value] = 1
    for row, value in enumerate(env.described(guess) if guess >= 0 else ()):
        rows[env.attributes + row, value] = 0.5
    return rows


def draw(world: SignallingWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    env, canvas = world.env, Canvas(WIDTH, HEIGHT, "signalling", moment, world.horizon)
    places = {0: (LEFT + 110.0, float(TOP)), 1: (WIDTH - LEFT - 110.0, float(TOP))}
    canvas.line([places[0], places[1]], FAINT, 2)
    canvas.messages(places)
    shown, guess = int(world.shown[index]), int(world.guess[index])
    for i, (name, number) in enumerate(zip(world.agents, (shown, guess), strict=True)):
        canvas.agent(i, places[i], name[0].upper(), name=name)
        colour = INK if i == 0 else GREEN if guess == shown else RED
        middle = LEFT - 10 if i == 0 else WIDTH - LEFT + 10
        _object(canvas, middle, env, number, colour)
    words = "says nothing yet" if guess < 0 else "right" if guess == shown else "wrong"
    canvas.text(WIDTH - LEFT + 10, TOP + 62, words, 12, GREY, "mm")
    canvas.text(LEFT - 10, TOP + 62, "is there", 12, GREY, "mm")
    first, step = 20, (WIDTH - 40) / world.horizon
    for time in range(min(world.time + 1, world.horizon)):
        fresh = time > 0 and world.objects[time, index] != world.objects[time - 1, index]
        x = first + step * (time + 0.5)
        canvas.line([(x, LINE - 4), (x, LINE + 4)], FAINT, 1)
        if fresh or time == 0:  # another object from here on
            canvas.line([(x, LINE - 9), (x, LINE + 9)], INK, 2)
    canvas.text(first, LINE - 20, f"right {int(world.right[index])} of {world.time}", 12, GREY)
    canvas.legend((INK, "another object"))
    return canvas.array()


def _object(canvas: Canvas, middle: float, env: Signalling, number: int, colour: str) -> None:
    """A row an attribute, a column a value, around ``middle``; empty below 0."""
    cell = min(CELL, 110 / env.values, 100 / env.attributes)
    left, top = middle - cell * env.values / 2, TOP - cell * env.attributes / 2
    for row in range(env.attributes):
        for column in range(env.values):
            canvas.rectangle(
                left + cell * column, top + cell * row, cell, cell, None, FAINT, min(1, cell / 8)
            )
    side = max(cell, 3)  # so that it is seen among hundreds
    for row, value in enumerate(env.described(number) if number >= 0 else ()):
        canvas.rectangle(left + cell * value, top + cell * row, side, side, colour)
