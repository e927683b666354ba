"""Returns: γ for each unit of world time, in holds and across them, and what follows a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnicomm.sim import (
    SGD,
    Agent,
    AgentSpaces,
    Clock,
    Complete,
    Env,
    Evaluation,
    Override,
    PeriodicClock,
    PoissonClock,
    Simulation,
    TickOutput,
    TraceClock,
    World,
)

GAMMA = 0.8
T, B = 12, 3


@dataclass
class Mine(Env):
    """Rewards and worths that were drawn beforehand.

    Args:
        ends: time at which each world ends; None: none before the horizon.
        dies: agent, and the time from which it is no more.
        turns: whether the agents may act by turns.
    """

    ends: tuple[int, int, int] | None = None
    dies: tuple[int, int] | None = None
    turns: bool = False
    num_agents: int = 2
    name: str = "mine"

    def make(self, num_worlds, split, device):
        return MineWorld(self, num_worlds, device)


class MineWorld(World):
    rewards = True
    horizon = T

    def __init__(self, env: Mine, num_worlds: int, device: torch.device) -> None:
        self.env, self.num_worlds, self.device = env, num_worlds, device
        self.agents = tuple(f"agent_{i}" for i in range(env.num_agents))
        self.early_end = env.ends is not None

    def spaces(self, agent: str) -> AgentSpaces:
        return AgentSpaces((1,), 2)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        count = len(self.agents)
        draw = torch.from_numpy(rng.standard_normal((2, T + 1, count, self.num_worlds)))
        self.pay, self.worth = draw.to(self.device, torch.get_default_dtype())
        self.time = 0
        self.acted: list[tuple[int, list[int], Tensor]] = []

    def observe(self, agents: Sequence[int]) -> Tensor:
        return self.worth[self.time][list(agents)][..., None]

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        self.acted.append((self.time, list(agents), actions))

    def step(self) -> Tensor:
        self.time += 1
        return self.pay[self.time - 1]

    def active(self) -> Tensor | None:
        there = self.alive()
        if self.env.turns:
            there = torch.zeros(len(self.agents), self.num_worlds, device=self.device) > 0
            there[self.time % len(self.agents)] = True
        return there

    def alive(self) -> Tensor | None:
        if self.env.dies is None:
            return None
        who, when = self.env.dies
        there = torch.ones(len(self.agents), self.num_worlds, dtype=torch.bool, device=self.device)
        there[who] = self.time < when
        return there

    def ended(self) -> Tensor | None:
        if self.env.ends is None:
            return None
        return self.time >= torch.tensor(self.env.ends, device=self.device)


class Witness(Agent):
    """Sees what the world thinks it is worth, and writes down what it is told."""

    def __init__(self, spec, told: list) -> None:
        super().__init__(spec)
        self.told = [told]  # a list in a list: a copy of the agent has the same one
        self.action = nn.Linear(1, spec.action_size)
        self.message = nn.Linear(spec.input_size, spec.message_size)
        self.norm = nn.BatchNorm1d(1)

    def __deepcopy__(self, memo):
        copy = Witness(self.spec, self.told[0])
        copy.load_state_dict(self.state_dict())
        return copy

    def tick(self, observation, inbox, state) -> TickOutput:
        action = self.action(self.norm(observation))
        message = self.message(torch.cat([observation, inbox.flat()], -1))
        return TickOutput(action, message, state, value=observation[:, 0])

    def loss(self, output, outcome):
        self.told[0].append((output.value.detach().clone(), outcome.action, outcome.returns))
        return output.action.square().sum(-1)


class Bold(Witness):
    """Has no value."""

    def tick(self, observation, inbox, state) -> TickOutput:
        return super().tick(observation, inbox, state)._replace(value=None)

    def loss(self, output, outcome):
        self.told[0].append((None, outcome.action, outcome.returns))
        return output.action.square().sum(-1)

    def __deepcopy__(self, memo):
        copy = Bold(self.spec, self.told[0])
        copy.load_state_dict(self.state_dict())
        return copy


@dataclass
class Play:
    """One episode, and what each agent was told of its ticks."""

    sim: Simulation
    told: dict[str, list[Any]]
    ticks: dict[str, list[int]]


def play(
    env: Mine, window: int, device: torch.device, kind: type = Witness, **clocks: Clock
) -> Play:
    told: dict[str, list[Any]] = {}
    agents = {}
    for i in range(env.num_agents):
        name = f"agent_{i}"
        own = told[name] = []
        agents[name] = Override(partial(kind, told=own), key=name)
    sim = Simulation(
        env,
        Witness,  # type: ignore[arg-type]  # each has its own
        agents=agents,
        clocks={"agent_0": PoissonClock(0.4), "agent_1": PeriodicClock(3)} | clocks,
        topology=Complete(),
        message_size=2,
        gamma=GAMMA,
        window=window,
        optimizer=SGD(0.1),
        num_worlds=B,
        evaluation=Evaluation(num_worlds=B),
        device=device,
    )
    sim.engine.play(0)
    ticks = {name: list(times) for name, times in sim.engine._schedule().items()}
    return Play(sim, told, ticks)


def closed_form(world: MineWorld, agent: int, tick: int, end: int, last: int | None) -> Tensor:
    """By hand, ``[B]``: the rewards of times ``tick`` to ``end``, and the worth of ``end + 1``.

    Args:
        last: time from which there is nothing any more, in each world; None: the horizon.
    """
    found = torch.zeros(B, device=world.device)
    for b in range(B):
        over = T if last is None else last[b] if isinstance(last, tuple) else last
        for time in range(tick, end + 1):
            if time < over:
                found[b] += GAMMA ** (time - tick) * world.pay[time, agent, b]
        if end + 1 < over:
            found[b] += GAMMA ** (end + 1 - tick) * world.worth[end + 1, agent, b]
    return found


def window_end(tick: int, window: int, length: int) -> int:
    return min((tick // window + 1) * window, length) - 1


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("window", [1, 4, 5, T])
def test_returns_are_discounted_by_world_time(window, turns, double, device):
    """A world that tells no end ends at its horizon: nothing follows.

    Who waits for a turn is not dead, and expects what all the others' turns bring.
    """
    run = play(Mine(turns=turns), window, device)
    for agent, (name, told) in enumerate(run.told.items()):
        assert len(told) == len(run.ticks[name]) > 1
        for tick, (value, _, returns) in zip(run.ticks[name], told, strict=True):
            want = closed_form(run.sim.world, agent, tick, window_end(tick, window, T), None)
            torch.testing.assert_close(returns, want)
            torch.testing.assert_close(value, run.sim.world.worth[tick, agent])


@pytest.mark.parametrize("window", [1, 4, 12])
@pytest.mark.parametrize("ends", [(5, 7, 9), (3, 3, 3), (6, 12, 99)])
def test_after_a_true_end_there_is_nothing(window, ends, double, device):
    """Worlds that end early wait for the others, the run for none; the last one is cut off."""
    run = play(Mine(ends=ends), window, device)
    length = min(max(ends), T)
    assert run.sim.engine.length == length
    for agent, (name, told) in enumerate(run.told.items()):
        ticks = [tick for tick in run.ticks[name] if tick < length]
        assert len(told) == len(ticks)
        for tick, (_, _, returns) in zip(ticks, told, strict=True):
            end = window_end(tick, window, length)
            want = closed_form(run.sim.world, agent, tick, end, ends)
            for b in range(B):
                if tick < ends[b]:  # of the others nothing is learnt
                    torch.testing.assert_close(returns[b], want[b])


@pytest.mark.parametrize("window", [1, 5])
def test_the_dead_expect_nothing(window, double, device):
    run = play(Mine(dies=(1, 7)), window, device)
    for agent, last in ((0, None), (1, 7)):
        name = f"agent_{agent}"
        for tick, (_, _, returns) in zip(run.ticks[name], run.told[name], strict=True):
            if last is None or tick < last:
                end = window_end(tick, window, T)
                torch.testing.assert_close(
                    returns, closed_form(run.sim.world, agent, tick, end, last)
                )


def test_an_agent_without_a_value_has_the_rewards_of_its_window(double, device):
    run = play(Mine(), 4, device, Bold)
    world = run.sim.world
    world.worth.zero_()
    for agent, (name, told) in enumerate(run.told.items()):
        for tick, (_, _, returns) in zip(run.ticks[name], told, strict=True):
            want = closed_form(world, agent, tick, window_end(tick, 4, T), None)
            torch.testing.assert_close(returns, want)


def test_looking_ahead_leaves_no_trace(device):
    """The value of what follows is asked for without a read, and without touching statistics."""
    runs = [play(Mine(), 4, device, kind) for kind in (Witness, Bold)]
    for one, other in zip(*(run.sim.populations for run in runs), strict=True):
        for name, buffer in one.agents.buffers.items():
            torch.testing.assert_close(buffer, other.agents.buffers[name], msg=name)
        for name in ("settled", "read", "reads", "age"):
            assert torch.equal(one.channel_meter.sums[name], other.channel_meter.sums[name])


def test_the_action_that_was_taken_is_the_one_that_is_judged(device):
    run = play(Mine(), 4, device)
    for agent, (name, told) in enumerate(run.told.items()):
        done = [
            actions[agents.index(agent)]
            for _, agents, actions in run.sim.world.acted
            if agent in agents
        ]
        assert len(done) == len(told)
        for action, (_, judged, _) in zip(done, told, strict=True):
            assert torch.equal(action, judged)
        assert 0 < torch.stack(done).float().mean() < 1, name  # drawn, not always the best


@pytest.mark.parametrize("window", [4, 12])
def test_a_window_that_ends_before_its_ticks_is_no_update(window, device):
    """All worlds end while an agent's tick is still to come: it keeps all it has."""
    late = TraceClock((6, 10))
    run = play(Mine(ends=(6, 6, 6)), window, device, agent_1=late)
    populations = {p.names[0]: p for p in run.sim.populations}
    assert run.told["agent_1"] == []
    assert populations["agent_1"].agents.updates.item() == 0
    assert populations["agent_0"].agents.updates.item() == -(-6 // window)
