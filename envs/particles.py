"""Points on a plane that are pushed: the physics of the multi-agent particle environments.

The rules are those of mpe2 (Lowe et al., 2017; Mordatch & Abbeel, 2018) for bodies that do not
collide: in a unit of world time a body moves by 0.1 of its velocity, which then loses a quarter
and gains 0.5 in the direction of the push. Pushed without end it goes 0.2 a unit.
"""

from __future__ import annotations

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

DT = 0.1  # of mpe2's own time, in a unit of world time
DAMPING = 0.25  # share of the velocity that is lost
FORCE = 5.0  # of a push, on a mass of 1
LANDMARKS = 3
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # what discrete actions 0 to 4 push towards


@dataclass
class ParticleEnv(Env):
    """What the environments of points on a plane have in common.

    Args:
        horizon: world time of an episode.
        continuous_actions: whether a push is two numbers from -1 to 1 (clipped) instead of one of
            five moves: none, left, right, down, up.
    """

    horizon: int = 25
    continuous_actions: bool = False
    eval_worlds: int | None = 512

    def __post_init__(self) -> None:
        check_whole(self, {"horizon": 1}, prefix="env.")
        if not isinstance(self.continuous_actions, bool):
            raise UserError(
                f"env.continuous_actions={self.continuous_actions}: must be true or false"
            )


class ParticleWorld(PicturedWorld):
    """B planes of two agents, of whom the last M have a body, and of three landmarks.

    Bodies and landmarks begin anywhere in [-1, 1] x [-1, 1], at rest; a body's goal is any of the
    landmarks. Positions are ``[M, B, 2]``, goals ``[M, B]``. At the horizon an episode is cut off,
    as mpe2 truncates it: it might go on.

    A subclass sets ``agents`` and ``bodies`` (M), and says what agents see and earn.
    """

    picture = "particles"
    rewards = True
    default_context = ("state",)
    bodies: int

    def __init__(
        self, env: ParticleEnv, num_worlds: int, split: Split, device: torch.device
    ) -> None:
        self.num_worlds, self.device = num_worlds, device
        self.horizon = env.horizon
        self.discrete = not env.continuous_actions
        self.moves = torch.tensor(MOVES, dtype=torch.float32, device=device)
        self.first = len(self.agents) - self.bodies  # the agent of the first body
        goals = self.bodies * LANDMARKS
        self.context_fields = {
            "goal": ContextField(goals),
            "state": ContextField(goals + self.bodies * (2 + 2 * LANDMARKS)),
        }

    def spaces(self, agent: str) -> AgentSpaces:
        number = self.agents.index(agent)
        if number < self.first:
            return AgentSpaces(self.observation_shape(number))
        size = len(MOVES) if self.discrete else 2
        return AgentSpaces(self.observation_shape(number), size, self.discrete)

    def observation_shape(self, agent: int) -> tuple[int, ...]:
        """Of agent number ``agent``."""
        raise NotImplementedError

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        # a row a world: a world's numbers don't depend on how many follow
        count = 2 * (self.bodies + LANDMARKS)
        drawn = rng.random((self.num_worlds, count + self.bodies))
        goal = (LANDMARKS * drawn[:, count:]).astype(np.int64)  # [B, M]
        places = 2 * drawn[:, :count].astype(np.float32) - 1
        places = places.reshape(self.num_worlds, -1, 2).swapaxes(0, 1)  # [M + landmarks, B, 2]
        self.goal = torch.from_numpy(np.ascontiguousarray(goal.T)).to(self.device)  # [M, B]
        everything = torch.from_numpy(np.ascontiguousarray(places)).to(self.device)
        self.position, self.landmarks = everything[: self.bodies], everything[self.bodies :]
        self.velocity = torch.zeros_like(self.position)  # [M, B, 2]
        self.push = torch.zeros_like(self.position)  # [M, B, 2], each number from -1 to 1
        self.total = torch.zeros(self.num_worlds, device=self.device)

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        rows = [agent - self.first for agent in agents]
        push = self.moves[actions] if self.discrete else actions.clamp(-1, 1)
        if active is not None:
            push = torch.where(active[..., None], push, self.push[rows])
        self.push[rows] = push

    def step(self) -> Tensor:
        self.position = self.position + DT * self.velocity
        self.velocity = (1 - DAMPING) * self.velocity + DT * FORCE * self.push
        rewards = self.earn(self.to_goal().square().sum(-1))
        self.total = self.total + rewards.mean(0)
        return rewards

    def earn(self, squared: Tensor) -> Tensor:
        """Rewards ``[2, B]`` at squared distances ``[M, B]`` of bodies from their goals."""
        raise NotImplementedError

    def ended(self) -> Tensor:
        return torch.zeros(self.num_worlds, dtype=torch.bool, device=self.device)

    def to_landmarks(self) -> Tensor:
        """Ways from bodies to landmarks, ``[M, B, landmarks, 2]``."""
        return self.landmarks.transpose(0, 1) - self.position[:, :, None]

    def to_goal(self) -> Tensor:
        """Ways from bodies to their goals, ``[M, B, 2]``."""
        index = self.goal[..., None, None].expand(-1, -1, 1, 2)
        return self.to_landmarks().gather(2, index).squeeze(2)

    def seen(self) -> Tensor:
        """What bodies see of the plane, ``[M, B, 8]``: their velocity and ways to landmarks."""
        return torch.cat([self.velocity, self.to_landmarks().flatten(2)], -1)

    def context(self, field: str) -> Tensor:
        goal = F.one_hot(self.goal, LANDMARKS).to(self.position.dtype)  # [M, B, landmarks]
        goal = goal.transpose(0, 1).flatten(1)
        if field == "goal":
            return goal
        if field == "state":
            return torch.cat([goal, self.seen().transpose(0, 1).flatten(1)], -1)
        raise KeyError(field)

    def score(self) -> dict[str, Tensor]:
        distance = torch.linalg.vector_norm(self.to_goal(), dim=-1).mean(0)
        return {"return": self.total, "distance": distance}
