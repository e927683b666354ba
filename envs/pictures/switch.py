"""The switch riddle: a row a prisoner, a column a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnicomm.envs.drawing import BLUE, FAINT, GREEN, GREY, INK, MESSAGE, RED, Canvas, Grey, mixed
from dnicomm.sim.world import Moment

if TYPE_CHECKING:
    from dnicomm.envs.switch import SwitchWorld

LEFT, TOP, ROW = 110, 76, 44


def _days(world: SwitchWorld, index: int) -> int:
    """Days of which it is known who was in the room."""
    return world.time + int(not bool(world.ended()[index]))


def grey(world: SwitchWorld, index: int) -> Grey:
    """A row a prisoner, a column a day: who has been in the room when."""
    inside: Grey = world.inside[:, :, index].float().cpu().numpy().copy()  # [T, n]
    inside[_days(world, index) :] = 0
    return inside.T


def draw(world: SwitchWorld, index: int, moment: Moment) -> NDArray[np.uint8]:
    count, days = len(world.agents), world.horizon
    day = max(min(70.0, 560 / days), 18.0)
    height = TOP + ROW * count + 66
    canvas = Canvas(max(round(LEFT + day * days + 30), 460), height, "switch", moment, days)
    room, known = world.room[:, index].tolist(), _days(world, index)
    today = min(world.time, days - 1)

    def place(prisoner: int, time: int) -> tuple[float, float]:
        return LEFT + day * (time + 0.5), TOP + ROW * (prisoner + 0.5)

    if known > world.time:
        x = LEFT + day * today
        canvas.rectangle(x, TOP - 22, day, ROW * count + 26, mixed(BLUE, "#ffffff", 0.88), radius=6)
    for i, name in enumerate(world.agents):
        left, right = place(i, 0)[0], place(i, days - 1)[0]
        canvas.text(20, place(i, 0)[1], name, 13, INK if i in room[:known] else GREY)
        canvas.line([(left, place(i, 0)[1]), (right, place(i, 0)[1])], FAINT, 1)
    for time in range(days):
        canvas.text(place(0, time)[0], TOP - 10, str(time), 11, GREY, "mm")
    radius = min(day / 2 - 3, 13)
    for time, prisoner in enumerate(room[:known]):
        at = place(prisoner, time)
        if time + 1 < known:
            canvas.line([at, place(room[time + 1], time + 1)], FAINT, 2)
        first = prisoner not in room[:time]
        canvas.circle(at, radius, BLUE if first else mixed(BLUE, "#ffffff", 0.7))
    if moment.flights and today + 1 < days:
        flight = moment.flights[0]
        ends = {0: place(room[today], today), 1: place(flight.receiver, today + 1)}
        canvas.moment = Moment(moment.time, flights=(flight._replace(sender=0, receiver=1),))
        canvas.messages(ends, radius)
    been = len(set(room[:known]))
    y = TOP + ROW * count + 20
    canvas.text(20, y, f"{been} of {count} have been in the room", 13, INK)
    if bool(world.told[index]):
        won = float(world.total[index]) > 0
        words = "told, and rightly: +1" if won else "told too early: -1"
        canvas.text(canvas.width - 20, y, words, 15, GREEN if won else RED, "rm")
    canvas.moment = Moment(moment.time)
    canvas.legend(
        (BLUE, "there for the first time"),
        (mixed(BLUE, "#ffffff", 0.7), "there again"),
        (MESSAGE, "what is left on the switch"),
    )
    return canvas.array()
