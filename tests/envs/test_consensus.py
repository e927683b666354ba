import functools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.agents import Recurrent
from dnicomm.envs import Averaging, Consensus, ExposedEnv, clocked, consensus_v0
from dnicomm.envs.regular_graph import regular_graph
from dnicomm.errors import UserError
from dnicomm.sim import Evaluation, PoissonClock, Ring, Simulation
from dnicomm.sim.agent import Agent, AgentSpec, Outcome, TickOutput
from dnicomm.sim.world import AgentSpaces
from dnicomm.testing import check_agent, check_env

CPU = torch.device("cpu")


def consensus(worlds=8, seed=0, **options):
    world = Consensus(**options).make(worlds, "train", CPU)
    world.reset(0, np.random.default_rng(seed))
    return world


def indices(world):
    """Senders and receivers of all channels."""
    number = {name: i for i, name in enumerate(world.agents)}
    return [number[a] for a, _ in world.edges], [number[b] for _, b in world.edges]


# -- the graph -----------------------------------------------------------------------------------


@st.composite
def sizes(draw):
    nodes = draw(st.integers(2, 24))
    degree = draw(st.integers(1 if nodes == 2 else 2, nodes - 1))
    return (nodes, degree) if nodes * degree % 2 == 0 else (nodes + 1, degree)


@settings(deadline=None, max_examples=60)
@given(sizes(), st.integers(0, 2**31))
def test_a_graph_is_regular_simple_and_connected(size, seed):
    nodes, degree = size
    links = regular_graph(nodes, degree, seed)
    assert len(set(links)) == len(links) == nodes * degree // 2
    assert all(0 <= a < b < nodes for a, b in links)
    assert (np.bincount(np.ravel(links), minlength=nodes) == degree).all()
    beside = np.eye(nodes, dtype=bool)
    for a, b in links:
        beside[a, b] = beside[b, a] = True
    assert (np.linalg.matrix_power(beside.astype(float), nodes) > 0).all(), "connected"


def test_a_graph_follows_from_its_seed_and_any_may_come():
    assert regular_graph(20, 4, 0) == regular_graph(20, 4, 0)
    assert regular_graph(20, 4, 0) != regular_graph(20, 4, 1)
    # of the 70 graphs with six nodes and three links each, 10 are the complete bipartite one
    found = [regular_graph(6, 3, seed) for seed in range(400)]
    assert len(set(found)) == 70
    triangles = [any((a, c) in g and (b, c) in g for a, b in g for c in range(6)) for g in found]
    assert 1 - sum(triangles) / 400 == pytest.approx(1 / 7, abs=0.05)


def test_a_large_graph_is_no_ring_any_more():
    """Whom one reaches in k steps grows like 4 · 3^(k - 1), as in a random graph."""
    links = regular_graph(2_000, 4, 0)
    neighbours = [set() for _ in range(2_000)]
    for a, b in links:
        neighbours[a].add(b)
        neighbours[b].add(a)
    reached = {0}
    for _ in range(4):
        reached |= set().union(*(neighbours[node] for node in reached))
    assert 130 < len(reached) <= 1 + 4 + 12 + 36 + 108


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_agents": 0}, "env.num_agents=0: must be a whole number of at least 1"),
        ({"num_agents": 2.5}, "env.num_agents=2.5: must be a whole number"),
        ({"degree": -1}, "env.degree=-1: must be a whole number of at least 0"),
        ({"degree": 0}, "env.degree=0: 100 agents would talk to nobody; at least 2"),
        ({"num_agents": 1}, "env.degree=4: one of 1 agents has at most 0 neighbours"),
        ({"degree": True}, "env.degree=True: must be a whole number"),
        ({"horizon": 0}, "env.horizon=0: must be"),
        ({"graph": -1}, "env.graph=-1: must be"),
        ({"up": 0}, "env.up=0: must be a number above 0 and at most 1"),
        ({"up": 1.5}, "env.up=1.5: must be a number above 0 and at most 1"),
        ({"up": "often"}, "env.up=often: must be a number"),
        ({"num_agents": 4}, "env.degree=4: one of 4 agents has at most 3 neighbours"),
        ({"num_agents": 5, "degree": 3}, "env.degree=3: no graph of 5 agents has it, for 5 times"),
        ({"num_agents": 4, "degree": 1}, "env.degree=1: 4 agents would talk in pairs; at least 2"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError) as caught:
        Consensus(**options)
    assert message in str(caught.value)


# -- the world -----------------------------------------------------------------------------------


def test_everybody_sees_a_number_and_says_one():
    world = consensus(5, num_agents=6)
    assert world.agents == tuple(f"agent_{i}" for i in range(6))
    assert {world.spaces(agent) for agent in world.agents} == {AgentSpaces((1,), 1, False)}
    assert world.observe([4, 1]).shape == (2, 5, 1)
    assert torch.equal(world.observe([4, 1])[..., 0], world.numbers[[4, 1]])
    labels = world.labels([2, 0, 5])
    assert (labels.shape, labels.dtype) == ((3, 5, 1), torch.float32)
    assert torch.allclose(labels[0, :, 0], world.numbers.mean(0))
    assert torch.equal(world.context("mean"), world.mean[:, None])
    assert world.schedule() is world.active() is world.ended() is world.step() is None
    assert world.horizon == world.episode_length() == 30


def test_numbers_have_a_common_part_and_an_own_one():
    """Each has variance 2; two in a world have covariance 1, two of different worlds 0."""
    world = consensus(20_000, num_agents=5)
    covariance = torch.cov(world.numbers)
    assert torch.allclose(covariance, torch.ones(5, 5) + torch.eye(5), atol=0.06)
    assert abs(float((world.numbers[:, 1:] * world.numbers[:, :-1]).mean())) < 0.03


def test_what_an_agent_knows_of_the_mean_by_itself():
    """The best guess from the own number leaves half of the mean's variance, v(1 - v/2)."""
    world = consensus(20_000, num_agents=100)
    v = 1 + 1 / 100
    world.act([*range(100)], (world.numbers * v / 2)[..., None], None)
    assert float(world.score()["error"].mean()) == pytest.approx(v * (1 - v / 2), rel=0.03)


def test_scores():
    world = consensus(3, num_agents=5)
    assert torch.allclose(world.score()["error"], world.mean.square())
    assert torch.equal(world.score()["spread"], torch.zeros(3))
    world.act([0, 1, 2, 3, 4], world.mean.expand(5, -1)[..., None], None)
    assert torch.equal(world.score()["error"], torch.zeros(3))
    away = torch.tensor([[1.0], [-1.0]]).expand(2, 3)
    world.act([1, 3], (world.mean + away)[..., None], torch.tensor([[True, True, False]] * 2))
    assert torch.allclose(world.score()["error"], torch.tensor([0.4, 0.4, 0.0]))
    assert torch.allclose(world.score()["spread"], torch.tensor([0.4, 0.4, 0.0]))


def test_links_come_and_go_both_ways_at_once_and_independently():
    world = consensus(400, num_agents=10, up=0.3)
    senders, receivers = indices(world)
    seen = []
    for _ in range(20):
        is_open = world.open_edges(senders, receivers)
        assert is_open.shape == (40, 400)
        assert is_open.dtype == torch.bool
        assert torch.equal(is_open, world.open_edges(receivers, senders))
        seen.append(is_open.float())
        world.step()
    series = torch.stack(seen)
    assert float(series.mean()) == pytest.approx(0.3, abs=0.01)
    assert float((series[1:] * series[:-1]).mean()) == pytest.approx(0.09, abs=0.01)
    assert bool(consensus(3, up=1.0).open_edges(*indices(consensus(up=1.0))).all())


def test_channels_are_in_the_order_of_receivers():
    senders, receivers = indices(consensus(num_agents=12))
    assert list(zip(receivers, senders, strict=True)) == sorted(
        zip(receivers, senders, strict=True)
    )
    assert receivers == [i for i in range(12) for _ in range(4)]


def test_other_channels_are_refused():
    with pytest.raises(UserError, match="has no such link; use topology=natural"):
        Simulation(
            env=Consensus(num_agents=40), agent=Recurrent, topology=Ring(), num_worlds=2
        ).run(steps=1)


def test_ten_thousand_agents_fit():
    """Nothing in a world has N² numbers: 16 worlds of 10,000 agents take some megabytes."""
    world = consensus(16, num_agents=10_000)
    largest = max(
        x.nbytes for x in vars(world).values() if isinstance(x, np.ndarray | torch.Tensor)
    )
    assert largest <= 16 * 40_000
    assert len(world.edges) == 40_000
    assert world.open_edges(*indices(world)).shape == (40_000, 16)
    world.step()
    assert world.score()["error"].shape == (16,)


@pytest.mark.parametrize(
    "env",
    [
        Consensus(num_agents=6, degree=3),
        Consensus(2, degree=1, up=1.0, horizon=4),
        Consensus(1, degree=0),
    ],
    ids=str,
)
def test_keeps_the_contract(env):
    assert check_env(env, steps=40) == []


# -- the optimum, and the yardstick --------------------------------------------------------------


@pytest.mark.parametrize(("up", "steps"), [(1.0, 5), (0.5, 20)])
def test_who_passes_on_every_number_comes_to_the_mean(up, steps):
    """The optimum is an error of 0: with links that hold, as soon as the longest way is gone."""
    world = consensus(6, num_agents=30, up=up)
    senders, receivers = indices(world)
    known = torch.eye(30, dtype=torch.bool)[:, :, None].repeat(1, 1, 6)  # [N, whose, B]
    for _ in range(steps):
        heard = known[senders] & world.open_edges(senders, receivers)[:, None]
        index = torch.tensor(receivers)[:, None, None].expand_as(heard)
        known = known.int().scatter_reduce_(0, index, heard.int(), "amax").bool()
        said = (world.numbers * known).sum(1) / known.sum(1)
        world.act([*range(30)], said[..., None], None)
        world.step()
    assert bool(known.all())
    assert float(world.score()["error"].max()) < 1e-10


def test_averaging_comes_near_to_the_mean_and_nearer_with_time():
    errors = []
    for horizon in (1, 15, 60):
        simulation = Simulation(
            env=Consensus(horizon=horizon, num_agents=50), agent=Averaging,
            clock=PoissonClock(0.5), message_size=2, normalise=False, feedback="none",
            utility=None, num_worlds=2, evaluation=Evaluation(episodes=1, num_worlds=64),
        )  # fmt: skip
        errors.append(simulation.evaluate()["metrics"]["error"])
    assert errors[0] == pytest.approx(1.0, abs=0.2), "everybody says the own number"
    assert errors[1] < 0.04
    assert errors[2] < 0.01


def test_averaging_is_an_agent_of_this_environment_alone():
    spec = AgentSpec((1,), 1, False, 3, 4)
    assert check_agent(Averaging, spec) == []
    with pytest.raises(UserError, match="Averaging is for consensus"):
        Averaging(AgentSpec((1,), 2, True, 3, 4))


# -- learning ------------------------------------------------------------------------------------


def test_the_loss_of_a_continuous_answer_is_its_squared_distance():
    said = torch.tensor([[1.0, 2.0], [0.0, 4.0], [3.0, 3.0]], requires_grad=True)
    label = torch.tensor([[0.0, 2.0], [1.0, 1.0], [float("nan"), 0.0]])
    nothing = torch.zeros(3)
    outcome = Outcome(label, said.detach(), nothing > 0, nothing, nothing, nothing)
    assert outcome.known.tolist() == [True, True, False]
    loss = Agent(AgentSpec((1,), 2, False, 1, 1)).loss(TickOutput(said, said), outcome)
    assert loss.tolist() == [0.5, 5.0, 0.0]
    loss.sum().backward()
    assert said.grad.tolist() == [[1, 0], [-1, 3], [0, 0]]


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_agents_learn_in_it(feedback):
    simulation = Simulation(
        env=Consensus(num_agents=6, degree=3, horizon=10), agent=Recurrent, feedback=feedback,
        clock=PoissonClock(0.5), num_worlds=8, message_size=4,
        evaluation=Evaluation(episodes=4, num_worlds=64),
    )  # fmt: skip
    before = simulation.evaluate(episodes=4)["metrics"]["error"]
    result = simulation.run(steps=200)
    assert result.metrics["error"] < 0.9 * before
    agents = (
        result.summary["agents"] if "agents" in result.summary else result.history[-1]["agents"]
    )
    assert all(np.isfinite(figures["loss"]) for figures in agents.values())


# -- as PettingZoo ---------------------------------------------------------------------------------

FORMS = {
    "six": functools.partial(consensus_v0.parallel_env, num_agents=6, horizon=8),
    "pair": functools.partial(consensus_v0.parallel_env, num_agents=2, degree=1, horizon=3),
    "alone": functools.partial(consensus_v0.parallel_env, num_agents=1, degree=0, horizon=3),
}
forms = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


@forms
def test_passes_the_official_tests(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Environment's m..imum state space value is .*infinity")
        warnings.filterwarnings("ignore", "Observation is a single number")
        warnings.filterwarnings("ignore", "Agent.s m..imum .* space value is .*infinity")
        api_test(consensus_v0.env(**make.keywords), num_cycles=40)
        api_test(consensus_v0.raw_env(**make.keywords), num_cycles=20)
        seed_test(functools.partial(consensus_v0.env, **make.keywords), num_cycles=40)
        parallel_api_test(make(), num_cycles=40)
        parallel_seed_test(make, num_cycles=40)
        render_test(functools.partial(consensus_v0.env, **make.keywords))
        state_test(parallel_to_aec(make()), make(), num_cycles=10)
        api_test(clocked(make(), PoissonClock(0.5)), num_cycles=40)


def test_everybody_pays_for_how_far_off_they_are():
    env = consensus_v0.parallel_env(num_agents=6, horizon=3)
    env.reset(seed=1)
    mean = float(env.world.numbers.mean())
    _, rewards, *_ = env.step({"agent_2": np.array([mean + 2], np.float32)})
    assert rewards["agent_2"] == pytest.approx(-4, abs=1e-5)
    assert rewards["agent_0"] == pytest.approx(-(mean**2), abs=1e-5)
    said = np.array([mean], np.float32)
    for _ in range(2):
        _, rewards, terminated, truncated, _ = env.step(dict.fromkeys(env.agents, said))
        assert max(map(abs, rewards.values())) < 1e-10
    assert all(terminated.values())
    assert not any(truncated.values())


def test_an_episode_as_others_play_it():
    told = []
    for _ in range(2):
        env = consensus_v0.parallel_env(num_agents=5, horizon=4)
        for number, agent in enumerate(env.possible_agents):
            env.action_space(agent).seed(number)
        told.append([env.reset(seed=3)])
        while env.agents:
            told[-1].append(env.step({a: env.action_space(a).sample() for a in env.agents}))
            assert env.state().shape == (6,)
        assert len(told[-1]) == 5
    np.testing.assert_equal(told[0], told[1])


def test_any_world_with_numbers_as_labels_pays_for_the_distance():
    env = ExposedEnv(Consensus(num_agents=6, horizon=2))
    env.reset(seed=1)
    mean = float(env.world.mean[0])
    _, rewards, *_ = env.step({"agent_2": np.array([mean + 2], np.float32)})
    assert rewards == dict.fromkeys(env.possible_agents, 0.0) | {"agent_2": pytest.approx(-4)}


class Mislabelled(Consensus):
    """Labels without the last dimension."""

    def make(self, num_worlds, split, device):
        world = super().make(num_worlds, split, device)
        world.labels = lambda agents: world.mean.expand(len(agents), -1)
        return world


def test_labels_of_a_continuous_action_have_its_shape():
    found = check_env(Mislabelled(num_agents=5), num_worlds=3)
    assert found[0] == "the labels of agent_0 has shape [1, 3]; it must be [1, 3, 1]"
