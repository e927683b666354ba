"""Two places for the engine's tests: a town of labels, and a market of rewards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnicomm.sim import Agent, AgentSpaces, ContextField, Env, Inbox, TickOutput, World

SEEN = 3  # numbers in an observation
CLASSES = 3


@dataclass
class Town(Env):
    """Configuration of a town: labels for everybody, no rewards.

    Args:
        absent: share of (time, agent, world) in which an agent is not there.
        shut: share of (time, channel, world) in which a channel takes nothing.
        last: the first world ends at this time, the others one after another; None: none does.
        leave: the same, but that the worlds go on without anybody.
        garbage: what an agent that is not there would see, and be asked.
        perturbed: a world in which everything seen and asked is different.
    """

    num_agents: int = 4
    horizon: int = 16
    absent: float = 0.0
    shut: float = 0.0
    last: int | None = None
    leave: int | None = None
    garbage: bool = False
    perturbed: int | None = None
    name: str = "town"

    def make(self, num_worlds, split, device):
        return TownWorld(self, num_worlds, device)


class TownWorld(World):
    context_fields = {"hint": ContextField(2)}  # noqa: RUF012
    default_context = ("hint",)

    def __init__(self, env: Town, num_worlds: int, device: torch.device) -> None:
        self.env, self.num_worlds, self.device = env, num_worlds, device
        self.agents = tuple(f"agent_{i}" for i in range(env.num_agents))
        self.horizon = env.horizon
        self.early_end = env.last is not None
        self.walls: list[tuple[int, int]] = []  # channels that never take anything

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((SEEN,), CLASSES)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        env, worlds = self.env, self.num_worlds
        hint = rng.standard_normal((env.horizon, worlds, 2))
        days = []
        for _ in self.agents:  # one agent after another, so that one more changes nobody's
            seen = rng.standard_normal((env.horizon, worlds, SEEN))
            asked = rng.integers(-1, CLASSES, (env.horizon, worlds))
            here = rng.random((env.horizon, worlds)) >= env.absent
            if env.perturbed is not None:
                seen[:, env.perturbed] += 1
                asked[:, env.perturbed] = (asked[:, env.perturbed] + 1) % CLASSES
            if env.garbage:
                seen[~here], asked[~here] = 1e3, 0
            days.append((seen, asked, here))
        seen, asked, here = (np.stack(part, 1) for part in zip(*days, strict=True))
        dtype = torch.get_default_dtype()
        self.seen = torch.from_numpy(seen).to(self.device, dtype)  # [T, n, B, SEEN]
        self.asked = torch.from_numpy(asked).to(self.device)  # [T, n, B]
        self.here = torch.from_numpy(here).to(self.device)
        self.hint = torch.from_numpy(hint).to(self.device, dtype)
        count = len(self.agents)
        doors = rng.random((env.horizon, count, count, worlds)) >= env.shut
        for wall in self.walls:
            doors[:, *wall] = False
        self.doors = torch.from_numpy(doors).to(self.device)
        self.answer = torch.full((count, worlds), -1, device=self.device)
        self.time = 0

    def observe(self, agents: Sequence[int]) -> Tensor:
        return self.seen[min(self.time, self.horizon - 1)][list(agents)]

    def labels(self, agents: Sequence[int]) -> Tensor:
        return self.asked[self.time][list(agents)]

    def context(self, field: str) -> Tensor:
        return self.hint[self.time]

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        for i, agent in enumerate(agents):
            there = slice(None) if active is None else active[i]
            self.answer[agent, there] = actions[i, there]

    def step(self) -> None:
        self.time += 1

    def active(self) -> Tensor | None:
        if self.env.leave is not None:
            return self._before(self.env.leave).expand(len(self.agents), -1)
        if self.env.absent == 0:
            return None
        return self.here[min(self.time, self.horizon - 1)]

    def ended(self) -> Tensor | None:
        return None if self.env.last is None else ~self._before(self.env.last)

    def _before(self, time: int) -> Tensor:
        return self.time < time + torch.arange(self.num_worlds, device=self.device)  # [B]

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> Tensor | bool:
        if self.env.shut == 0 and not self.walls:
            return True
        return self.doors[self.time][list(senders), list(receivers)]

    def score(self) -> dict[str, Tensor]:
        return {"mean_answer": self.answer.to(torch.get_default_dtype()).mean(0)}


@dataclass
class Market(Env):
    """Configuration of a market: random things to see, and pay for what was done about them.

    Args:
        discrete: whether an action is one of ``CLASSES``, with a pay for each; else two numbers,
            paid by how near they are to what was wanted.
        absent: share of (time, agent, world) in which an agent is not there; it waits.
        births: share of (time, agent, world) in which an agent begins a new life.
        last: the first world ends at this time, the others one after another; None: none does.
        lifetime: world time for which mail is seen; None: no limit.
        hears: whether who begins a new life hears what was sent before it.
    """

    num_agents: int = 2
    horizon: int = 12
    discrete: bool = True
    absent: float = 0.0
    births: float = 0.0
    last: int | None = None
    lifetime: int | None = None
    hears: bool = False
    name: str = "market"

    def make(self, num_worlds, split, device):
        return MarketWorld(self, num_worlds, device)


class MarketWorld(World):
    rewards = True

    def __init__(self, env: Market, num_worlds: int, device: torch.device) -> None:
        self.env, self.num_worlds, self.device = env, num_worlds, device
        self.agents = tuple(f"agent_{i}" for i in range(env.num_agents))
        self.horizon, self.message_lifetime = env.horizon, env.lifetime
        self.early_end, self.hears_at_birth = env.last is not None, env.hears

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((SEEN,), CLASSES if self.env.discrete else 2, self.env.discrete)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        env, times, worlds = self.env, self.horizon + 1, self.num_worlds
        days = []
        for _ in self.agents:  # one agent after another, so that one more changes nobody's
            seen, wanted = rng.standard_normal((2, times, worlds, SEEN))
            chances = rng.random((2, times, worlds))
            days.append((seen, wanted, chances[0] >= env.absent, chances[1] < env.births))
        seen, wanted, here, born = (np.stack(part, 1) for part in zip(*days, strict=True))
        dtype = torch.get_default_dtype()
        self.seen = torch.from_numpy(seen).to(self.device, dtype)  # [T + 1, n, B, SEEN]
        self.wanted = torch.from_numpy(wanted).to(self.device, dtype)
        self.here = torch.from_numpy(here).to(self.device)  # [T + 1, n, B]
        self.born = torch.from_numpy(born).to(self.device)
        shape = (len(self.agents), worlds)
        self.doing = torch.zeros(shape if env.discrete else (*shape, 2), device=self.device)
        self.paid: list[Tensor] = []  # [n, B] by time
        self.time = 0

    def observe(self, agents: Sequence[int]) -> Tensor:
        return self.seen[self.time][list(agents)]

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        for i, agent in enumerate(agents):
            there = slice(None) if active is None else active[i]
            self.doing[agent, there] = actions[i, there].to(self.doing)

    def step(self) -> Tensor:
        wanted = self.wanted[self.time]
        if self.env.discrete:
            pay = wanted.gather(-1, self.doing.long()[..., None])[..., 0]
        else:
            pay = -(self.doing - wanted[..., :2]).square().sum(-1)
        self.paid.append(pay)
        self.time += 1
        return pay

    def active(self) -> Tensor | None:
        return None if self.env.absent == 0 else self.here[self.time]

    def alive(self) -> Tensor | None:
        return None

    def reborn(self) -> Tensor | None:
        return None if self.env.births == 0 else self.born[self.time]

    def ended(self) -> Tensor | None:
        if self.env.last is None:
            return None
        return self.time >= self.env.last + torch.arange(self.num_worlds, device=self.device)

    def score(self) -> dict[str, Tensor]:
        return {"return": torch.stack(self.paid).sum((0, 1))}


class Walker(Agent):
    """A recurrent agent with a state of two leaves."""

    def __init__(self, spec, width: int = 5) -> None:
        super().__init__(spec)
        self.width = width
        self.cell = nn.Linear(spec.input_size + width + 1, width)
        self.message = nn.Linear(width, spec.message_size)
        self.action = nn.Linear(width, spec.action_size)

    def initial_state(self, num_worlds: int):
        return {"h": torch.zeros(num_worlds, self.width), "ticks": torch.zeros(num_worlds)}

    def tick(self, observation: Tensor, inbox: Inbox, state) -> TickOutput:
        ticks = state["ticks"] + 1
        inputs = [observation, inbox.flat(), inbox.age.sum(1, keepdim=True) / 10]
        h = torch.tanh(self.cell(torch.cat([*inputs, state["h"]], -1)))
        return TickOutput(self.action(h), self.message(h), {"h": h, "ticks": ticks})


class Normed(Agent):
    """A feed-forward agent with batch normalisation inside, buffers and all."""

    def __init__(self, spec, width: int = 6) -> None:
        super().__init__(spec)
        self.body = nn.Sequential(
            nn.Linear(spec.input_size, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.0)
        )
        self.message = nn.Linear(width, spec.message_size)
        self.action = nn.Linear(width, spec.action_size)

    def tick(self, observation: Tensor, inbox: Inbox, state) -> TickOutput:
        h = self.body(torch.cat([observation, inbox.flat()], -1))
        return TickOutput(self.action(h), self.message(h), state)


@pytest.fixture
def double():
    """Everything in float64, for exactness far below what float32 can tell."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def town() -> type[Town]:
    """The environment."""
    return Town


@pytest.fixture(scope="session")
def market() -> type[Market]:
    """The environment with rewards."""
    return Market


@pytest.fixture(scope="session")
def walker() -> type[Walker]:
    """Its recurrent inhabitants."""
    return Walker


@pytest.fixture(scope="session")
def normed() -> type[Normed]:
    """Its inhabitants with batch normalisation."""
    return Normed
