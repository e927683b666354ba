"""Predator-prey: predators on a grid who see little look for a prey, and tell each other.

Predators start on different cells of a square grid and see only the cells near them. Who has
reached the prey stays there; the others lose a little each time until they are there too (Singh et
al., 2019, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.envs.pictures import PicturedWorld
from dnicomm.errors import UserError, nearest
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1), (0, 0))  # up, right, down, left, stay: (row, column)
STAY = len(MOVES) - 1
MODES = ("mixed", "cooperative", "competitive")
STEP_REWARD = -0.05  # a unit of world time, away from the prey
PREY_REWARD = 0.05  # at the prey, where that is worth something


@dataclass
class PredatorPrey(Env):
    """Configuration of predator-prey.

    The paper's levels: easy as here; medium with 5 predators, ``dim=10``, ``vision=1``; hard with
    10 predators, ``dim=20``, ``vision=1``.

    Args:
        num_agents: predators, at least 1.
        dim: cells along a side of the grid.
        vision: how many cells a predator sees in each direction, at least 0.
        horizon: world time of an episode; None: 4 ``dim``.
        mode: what being at the prey is worth at each time: ``mixed`` nothing, ``cooperative`` the
            more the more are there, ``competitive`` a share of it.
        moving_prey: whether the prey wanders about until somebody reaches it.
        link_range: cells in each direction within which predators hear each other, when a message
            is sent; None: everywhere.
    """

    num_agents: int = 3
    dim: int = 5
    vision: int = 0
    horizon: int | None = None
    mode: str = "mixed"
    moving_prey: bool = False
    link_range: int | None = None
    name: str = "predator_prey"
    eval_worlds: int | None = 512

    def __post_init__(self) -> None:
        least = {"num_agents": 1, "dim": 2, "vision": 0, "horizon": 1, "link_range": 0}
        check_whole(self, least, or_null=["horizon", "link_range"], prefix="env.")
        if self.num_agents >= self.dim**2:
            raise UserError(
                f"env.num_agents={self.num_agents}: must be at most {self.dim**2 - 1}, so that "
                f"they and the prey start on different cells of env.dim={self.dim}"
            )
        if self.mode not in MODES:
            raise UserError(
                f"env.mode={self.mode}: there is no such mode.{nearest(str(self.mode), MODES)}"
            )
        if not isinstance(self.moving_prey, bool):
            raise UserError(f"env.moving_prey={self.moving_prey}: must be true or false")

    def make(self, num_worlds: int, split: Split, device: torch.device) -> PredatorPreyWorld:
        return PredatorPreyWorld(self, num_worlds, device)


class PredatorPreyWorld(PicturedWorld):
    """B grids; ``places`` ``[n, B, 2]`` and ``prey`` ``[B, 2]`` are rows and columns.

    With ``mixed`` rewards a world is over once all are at the prey; with others being there goes on
    to be worth something, and so does the episode.
    """

    picture = "predator_prey"
    rewards = True
    default_context = ("state",)

    def __init__(self, env: PredatorPrey, num_worlds: int, device: torch.device) -> None:
        self.agents = tuple(f"predator_{i}" for i in range(env.num_agents))
        self.num_worlds, self.device = num_worlds, device
        self.dim, self.vision, self.mode = env.dim, env.vision, env.mode
        self.moving_prey, self.link_range = env.moving_prey, env.link_range
        self.horizon = 4 * env.dim if env.horizon is None else env.horizon
        self.early_end = env.mode == "mixed"
        count = env.num_agents
        self.context_fields = {
            "prey": ContextField(2 * env.dim),
            "state": ContextField(2 * env.dim * (count + 1) + count + 1),
        }
        self.moves = torch.tensor(MOVES, device=device)
        side = 2 * env.vision + 1
        self.seen = side**2  # cells
        # the grid with a border as wide as the vision; cells seen from the one at (0, 0)
        self.width = env.dim + side - 1
        near = torch.arange(side, device=device)
        self.near = (near[:, None] * self.width + near).flatten()
        outside = torch.ones(self.width, self.width, device=device)
        outside[env.vision : env.vision + env.dim, env.vision : env.vision + env.dim] = 0
        self.outside = outside.flatten()

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((self.dim**2 + 3 * self.seen,), len(MOVES))

    # -- time ---------------------------------------------------------------------------------

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        count, cells = len(self.agents), self.dim**2
        drawn = rng.random((self.num_worlds, cells + self.moving_prey * self.horizon))
        start = torch.from_numpy(drawn[:, :cells].argsort(1)[:, : count + 1].T.copy())
        start = start.to(self.device)  # [n + 1, B] cells, all different
        places = torch.stack([start // self.dim, start % self.dim], -1)
        self.places, self.prey = places[:count], places[count]
        wander = torch.from_numpy((drawn[:, cells:] * len(MOVES)).astype(np.int64))
        self.wander = wander.to(self.device)  # [B, T] the prey's moves
        self.distance = (self.places - self.prey).abs().sum(-1)  # [n, B] at the beginning
        self.action = torch.full((count, self.num_worlds), STAY, device=self.device)
        self.there = torch.zeros_like(self.action, dtype=torch.bool)  # [n, B] at the prey
        self.time = 0
        self.total = torch.zeros(count, self.num_worlds, device=self.device)  # rewards so far
        self.steps = torch.zeros(self.num_worlds, device=self.device)  # until all are there

    def step(self) -> Tensor:
        going_on = ~(self.there.all(0) & self.early_end)  # [B]
        self.steps += ~self.there.all(0)
        free = (~self.there)[..., None]
        self.places = self._inside(self.places + self.moves[self.action] * free)
        self.there = self._at_prey()
        if self.moving_prey:
            alone = ~self.there.any(0)
            self.prey = self._inside(
                self.prey + self.moves[self.wander[:, self.time]] * alone[:, None]
            )
            self.there = self._at_prey()
        reward = torch.where(self.there, self._worth(), STEP_REWARD) * going_on
        self.total = self.total + reward
        self.time += 1
        return reward

    def _inside(self, places: Tensor) -> Tensor:
        """Nobody leaves the grid."""
        return places.clamp(0, self.dim - 1)

    def _at_prey(self) -> Tensor:
        return (self.places == self.prey).all(-1)

    def _worth(self) -> Tensor:
        """What being at the prey is worth now, ``[B]``."""
        there = self.there.sum(0)
        if self.mode == "cooperative":
            return PREY_REWARD * there
        if self.mode == "competitive":
            return PREY_REWARD / there.clamp(min=1)
        return torch.zeros(self.num_worlds, device=self.device)

    def ended(self) -> Tensor | None:
        if not self.early_end:
            return None
        return self.there.all(0) | (self.time >= self.horizon)

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> Tensor | bool:
        if self.link_range is None:
            return True
        apart = self.places[list(senders)] - self.places[list(receivers)]  # [E, B, 2]
        return apart.abs().amax(-1) <= self.link_range

    # -- what predators see and do ------------------------------------------------------------

    def observe(self, agents: Sequence[int]) -> Tensor:
        """The own cell, one-hot; for each cell in sight, row by row: whether it lies outside the
        grid, how many predators are there, whether the prey is.
        """
        own = self.places[list(agents)]  # [n, B, 2]
        cell = F.one_hot(own[..., 0] * self.dim + own[..., 1], self.dim**2).float()
        maps = torch.zeros(self.num_worlds, self.width**2, 3, device=self.device)
        maps[..., 0] = self.outside
        ones = torch.ones(len(self.agents), self.num_worlds, device=self.device)
        maps[..., 1].scatter_add_(1, self._bordered(self.places).T, ones.T)
        maps[..., 2].scatter_(1, self._bordered(self.prey)[:, None], 1.0)
        corner = self._bordered(own - self.vision)  # [n, B]
        index = corner[..., None] + self.near  # [n, B, cells]
        world = torch.arange(self.num_worlds, device=self.device)[:, None]
        return torch.cat([cell, maps[world, index].flatten(2)], -1)

    def _bordered(self, places: Tensor) -> Tensor:
        """Numbers of cells in the grid with its border, ``[…]`` for ``[…, 2]``."""
        return (places[..., 0] + self.vision) * self.width + places[..., 1] + self.vision

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        chosen = list(agents)
        if active is not None:
            actions = torch.where(active, actions, self.action[chosen])
        self.action[chosen] = actions

    # -- what is known of it ------------------------------------------------------------------

    def context(self, field: str) -> Tensor:
        """``prey``: its row and column, one-hot; ``state``: those of all predators and then the
        prey's, who is there, and the share of the horizon that is over.
        """
        if field == "prey":
            return F.one_hot(self.prey, self.dim).flatten(1).float()
        everybody = torch.cat([self.places, self.prey[None]]).transpose(0, 1)  # [B, n + 1, 2]
        places = F.one_hot(everybody, self.dim).flatten(1).float()
        time = torch.full((self.num_worlds, 1), self.time / self.horizon, device=self.device)
        return torch.cat([places, self.there.T.float(), time], -1)

    def score(self) -> dict[str, Tensor]:
        """``return`` in the mean over predators; ``success``, all at the prey; ``steps`` until
        then (the horizon, if never); ``distance`` of the farthest at the beginning: where the prey
        keeps still, no team needs fewer steps.
        """
        return {
            "return": self.total.mean(0),
            "success": self.there.all(0).float(),
            "steps": self.steps,
            "distance": self.distance.amax(0).float(),
        }
