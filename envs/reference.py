"""Reference: each of two agents knows where the other one should go.

mpe2's ``simple_reference``, step for step, without the words that are there a part of actions and
observations: messages travel by the simulator's channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.envs.particles import LANDMARKS, ParticleEnv, ParticleWorld
from dnicomm.errors import UserError
from dnicomm.sim.world import Split

DARK, LIGHT = 0.25, 0.75  # of the three colours by which mpe2 tells landmarks apart


@dataclass
class Reference(ParticleEnv):
    """Configuration of the reference game; other arguments as of ``ParticleEnv``.

    Args:
        local_ratio: share of an agent's reward that depends on the other's distance from the goal
            that it knows alone; the rest is the mean of both distances.
    """

    local_ratio: float = 0.5
    name: str = "reference"

    def __post_init__(self) -> None:
        super().__post_init__()
        share: object = self.local_ratio
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"env.local_ratio={share}: must be a share from 0 to 1")

    def make(self, num_worlds: int, split: Split, device: torch.device) -> ReferenceWorld:
        return ReferenceWorld(self, num_worlds, split, device)


class ReferenceWorld(ParticleWorld):
    """Both agents move and see their velocity, the ways to the landmarks, and the colour of the
    other one's goal ``[11]``. The reward is minus a distance: the other's, and the mean of both.
    """

    agents = ("agent_0", "agent_1")
    edges = (("agent_0", "agent_1"), ("agent_1", "agent_0"))
    bodies = 2

    def __init__(self, env: Reference, num_worlds: int, split: Split, device: torch.device) -> None:
        super().__init__(env, num_worlds, split, device)
        self.local_ratio = env.local_ratio

    def observation_shape(self, agent: int) -> tuple[int, ...]:
        return (2 + 3 * LANDMARKS,)

    def observe(self, agents: Sequence[int]) -> Tensor:
        goal = F.one_hot(self.goal.flip(0), LANDMARKS).to(self.position.dtype)  # the other's
        return torch.cat([self.seen(), DARK + (LIGHT - DARK) * goal], -1)[list(agents)]

    def earn(self, squared: Tensor) -> Tensor:
        distance = squared.sqrt()  # [2, B]
        return -(self.local_ratio * distance.flip(0) + (1 - self.local_ratio) * distance.mean(0))
