"""What one population goes through in one episode: its mail, its states, and who is due when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from dnicomm.core.tree import mapped
from dnicomm.sim.agent import State
from dnicomm.sim.mail import Mailbox
from dnicomm.sim.population import AgentPopulation, Index
from dnicomm.sim.window import OpenWindow

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine


@dataclass
class Lane:
    """One population in one episode of one batch of worlds."""

    population: AgentPopulation
    mailbox: Mailbox
    start: State  # [N, B, …] before a life's first tick
    state: State  # [N, B, …]
    due: NDArray[np.bool_]  # [N, T] who ticks when
    ends: NDArray[np.bool_]  # [T] when its windows end
    window: OpenWindow | None = None


def lane_of(
    engine: Engine, population: AgentPopulation, schedule: Mapping[str, Sequence[int] | Index]
) -> Lane:
    """The lane of a population at the beginning of an episode.

    Args:
        schedule: tick times by agent, in this episode.
    """
    world, members = engine.world, len(population.names)
    due = np.zeros((members, engine.length), dtype=bool)
    for row, name in enumerate(population.names):
        times = np.asarray(schedule[name], dtype=np.int64)
        due[row, times[times < engine.length]] = True
    interface = population.interface
    mailbox = Mailbox(
        members,
        population.spec.num_inputs,
        world.num_worlds,
        population.spec.message_size,
        0 if interface is None else interface.context_size,
        world.device,
        world.message_lifetime,
        charges=interface is not None and interface.needs_cost,
    )
    start = population.agents.template.initial_state(world.num_worlds)  # type: ignore[operator]
    state = pytree.tree_map(
        lambda leaf: leaf.to(world.device).expand(members, *leaf.shape).contiguous(), start
    )
    own = mapped(torch.clone, state)  # changed in place
    return Lane(population, mailbox, state, own, due, _window_ends(engine, population))


def _window_ends(engine: Engine, population: AgentPopulation) -> NDArray[np.bool_]:
    ends = np.zeros(engine.length, dtype=bool)
    ends[-1] = True
    if engine.feedback.locked:
        if engine.exact_window is not None:
            ends[engine.exact_window - 1 :: engine.exact_window] = True
        return ends
    own = population.window
    asked = engine.world.window_ends(population.names[0]) if own is None else None
    if asked is not None:
        times = np.asarray(asked, dtype=np.int64)
        ends[times[times < engine.length]] = True
    else:
        window = own or 1
        ends[window - 1 :: window] = True
    return ends
