"""What a simulation is told beside its parts, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dnicomm.core import RowOptimizer
from dnicomm.errors import UserError
from dnicomm.sim.agent import Agent, AgentSpec
from dnicomm.sim.clock import Clock
from dnicomm.sim.whole_options import check_whole

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
        episodes: played in each evaluation, with the same clocks each time; 0: there is no test,
            and what is measured are the training worlds (``train_…``).
        num_worlds: B of an evaluation; None: enough to show the whole test split in an episode.
        worlds: ``own``: tests have worlds of their own; ``shared``: they are played in the training
            worlds, between episodes, with seeds never trained on, for environments of which no
            further copy can exist. Training is the same either way.

    Raises:
        UserError: from :class:`~dnicomm.sim.Simulation`, if a value is out of range.
    """

    every: int = 1000
    episodes: int = 2
    num_worlds: int | None = None
    worlds: Literal["own", "shared"] = "own"

    @property
    def shares_worlds(self) -> bool:
        """Whether no worlds are built for tests."""
        return self.worlds == "shared" or self.episodes == 0

    def check(self, num_worlds: int) -> None:
        """Check the values, beside ``num_worlds`` training worlds.

        Raises:
            UserError: if one is out of range; names its key.
        """
        least = {"every": 1, "episodes": 0, "num_worlds": 1}
        check_whole(self, least, or_null=["num_worlds"], prefix="eval.")
        if self.worlds not in ("own", "shared"):
            raise UserError(f"eval.worlds={self.worlds}: must be own or shared")
        if self.shares_worlds and self.num_worlds not in (None, num_worlds):
            why = "eval.worlds=shared" if self.worlds == "shared" else "eval.episodes=0"
            raise UserError(
                f"eval.num_worlds={self.num_worlds}: with {why} there are the training worlds "
                f"only, num_worlds={num_worlds}; leave it null"
            )


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
