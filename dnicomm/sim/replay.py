"""Further steps on the same window, as proximal policy optimisation takes them.

The first step is that of every agent: one backward pass over losses and messages. For each
further epoch the members' ticks are computed again, with their stepped parameters and from the
same observations and inboxes, and their losses with the same outcomes. A message gets the
gradient again that it had in the first pass, synthetic or true: its receiver is not asked anew,
and the utility model is fitted to the first pass alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from dnicomm.core import Window
from dnicomm.sim.agent import Inbox, Outcome, TickOutput
from dnicomm.sim.policy import within
from dnicomm.sim.window import OpenWindow, take_rows

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine
    from dnicomm.sim.lane import Lane


def replay(
    engine: Engine, lane: Lane, window: OpenWindow, outcomes: Sequence[Outcome], live: Tensor
) -> None:
    """The steps of a window after the first.

    Args:
        outcomes: of the window's ticks.
        live: ``[w]`` bool, members that have something to learn.
    """
    population = lane.population
    told = [_gradient(tick.message) for tick in window.ticks]
    for _ in range(population.epochs - 1):
        rows = population.gather(window.at, requires_grad=True)
        again = OpenWindow(window.start, window.members, rows, Window(), window.first_state)
        births = list(window.births)
        for tick, outcome, gradient in zip(window.ticks, outcomes, told, strict=True):
            while births and births[0][0] <= tick.time:
                time, born, start = births.pop(0)
                again.begin_again(born, time, start)
            place = window.place(tick.members)
            own = rows if place is None else rows.take(place)
            assert tick.inbox is not None, "ticks that are computed again keep what they read"
            inbox = Inbox(tick.inbox.messages.detach(), tick.inbox.mask, tick.inbox.age)
            before = take_rows(again.state, place)
            output: TickOutput = population.agents.call(
                own, "tick", tick.observation, inbox, before
            )
            output = within(output, tick.allowed)
            again.update_state(place, output.state, tick.active)
            loss: Tensor = population.agents.call(own, "loss", output, outcome)
            again.record.add_loss(tick.masked(loss))
            if gradient is not None:
                message = output.message if tick.encode is None else tick.encode(output.message)
                again.record.add_output(message, gradient)
        again.record.backward()
        found = rows.parameters.grad
        # buffers counted these ticks in the first pass
        rows.buffers = {name: buffer.detach() for name, buffer in window.rows.buffers.items()}
        population.learn(rows, found, live, engine.progress, engine.world.num_worlds)


def _gradient(message: Tensor) -> Tensor | None:
    """What a message got in the first pass; None: nothing."""
    return None if message.grad is None else message.grad.detach().clone()
