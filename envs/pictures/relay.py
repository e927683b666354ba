"""The relay: the digit, the agents in a row, and what the last one says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import FAINT, GREEN, GREY, INK, RED, Canvas, Grey
from dnicomm.envs.pictures import square_picture
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.relay import RelayWorld

LEFT, TOP, DIGIT = 20, 60, 96


def grey(world: RelayWorld, index: int) -> Grey:
    return square_picture(world.image[index].cpu().numpy())


def draw(world: RelayWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    count = len(world.agents)
    apart = 110 if count <= 6 else max(660 / count, 44)
    first = LEFT + DIGIT + 54
    canvas = Canvas(round(first + apart * (count - 1) + 134), 216, "relay", moment, world.horizon)
    canvas.grey(LEFT, TOP, DIGIT, grey(world, index))
    canvas.rectangle(LEFT, TOP, DIGIT, DIGIT, outline=FAINT)
    middle = TOP + DIGIT / 2
    places = {i: (first + apart * i, middle) for i in range(count)}
    for i in range(count - 1):
        canvas.line([places[i], places[i + 1]], FAINT, 2)
    canvas.dashes((LEFT + DIGIT + 6, middle), (first - 17, middle), GREY)
    canvas.messages(places)
    for i, name in enumerate(world.agents):
        canvas.agent(i, places[i], str(i), name=name if apart > 60 else "")
    said, right = int(world.answer[index]), int(world.label[index])
    x = places[count - 1][0] + 70
    canvas.text(x, middle - 34, "says", 12, GREY, "mm")
    if said < 0:
        canvas.text(x, middle, "nothing yet", 12, INK, "mm")
    else:
        canvas.text(x, middle, str(said), 38, GREEN if said == right else RED, "mm")
        canvas.text(x, middle + 34, "right" if said == right else "wrong", 12, GREY, "mm")
    canvas.legend()
    return canvas.array()
