import functools
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)
from pettingzoo.utils.conversions import aec_to_parallel, parallel_to_aec

import dnicomm.envs
from dnicomm.envs import ExposedEnv, PettingZooEnv, clocked, counting_v0, relay_v0
from dnicomm.errors import UserError
from dnicomm.sim.clock import PeriodicClock, PoissonClock
from dnicomm.sim.world import AgentSpaces, ContextField, Env, World

SHIPPED = {
    "relay": functools.partial(relay_v0.parallel_env, num_agents=3, horizon=12),
    "counting": functools.partial(counting_v0.parallel_env, block=3),
    "counting_irregular": functools.partial(counting_v0.parallel_env, block=4, irregular=True),
    "counting_clean": functools.partial(counting_v0.parallel_env, block=2, noise=0),
    "relay_test": functools.partial(relay_v0.parallel_env, num_agents=2, horizon=5, split="test"),
}
IN_TURNS = {
    "relay": functools.partial(relay_v0.env, num_agents=3, horizon=12),
    "counting": functools.partial(counting_v0.env, block=3),
    "counting_irregular": functools.partial(counting_v0.env, block=4, irregular=True),
    "counting_raw": functools.partial(counting_v0.raw_env, block=2),
    "relay_raw": functools.partial(relay_v0.raw_env, num_agents=2, horizon=4),
    "relay_clocked": lambda **mode: clocked(relay_v0.parallel_env(**mode), PoissonClock(0.4)),
    "counting_clocked": lambda **mode: clocked(counting_v0.parallel_env(**mode), PoissonClock(0.6)),
}
parallel_forms = pytest.mark.parametrize("make", SHIPPED.values(), ids=SHIPPED)
turn_forms = pytest.mark.parametrize("make", IN_TURNS.values(), ids=IN_TURNS)


class Bowl(Env):
    """One agent moves a point by a vector, another only looks on; ends beyond 1, at time 5 at last.

    World time 2 is closed to the mover. The reward is minus the distance from the origin.
    """

    name = "bowl"

    def make(self, num_worlds, split, device):
        return BowlWorld(num_worlds, device)


class BowlWorld(World):
    agents = ("mover", "watcher")
    horizon = 5
    early_end = True
    rewards = True
    context_fields = {"point": ContextField(2), "end": ContextField(2, "hindsight")}  # noqa: RUF012

    def __init__(self, num_worlds, device):
        self.num_worlds, self.device = num_worlds, device

    def spaces(self, agent):
        return AgentSpaces((1, 2), 2, discrete=False) if agent == "mover" else AgentSpaces((0,))

    def reset(self, episode, rng):
        self.time, self.velocity = 0, torch.zeros(self.num_worlds, 2)
        self.point = torch.from_numpy(rng.uniform(-0.1, 0.1, (self.num_worlds, 2)))

    def observe(self, agents):
        if agents[0] == 1:
            return torch.zeros(1, self.num_worlds, 0)
        return self.point.float()[None, :, None]

    def act(self, agents, actions, active):
        assert agents == [0], "who can't act isn't made to"
        self.velocity = actions[0]

    def step(self):
        self.time += 1
        self.point = self.point + self.velocity
        return torch.stack([-self.point.norm(dim=-1), torch.zeros(self.num_worlds)]).float()

    def active(self):
        here = torch.ones(2, self.num_worlds, dtype=torch.bool)
        here[0] &= self.time != 2
        return here

    def ended(self):
        return self.point.norm(dim=-1) > 1

    def context(self, field):
        return self.point.float()


def sampled(env):
    return {agent: env.action_space(agent).sample() for agent in env.agents}


def play(env, choose, seed=0):
    """One episode of a parallel environment: what reset gave, then what each step gave."""
    env.reset(seed=seed)
    steps = [(env.reset(seed=seed), env.state())]
    while env.agents:
        steps.append((env.step(choose(env)), env.state()))
    return steps


def rewards_of(steps, agent):
    return [outcome[1][agent] for outcome, _ in steps[1:]]


# -- PettingZoo's own tests --------------------------------------------------------------------


@turn_forms
def test_passes_the_official_tests_of_turns(make):
    with warnings.catch_warnings():
        # agents differ in what they see, and some see nothing: so they are meant
        warnings.simplefilter("ignore")
        api_test(make(), num_cycles=60)
        seed_test(make, num_cycles=60)
        render_test(make)


@parallel_forms
def test_passes_the_official_tests_of_parallel_environments(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=60)
        parallel_seed_test(make, num_cycles=60)


@parallel_forms
def test_passes_the_official_state_test(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Environment's m..imum state space value is .*infinity")
        state_test(parallel_to_aec(make()), make(), num_cycles=10)


def test_a_custom_environment_passes_the_official_tests_too():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its bounds are infinite, its agents have no numbers
        parallel_api_test(ExposedEnv(Bowl()), num_cycles=20)
        parallel_seed_test(lambda: ExposedEnv(Bowl()))
        api_test(parallel_to_aec(ExposedEnv(Bowl())), num_cycles=20)
        seed_test(lambda: parallel_to_aec(ExposedEnv(Bowl())))


# -- determinism, over whole episodes ----------------------------------------------------------


@parallel_forms
def test_everything_follows_from_the_seed(make):
    def three_episodes(seed, before=0):
        env = make()
        for _ in range(before):
            env.reset()
            env.step(sampled(env))
        for number, agent in enumerate(env.possible_agents):
            env.action_space(agent).seed(number)
        told = []
        for given in (seed, None, None):  # the later ones go on from the seed
            told.append((env.reset(seed=given), env.state()))
            while env.agents:
                told.append((env.step(sampled(env)), env.state()))
        return told

    one, same, other = three_episodes(7), three_episodes(7, before=2), three_episodes(8)
    np.testing.assert_equal(one, same)
    starts = [entry for entry in one if len(entry[0]) == 2]
    assert len(starts) == 3
    assert not np.array_equal(starts[0][1], starts[1][1])
    assert not np.array_equal(starts[0][1], other[0][1])


def test_without_a_seed_two_environments_differ():
    firsts = set()
    for _ in range(8):
        env = relay_v0.parallel_env()
        env.reset()
        firsts.add(env.state().tobytes())
    assert len(firsts) > 1


def test_the_test_split_is_shown_one_digit_after_another():
    env = relay_v0.parallel_env(num_agents=2, horizon=1, split="test")
    shown = []
    for seed in (4, *[None] * 359):
        env.reset(seed=seed)
        shown.append(env.state()[:64].tobytes())
    everything = env.world.images.numpy()
    assert set(shown) == {row.tobytes() for row in everything}
    env.reset(seed=5)
    assert env.state()[:64].tobytes() != shown[0]


# -- spaces, infos, ends -----------------------------------------------------------------------


@parallel_forms
def test_all_that_is_seen_lies_in_its_space(make):
    env = make()
    names = env.possible_agents
    for (observations, *_, infos), state in play(env, sampled):
        assert set(observations) == set(infos) == set(names)
        for agent in names:
            assert env.observation_space(agent).contains(observations[agent])
            assert {k: type(v) for k, v in infos[agent].items()} == {"time": int, "due": bool}
        assert env.state_space.contains(state)
    assert env.agents == []


def test_spaces_of_the_relay():
    env = relay_v0.parallel_env(num_agents=3)
    assert env.observation_space("agent_0") == spaces.Box(0, 1, (64,), np.float32)
    assert env.observation_space("agent_1") == spaces.Box(0, 1, (1,), np.float32)
    assert env.action_space("agent_0") == env.action_space("agent_1") == spaces.Discrete(1)
    assert env.action_space("agent_2") == spaces.Discrete(10)
    assert env.state_space.shape == (64 + 1 + 1 + 10,)
    assert str(env) == env.metadata["name"] == "relay_v0"
    assert env.max_cycles == 30


def test_spaces_of_counting():
    env = counting_v0.parallel_env(block=4, blocks=3, irregular=True)
    assert env.observation_space("a_0") == spaces.Box(-np.inf, np.inf, (65,), np.float32)  # noise
    for other in (counting_v0.parallel_env(noise=0), counting_v0.parallel_env(split="test")):
        assert other.observation_space("a_0") == spaces.Box(0, 1, (65,), np.float32)
    assert env.observation_space("b_0") == spaces.Box(0, 1, (1,), np.float32)
    assert env.action_space("a_0") == spaces.Discrete(6 + 1)
    assert env.action_space("b_0") == spaces.Discrete(18 + 1)
    assert env.metadata["name"] == "counting_v0"


def test_the_customary_conversions_go_both_ways():
    assert isinstance(aec_to_parallel(relay_v0.env()), ParallelEnv)
    assert type(aec_to_parallel(relay_v0.raw_env())) is relay_v0.parallel_env
    assert isinstance(relay_v0.env().unwrapped, relay_v0.parallel_env)


def test_an_observation_is_its_readers_to_change():
    env = relay_v0.parallel_env(horizon=2)
    observations, _ = env.reset(seed=0)
    before = observations["agent_0"].copy()
    observations["agent_0"][:] = 9
    assert np.array_equal(env.step({})[0]["agent_0"], before)


# -- rewards -----------------------------------------------------------------------------------


def digit_of(env):
    return int(env.world.label[0])


def test_the_relay_rewards_the_last_answer_and_no_other():
    env = relay_v0.parallel_env(num_agents=3, horizon=6)

    def right_at(times):
        def choose(env):
            answer = digit_of(env) if env.time in times else (digit_of(env) + 1) % 10
            return {"agent_0": 0, "agent_1": 0, "agent_2": answer}

        return choose

    for seed in range(5):
        for agent in env.possible_agents:
            assert rewards_of(play(env, right_at({5}), seed), agent) == [0, 0, 0, 0, 0, 1]
            assert rewards_of(play(env, right_at(range(5)), seed), agent) == [0] * 6
            # nobody asked again: the answer holds
            held = play(env, lambda e: right_at({0})(e) if e.time == 0 else {}, seed)
            assert rewards_of(held, agent) == [0, 0, 0, 0, 0, 1]
            assert rewards_of(play(env, lambda e: {}, seed), agent) == [0] * 6


@pytest.mark.parametrize("irregular", [False, True])
def test_counting_rewards_what_is_asked_when_it_is_asked(irregular):
    env = counting_v0.parallel_env(block=4, blocks=3, irregular=irregular)

    def right(env):
        world, last = env.world, len(env.world.index) - 1
        now = min(env.time, last)
        assert env._infos["a_0"] == {"time": env.time, "due": env.time <= last}
        assert env._infos["b_0"]["due"] == (env.time - 1 in world.ends)
        return {"a_0": int(world.odd[now, 0]), "b_0": int(world.threes[now, 0])}

    for seed in range(5):
        steps = play(env, right, seed)
        ends, last = env.world.ends, len(env.world.index)
        assert rewards_of(steps, "a_0") == [float(t in ends) for t in range(last + 1)]
        assert rewards_of(steps, "b_0") == [0.0] * last + [1.0]
        assert env.world.score()["accuracy"] == env.world.score()["accuracy_a"] == 1
        wrong = play(env, lambda e: {a: right(e)[a] - 1 if right(e)[a] else 1 for a in e.agents})
        assert {*rewards_of(wrong, "a_0"), *rewards_of(wrong, "b_0")} == {0.0}


def test_who_is_not_due_says_nothing_that_counts():
    env = counting_v0.parallel_env(block=2)

    def out_of_turn(env):
        late = {"b_0": int(env.world.threes[-1, 0])}
        return {} if env._infos["b_0"]["due"] else late

    for seed in range(5):
        assert not any(rewards_of(play(env, out_of_turn, seed), "b_0"))
        assert env.world.score()["accuracy"] == 0
        assert env.answers == {}


def test_a_world_of_rewards_ends_as_it_likes():
    env = ExposedEnv(Bowl(), bounds=(-9, 9))
    assert env.observation_space("mover") == spaces.Box(-9, 9, (1, 2), np.float32)
    assert env.observation_space("watcher").shape == (1,)
    assert env.state_space.shape == (2 + 1 + 2,)  # hindsight is for later
    move = np.array([0.3, 0], np.float32)
    steps = play(env, lambda e: {"mover": move * (-9 if e.time == 2 else 1), "watcher": 0})
    dues = [outcome[-1]["mover"]["due"] for outcome, _ in steps]
    assert dues == [True, True, False, True, False]  # time 2: not there; time 4: it's over
    assert [outcome[2]["watcher"] for outcome, _ in steps[1:]] == [False] * 3 + [True]
    point = steps[-1][0][0]["mover"]
    assert np.linalg.norm(point) > 1
    assert rewards_of(steps, "mover")[-1] == pytest.approx(-np.linalg.norm(point))
    assert str(env) == "bowl_v0"
    still = play(env, lambda e: {"mover": move * 0, "watcher": 0})
    assert [outcome[2]["mover"] for outcome, _ in still[1:]] == [False] * 5  # it is only cut off
    assert [outcome[3]["mover"] for outcome, _ in still[1:]] == [False] * 4 + [True]


# -- pictures ----------------------------------------------------------------------------------


def test_a_picture_shows_digit_and_answer():
    env = relay_v0.parallel_env(num_agents=2, horizon=3, render_mode="ansi")
    env.reset(seed=1)
    top, *image, last = env.render().splitlines()
    assert top == "relay_v0  time 0 of 3"
    assert [len(row) for row in image] == [16] * 8
    assert last == "agent_1: no answer yet"
    env.step({"agent_0": 0, "agent_1": 7})
    assert env.render().splitlines() == ["relay_v0  time 1 of 3", *image, "agent_1: 7"]
    pixels = env._observations["agent_0"].reshape(8, 8)
    dark = np.array([[c != " " for c in row[::2]] for row in image])
    np.testing.assert_array_equal(dark, pixels > 1 / 18)


def test_for_humans_it_prints_where_there_is_no_display(capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    env = counting_v0.parallel_env(render_mode="human")
    env.reset(seed=1)
    assert env.render() is None
    printed, said = capsys.readouterr()
    assert said.startswith("counting_v0: no window (")
    assert said.endswith("); printing text instead\n")
    assert said.count("\n") == 1
    assert printed.startswith("counting_v0  time 0 of 17\n")
    assert printed.endswith("a_0: no answer yet\nb_0: no answer yet\n\n")


# -- mistakes ----------------------------------------------------------------------------------


def test_mistakes_are_named():
    with pytest.raises(UserError, match="render_mode='rgb': allowed: human, rgb_array, ansi"):
        relay_v0.parallel_env(render_mode="rgb")
    with pytest.raises(UserError, match=r"env\.num_agents=1"):
        relay_v0.env(num_agents=1)
    env = relay_v0.parallel_env(num_agents=2)
    with pytest.raises(UserError, match=r"relay_v0: step.* call reset"):
        env.step({})
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"agent_1 at world time 0 is 10; allowed: Discrete\(10\)"):
        env.step({"agent_0": 0, "agent_1": 10})
    with pytest.raises(UserError, match="made without a render_mode"):
        env.render()


# -- names, whatever was imported before -------------------------------------------------------

FOLDER = Path(inspect.getfile(ExposedEnv)).parent
MODULES = sorted(f"dnicomm.envs.{p.stem}" for p in FOLDER.glob("*.py") if p.stem != "__init__")


def test_no_module_has_the_name_of_something_exported():
    assert not {module.rpartition(".")[2] for module in MODULES} & {*dnicomm.envs.__all__}
    assert sorted(dnicomm.envs._HOMES) == sorted(dnicomm.envs.__all__)


@pytest.mark.parametrize("order", [1, -1])
def test_clocked_is_the_function_in_any_order_of_imports(order):
    code = f"""
import importlib, types
import dnicomm.envs as envs
for module in {MODULES[::order]!r}:
    importlib.import_module(module)
from dnicomm.envs import clocked
assert isinstance(clocked, types.FunctionType), clocked
for name in envs.__all__:
    assert not isinstance(getattr(envs, name), types.ModuleType), name
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_exposed_form_can_be_taken_in_again():
    env = PettingZooEnv("dnicomm.envs.counting_v0", {"block": 2})
    world = env.make(2, "train", torch.device("cpu"))
    world.reset(0, np.random.default_rng(0))
    assert world.horizon == 5
    assert world.agents == ("a_0", "b_0")
    assert world.context("state").shape == (2, 65 + 1 + 5 + 3)  # threes, block by block too
    while not bool(world.ended().all()):
        world.act([0], torch.zeros(1, 2, dtype=torch.int64), None)
        world.step()


def test_a_period_of_one_asks_as_the_bare_environment_does():
    env = clocked(counting_v0.parallel_env(block=2), PeriodicClock(1))
    env.reset(seed=0)
    asked = [agent for agent in env.agent_iter() if env.step(_answer(env)) is None]
    assert asked == ["a_0", "b_0"] * 6


def _answer(env):
    _, _, terminated, truncated, _ = env.last()
    return None if terminated or truncated else 0
