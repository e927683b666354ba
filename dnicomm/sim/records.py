"""What a simulation is told beside its parts, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnicomm.core import RowOptimizer
from dnicomm.sim.agent import Agent, AgentSpec
from dnicomm.sim.clock import Clock

AgentFactory = Callable[[AgentSpec], Agent]


@dataclass(frozen=True)
class Override:
    """What one agent has of its own; None: as all the others.

    ``key`` tells factories apart: agents with equal keys and specs share a population.
    """

    agent: AgentFactory | None = None
    key: Any = None
    clock: Clock | None = None
    optimizer: RowOptimizer | None = None
    window: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """When and how agents are tested on what they were never trained on.

    Args:
        every: world time between evaluations (at the next episode's end); checkpoints are taken
            then too.
        episodes: played in each evaluation, with the same clocks each time.
        num_worlds: B of an evaluation; None: enough to show the whole test split in an episode.
    """

    every: int = 1000
    episodes: int = 2
    num_worlds: int | None = None


@dataclass
class Progress:
    """Where a run is, for displays."""

    time: int  # world time
    steps: int  # world time at the end
    agent_ticks: int
    wall_s: float
    record: dict[str, Any] | None = None  # the latest evaluation


@dataclass
class Result:
    """What a run reached."""

    metrics: dict[str, float]
    summary: dict[str, Any]
    history: list[dict[str, Any]]  # one record an evaluation
    folder: Path | None
