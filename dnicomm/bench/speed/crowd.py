"""Many agents at irregular times, driven by the real engine: what population figures are about.

Independent recurrent agents on a random regular graph. Each holds a number of its own and has to
name the sign of the mean over all. The world does next to nothing, so that what is measured is the
simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnicomm.agents import Recurrent
from dnicomm.core import Adam, GradientUtility
from dnicomm.sim import (
    AgentSpaces,
    AgentSpec,
    EdgeList,
    Env,
    PoissonClock,
    Simulation,
    UtilitySettings,
    World,
)

CLASSES = 2  # the sign of the mean


@dataclass
class Numbers(Env):
    """A number for each agent, the sign of their mean for all to name.

    Args:
        num_agents: N.
        horizon: world time of an episode.
    """

    num_agents: int
    horizon: int = 50
    name: str = "numbers"

    def make(self, num_worlds: int, split: str, device: torch.device) -> NumbersWorld:
        return NumbersWorld(self, num_worlds, device)


class NumbersWorld(World):
    """B sets of numbers."""

    edges = ()

    def __init__(self, env: Numbers, num_worlds: int, device: torch.device) -> None:
        self.agents = tuple(f"agent_{i}" for i in range(env.num_agents))
        self.num_worlds, self.device, self.horizon = num_worlds, device, env.horizon

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((1,), CLASSES)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        numbers = rng.standard_normal((len(self.agents), self.num_worlds, 1), dtype=np.float32)
        self.numbers = torch.from_numpy(numbers).to(self.device)  # [N, B, 1]
        self.label = (self.numbers.mean(0)[:, 0] > 0).long()  # [B]
        self.answer = torch.zeros(self.numbers.shape[:2], dtype=torch.int64, device=self.device)

    def observe(self, agents: Sequence[int]) -> Tensor:
        return self.numbers[torch.as_tensor(agents, device=self.device)]

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        self.answer[torch.as_tensor(agents, device=self.device)] = actions

    def step(self) -> None:
        return None

    def labels(self, agents: Sequence[int]) -> Tensor:
        return self.label.expand(len(agents), -1)

    def score(self) -> dict[str, Tensor]:
        return {"accuracy": (self.answer == self.label).float().mean(0)}


@dataclass(frozen=True)
class Crowd:
    """What a run of many agents is made of.

    Args:
        num_agents: N.
        degree: channels that end at each agent, and as many that begin there; even.
        num_worlds: B.
        width: units of each agent's hidden layer and state.
        message_size: D.
        rate: ticks of each agent a unit of world time.
        window: world time between updates.
        horizon: world time of an episode.
        seed: of the graph and the run.
    """

    num_agents: int = 100
    degree: int = 4
    num_worlds: int = 16
    width: int = 32
    message_size: int = 32
    rate: float = 0.5
    window: int = 1
    horizon: int = 50
    seed: int = 0

    def edges(self) -> list[tuple[int, int]]:
        """A random regular graph, both ways: sender and receiver of each channel.

        The union of ``degree / 2`` rings in random order without a common edge. Where there are too
        few agents for that, everybody is joined to everybody.
        """
        count = self.num_agents
        if count <= self.degree + 1:
            return [(a, b) for a in range(count) for b in range(count) if a != b]
        rng = np.random.default_rng(self.seed)
        joined: set[tuple[int, int]] = set()
        for _ in range(self.degree // 2):
            joined |= _ring(rng.permutation(count), joined, rng)
        return sorted(joined)

    def simulation(self) -> Simulation:
        """The run, every update done, with synthetic feedback."""
        width = self.width

        def agent(spec: AgentSpec) -> Recurrent:
            return Recurrent(spec, width)

        edges = [(f"agent_{a}", f"agent_{b}") for a, b in self.edges()]
        return Simulation(
            env=Numbers(self.num_agents, self.horizon),
            agent=agent,
            clock=PoissonClock(self.rate),
            topology=EdgeList(edges),
            message_size=self.message_size,
            num_worlds=self.num_worlds,
            utility=UtilitySettings(GradientUtility, Adam(3e-3)),
            feedback="synthetic",
            window=self.window,
            seed=self.seed,
        )


def _ring(
    order: np.ndarray, taken: set[tuple[int, int]], rng: np.random.Generator
) -> set[tuple[int, int]]:
    """Edges both ways of the ring in ``order``, which is changed where one is ``taken``."""
    count = len(order)
    for _ in range(1000):
        pairs = list(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
        bad = [i for i, pair in enumerate(pairs) if pair in taken]
        if not bad:
            break
        for i in bad:  # somebody else stands there
            j = int(rng.integers(count))
            order[i], order[j] = order[j], order[i]
    return {pair for a, b in pairs for pair in ((a, b), (b, a))}
