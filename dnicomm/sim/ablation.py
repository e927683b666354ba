"""Channels silenced: what agents reach where messages say nothing, or say what was meant elsewhere.

The simplest evidence that communication is of use. Timing is left as it was: a message arrives when
it did, from whom it did; only its content is another.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from dnicomm.sim.agent import Inbox
from dnicomm.sim.engine import Engine
from dnicomm.sim.lane import Lane
from dnicomm.sim.population import Index
from dnicomm.sim.random import generator
from dnicomm.sim.topology import Edge, edge_name


class Zeroed:
    """Every message of some channels is read as zeros."""

    def __init__(self, edges: Collection[Edge]) -> None:
        self.edges = edges

    def __call__(self, time: int, lane: Lane, members: Index, inbox: Inbox) -> Inbox:
        """What members ``[n]`` of a population read instead of ``inbox``."""
        messages = inbox.messages.clone()
        for i, k, _ in _slots(lane, members, self.edges):
            messages[i, :, k] = 0.0
        return inbox._replace(messages=messages)


class Shuffled:
    """Every message of some channels is read in another world than it was meant for.

    The worlds stand in a random circle, the same for a channel in all episodes, and each that has a
    message reads that of the next one that has. So messages of a channel keep their distribution
    and, where all worlds hear the channel, their order in time; only one world alone reads its own.
    """

    def __init__(self, edges: Collection[Edge], num_worlds: int, seed: int) -> None:
        self.edges = edges
        self.circle = {
            edge: generator(seed, "shuffled", edge_name(*edge)).permutation(num_worlds)
            for edge in edges
        }

    def __call__(self, time: int, lane: Lane, members: Index, inbox: Inbox) -> Inbox:
        """What members ``[n]`` of a population read instead of ``inbox``."""
        messages = inbox.messages.clone()
        for i, k, edge in _slots(lane, members, self.edges):
            there = inbox.mask[i, :, k].cpu().numpy()
            circle = self.circle[edge]
            worlds = circle[there[circle]]
            here, next_one = (_index(w, messages) for w in (worlds, np.roll(worlds, -1)))
            messages[i, here, k] = inbox.messages[i, next_one, k]
        return inbox._replace(messages=messages)


def scores(
    engine: Engine, episodes: int, intervention: Zeroed | Shuffled | None = None
) -> dict[str, float]:
    """Mean scores over some episodes, as an evaluation has them, under an intervention.

    Args:
        engine: one that does not learn.
        episodes: the first ones are played, the same as in an evaluation.
    """
    engine.intervene = intervention
    try:
        found = engine.scores(episodes)
    finally:
        engine.intervene = None
    return {name: torch.cat(values).mean().item() for name, values in found.items()}


def _slots(lane: Lane, members: Index, edges: Collection[Edge]) -> list[tuple[int, int, Edge]]:
    """Where the channels end among some members: place, slot of the inbox, edge."""
    inputs, k = lane.population.inputs, lane.population.spec.num_inputs
    return [
        (i, slot, edge)
        for i, row in enumerate(members)
        for slot in range(k)
        if (edge := inputs[int(row) * k + slot]) is not None and edge in edges
    ]


def _index(worlds: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(worlds)).to(like.device)
