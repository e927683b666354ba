"""A signalling game whose object changes: one sees it, one names it.

Both are paid for each unit of time in which the listener's last guess is the object that the
speaker sees then. Objects are combinations of attributes and change at random times, so a message
is worth the less the older it is (Lewis, *Convention*, 1969; with neural nets, as a referential
game, Lazaridou et al., ICLR 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.envs.pictures import PicturedWorld
from dnicomm.errors import UserError
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split

LISTENER = 1
MOST_OBJECTS = 4096


@dataclass
class Signalling(Env):
    """Configuration of the signalling game.

    Args:
        attributes: of an object, at least 1.
        values: of each attribute, at least 2; K = ``values`` ** ``attributes`` objects.
        change: probability that another object is there at the next unit of time, 0 to 1.
        horizon: world time of an episode.
    """

    attributes: int = 2
    values: int = 3
    change: float = 0.05
    horizon: int = 40
    name: str = "signalling"

    def __post_init__(self) -> None:
        check_whole(self, {"attributes": 1, "values": 2, "horizon": 1}, prefix="env.")
        given = self.change
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
            raise UserError(f"env.change={given}: must be a number from 0 to 1")
        if self.attributes * math.log(self.values) > math.log(MOST_OBJECTS) + 1e-9:
            raise UserError(
                f"env.attributes={self.attributes}, env.values={self.values}: more than "
                f"{MOST_OBJECTS:,} objects, each of which is an action"
            )

    @property
    def num_objects(self) -> int:
        """K."""
        return int(self.values**self.attributes)

    def described(self, number: int) -> list[int]:
        """The attributes of an object, each in 0 … ``values`` - 1."""
        return [number // self.values**place % self.values for place in range(self.attributes)]

    def still_there(self, age: int) -> float:
        """Probability that the object of so many units of time ago is the one now.

        What is redrawn is another one, but may come back: q(a) = 1/K + (1 - 1/K) (1 - c K/(K-1))^a.
        """
        share = 1 / self.num_objects
        return share + (1 - share) * (1 - self.change / (1 - share)) ** age

    def make(self, num_worlds: int, split: Split, device: torch.device) -> SignallingWorld:
        return SignallingWorld(self, num_worlds, device)


class SignallingWorld(PicturedWorld):
    """B games, each with its own object. Both share the reward."""

    picture = "signalling"
    rewards = True
    agents = ("speaker", "listener")
    edges = (("speaker", "listener"),)
    default_context = ("object",)

    def __init__(self, env: Signalling, num_worlds: int, device: torch.device) -> None:
        self.env, self.num_worlds, self.device = env, num_worlds, device
        self.horizon, self.num_objects = env.horizon, env.num_objects
        self.powers = env.values ** torch.arange(env.attributes, device=device)
        self.context_fields = {"object": ContextField(self.num_objects)}

    def spaces(self, agent: str) -> AgentSpaces:
        if agent == "speaker":
            return AgentSpaces((self.env.attributes * self.env.values,))
        return AgentSpaces((0,), self.num_objects)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        shape = (self.horizon, self.num_worlds)
        first = rng.integers(self.num_objects, size=self.num_worlds)
        steps = rng.integers(1, self.num_objects, size=shape)
        steps *= rng.random(shape) < self.env.change
        steps[0] = first
        objects = steps.cumsum(0) % self.num_objects
        self.objects = torch.from_numpy(objects).to(self.device)  # [T, B]
        self.time = 0
        self.guess = torch.full((self.num_worlds,), -1, device=self.device)  # [B]; -1: none yet
        self.right = torch.zeros(self.num_worlds, device=self.device)  # units of time so far

    @property
    def shown(self) -> Tensor:
        """The object that is there, ``[B]``; the last one when all are over."""
        return self.objects[min(self.time, self.horizon - 1)]

    def observe(self, agents: Sequence[int]) -> Tensor:
        if agents[0] == LISTENER:
            return torch.zeros(len(agents), self.num_worlds, 0, device=self.device)
        seen = self.shown[:, None] // self.powers % self.env.values  # [B, attributes]
        return F.one_hot(seen, self.env.values).flatten(1).float()[None]

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        at = list(agents).index(LISTENER)
        guess = actions[at]
        self.guess = guess if active is None else torch.where(active[at], guess, self.guess)

    def step(self) -> Tensor:
        right = (self.guess == self.shown).float()
        self.right = self.right + right
        self.time += 1
        return right.expand(2, -1)

    def context(self, field: str) -> Tensor:
        return F.one_hot(self.shown, self.num_objects).float()

    def score(self) -> dict[str, Tensor]:
        """``return``, units of time in which the last guess was right; ``right``, their share."""
        return {"return": self.right, "right": self.right / self.horizon}
