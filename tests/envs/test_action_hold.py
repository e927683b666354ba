import importlib
import types
import warnings
from collections import defaultdict

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test
from pettingzoo.test.example_envs import generated_agents_parallel_v0
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs import clocked, clocked_parallel, counting_v0, relay_v0
from dnicomm.errors import UserError
from dnicomm.sim.clock import BurstyClock, PeriodicClock, PoissonClock, TraceClock

MPE = ["simple_spread_v3", "simple_speaker_listener_v4", "simple_reference_v3"]
IRREGULAR = PoissonClock(0.4)


@pytest.fixture(autouse=True)
def _without_a_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(params=MPE)
def parallel(request, need):
    need(f"mpe2.{request.param}")
    return importlib.import_module(f"mpe2.{request.param}").parallel_env


class Hall(ParallelEnv):
    """Agents a_0 to a_2: a_1 ends at time 3 (or vanishes then), a_2 appears at 2, all ends at 7.

    A reward is 10 ** the number of the agent; the observation is the world time.
    """

    metadata = {"name": "hall_v0"}  # noqa: RUF012
    render_mode = None
    possible_agents = ["a_0", "a_1", "a_2"]  # noqa: RUF012

    def __init__(self, silent=False):
        self.silent = silent
        self._seen = {a: spaces.Box(0, 9, (1,), np.float32) for a in self.possible_agents}
        self._done = {a: spaces.Discrete(9) for a in self.possible_agents}

    def observation_space(self, agent):
        return self._seen[agent]

    def action_space(self, agent):
        return self._done[agent]

    def reset(self, seed=None, options=None):
        self.time, self.agents, self.given = 0, ["a_0", "a_1"], []
        return self._observations(self.agents), {a: {"hint": a} for a in self.agents}

    def _observations(self, agents):
        return {a: np.array([self.time], np.float32) for a in agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.given.append(dict(actions))
        self.time += 1
        if self.time == 2:
            self.agents.append("a_2")
        present = list(self.agents)
        gone = [a for a in present if self.time == 3 and a == "a_1"]
        terminations = {a: np.bool_(a in gone and not self.silent) for a in present}
        self.agents = [] if self.time == 7 else [a for a in present if a not in gone]
        return (
            self._observations(present),
            {a: np.float64(10.0 ** int(a[-1])) for a in present},
            terminations,
            dict.fromkeys(present, self.time == 7),
            {a: {"hint": a} for a in present},
        )


def play(env, seed=None, choose=None):
    """One episode: what reset gave, and what each step was given and gave."""
    history = [env.reset(seed=seed)]
    while env.agents:
        actions = {a: choose(a) if choose else env.action_space(a).sample() for a in env.agents}
        history.append((actions, *env.step(actions)))
    return history


# -- PettingZoo's own tests --------------------------------------------------------------------


@pytest.mark.parametrize("clock", [PeriodicClock(1), PeriodicClock(3), IRREGULAR], ids=str)
def test_passes_the_official_tests(parallel, clock):
    def make(**kwargs):
        return clocked_parallel(parallel(**kwargs), clock)

    parallel_api_test(make(max_cycles=15), num_cycles=40)
    parallel_seed_test(make, num_cycles=25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # agents differ, and space has no bounds
        api_test(parallel_to_aec(make()), num_cycles=20)
    module = types.SimpleNamespace(
        parallel_env=make, env=lambda **kwargs: parallel_to_aec(make(**kwargs))
    )
    max_cycles_test(module)


def test_passes_the_official_test_with_births_and_deaths():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its agents are meant to differ, and it says so each time
        for clock in (IRREGULAR, BurstyClock(burst=2, silence=3)):
            env = generated_agents_parallel_v0.parallel_env(max_cycles=60)
            parallel_api_test(clocked_parallel(env, clock), num_cycles=100)
        parallel_api_test(clocked_parallel(Hall(), PeriodicClock(2, 1), idle_action=0), 20)


@pytest.mark.parametrize("module", [relay_v0, counting_v0], ids=["relay", "counting"])
def test_environments_shipped_here_pass_too(module):
    parallel_api_test(clocked_parallel(module.parallel_env(), IRREGULAR), num_cycles=60)


# -- the same as in turns ----------------------------------------------------------------------


@pytest.mark.parametrize("clock", [PeriodicClock(3), IRREGULAR], ids=str)
def test_is_the_form_in_turns_asked_at_every_time(parallel, clock):
    """From one seed: the same ticks, observations, rewards and infos at them."""
    turns, held = clocked(parallel(), clock), clocked_parallel(parallel(), clock)
    turns.reset(seed=3)
    observations, infos = held.reset(seed=3)
    rewards = dict.fromkeys(held.agents, 0.0)
    random = np.random.default_rng(0)
    time = ticks = 0
    while held.agents:
        actions = {}
        for agent in held.agents:
            actions[agent] = int(random.integers(3))
            if not infos[agent]["due"]:
                assert rewards[agent] == 0
                continue
            assert turns.agent_selection == agent
            observation, reward, terminated, truncated, info = turns.last()
            np.testing.assert_array_equal(observation, observations[agent])
            np.testing.assert_array_equal(turns.state(), held.state())
            assert reward == pytest.approx(rewards[agent], rel=1e-12)
            assert (terminated, truncated) == (False, False)
            assert {**info, "due": True} == infos[agent]
            assert info["time"] == time
            turns.step(actions[agent])
            ticks += 1
        observations, rewards, terminations, truncations, infos = held.step(actions)
        time += 1
    assert 0 < ticks < time * len(held.possible_agents)
    for agent in held.possible_agents:
        _, reward, terminated, truncated, _ = turns.last()
        assert (reward, terminated, truncated) == (
            rewards[agent], terminations[agent], truncations[agent],
        )  # fmt: skip
        turns.step(None)


def test_period_one_is_the_bare_environment(parallel):
    env, bare = clocked_parallel(parallel(), PeriodicClock(1)), parallel()
    history = play(env, seed=5)
    np.testing.assert_equal(history[0][0], bare.reset(seed=5)[0])
    for time, (actions, *outcome) in enumerate(history[1:], start=1):
        *expected, _ = bare.step(actions)
        np.testing.assert_equal(outcome[:4], expected)
        for info in outcome[4].values():
            assert info == {"time": time, "elapsed": 1, "ticks": time, "due": bool(bare.agents)}


# -- what is held, paid and said ---------------------------------------------------------------


def test_actions_of_agents_that_are_not_due_are_ignored():
    env = Hall()
    counts: dict[str, int] = defaultdict(int)

    def choose(agent):
        counts[agent] += 1
        return counts[agent]

    clocks = {"a_0": TraceClock([0, 3, 4]), "a_1": PeriodicClock(2), "a_2": PeriodicClock(4)}
    play(clocked_parallel(env, clocks), choose=choose)
    assert [given["a_0"] for given in env.given] == [1, 1, 1, 4, 5, 5, 5]
    assert [given["a_1"] for given in env.given[:3]] == [1, 1, 3]
    assert [given.get("a_2") for given in env.given] == [None, None, 1, 1, 1, 1, 5]


def test_rewards_are_paid_at_the_next_tick():
    clocks = {"a_0": TraceClock([0, 3, 4]), "a_1": PeriodicClock(2), "a_2": PeriodicClock(4)}
    history = play(clocked_parallel(Hall(), clocks), choose=lambda agent: 1)
    paid = {a: [step[2].get(a) for step in history[1:]] for a in clocks}
    # times             1  2   3     4     5     6     7
    assert paid == {
        "a_0": [0, 0, 3, 1, 0, 0, 3],
        "a_1": [0, 20, 10, None, None, None, None],  # what came to its end
        "a_2": [None, 100, 0, 0, 0, 400, 100],  # due as it appears
    }
    kinds = [type(value) for step in history[1:] for part in step[2:5] for value in part.values()]
    assert set(kinds) == {float, bool}


def test_what_agents_are_told():
    clocks = {"a_0": TraceClock([0, 3]), "a_1": PeriodicClock(2), "a_2": PeriodicClock(4)}
    history = play(clocked_parallel(Hall(), clocks), choose=lambda agent: 1)
    assert history[0][1] == {
        a: {"hint": a, "time": 0, "elapsed": 0, "ticks": 0, "due": True} for a in ("a_0", "a_1")
    }
    told = [step[5] for step in history[1:]]
    assert [(i["time"], i["elapsed"], i["ticks"], i["due"]) for i in (t["a_0"] for t in told)] == [
        (1, 1, 1, False), (2, 2, 1, False), (3, 3, 1, True), (4, 1, 2, False),
        (5, 2, 2, False), (6, 3, 2, False), (7, 4, 2, False),
    ]  # fmt: skip
    assert told[2]["a_1"] == {"hint": "a_1", "time": 3, "elapsed": 1, "ticks": 2, "due": False}
    assert told[1]["a_2"] == {"hint": "a_2", "time": 2, "elapsed": 0, "ticks": 0, "due": True}
    assert {type(value) for info in told[-1].values() for value in info.values()} <= {
        int, bool, str,
    }  # fmt: skip


def test_a_phase_holds_the_idle_action():
    env = Hall()
    history = play(clocked_parallel(env, PeriodicClock(4, phase=1), idle_action=8),
                   choose=lambda agent: 2)  # fmt: skip
    assert [given["a_0"] for given in env.given] == [8, 2, 2, 2, 2, 2, 2]
    assert [step[2]["a_0"] for step in history[1:]] == [1, 0, 0, 0, 4, 0, 2]
    assert [info["a_0"]["due"] for _, info in history[:1]] == [False]


def test_an_agent_that_vanishes_is_truncated():
    env = clocked_parallel(Hall(silent=True), PeriodicClock(2))
    ends = [(step[3].get("a_1"), step[4].get("a_1")) for step in play(env)[1:4]]
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("clock", [PeriodicClock(4), IRREGULAR, TraceClock([0, 7])], ids=str)
def test_rewards_are_conserved(parallel, clock):
    totals = []
    for env in (clocked_parallel(parallel(), clock), parallel()):
        got: dict[str, float] = defaultdict(float)
        for step in play(env, seed=5, choose=lambda agent: 1)[1:]:
            for agent, reward in step[2].items():
                got[agent] += reward
        totals.append(got)
    assert totals[0] == pytest.approx(totals[1], rel=1e-12)


def test_the_same_seed_gives_the_same_episode(parallel):
    def episodes():
        env = clocked_parallel(parallel(), IRREGULAR)
        for agent in env.possible_agents:
            env.action_space(agent).seed(0)
        return play(env, seed=11), play(env)  # the next episode has no seed of its own

    one, two = episodes(), episodes()
    np.testing.assert_equal(one, two)
    dues = [[[i["due"] for i in step[-1].values()] for step in episode] for episode in one]
    assert dues[0] != dues[1]


def test_passes_on_what_belongs_to_the_environment():
    env = Hall()
    wrapped = clocked_parallel(env, PeriodicClock(2))
    assert wrapped.unwrapped is env
    assert str(wrapped) == str(env)
    assert wrapped.metadata is env.metadata
    assert wrapped.possible_agents == env.possible_agents
    assert wrapped.observation_space("a_0") is env.observation_space("a_0")
    assert wrapped.render_mode is None


# -- mistakes ----------------------------------------------------------------------------------


def test_mistakes_are_named():
    with pytest.raises(UserError, match="clocks: unknown agent 'a_9'"):
        clocked_parallel(Hall(), {"a_9": PeriodicClock(1)})
    with pytest.raises(UserError, match="agent 'a_0' does not tick at its time 0"):
        clocked_parallel(Hall(), PeriodicClock(1, phase=1))
    env = clocked_parallel(Hall(), PeriodicClock(2))
    env.reset()
    with pytest.raises(UserError, match="agent 'a_1' is due at world time 0 for the first time"):
        env.step({"a_0": 1, "a_1": None})


def test_an_agent_that_is_due_may_go_on_with_its_action():
    env = clocked_parallel(Hall(), PeriodicClock(1))
    env.reset()
    env.step({"a_0": 1, "a_1": 2})
    env.step({"a_1": 3})
    assert env.unwrapped.given == [{"a_0": 1, "a_1": 2}, {"a_0": 1, "a_1": 3}]
