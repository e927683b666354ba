import sys
import types
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from pettingzoo import AECEnv
from torch.utils import _pytree as pytree

from dnicomm import agents
from dnicomm.agents import (
    PPO,
    ActorCritic,
    Agent,
    FeedForward,
    GatedCell,
    Recurrent,
    RecurrentActorCritic,
    RecurrentPPO,
)
from dnicomm.core import GradientUtility, Population
from dnicomm.envs import GymEnv, PettingZooEnv
from dnicomm.sim import (
    Adam,
    AgentSpec,
    Delay,
    EdgeList,
    Evaluation,
    PeriodicClock,
    PoissonClock,
    Simulation,
    UtilitySettings,
)
from dnicomm.sim.agent import Inbox, Outcome, TickOutput
from dnicomm.sim.world import AgentSpaces, Env, World

CRITICS = [ActorCritic, RecurrentActorCritic, PPO, RecurrentPPO]
FORGETFUL = [FeedForward, ActorCritic, PPO]
SHIPPED = [FeedForward, Recurrent, *CRITICS]
WORLDS, WIDTH, SIZE = 5, 8, 3
SPECS = {
    "acts": AgentSpec((2, 3), 4, True, SIZE, 2),
    "only_talks": AgentSpec((6,), 0, True, SIZE, 1),
    "sees_nothing": AgentSpec((0,), 4, True, SIZE, 2),
    "hears_nothing": AgentSpec((6,), 4, True, SIZE, 0),
    "acts_in_numbers": AgentSpec((6,), 2, False, SIZE, 2),
}
each_agent = pytest.mark.parametrize("make", SHIPPED)
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def built(make, spec, seed=0):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return make(spec, width=WIDTH)


def situation(spec, seed=1, worlds=WORLDS, rows=()):
    """Observation and inbox, ``[*rows, B, …]``."""
    rng = torch.Generator().manual_seed(seed)
    shape = (*rows, worlds, spec.num_inputs)
    mask = torch.rand(shape, generator=rng) < 0.7
    messages = torch.randn(*shape, spec.message_size, generator=rng) * mask[..., None]
    age = torch.randint(9, shape, generator=rng) * mask
    seen = torch.randn(*rows, worlds, *spec.observation_shape, generator=rng)
    return seen, Inbox(messages, mask, age)


def outcome(spec, seed=2, rows=()):
    rng = torch.Generator().manual_seed(seed)
    shape, actions = (*rows, WORLDS), max(spec.action_size, 1)
    label = torch.randint(-1, actions, shape, generator=rng)
    action = torch.randint(actions, shape, generator=rng)
    return Outcome(
        label,
        action if spec.discrete else torch.randn(*shape, spec.action_size, generator=rng),
        torch.rand(shape, generator=rng) < 0.5,
        torch.randn(shape, generator=rng),
        torch.randn(shape, generator=rng),
        -torch.rand(shape, generator=rng),
    )


# -- one agent ---------------------------------------------------------------------------------


@each_agent
@each_spec
def test_a_tick_has_the_shapes_of_the_contract(make, spec):
    agent = built(make, spec)
    state = agent.initial_state(WORLDS)
    output = agent.tick(*situation(spec), state)
    assert isinstance(output, TickOutput)
    for tensor, shape in (
        (output.action, (WORLDS, spec.action_size)),
        (output.message, (WORLDS, SIZE)),
        *([(output.value, (WORLDS,))] if make in CRITICS else []),
        *([(output.state, (WORLDS, WIDTH))] if state != () else []),
        (agent.loss(output, outcome(spec)), (WORLDS,)),
    ):
        assert tensor.shape == shape
        assert tensor.dtype == torch.float32
    assert (output.value is not None) == (make in CRITICS)
    assert (output.state == ()) == (make in FORGETFUL)


@each_agent
def test_a_state_starts_at_zero_and_is_carried_on(make):
    agent, spec = built(make, SPECS["acts"]), SPECS["acts"]
    now = agent.initial_state(WORLDS)
    if make in FORGETFUL:
        assert now == ()
        return
    assert torch.equal(now, torch.zeros(WORLDS, WIDTH))
    first = agent.tick(*situation(spec), now)
    second = agent.tick(*situation(spec), first.state)
    assert not torch.allclose(first.action, second.action)


@each_agent
def test_worlds_are_independent_of_each_other(make):
    spec = SPECS["acts"]
    agent = built(make, spec)
    observation, inbox = situation(spec)
    result = outcome(spec)

    def gradient_in(world):
        seen = observation.clone().requires_grad_()
        output = agent.tick(seen, inbox, agent.initial_state(WORLDS))
        loss = agent.loss(output, result)
        scalar = loss[world] + output.message[world].sum() + output.action[world].sum()
        return torch.autograd.grad(scalar, seen)[0]

    for world in range(WORLDS):
        felt = gradient_in(world).flatten(1).abs().sum(1) > 0
        assert felt.nonzero().flatten().tolist() == [world]
    alone = agent.tick(observation[:1], Inbox(*(t[:1] for t in inbox)), agent.initial_state(1))
    together = agent.tick(observation, inbox, agent.initial_state(WORLDS))
    torch.testing.assert_close(alone.action, together.action[:1])


@each_agent
def test_an_agent_that_sees_nothing_hears(make):
    spec = SPECS["sees_nothing"]
    agent = built(make, spec)
    seen, inbox = situation(spec)
    other = inbox._replace(messages=inbox.messages + inbox.mask[..., None])
    one, two = (agent.tick(seen, i, agent.initial_state(WORLDS)).action for i in (inbox, other))
    heard = inbox.mask.any(1)
    assert bool(heard.any())
    assert torch.equal((one != two).any(1), heard)


def test_a_gated_cell_is_the_standard_one():
    torch.manual_seed(0)
    cell, standard = GatedCell(3, 4), torch.nn.GRUCell(3, 4)
    x, h = torch.randn(6, 3), torch.randn(6, 4)
    with torch.no_grad():
        # Cho et al. (2014): the reset gate before the product; PyTorch's comes after it, which is
        # the same where the candidate sees nothing of the state
        cell.candidate.weight[:, 3:] = 0
        gates, candidate = cell.gates, cell.candidate
        standard.weight_ih.copy_(torch.cat([gates.weight[:, :3], candidate.weight[:, :3]]))
        standard.weight_hh.copy_(torch.cat([gates.weight[:, 3:], torch.zeros(4, 4)]))
        standard.bias_ih.copy_(torch.cat([gates.bias, candidate.bias]))
        standard.bias_hh.zero_()
    torch.testing.assert_close(cell(x, h), standard(x, h))


# -- many in one kernel ------------------------------------------------------------------------


@each_agent
@each_spec
def test_a_population_is_its_members_one_by_one(make, spec):
    members = [built(make, spec, seed) for seed in range(3)]
    population = Population(members, Adam(1e-2))
    rows = population.rows()
    observation, inbox = situation(spec, rows=(3,))
    state = members[0].initial_state(WORLDS)
    stacked = pytree.tree_map(lambda leaf: leaf.expand(3, *leaf.shape), state)
    output = population.call(rows, "tick", observation, inbox, stacked)
    told = outcome(spec, rows=(3,))
    loss = population.call(rows, "loss", output, told)
    (loss.sum() + output.message.square().sum()).backward()
    found = torch.cat(rows.gradient(), 1)
    for row, agent in enumerate(members):
        inbox_here = Inbox(*(t[row] for t in inbox))
        alone = agent.tick(observation[row], inbox_here, state)
        for one, stacked_ones in zip(
            pytree.tree_leaves(alone), pytree.tree_leaves(output), strict=True
        ):
            if one is not None:
                torch.testing.assert_close(one, stacked_ones[row])
        own = agent.loss(alone, Outcome(*(t[row] for t in told)))
        torch.testing.assert_close(own, loss[row])
        (own.sum() + alone.message.square().sum()).backward()
        gradient = torch.cat([
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in agent.parameters()
        ])  # fmt: skip
        torch.testing.assert_close(gradient, found[row], rtol=1e-4, atol=1e-5)


# -- losses ------------------------------------------------------------------------------------


def test_the_default_loss_is_the_cross_entropy_where_there_is_a_label():
    spec = SPECS["acts"]
    agent = built(FeedForward, spec)
    output = agent.tick(*situation(spec), ())
    told = outcome(spec)._replace(label=torch.tensor([-1, 0, 1, 2, 3]))
    expected = F.cross_entropy(output.action[1:], told.label[1:], reduction="none")
    loss = agent.loss(output, told)
    torch.testing.assert_close(loss[1:], expected)
    assert loss[0] == 0


# -- learning from rewards ---------------------------------------------------------------------


class Bandit(Env):
    """Two arms: at each time the right one pays 1, the other nothing.

    Which one it is ``agent_0`` sees as a sign: at each time, or once at the beginning.
    """

    name = "bandit"

    def __init__(self, horizon=4, once=False):
        self.horizon, self.once = horizon, once

    def make(self, num_worlds, split, device):
        return BanditWorld(self, num_worlds, device)


class BanditWorld(World):
    agents = ("agent_0",)
    rewards = True

    def __init__(self, env, num_worlds, device):
        self.num_worlds, self.device = num_worlds, device
        self.horizon, self.once = env.horizon, env.once

    def spaces(self, agent):
        return AgentSpaces((1,), 2)

    def reset(self, episode, rng):
        self.best = torch.from_numpy(rng.integers(2, size=self.num_worlds))
        self.time, self.paid = 0, torch.zeros(self.num_worlds)
        self.arm = torch.zeros_like(self.best)

    def observe(self, agents):
        sign = 2.0 * self.best - 1
        return (sign * (self.time == 0 or not self.once))[None, :, None]

    def act(self, agents, actions, active):
        self.arm = actions[0]

    def step(self):
        reward = (self.arm == self.best).float()
        self.time += 1
        self.paid += reward
        return reward[None]

    def ended(self):  # a true end: nothing follows the last step
        return torch.full((self.num_worlds,), self.time >= self.horizon)

    def score(self):
        return {"paid": self.paid / self.horizon}


def simulated(env, agent, window, seed=0, worlds=32):
    return Simulation(
        env=env, agent=agent, clock=PeriodicClock(1) if isinstance(env, Bandit) else None,
        utility=None, feedback="none", optimizer=Adam(1e-2), window=window, num_worlds=worlds,
        topology=EdgeList([]), seed=seed, evaluation=Evaluation(every=10_000, episodes=4),
    )  # fmt: skip


def test_an_actor_critic_finds_the_arm_that_pays():
    simulation = simulated(Bandit(), ActorCritic, window=1)
    before = simulation.evaluate()["metrics"]["paid"]
    after = simulation.run(steps=160).metrics["paid"]
    assert before < 0.75
    assert after > 0.9


def test_a_recurrent_actor_critic_remembers_the_arm_that_pays():
    # without memory the sign helps for one step in four: 5/8 of the pay
    recurrent = simulated(Bandit(once=True), RecurrentActorCritic, window=4)
    forgetful = simulated(Bandit(once=True), ActorCritic, window=4)
    assert recurrent.run(steps=320).metrics["paid"] > 0.9
    assert forgetful.run(steps=160).metrics["paid"] < 0.8


class Toll(AECEnv):
    """Two agents in turns: what p_0 chooses by the sign that it sees is paid at p_1's turn."""

    metadata = {"name": "toll_v0", "is_parallelizable": False}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.possible_agents = ["p_0", "p_1"]

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.agents, self.agent_selection, self.turns = ["p_0", "p_1"], "p_0", 0
        self.rewards = self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.best = self.rng.integers(2)

    def observe(self, agent):
        return np.array([2 * self.best - 1], np.float32)

    def step(self, action):
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)
            return
        self.turns += 1
        self.rewards = dict.fromkeys(self.agents, 0)
        if self.agent_selection == "p_0":
            self.chosen = action
        else:
            self.rewards["p_0"] = float(self.chosen == self.best)
            self.best = self.rng.integers(2)
        self.agent_selection = self.agents[self.turns % 2]
        self.terminations = dict.fromkeys(self.agents, self.turns == 8)


def test_what_is_paid_at_anothers_turn_is_learnt_from(monkeypatch):
    module = types.ModuleType("a_toll")
    module.env = Toll
    monkeypatch.setitem(sys.modules, "a_toll", module)
    simulation = simulated(PettingZooEnv("a_toll"), ActorCritic, window=2, seed=3, worlds=16)
    before = simulation.evaluate()["metrics"]["return"]
    after = simulation.run(steps=160).metrics["return"]
    assert before < 0.7 * 2
    assert after > 0.9 * 2  # 4 for p_0, none for p_1


def test_cartpole_runs():
    simulation = Simulation(
        env=GymEnv("CartPole-v1"), agent=ActorCritic, clock=PeriodicClock(1), utility=None,
        feedback="none", window=8, num_worlds=4, seed=0,
        evaluation=Evaluation(every=1000, episodes=1, num_worlds=2),
    )  # fmt: skip
    result = simulation.run(steps=300)
    assert 8 <= result.metrics["return"] <= 500
    assert result.summary["agents"]["agent_0"]["updates"] >= 300 // 8
    assert result.summary["agents"]["agent_0"]["skipped_updates"] == 0


@pytest.mark.needs("mpe2.simple_spread_v3")
@pytest.mark.parametrize("make", CRITICS)
def test_foreign_agents_talk_at_irregular_times(make):
    simulation = Simulation(
        env=PettingZooEnv("mpe2.simple_spread_v3", {"max_cycles": 25}),
        agent=make, clock=PoissonClock(0.5), channel=Delay(0, 2), message_size=4,
        utility=UtilitySettings(GradientUtility, Adam(1e-3), context=("state",)),
        feedback="synthetic", window=4, num_worlds=2, seed=1,
        evaluation=Evaluation(every=1000, episodes=1),
    )  # fmt: skip
    result = simulation.run(steps=50)
    names = ["agent_0", "agent_1", "agent_2"]
    assert list(result.summary["agents"]) == names
    assert set(result.summary["channels"]) == {f"{a}->{b}" for a in names for b in names if a != b}
    assert result.summary["context"] == {"state": "causal"}
    assert np.isfinite(result.metrics["return"])
    for agent in result.summary["agents"].values():
        assert agent["ticks"] > 0
        assert agent["updates"] > 0
        assert agent["skipped_updates"] == 0
    for channel in result.summary["channels"].values():
        assert 0 < channel["share_read"] <= 1
        assert np.isfinite(channel["target_norm"])


def test_all_shipped_agents_are_agents():
    assert all(issubclass(make, Agent) for make in SHIPPED)
    assert {name for name in agents.__all__ if name not in ("Agent", "GatedCell")} == {
        make.__name__ for make in SHIPPED
    }
