"""A time limit is not an end: values after truncations, terminations and in turns, in closed form.

Every step pays 1 and every observation is the same, so that a value V has one fixed point: with
γ = 0.9 it is 1 / (1 - γ) = 10 where episodes are only cut off, whatever the window, and
1 / (1 - γ(1 - p)) where a step ends a life with probability p.
"""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TimeLimit
from pettingzoo import AECEnv, ParallelEnv
from torch import nn

from dnicomm.agents import PPO, RecurrentPPO
from dnicomm.core import CriticUtility
from dnicomm.envs.copies import ParallelCopy, SoloEnv, TurnsCopy
from dnicomm.envs.foreign import ForeignWorld
from dnicomm.sim import (
    SGD,
    Agent,
    Complete,
    Env,
    PeriodicClock,
    PoissonClock,
    Simulation,
    TickOutput,
    TraceClock,
    UtilitySettings,
)
from dnicomm.sim.closing import OpenThings

GAMMA = 0.9
SEEN, ACTIONS = Box(-9, 99, (1,), np.float32), Discrete(2)


class Payroll(ParallelEnv):
    """Pays 1 to everybody at every step.

    Args:
        ends: last step of each agent.
        flags: which of ``terminations`` and ``truncations`` say so; neither: it vanishes.
        counts: whether an observation is the time; else it is 1.
    """

    metadata = {"name": "payroll_v0"}  # noqa: RUF012

    def __init__(self, ends=(4, 4), flags=(False, True), counts=False) -> None:
        self.ends, self.flags, self.counts = ends, flags, counts
        self.possible_agents = [f"agent_{i}" for i in range(len(ends))]

    def observation_space(self, agent):
        return SEEN

    def action_space(self, agent):
        return ACTIONS

    def reset(self, seed=None, options=None):
        self.agents, self.time = list(self.possible_agents), 0
        return self.seen(), {agent: {} for agent in self.agents}

    def seen(self):
        number = float(self.time) if self.counts else 1.0
        return {agent: np.full(1, number, np.float32) for agent in self.possible_agents}

    def step(self, actions):
        self.time, live = self.time + 1, self.agents
        last = dict(zip(self.possible_agents, self.ends, strict=True))
        over = {agent: last[agent] <= self.time for agent in live}
        self.agents = [agent for agent in live if not over[agent]]
        terminated, truncated = (
            {agent: over[agent] and flag for agent in live} for flag in self.flags
        )
        return self.seen(), dict.fromkeys(live, 1.0), terminated, truncated, {a: {} for a in live}


class PayrollInTurns(AECEnv):
    """The same for two who take turns; every turn pays both, and all is cut off after ``last``."""

    metadata = {"name": "payroll_in_turns_v0", "is_parallelizable": False}  # noqa: RUF012

    def __init__(self, last: int = 8, flags=(False, True), counts: bool = False) -> None:
        super().__init__()
        self.last, self.flags, self.counts = last, flags, counts
        self.possible_agents = ["agent_0", "agent_1"]

    observation_space = Payroll.observation_space
    action_space = Payroll.action_space

    def reset(self, seed=None, options=None):
        self.agents, self.time = list(self.possible_agents), 0
        self.agent_selection = "agent_0"
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict(self.rewards)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}

    def observe(self, agent):
        return np.full(1, float(self.time) if self.counts else 1.0, np.float32)

    def step(self, action):
        if self.terminations[self.agent_selection] or self.truncations[self.agent_selection]:
            self._was_dead_step(action)
            return
        self.time += 1
        self.rewards = dict.fromkeys(self.agents, 1.0)
        over = self.time == self.last
        self.terminations = dict.fromkeys(self.agents, over and self.flags[0])
        self.truncations = dict.fromkeys(self.agents, over and self.flags[1])
        self.agent_selection = self.possible_agents[self.time % 2]
        self._accumulate_rewards()


class Desk(gymnasium.Env):
    """Pays 1 at every step, and never ends by itself."""

    observation_space, action_space = SEEN, ACTIONS

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, False, {}


class Copies(Env):
    """Worlds made of given copies, as :class:`~dnicomm.envs.PettingZooEnv` makes them."""

    name = "copies"

    def __init__(self, make_copy, horizon: int = 40) -> None:
        self.make_copy, self.horizon = make_copy, horizon

    def make(self, num_worlds, split, device):
        copies = [self.make_copy(world) for world in range(num_worlds)]
        with OpenThings() as opened:
            for copy in copies:
                opened.add(copy.env, "payroll")
            return ForeignWorld(copies, self.horizon, device, opened)


def parallel(world: int = 0, **options) -> ParallelCopy:
    return ParallelCopy(Payroll(**options), "payroll")


def in_turns(world: int = 0, **options) -> TurnsCopy:
    return TurnsCopy(PayrollInTurns(**options), "payroll")


def desk(world: int = 0, limit: int = 4) -> ParallelCopy:
    return ParallelCopy(SoloEnv(TimeLimit(Desk(), limit)), "desk")


class Accountant(Agent):
    """Knows one number, the value of everything.

    With ``reads`` its value is what it sees, with ``hears`` the sum of what it last heard, with
    ``recalls`` what it saw at its last tick.
    """

    def __init__(self, spec, reads=False, hears=False, recalls=False) -> None:
        super().__init__(spec)
        self.reads, self.hears, self.recalls = reads, hears, recalls
        self.worth = nn.Parameter(torch.zeros(1))

    def initial_state(self, num_worlds):
        return torch.zeros(num_worlds, 1) if self.recalls else ()

    def tick(self, observation, inbox, state) -> TickOutput:
        value = self.worth.expand(len(observation))
        if self.reads:
            value = observation[:, 0]
        if self.hears:
            value = inbox.messages.sum((1, 2))
        if self.recalls:
            value = state[:, 0]
        message = observation.expand(-1, self.spec.message_size)
        action = torch.zeros(len(observation), self.spec.action_size)
        after = observation if self.recalls else state
        return TickOutput(action, message, after, value)

    def loss(self, output, outcome):
        return 0.5 * (output.value - outcome.returns).square()


def simulate(env, num_worlds=3, window=1, agent=Accountant, lr=0.5, **options) -> Any:
    turns = env.make(1, "train", torch.device("cpu")).schedule() is not None
    clock = options.pop("clock", None if turns else PeriodicClock(1))
    return Simulation(
        env, agent, clock=clock, num_worlds=num_worlds, window=window, gamma=GAMMA,
        message_size=2, normalise=False, optimizer=SGD(lr),
        **({"feedback": "none", "utility": None} | options),
    )  # fmt: skip


def learn_value(simulation, episodes: int, start: float = 0.0) -> list[float]:
    """Values after some episodes that began with all of them at ``start``."""
    for population in simulation.populations:
        population.agents.parameters.data.fill_(start)
    for episode in range(episodes):
        simulation.engine.play(episode)
    return [
        value
        for population in simulation.populations
        for value in population.agents.parameters.detach().flatten().tolist()
    ]


def returns_of(simulation, episode: int = 0) -> list[torch.Tensor]:
    """Returns ``[n, B]`` of each tick of an episode of one population."""
    (population,), told = simulation.populations, []
    call, worlds = population.agents.call, simulation.num_worlds

    def watch(rows, method, *arguments):
        if method == "loss" and arguments[1].returns.shape[1] == worlds:  # no further pass
            told.append(arguments[1].returns)
        return call(rows, method, *arguments)

    population.agents.call = watch
    simulation.engine.play(episode)
    return told


CUT_OFF = {
    "parallel": parallel,
    "one by one": partial(parallel, ends=(4, 7)),
    "vanishing": partial(parallel, flags=(False, False)),
    "copies end at different times": lambda world: parallel(ends=(3 + world, 5)),
    "in turns": in_turns,
    "gymnasium": desk,
}


@pytest.mark.parametrize("window", [1, 3, 50])
@pytest.mark.parametrize("kind", CUT_OFF)
def test_what_is_only_cut_off_is_worth_what_goes_on_for_ever(kind, window):
    """Where 1 / (1 - γ) is, values stay; from elsewhere they come nearer at every episode."""
    simulation = simulate(Copies(CUT_OFF[kind]), window=window, gae_lambda=0.8, lr=0.1)
    values = learn_value(simulation, 2, start=10)
    assert values == pytest.approx([10] * len(values), abs=1e-4)
    for start in (0, 20):
        before = [float(start)] * len(values)
        after = learn_value(simulation, 1, start)
        assert all(abs(a - 10) < abs(b - 10) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("window", [1, 4])
def test_values_go_there(window):
    values = learn_value(simulate(Copies(parallel), 1, window, lr=0.9 / window), 60)
    assert values == pytest.approx([10, 10], abs=1e-2)


@pytest.mark.parametrize("clock", [PeriodicClock(2), PoissonClock(0.6)], ids=["slow", "irregular"])
@pytest.mark.parametrize("window", [1, 4, 50])
def test_whatever_the_clock(clock, window):
    values = learn_value(simulate(Copies(parallel), window=window, clock=clock), 3, start=10)
    assert values == pytest.approx([10, 10], abs=1e-4)


@pytest.mark.parametrize("flags", [(True, False), (True, True)], ids=["terminated", "both"])
@pytest.mark.parametrize("window", [1, 3, 50])
@pytest.mark.parametrize("kind", ["parallel", "turns"])
def test_after_a_termination_there_is_nothing(kind, window, flags):
    """Half of those who are left end at each step, so V = 1 + γV/2; the last one goes on."""

    def copy(world):
        last = next((n for n in range(1, 4) if world < 8 - 8 // 2**n), 4)
        ended = (False, True) if last == 4 else flags
        if kind == "turns":
            return in_turns(last=last, flags=ended)
        return parallel(ends=(last,), flags=ended)

    horizon = 3  # whom it cuts off has not ended
    simulation = simulate(Copies(copy, horizon), 8, window)
    fixed = 1 / (1 - GAMMA / 2)
    values = learn_value(simulation, 3, start=fixed)
    assert values == pytest.approx([fixed] * len(values), abs=1e-4)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("window", [1, 2, 3, 9])
@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_the_last_observation_is_valued(how, window, gae_lambda):
    """An agent that takes the time it sees for its value: what it is told, tick by tick."""
    flags = (how == "terminated", how == "truncated")
    env = Copies(partial(parallel, ends=(5,), flags=flags, counts=True))
    agent = partial(Accountant, reads=True)
    told = returns_of(simulate(env, 1, window, agent, gae_lambda=gae_lambda))
    want, after = {}, 0.0
    for tick in reversed(range(5)):
        end = tick == 4 or (tick + 1) % window == 0
        follows = tick + 1.0
        if tick == 4:
            after = follows if how == "truncated" else 0.0
        elif end:
            after = follows
        else:
            after = gae_lambda * want[tick + 1] + (1 - gae_lambda) * follows
        want[tick] = 1 + GAMMA * after
    found = [returns[0].item() for returns in told]
    assert found == pytest.approx([want[tick] for tick in range(5)])


def test_rewards_of_others_are_not_credited_across():
    """Who was cut off gets its own value and nothing of what is played on without it."""
    env = Copies(partial(parallel, ends=(2, 6), counts=True))
    told = returns_of(simulate(env, 1, 50, partial(Accountant, reads=True)))
    first = [returns[0].item() for returns in told[:2]]
    assert first == pytest.approx([1 + GAMMA * (1 + GAMMA * 2), 1 + GAMMA * 2])


@pytest.mark.parametrize("window", [1, 7])
def test_what_arrives_with_the_end_is_heard(window):
    """Messages on their way that arrive by then are in the inbox that is valued; none is read."""
    env = Copies(partial(parallel, ends=(3, 3), counts=True))
    simulation = simulate(env, 1, window, partial(Accountant, hears=True), topology=Complete())
    told = returns_of(simulation)
    # at its last tick, at time 2, the other said (2, 2), which is there at time 3
    assert told[-1].flatten().tolist() == pytest.approx([1 + GAMMA * 4] * 2)
    meter = simulation.populations[0].channel_meter.sums
    assert meter["reads"].tolist() == [2, 2]  # at times 1 and 2


@pytest.mark.parametrize("window", [1, 2, 9])
def test_a_state_after_the_last_tick_is_what_values(window):
    env = Copies(partial(parallel, ends=(4,), counts=True))
    told = returns_of(simulate(env, 1, window, partial(Accountant, recalls=True)))
    assert told[-1].item() == pytest.approx(1 + GAMMA * 3)  # seen at its tick, at time 3


@pytest.mark.parametrize("window", [1, 2, 3])
def test_in_turns_a_window_ends_with_the_present(window):
    """The one who has to wait is observed afresh; V(o) = r + γV(o) would say nothing of it."""
    env = Copies(partial(in_turns, last=7, counts=True), horizon=6)
    told = returns_of(simulate(env, 1, window, partial(Accountant, reads=True)))
    for time, returns in enumerate(told):  # both are due at each turn; one is active
        end = min((time // window + 1) * window, 6)
        want = sum(GAMMA**k for k in range(end - time)) + GAMMA ** (end - time) * end
        assert returns.flatten()[time % 2].item() == pytest.approx(want)


def test_an_agent_that_is_not_due_when_it_is_cut_off():
    """Its value is that of the end of time, γ by what has elapsed since its tick."""
    env = Copies(partial(parallel, ends=(6,), counts=True))
    agent, clock = partial(Accountant, reads=True), TraceClock((0, 2))
    told = returns_of(simulate(env, 1, 50, agent, clock=clock))
    want = sum(GAMMA**k for k in range(4)) + GAMMA**4 * 6
    assert told[-1].item() == pytest.approx(want)


@pytest.mark.parametrize("kind", [PPO, RecurrentPPO])
def test_passes_of_ppo_learn_the_same_values(kind):
    """A learner of whole nets goes there as well, by several passes over each window."""
    env = Copies(partial(parallel, ends=(4,)))
    agent = partial(kind, width=8, entropy=0.0)
    simulation = simulate(env, 4, 4, agent, lr=0.05, gae_lambda=0.5)
    for episode in range(60):
        simulation.engine.play(episode)
    told = torch.stack(returns_of(simulation, 60))
    assert told.mean().item() > 7  # were it an end, 1 + γ + γ² + γ³ = 3.4 at most


def test_a_critic_as_utility_model_learns_what_is_cut_off():
    """Its target is the receiver's loss, in whose returns the future beyond a limit counts."""
    costs = {}
    for truncated in (True, False):
        env = Copies(partial(parallel, ends=(3, 3), flags=(not truncated, truncated), counts=True))
        simulation = simulate(
            env, 1, 9, partial(Accountant, reads=True), topology=Complete(),
            feedback="synthetic", utility=UtilitySettings(CriticUtility, SGD(0.0)),
        )  # fmt: skip
        found = simulation.populations[0].interface
        fit, targets = found.fit, []
        found.fit = lambda *a, fit=fit, targets=targets: (targets.append(a[2].cost), fit(*a))[1]
        simulation.engine.play(0)
        costs[truncated] = torch.cat([t.flatten() for t in targets]).max().item()
    # most for what is read at time 1, where the value is 1; or at time 2, where it is 2
    assert costs[True] == pytest.approx(0.5 * (1 + GAMMA + GAMMA**2 * 3 - 1) ** 2)
    assert costs[False] == pytest.approx(0.5 * (1 - 2) ** 2)


def test_metrics_tell_a_limit_from_an_end():
    """Two runs of one seed, one environment that truncates and one that terminates."""
    history = {}
    for truncated in (True, False):
        env = Copies(partial(parallel, flags=(not truncated, truncated)))
        simulation = simulate(env, window=2)
        history[truncated] = learn_value(simulation, 20)
    assert history[True] != history[False]


def test_nothing_of_memory_is_kept_from_the_value():
    """To ask for a value at the end changes no state, no mail and no statistics."""

    class Counter(Accountant):
        def __init__(self, spec) -> None:
            super().__init__(spec)
            self.norm = nn.BatchNorm1d(1)

        def tick(self, observation, inbox, state):
            self.norm(observation)
            return super().tick(observation, inbox, state)

    kept = {}
    for truncated in (True, False):
        env = Copies(partial(parallel, flags=(not truncated, truncated)))
        simulation = simulate(env, agent=Counter, window=9, lr=0.0)
        simulation.engine.play(0)
        buffers = simulation.populations[0].agents.buffers
        kept[truncated] = {name: buffer.tolist() for name, buffer in buffers.items()}
    assert kept[True] == kept[False]
    assert kept[True]["norm.num_batches_tracked"] == [4, 4]
