import functools
import importlib
import warnings

import numpy as np
import pytest
import torch
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)

from dnicomm.envs import Reference, SpeakerListener, Steering, reference_v0, speaker_listener_v0
from dnicomm.envs.pictures import particles
from dnicomm.envs.steering import gains
from dnicomm.errors import UserError
from dnicomm.sim import AgentSpec, EdgeList, Evaluation, Override, PoissonClock, Simulation
from dnicomm.sim.world import AgentSpaces

CPU = torch.device("cpu")
ENVS = {"speaker_listener": SpeakerListener, "reference": Reference}
MODULES = {"speaker_listener": speaker_listener_v0, "reference": reference_v0}
MPE = {"speaker_listener": "simple_speaker_listener_v4", "reference": "simple_reference_v3"}
both = pytest.mark.parametrize("name", ENVS)


def begin(env, num_worlds=7, seed=0):
    world = env.make(num_worlds, "train", CPU)
    world.reset(0, np.random.default_rng(seed))
    return world


# -- mpe2, step for step -----------------------------------------------------------------------


def mpe(name, world, copy, **kwargs):
    """mpe2's environment, put where world number ``copy`` begins."""
    env = importlib.import_module(f"mpe2.{MPE[name]}").parallel_env(**kwargs)
    env.reset(seed=0)
    theirs = env.unwrapped.world
    movers = [agent for agent in theirs.agents if agent.movable]
    for body, agent in enumerate(movers):
        agent.state.p_pos = world.position[body, copy].double().numpy().copy()
    for number, landmark in enumerate(theirs.landmarks):
        landmark.state.p_pos = world.landmarks[number, copy].double().numpy().copy()
    # whoever knows the goal of a body is the other agent
    knowers = theirs.agents[:1] if name == "speaker_listener" else theirs.agents[::-1]
    for body, agent in enumerate(knowers):
        agent.goal_b = theirs.landmarks[int(world.goal[body, copy])]
    return env


def action_of(name, agent, move, continuous):
    """mpe2's action for a move (a number of five, or a push), saying nothing or word 0."""
    if agent == "speaker_0":
        return np.zeros(3, np.float32) if continuous else 0
    if not continuous:
        return int(move)  # reference: word 0
    x, y = (float(number) for number in move)
    words = 0 if name == "speaker_listener" else 10
    push = [0, max(-x, 0), max(x, 0), max(-y, 0), max(y, 0), *[0] * words]
    return np.array(push, np.float32)


@pytest.mark.needs(*(f"mpe2.{module}" for module in MPE.values()))
@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@both
def test_equals_mpe2_at_every_step(name, continuous):
    worlds = 3
    world = begin(ENVS[name](continuous_actions=continuous), worlds)
    theirs = [mpe(name, world, copy, continuous_actions=continuous) for copy in range(worlds)]
    movers = range(world.first, 2)
    random = torch.Generator().manual_seed(1)
    for time in range(world.horizon):
        if continuous:
            actions = 2 * torch.rand(len(movers), worlds, 2, generator=random) - 1
        else:
            actions = torch.randint(5, (len(movers), worlds), generator=random)
        world.act(list(movers), actions, None)
        rewards = world.step()
        seen = [world.observe([agent])[0] for agent in range(2)]
        for copy, env in enumerate(theirs):
            moves = {world.agents[a]: actions[row, copy] for row, a in enumerate(movers)}
            given = {a: action_of(name, a, moves.get(a), continuous) for a in world.agents}
            observations, their_rewards, terminations, truncations, _ = env.step(given)
            for number, agent in enumerate(world.agents):
                own = seen[number][copy].numpy()
                their = observations[agent][: own.size]  # then comes what was said
                np.testing.assert_allclose(own, their, atol=2e-6)
                assert rewards[number, copy].item() == pytest.approx(their_rewards[agent], abs=1e-5)
                assert not terminations[agent]
                assert truncations[agent] == (time == world.horizon - 1)
    assert not world.ended().any()  # it is cut off, too


@pytest.mark.needs("mpe2.simple_reference_v3")
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_reference_shares_rewards_as_mpe2_does(ratio):
    world = begin(Reference(local_ratio=ratio), 1)
    env = mpe("reference", world, 0, local_ratio=ratio)
    theirs = env.step(dict.fromkeys(world.agents, 0))[1]
    assert world.step()[:, 0].tolist() == pytest.approx(list(theirs.values()), abs=1e-6)


# -- what a world says of itself ---------------------------------------------------------------


def test_who_sees_what_and_who_talks_to_whom():
    world = begin(SpeakerListener())
    assert world.spaces("speaker_0") == AgentSpaces((3,), 0)
    assert world.spaces("listener_0") == AgentSpaces((8,), 5)
    assert world.edges == (("speaker_0", "listener_0"),)
    goal = world.context("goal")
    assert torch.equal(world.observe([0])[0].argmax(-1), goal.argmax(-1))
    assert torch.equal(world.context("state"), torch.cat([goal, world.observe([1])[0]], -1))
    world = begin(Reference(continuous_actions=True))
    assert [world.spaces(a) for a in world.agents] == [AgentSpaces((11,), 2, False)] * 2
    assert world.edges == (("agent_0", "agent_1"), ("agent_1", "agent_0"))
    seen, goals = world.observe([0, 1]), world.context("goal").unflatten(-1, (2, 3))
    assert torch.equal(world.observe([1, 0]), seen.flip(0))
    for agent in range(2):
        assert torch.equal(seen[agent, :, 8:].argmax(-1), goals[:, 1 - agent].argmax(-1))
    assert world.context("state").shape == (7, world.context_fields["state"].size)
    with pytest.raises(KeyError):
        world.context("label")


@both
def test_a_world_does_not_depend_on_how_many_follow(name):
    few, many = begin(ENVS[name](), 3), begin(ENVS[name](), 9)
    assert torch.equal(few.context("state"), many.context("state")[:3])
    assert not torch.equal(few.context("state"), begin(ENVS[name](), 3, seed=1).context("state"))


@both
def test_places_and_goals_are_spread_evenly(name):
    world = begin(ENVS[name](), 20_000)
    for points in (world.position, world.landmarks):
        assert points.abs().max() <= 1
        assert points.flatten(0, 1).mean(0).abs().max() < 0.02
        assert points.std().item() == pytest.approx(3**-0.5, abs=0.01)
    assert world.goal.flatten().bincount().div(world.goal.numel()).tolist() == pytest.approx(
        [1 / 3] * 3, abs=0.015
    )


def test_actions_hold_in_the_worlds_where_an_agent_ticked():
    world = begin(SpeakerListener(), 2)
    world.act([1], torch.tensor([[2, 2]]), None)
    world.step()
    world.act([1], torch.tensor([[1, 1]]), torch.tensor([[True, False]]))
    world.step()
    # the first push gave 0.5; then a quarter is lost and -0.5 or 0.5 comes
    assert world.velocity[0, :, 0].tolist() == pytest.approx([-0.125, 0.875])
    world.reset(1, np.random.default_rng(0))
    world.step()
    assert not world.velocity.any()  # nobody pushes before the first tick


@both
def test_tensors_lie_on_the_device(name, device):
    world = ENVS[name]().make(3, "train", device)
    world.reset(0, np.random.default_rng(0))
    world.act([1], torch.tensor([[0, 1, 2]], device=device), torch.ones(1, 3, device=device) > 0)
    found = [world.step(), world.observe([1]), world.ended(), world.context("state")]
    found += world.score().values()
    assert {tensor.device.type for tensor in found} == {device.type}


def test_the_score_is_the_return():
    world = begin(Reference())
    total = sum(world.step().mean(0) for _ in range(world.horizon))
    assert torch.equal(world.score()["return"], total)
    assert torch.allclose(world.score()["distance"], world.to_goal().norm(dim=-1).mean(0))


MISTAKES = [
    ({"horizon": 0}, "env.horizon=0: must be a whole number of at least 1"),
    ({"horizon": 2.5}, "env.horizon=2.5: must be a whole number of at least 1"),
    ({"continuous_actions": 1}, "env.continuous_actions=1: must be true or false"),
    ({"local_ratio": 1.5}, "env.local_ratio=1.5: must be a share from 0 to 1"),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES, ids=[row[1] for row in MISTAKES])
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        Reference(**settings)


# -- as PettingZoo -----------------------------------------------------------------------------


@both
def test_passes_the_official_tests(name):
    module = MODULES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # agents differ, and space has no bounds
        for kwargs in ({}, {"continuous_actions": True}):
            parallel_api_test(module.parallel_env(**kwargs), num_cycles=60)
            parallel_seed_test(functools.partial(module.parallel_env, **kwargs))
            api_test(module.env(**kwargs), num_cycles=60)
        seed_test(module.env, num_cycles=30)
        state_test(module.env(), module.parallel_env(), num_cycles=10)
        render_test(module.env)


@both
def test_an_exposed_episode_is_truncated(name):
    env = MODULES[name].parallel_env(horizon=2)
    env.reset(seed=0)
    actions = {a: env.action_space(a).sample() for a in env.agents}
    env.step(actions)
    _, _, terminations, truncations, _ = env.step(actions)
    assert not any(terminations.values())
    assert all(truncations.values())


def test_a_picture_shows_bodies_goals_and_landmarks():
    world = begin(SpeakerListener(), 1)
    world.landmarks[:, 0] = torch.tensor([[-1.2, -1.2], [0.0, 0.0], [1.2, 1.2]])
    world.position[0, 0] = torch.tensor([9.0, -9.0])  # out of sight: at the edge
    world.goal[0, 0] = 2
    image = particles.grey(world, 0)
    found = {tuple(cell): round(float(image[tuple(cell)]), 1) for cell in np.argwhere(image)}
    assert found == {(22, 2): 0.3, (12, 12): 0.3, (2, 22): 0.6, (24, 24): 1.0}


# -- the hand-written policy -------------------------------------------------------------------


def steered(env, rates, topology=None, normalise=True):
    """Return and distance that the policy reaches, in the mean over 4096 worlds."""
    names = env.make(1, "train", CPU).agents
    simulation = Simulation(
        env=env,
        agent=Steering,
        agents={n: Override(agent=functools.partial(Steering, rate=r), key=n, clock=PoissonClock(r))
                for n, r in zip(names, rates, strict=True)},
        topology=topology, utility=None, feedback="none", num_worlds=8, normalise=normalise,
        evaluation=Evaluation(episodes=1, num_worlds=4096),
    )  # fmt: skip
    return simulation.evaluate()["metrics"]


def best_return(world):
    """The best that any sequence of moves reaches, up to what a beam of 200 leaves out, ``[B]``."""
    way, speed = world.to_goal()[0][:, None], torch.zeros(world.num_worlds, 1, 2)  # [B, beam, 2]
    cost = torch.zeros(world.num_worlds, 1)
    for _ in range(world.horizon):
        way = way - 0.1 * speed
        cost = cost + way.square().sum(-1)
        speed = (0.75 * speed[:, :, None] + 0.5 * world.moves).flatten(1, 2)
        way, cost = (leaf.repeat_interleave(5, 1) for leaf in (way, cost))
        ahead = (way - 0.35 * speed).square().sum(-1)
        kept = (cost + 3 * ahead).topk(min(200, cost.shape[1]), largest=False).indices
        cost = cost.gather(1, kept)
        way, speed = (x.gather(1, kept[..., None].expand(-1, -1, 2)) for x in (way, speed))
    return -cost.min(1).values


def test_steering_is_nearly_the_best_there_is():
    """Given the goal from the first tick on, at every time: within 1 % of a search ahead."""
    world = begin(SpeakerListener(), 512)
    best = best_return(world)
    way, velocity = gains(1.0)
    for _ in range(world.horizon):
        push = way * world.to_goal() - velocity * world.velocity
        scores = 2 * push @ world.moves.T - world.moves.square().sum(-1)
        world.act([1], scores.argmax(-1), None)
        world.step()
    reached = world.score()["return"].mean().item()
    assert 1.01 * best.mean().item() < reached < best.mean().item()


# as docs/environments.md says; the clocks and worlds of an evaluation follow from the seed
YARDSTICKS = [
    ("speaker_listener", {}, (1.0, 1.0), -7.45, 0.04),
    ("speaker_listener", {}, (0.4, 0.7), -7.76, 0.08),
    ("speaker_listener", {"continuous_actions": True}, (1.0, 1.0), -5.87, 0.01),
    ("reference", {}, (1.0, 1.0), -7.72, 0.04),
]


@pytest.mark.parametrize(("name", "settings", "rates", "mean", "distance"), YARDSTICKS)
def test_what_the_hand_written_policy_reaches(name, settings, rates, mean, distance):
    metrics = steered(ENVS[name](**settings), rates)
    assert metrics["return"] == pytest.approx(mean, abs=0.35)
    assert metrics["distance"] <= distance + 0.03


def test_the_hand_written_policy_needs_to_hear():
    deaf = steered(SpeakerListener(), (1.0, 1.0), topology=EdgeList([]))
    assert deaf["return"] == pytest.approx(-15.4, abs=0.5)
    raw = steered(SpeakerListener(), (1.0, 1.0), normalise=False)
    assert raw["return"] == pytest.approx(-7.45, abs=0.35)


def test_the_hand_written_policy_says_where_it_does_not_belong():
    def spec(shape, size=8):
        return AgentSpec(shape, 5, True, message_size=size, num_inputs=1)

    with pytest.raises(UserError, match=r"an observation of shape \[64\] is of neither"):
        Steering(spec((64,)))
    with pytest.raises(UserError, match=r"message.size=2: Steering says 3 numbers"):
        Steering(spec((8,), size=2))
    with pytest.raises(UserError, match=r"agent.rate=0: must be in \(0, 1\]"):
        Steering(spec((8,)), rate=0)
