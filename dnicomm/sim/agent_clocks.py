"""Which clock each agent of a simulation has."""

from __future__ import annotations

from collections.abc import Mapping

from dnicomm.errors import UserError, nearest
from dnicomm.sim.clock import Clock, PoissonClock, require_ticks, ticks_of
from dnicomm.sim.random import generator
from dnicomm.sim.world import World


def choose_clocks(
    world: World,
    env: str,
    default: Clock | None,
    by_name: Mapping[str, Clock],
    overrides: Mapping[str, Clock],
    seed: int,
) -> dict[str, Clock] | None:
    """Return a clock for each agent; None where the environment owns the schedule.

    Args:
        world: whose agents they are, within an episode.
        env: its name, for messages.
        default: of agents without one of their own; None: a tick a unit of world time.
        by_name: instead of ``default``.
        overrides: instead of both.
        seed: of the first episode, in which each agent has to tick.

    Raises:
        UserError: if there is no such agent, the environment sets who ticks when, or somebody would
            never tick.
    """
    for name in by_name:
        if name not in world.agents:
            raise UserError(f"clocks: there is no agent {name!r}.{nearest(name, world.agents)}")
    given = {**by_name, **overrides}
    if world.schedule() is not None:
        if given or default is not None:
            raise UserError(f"clock: {env} sets when its agents tick; use clock=none")
        return None
    default = default or PoissonClock(rate=1.0)
    clocks = {name: given.get(name, default) for name in world.agents}
    for name, clock in clocks.items():
        rng = generator(seed, "train", "clock", name, 0)
        require_ticks(ticks_of(name, clock, rng, world.horizon), name, world.horizon)
    return clocks
