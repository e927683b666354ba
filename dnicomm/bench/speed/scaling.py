"""How the cost of a run grows with each thing that users grow."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dnicomm.agents import Recurrent
from dnicomm.bench.speed.crowd import Crowd
from dnicomm.bench.speed.measuring import in_turns
from dnicomm.core import Adam, GradientUtility
from dnicomm.envs import Counting
from dnicomm.sim import AgentSpec, Simulation, UtilitySettings


@dataclass(frozen=True)
class Curve:
    """Cost against one thing, the others kept.

    Attributes:
        name: the thing; cost: what is measured.
        points: values of the thing, and seconds.
    """

    name: str
    cost: str
    points: list[tuple[float, float]]

    @property
    def exponent(self) -> float:
        """Slope of the log of the cost over the log of the thing, in the upper half."""
        upper = self.points[-max(len(self.points) // 2 + 1, 2) :]
        x = [math.log(a) for a, _ in upper]
        y = [math.log(b) for _, b in upper]
        return statistics.linear_regression(x, y).slope


def measure_scaling(crowd: Crowd, values: dict[str, Sequence[float]], rounds: int) -> list[Curve]:
    """Curves of the keys of ``values``, of a :class:`Crowd` or ``counting`` (its block T).

    The points of a curve take turns, so that what else the machine does hits all of them alike.
    """
    curves = []
    for key, chosen in values.items():
        runs = [_counting(int(v)) if key == "counting" else _varied(crowd, key, v) for v in chosen]
        points = [
            (float(value), seconds)
            for value, seconds in zip(chosen, _medians(runs, rounds), strict=True)
        ]
        cost = "an episode" if key == "counting" else "a unit of world time"
        curves.append(Curve(NAMES[key], cost, points))
    return curves


MANY, LONG = 10, 5
NAMES = {
    "num_agents": "agents",
    "degree": "channels into each agent",
    "num_worlds": "worlds",
    "message_size": "message size",
    "window": "window",
    "rate": f"tick rate, {MANY} times as many agents",
    "counting": "T of the counting system",
}


@dataclass(frozen=True)
class _Run:
    simulation: Simulation
    time: float  # of an episode, in what its cost is counted in


def _medians(runs: Sequence[_Run], rounds: int) -> list[float]:
    """Seconds each."""
    steps = {str(number): _player(run.simulation) for number, run in enumerate(runs)}
    times = in_turns(steps, rounds)
    return [statistics.median(of) / run.time for of, run in zip(times.values(), runs, strict=True)]


def _player(simulation: Simulation) -> Callable[[], int]:
    """Plays one episode after the other."""
    numbers = itertools.count()
    return lambda: simulation.engine.play(next(numbers))


def _varied(crowd: Crowd, key: str, value: float) -> _Run:
    changed: dict[str, Any] = {key: value if key == "rate" else int(value)}
    if key == "rate":
        # so many that the work, and not its number of calls, is seen; and so long an episode that
        # its first time, at which everybody is due whatever the rate, hardly counts
        changed |= {"num_agents": MANY * crowd.num_agents, "horizon": LONG * crowd.horizon}
    varied = replace(crowd, **changed)
    return _Run(varied.simulation(), float(varied.horizon))


def _counting(block: int) -> _Run:
    def agent(spec: AgentSpec) -> Recurrent:
        return Recurrent(spec, 32)

    utility = UtilitySettings(GradientUtility, Adam(3e-3))
    env = Counting(block=block)
    return _Run(Simulation(env=env, agent=agent, num_worlds=64, utility=utility), 1.0)
