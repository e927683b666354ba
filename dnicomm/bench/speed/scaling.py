"""How the cost of a run grows with each thing that users grow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dnicomm.agents import Recurrent
from dnicomm.bench.speed.crowd import Crowd
from dnicomm.bench.stopwatch import stopwatch
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
    """Curves of the keys of ``values``, of a :class:`Crowd` or ``counting`` (its block T)."""
    curves = []
    for key, chosen in values.items():
        points = []
        for value in chosen:
            if key == "counting":
                simulation, time = _counting(int(value)), 1.0
            else:
                changed: dict[str, Any] = {key: value if key == "rate" else int(value)}
                if key == "rate":  # so many that the work, and not its number of calls, is seen
                    changed["num_agents"] = MANY * crowd.num_agents
                simulation = replace(crowd, **changed).simulation()
                time = float(crowd.horizon)
            points.append((float(value), _median(simulation, rounds) / time))
        cost = "an episode" if key == "counting" else "a unit of world time"
        curves.append(Curve(NAMES[key], cost, points))
    return curves


MANY = 10
NAMES = {
    "num_agents": "agents",
    "degree": "channels into each agent",
    "num_worlds": "worlds",
    "message_size": "message size",
    "window": "window",
    "rate": f"tick rate, {MANY} times as many agents",
    "counting": "T of the counting system",
}


def _median(simulation: Simulation, rounds: int) -> float:
    """Seconds of an episode."""
    play: Callable[[int], int] = simulation.engine.play
    clock = stopwatch()
    play(0)
    times = []
    for number in range(rounds):
        start = clock()
        play(number + 1)
        times.append(clock() - start)
    return statistics.median(times)


def _counting(block: int) -> Simulation:
    def agent(spec: AgentSpec) -> Recurrent:
        return Recurrent(spec, 32)

    utility = UtilitySettings(GradientUtility, Adam(3e-3))
    return Simulation(env=Counting(block=block), agent=agent, num_worlds=64, utility=utility)
