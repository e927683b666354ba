"""How much of everything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dnicomm.bench.speed.crowd import Crowd
from dnicomm.bench.speed.environments import ROUNDS, SECONDS, WORLDS
from dnicomm.bench.speed.step import Boundary, Layers


@dataclass(frozen=True)
class Budget:
    """Sizes and repetitions.

    Args:
        rounds: of turns, for steps and rates.
        episodes: measured of each simulation.
        copied: bytes of the largest tensor copied.
        layers, boundary: the steps.
        agents: N, with the horizon of an episode.
        loop_agents: of the loop beside them, at most.
        products: numbers of agents whose linear maps are multiplied.
        compiled: numbers of agents whose ticks are compiled.
        crowd: what the curves start from.
        values: the curves.
        environments: by name; none: all.
        worlds: batches of the environments, beside as many copies.
        turns: of batch and copies.
        seconds: that a turn takes at least.
    """

    rounds: int
    episodes: int
    copied: int
    layers: Layers
    boundary: Boundary
    agents: dict[int, int]
    loop_agents: int
    products: Sequence[int]
    compiled: Sequence[int]
    crowd: Crowd
    values: dict[str, Sequence[float]] = field(default_factory=dict)
    environments: Sequence[str] = ()
    worlds: Sequence[int] = WORLDS
    turns: int = ROUNDS
    seconds: float = SECONDS


_SMALL = Crowd(num_agents=6, num_worlds=3, width=4, message_size=4, horizon=5)
BUDGETS = {
    "smoke": Budget(
        rounds=3,
        episodes=2,
        copied=2**20,
        layers=Layers(20, 16, 4, 2, 8),
        boundary=Boundary(4, 8, 3, 5),
        agents={1: 6, 6: 6},
        loop_agents=3,
        products=[3],
        compiled=[2, 5],
        crowd=_SMALL,
        values={"num_agents": [3, 6], "rate": [0.5, 1.0], "counting": [1, 2]},
        environments=["relay", "switch"],
        worlds=[1, 3],
        turns=2,
        seconds=0.01,
    ),
    "cpu": Budget(
        rounds=40,
        episodes=5,
        copied=2**28,
        layers=Layers(),
        boundary=Boundary(),
        agents={1: 200, 10: 100, 100: 30, 1000: 10, 10_000: 10},
        loop_agents=30,
        products=[50, 500, 5000],
        compiled=[3, 5, 17, 50, 100],
        crowd=Crowd(num_agents=100, horizon=10),
        values={
            "num_agents": [10, 30, 100, 300, 1000],
            "degree": [2, 4, 8, 16],
            "num_worlds": [4, 16, 64, 256],
            "message_size": [8, 32, 128, 256],
            "window": [1, 2, 5, 10],
            "rate": [0.125, 0.25, 0.5, 1.0],
            "counting": [2, 4, 8, 16],
        },
    ),
}
