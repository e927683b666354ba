"""The switch riddle: one prisoner a day is in the room; all they have is a switch.

Each day one of n prisoners, drawn evenly, is taken to a room with a switch. He may tell the warden
that by now everybody has been there: if so all win, if not all lose. What he leaves on the switch
is what the next day's prisoner finds (Foerster et al., 2016, section 6, switch riddle).
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

NOTHING, TELL = 0, 1  # actions
EVERY_SEQUENCE = 1024  # test worlds show each sequence of days once, where there are no more


@dataclass
class Switch(Env):
    """Configuration of the switch riddle.

    Args:
        num_agents: n, at least 2.
        horizon: T, days of an episode, at least n; None: 4n - 6.
        calendar: whether a prisoner sees which day it is. In the paper each one's net runs every
            day and can count them; here a prisoner ticks only in the room.
    """

    num_agents: int = 3
    horizon: int | None = None
    calendar: bool = False
    name: str = "switch"

    def __post_init__(self) -> None:
        check_whole(self, {"num_agents": 2}, prefix="env.")
        check_whole(self, {"horizon": self.num_agents}, or_null=["horizon"], prefix="env.")
        if not isinstance(self.calendar, bool):
            raise UserError(f"env.calendar={self.calendar}: must be true or false")

    @property
    def days(self) -> int:
        """T, days of an episode."""
        return 4 * self.num_agents - 6 if self.horizon is None else self.horizon

    def make(self, num_worlds: int, split: Split, device: torch.device) -> SwitchWorld:
        return SwitchWorld(self, num_worlds, split, device)

    @property
    def eval_worlds(self) -> int:  # type: ignore[override]
        return min(self.num_agents**self.days, EVERY_SEQUENCE)


class SwitchWorld(PicturedWorld):
    """B prisons. World time t is the day t from 0 on; ``room`` ``[T, B]`` says who is in the room.

    All days are drawn at reset, and mail goes from today's prisoner to tomorrow's alone, none to
    himself. Everybody shares the reward; a world is over once somebody has told.
    """

    picture = "switch"
    early_end = True
    rewards = True
    default_context = ("state",)
    message_lifetime = 1  # a switch not set anew tells nothing

    def __init__(self, env: Switch, num_worlds: int, split: Split, device: torch.device) -> None:
        self.agents = tuple(f"prisoner_{i}" for i in range(env.num_agents))
        self.num_worlds, self.device, self.split = num_worlds, device, split
        self.horizon, self.calendar = env.days, env.calendar
        count = len(self.agents)
        self.context_fields = {
            "visited": ContextField(count),
            "day": ContextField(self.horizon),
            "state": ContextField(2 * count + self.horizon),
        }

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((1 + self.calendar * self.horizon,), 2)

    # -- time ---------------------------------------------------------------------------------

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        count, worlds = len(self.agents), self.num_worlds
        if self.split == "test" and count**self.horizon <= EVERY_SEQUENCE:
            # one after another, so that an episode of enough worlds shows each once
            number = (np.arange(worlds) + episode * worlds) % count**self.horizon
            room = number[:, None] // count ** np.arange(self.horizon) % count
        else:
            room = rng.integers(count, size=(worlds, self.horizon))
        self.room = torch.from_numpy(room.T.copy()).to(self.device)  # [T, B]
        self.inside = F.one_hot(self.room, count).bool().transpose(1, 2)  # [T, n, B]
        self.visited = self.inside.cumsum(0) > 0  # [T, n, B] by the end of each day
        self.time = 0
        self.tells = torch.zeros(worlds, dtype=torch.bool, device=self.device)  # today
        self.told = torch.zeros_like(self.tells)
        self.total = torch.zeros(worlds, device=self.device)  # reward so far

    @property
    def today(self) -> int:
        """The day, or the last one when all are over."""
        return min(self.time, self.horizon - 1)

    def schedule(self) -> dict[str, Sequence[int]]:
        return {agent: range(self.horizon) for agent in self.agents}

    def window_ends(self, agent: str) -> Sequence[int]:
        return [self.horizon - 1]

    def active(self) -> Tensor:
        return self.inside[self.today] & ~self.ended()

    def alive(self) -> None:
        """Those outside share what comes."""
        return None

    def ended(self) -> Tensor:
        return self.told | (self.time >= self.horizon)

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> Tensor | bool:
        if self.time >= self.horizon - 1:
            return False
        here, next_one = self.inside[self.time : self.time + 2]
        going_on = ~(self.told | self.tells)
        return here[list(senders)] & next_one[list(receivers)] & going_on

    # -- what prisoners see and do ------------------------------------------------------------

    def observe(self, agents: Sequence[int]) -> Tensor:
        inside = self.active()[list(agents), :, None].float()  # [n, B, 1]
        if not self.calendar:
            return inside
        return torch.cat([inside, inside * self.context("day")], -1)

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        tells = (actions == TELL) & self.active()[list(agents)]
        if active is not None:
            tells = tells & active
        self.tells = self.tells | tells.any(0)

    def step(self) -> Tensor:
        everybody = self.visited[self.today].all(0)
        reward = torch.where(everybody, 1.0, -1.0) * (self.tells & ~self.ended())
        self.total = self.total + reward
        self.told = self.told | self.tells
        self.tells = torch.zeros_like(self.told)
        self.time += 1
        return reward.expand(len(self.agents), -1)

    # -- what is known of it ------------------------------------------------------------------

    def context(self, field: str) -> Tensor:
        visited = self.visited[self.today].T.float()  # [B, n] today's prisoner too
        day = torch.zeros(self.num_worlds, self.horizon, device=self.device)
        day[:, self.today] = 1
        if field == "visited":
            return visited
        if field == "day":
            return day
        return torch.cat([visited, self.inside[self.today].T.float(), day], -1)

    def score(self) -> dict[str, Tensor]:
        """``return``; ``possible``, 1 where all have been there by day T; ``told``.

        The mean of ``return`` over that of ``possible`` is the share of what somebody who sees
        everything reaches.
        """
        possible = self.visited[-1].all(0).float()
        return {"return": self.total, "possible": possible, "told": self.told.float()}
