"""Counting: the digits shown so far, a row a block, and what both agents say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import FAINT, GREEN, GREY, INK, RED, TICKS, Canvas, Grey
from dnicomm.envs.pictures import square_picture
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.counting import CountingWorld

LEFT, TOP, SIDE = 20, 54, 232


def grey(world: CountingWorld, index: int) -> Grey:
    """The digit that is shown now; once all were, nothing."""
    if world.time >= len(world.index):
        return np.zeros_like(square_picture(world.pixels[0, index].cpu().numpy()))
    return square_picture(world.pixels[world.time, index].cpu().numpy())


def draw(world: CountingWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    canvas = Canvas(560, TOP + SIDE + 48, "counting", moment, world.episode_length())
    length = len(world.index)
    tile = SIDE / max(len(world.ends), int((world.ends - world.starts).max()) + 1)
    for row, (start, end) in enumerate(zip(world.starts, world.ends, strict=True)):
        for time in range(start, end + 1):
            x, y = LEFT + tile * (time - start), TOP + tile * row
            if time <= world.time:
                canvas.grey(x + 2, y + 2, tile - 4, square_picture(_pixels(world, time, index)))
            now = time == world.time
            outline = TICKS if now else FAINT
            canvas.rectangle(x + 1, y + 1, tile - 2, tile - 2, None, outline, 3 if now else 1)
    shown = min(world.time, length - 1)
    places = {0: (330.0, TOP + 46.0), 1: (330.0, TOP + 176.0)}
    canvas.line([places[0], places[1]], FAINT, 2)
    canvas.messages(places, 18)
    facts = (
        ("a_0", f"odd in this block: {int(world.odd[shown, index])}",
         f"blocks counted right: {int(world.a_right[index])} of {len(world.ends)}"),
        ("b_0", f"threes so far: {int(world.threes[shown, index])}", ""),
    )  # fmt: skip
    for i, (name, fact, more) in enumerate(facts):
        x, y = places[i]
        canvas.agent(i, places[i], name, 18)
        canvas.text(x + 34, y - 9, fact, 13, INK)
        canvas.text(x + 34, y + 11, more, 12, GREY)
    x, y = places[1]
    said, right = int(world.answer[index]), int(world.threes[-1, index])
    if said < 0:
        canvas.text(x + 34, y + 11, "says nothing yet", 12, GREY)
    else:
        colour = GREEN if said == right else RED
        canvas.text(x + 34, y + 14, f"says {said}", 18, colour)
    canvas.legend()
    return canvas.array()


def _pixels(world: CountingWorld, time: int, index: int) -> Grey:
    pixels: Grey = world.pixels[time, index].cpu().numpy()
    return pixels
