"""Credit for rewards under irregular clocks: returns and advantages of a window's ticks.

γ counts per unit of world time, within a hold and across it, so that a return does not depend on
how often its agent ticks (a semi-Markov return; Sutton, Precup and Singh, 1999). λ counts per
tick: generalised advantage estimation (Schulman et al., 2016) with the agent's own ticks as its
steps, whatever lies between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dnicomm.sim.agent import Inbox, TickOutput
from dnicomm.sim.window import OpenWindow, Tick
from dnicomm.sim.world import World

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine
    from dnicomm.sim.lane import Lane

EPSILON = 1e-6


@dataclass(frozen=True)
class Discount:
    """How rewards are credited.

    Args:
        gamma: discount per unit of world time, 0 to 1.
        gae_lambda: share of what followed, against the value there, at each later tick; 1: the
            rewards to the window's end and the value of what follows.
    """

    gamma: float = 0.99
    gae_lambda: float = 1.0


@torch.no_grad()
def credit(
    engine: Engine, time: int, lane: Lane, window: OpenWindow
) -> list[tuple[Tensor, Tensor]]:
    """Return and advantage ``[n, B]`` of each tick of a window that ends at ``time``.

    An agent without a value has its returns as advantages; without rewards both are zero.
    """
    if not engine.rewards or not window.ticks:
        zeros = [torch.zeros_like(tick.output.message[..., 0]).detach() for tick in window.ticks]
        return [(zero, zero) for zero in zeros]
    found = []
    for tick, returns in zip(window.ticks, _returns(engine, time, lane, window), strict=True):
        value = tick.output.value
        advantage = returns if value is None else returns - value.detach()
        found.append((returns, advantage))
    if lane.population.agents.template.normalises_advantages:
        advantages = _normalised(window, [advantage for _, advantage in found])
        found = [(r, a) for (r, _), a in zip(found, advantages, strict=True)]
    return found


def _returns(engine: Engine, time: int, lane: Lane, window: OpenWindow) -> list[Tensor]:
    """Discounted reward from each tick on, and the value of what follows the window.

    Whose life ends within it expects nothing after that, or, if it was only cut off, the value of
    what it saw last.
    """
    population, world, discount = lane.population, engine.world, engine.discount
    indices = torch.from_numpy(population.indices[window.members]).to(world.device)
    future = _value_at_end(engine, time, lane, window)  # [w, B]
    found: dict[int, Tensor] = {}
    by_time = {tick.time: (number, tick) for number, tick in enumerate(window.ticks)}
    cut_off = {t: (who, value) for t, who, value in window.truncations}
    for t in range(time, window.start - 1, -1):
        alive = engine.alive[t]
        if alive is not None:
            future = torch.where(alive[indices], future, 0.0)
        if t in cut_off:
            who, value = cut_off[t]
            future = torch.where(who, value, future)
        future = engine.rewards[t][indices] + discount.gamma * future
        if t in by_time:
            number, tick = by_time[t]
            place = window.place(tick.members)
            found[number] = future if place is None else future[place]
            future = _mixed(future, place, tick, discount.gae_lambda)
    return [found[number] for number in range(len(window.ticks))]


def _mixed(future: Tensor, place: Tensor | None, tick: Tick, share: float) -> Tensor:
    """What earlier ticks are told of the time from ``tick`` on: λ of the return, 1 - λ value."""
    if share == 1 or tick.output.value is None:
        return future
    here = future if place is None else future[place]
    mixed = share * here + (1 - share) * tick.output.value.detach()
    if tick.active is not None:
        mixed = torch.where(tick.active, mixed, here)
    return mixed if place is None else future.index_copy(0, place, mixed)


def _value_at_end(engine: Engine, time: int, lane: Lane, window: OpenWindow) -> Tensor:
    """Value of the members' situation after ``time``, where their window ends, ``[w, B]``.

    Zero if they have no value, and at the end of an episode whose world tells no other end.
    """
    over = engine.world.ended() is None and time + 1 == engine.world.episode_length()
    value = None if over else expect(engine.world, lane, window, time + 1)
    if value is None:
        worlds = window.ticks[0].output.message.shape[1]
        return window.ticks[0].output.message.new_zeros(len(window.members), worlds)
    return value


@torch.no_grad()
def expect(world: World, lane: Lane, window: OpenWindow, time: int) -> Tensor | None:
    """What members of a window expect of what follows, before they tick at ``time``, ``[w, B]``.

    It comes from what they would see and hear then, a read that does not count as one, and from
    their states after their last ticks. None: they have no value, or have not ticked.
    """
    if not window.ticks or window.ticks[0].output.value is None:
        return None
    numbers = lane.population.indices[window.members].tolist()
    world.refresh(numbers)
    observation = world.observe(numbers)
    inbox = Inbox(*lane.mailbox.peek(time, window.members))
    # statistics that the agents keep see their ticks only, and this is none
    buffers = {name: buffer.clone() for name, buffer in window.rows.buffers.items()}
    rows = replace(window.rows, buffers=buffers)
    output: TickOutput = lane.population.agents.call(rows, "tick", observation, inbox, window.state)
    assert output.value is not None
    return output.value.nan_to_num()


def record_truncations(
    world: World, lane: Lane, window: OpenWindow, time: int, truncated: Tensor
) -> None:
    """Note what those members expect whose life the step at ``time`` cut off.

    Args:
        truncated: ``[num_agents, B]`` bool.
    """
    indices = torch.from_numpy(lane.population.indices[window.members]).to(truncated.device)
    value = expect(world, lane, window, time + 1)
    if value is not None:
        window.truncations.append((time, truncated[indices], value))


def _normalised(window: OpenWindow, advantages: Sequence[Tensor]) -> list[Tensor]:
    """Advantages with mean 0 and deviation 1 over each member's ticks and worlds."""
    places = [window.place(tick.members) for tick in window.ticks]
    rows = [slice(None) if place is None else place for place in places]
    # in double: advantages that hardly differ must not differ by their rounding errors
    wide = [advantage.double() for advantage in advantages]

    def by_member(values: Sequence[Tensor]) -> Tensor:  # sums over active worlds, [w, 1]
        total = torch.zeros(len(window.members), 1, dtype=torch.float64, device=wide[0].device)
        for tick, at, value in zip(window.ticks, rows, values, strict=True):
            total[at] += tick.masked(value).sum(1, keepdim=True)
        return total

    count = by_member([torch.ones_like(value) for value in wide]).clamp(min=1)
    mean = by_member(wide) / count
    centred = [value - mean[at] for at, value in zip(rows, wide, strict=True)]
    deviation = (by_member([value.square() for value in centred]) / count).sqrt() + EPSILON
    return [
        (value / deviation[at]).to(advantage)
        for at, value, advantage in zip(rows, centred, advantages, strict=True)
    ]
