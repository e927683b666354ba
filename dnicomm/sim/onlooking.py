"""Looking on at one world of an episode: who ticks, which messages are under way, how it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dnicomm.errors import UserError, shortened
from dnicomm.sim.engine import Engine
from dnicomm.sim.world import Flight, Moment, World

MOST_LINES = 12  # of messages in a text


@dataclass(frozen=True)
class Sight:
    """One world at one time: agents have ticked and sent, and the world has not yet gone on.

    ``world``'s state is that of this time only until the onlooker returns.
    """

    world: World
    index: int  # of the world among the B
    moment: Moment
    length: int  # world time of the episode
    lines: tuple[str, ...]  # messages under way, in words

    def picture(self) -> NDArray[np.uint8] | None:
        """``[H, W, 3]``; None where the environment has no picture."""
        return self.world.draw(self.index, self.moment)

    def text(self) -> str:
        """The same in lines of text."""
        agents = self.world.agents
        lines = [f"time {self.moment.time} of {self.length}"]
        drawn = self.world.text(self.index)
        if drawn is not None:
            lines.append(drawn)
        ticking = [agents[i] for i in sorted(self.moment.ticking)]
        lines.append(f"ticking: {shortened(ticking, MOST_LINES) or 'nobody'}")
        lines += self.lines[:MOST_LINES]
        if len(self.lines) > MOST_LINES:
            lines.append(f"… and {len(self.lines) - MOST_LINES} more messages under way")
        return "\n".join(lines) + "\n"


class Onlooking:
    """Within it, ``onlooker`` is shown world ``index`` of the first episode that ``engine`` plays.

    Nothing is changed by it. A world that ends early is shown until it has ended.

    Raises:
        UserError: there is no such world.
    """

    def __init__(self, engine: Engine, index: int, onlooker: Callable[[Sight], None]) -> None:
        worlds = engine.world.num_worlds
        if not 0 <= index < worlds:
            raise UserError(
                f"world={index}: the worlds of this evaluation are numbered 0 to {worlds - 1}"
            )
        self.engine, self.index, self._onlooker = engine, index, onlooker
        self._number = {name: i for i, name in enumerate(engine.world.agents)}
        self._episode: int | None = None  # the one that is looked on at

    def __enter__(self) -> Onlooking:
        self.engine.onlooker = self._look
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.engine.onlooker = None

    def _look(self, time: int) -> None:
        if self._episode is None:
            self._episode = self.engine.episode
        ended = self.engine.world.ended()
        if self.engine.episode != self._episode or (ended is not None and bool(ended[self.index])):
            return
        flights, lines = self._flights(time)
        moment = Moment(time, self._ticking(time), flights)
        sight = Sight(self.engine.world, self.index, moment, self.engine.length, lines)
        self._onlooker(sight)

    def _ticking(self, time: int) -> frozenset[int]:
        there = self.engine.world.active()
        due = [
            int(agent)
            for lane in self.engine.lanes
            for agent in lane.population.indices[lane.due[:, time]]
        ]
        return frozenset(i for i in due if there is None or bool(there[i, self.index]))

    def _flights(self, time: int) -> tuple[list[Flight], tuple[str, ...]]:
        """Messages under way in this world, and the same in words."""
        flights, lines = [], []
        for lane in self.engine.lanes:
            for parcel in lane.mailbox.in_flight:
                sent, takes = parcel.sent_at, parcel.arrival - parcel.sent_at
                share = (time - sent + 0.5) / takes
                there = parcel.mask[:, self.index].cpu().numpy()
                for slot in parcel.slots[there].tolist():
                    edge = lane.population.inputs[slot]
                    assert edge is not None, "a message in a slot without a channel"
                    sender, receiver = (self._number[name] for name in edge)
                    flights.append(Flight(sender, receiver, share))
                    lines.append(f"{edge[0]} -> {edge[1]}: sent at {sent}, "
                                 f"arrives at {parcel.arrival}")  # fmt: skip
        return flights, tuple(lines)
