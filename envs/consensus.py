"""Consensus: each agent holds a private number, and all have to come to the mean of them.

Agents talk to their neighbours on a random graph, over links that come and go. What an agent can
tell from its own number is little; what it hears brings it nearer to the mean, link by link.
Averaging over a changing graph is the classical problem of gossip (Boyd et al., *Randomized gossip
algorithms*, 2006); it is made for any number of agents: memory grows with agents and links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnicomm.envs.pictures import PicturedWorld
from dnicomm.envs.regular_graph import regular_graph
from dnicomm.errors import UserError
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split


@dataclass
class Consensus(Env):
    """Configuration of the consensus.

    Args:
        num_agents: N, at least 1.
        degree: neighbours of each agent, at least 2 (1 of two agents, 0 of one alone) and at most
            N - 1; N times it is even.
        up: probability that a link is there, for each link and unit of time; above 0, at most 1.
        horizon: world time of an episode, at least 1.
        graph: seed of the graph, at least 0; the graph is the same in all episodes.
    """

    num_agents: int = 100
    degree: int = 4
    up: float = 0.8
    horizon: int = 30
    graph: int = 0
    name: str = "consensus"

    def __post_init__(self) -> None:
        check_whole(self, {"num_agents": 1, "degree": 0, "horizon": 1, "graph": 0}, prefix="env.")
        up = self.up
        if isinstance(up, bool) or not isinstance(up, int | float) or not 0 < up <= 1:
            raise UserError(f"env.up={up}: must be a number above 0 and at most 1")
        count, degree = self.num_agents, self.degree
        if degree >= count:
            raise UserError(
                f"env.degree={degree}: one of {count} agents has at most {count - 1} neighbours"
            )
        if count * degree % 2:
            raise UserError(
                f"env.degree={degree}: no graph of {count} agents has it, for {count} times "
                f"{degree} is odd"
            )
        if degree < min(2, count - 1):
            alone = "would talk in pairs" if degree else "would talk to nobody"
            raise UserError(
                f"env.degree={degree}: {count} agents {alone}; at least {min(2, count - 1)}"
            )

    def make(self, num_worlds: int, split: Split, device: torch.device) -> ConsensusWorld:
        return ConsensusWorld(self, num_worlds, device)


class ConsensusWorld(PicturedWorld):
    """B consensus problems on one graph of E links.

    ``numbers`` ``[N, B]`` are a common one, drawn for each world from the standard normal
    distribution, and what each agent's own differs by, drawn from it too. ``estimates`` ``[N, B]``
    are the last actions (0 before the first), ``up`` ``[E, B]`` says which links are there now.
    """

    picture = "consensus"
    default_context = ("mean",)

    def __init__(self, env: Consensus, num_worlds: int, device: torch.device) -> None:
        count = env.num_agents
        self.agents = tuple(f"agent_{i}" for i in range(count))
        self.num_worlds, self.device = num_worlds, device
        self.horizon, self.chance = env.horizon, env.up
        self.context_fields = {"mean": ContextField(1)}
        links = regular_graph(count, env.degree, env.graph)
        self.links = np.array(links, dtype=np.int64).reshape(-1, 2)  # [E, 2]
        ends = np.concatenate([self.links, self.links[:, ::-1]])  # [2E, 2] both ways
        ends = ends[np.lexsort((ends[:, 0], ends[:, 1]))]  # by receiver, then sender
        self.edges = tuple((self.agents[a], self.agents[b]) for a, b in ends.tolist())
        self._keys = self.links[:, 0] * count + self.links[:, 1]  # ascending

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((1,), 1, discrete=False)

    # -- time ---------------------------------------------------------------------------------

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        drawn = rng.standard_normal((len(self.agents) + 1, self.num_worlds), np.float32)
        numbers = torch.from_numpy(drawn).to(self.device)
        self.numbers = numbers[:1] + numbers[1:]  # [N, B]
        self.mean = self.numbers.mean(0)  # [B]
        self.estimates = torch.zeros_like(self.numbers)
        self._rng = rng
        self._draw_links()

    def _draw_links(self) -> None:
        drawn = self._rng.random((len(self.links), self.num_worlds), np.float32)
        self.up = torch.from_numpy(drawn < self.chance).to(self.device)

    def step(self) -> None:
        self._draw_links()

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> Tensor:
        ends = np.sort(np.array([senders, receivers], dtype=np.int64), axis=0)
        keys = ends[0] * len(self.agents) + ends[1]
        found = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        wrong = np.flatnonzero(self._keys[found] != keys)
        if len(wrong):
            a, b = self.agents[senders[wrong[0]]], self.agents[receivers[wrong[0]]]
            raise UserError(
                f"topology: edge {a} -> {b}: consensus has no such link; use topology=natural"
            )
        return self.up.index_select(0, torch.from_numpy(found).to(self.device))

    # -- what agents see, say and should say --------------------------------------------------

    def observe(self, agents: Sequence[int]) -> Tensor:
        return self.numbers.index_select(0, self._rows(agents)).unsqueeze(-1)

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        rows, estimates = self._rows(agents), actions[..., 0]
        if active is not None:
            estimates = torch.where(active, estimates, self.estimates[rows])
        self.estimates[rows] = estimates

    def _rows(self, agents: Sequence[int]) -> Tensor:
        return torch.as_tensor(agents, device=self.device)

    def labels(self, agents: Sequence[int]) -> Tensor:
        return self.mean[None, :, None].expand(len(agents), -1, -1)

    def context(self, field: str) -> Tensor:
        return self.mean[:, None]

    def score(self) -> dict[str, Tensor]:
        """``error``, the mean over agents of the squared distance from the mean; ``spread``, the
        variance of what they say: how far they are from one another.
        """
        return {
            "error": (self.estimates - self.mean).square().mean(0),
            "spread": self.estimates.var(0, correction=0),
        }
