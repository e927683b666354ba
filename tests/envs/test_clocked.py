import importlib
import warnings
from collections import defaultdict

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.test import api_test, render_test, seed_test, state_test
from pettingzoo.test.example_envs import generated_agents_parallel_v0

from dnicomm.envs import clocked
from dnicomm.errors import UserError
from dnicomm.sim.clock import (
    BurstyClock,
    JitteredClock,
    PeriodicClock,
    PoissonClock,
    TraceClock,
)

MPE = ["simple_spread_v3", "simple_speaker_listener_v4", "simple_reference_v3"]
IRREGULAR = PoissonClock(0.4)


@pytest.fixture(autouse=True)
def _without_a_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(params=MPE)
def parallel(request, need):
    need(f"mpe2.{request.param}")
    return importlib.import_module(f"mpe2.{request.param}").parallel_env


class Corridor(ParallelEnv):
    """Agents a_0 to a_2: a_1 ends at time 3, a_3 appears at time 5, all ends at time 9.

    A reward is 10 ** the number of the agent; the observation is (world time, own last action).
    """

    metadata = {"name": "corridor_v0", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(self, ends_at=9):
        self.possible_agents = ["a_0", "a_1", "a_2", "a_3"]
        self._observation_spaces = {
            a: spaces.Box(-1, 10_000, (2,), np.float32) for a in self.possible_agents
        }
        self._action_spaces = {a: spaces.Discrete(5) for a in self.possible_agents}
        self.ends_at = ends_at

    def observation_space(self, agent):
        return self._observation_spaces[agent]

    def action_space(self, agent):
        return self._action_spaces[agent]

    def reset(self, seed=None, options=None):
        self.time, self.agents, self.seen = 0, ["a_0", "a_1", "a_2"], []
        self.seeds = [*getattr(self, "seeds", []), (seed, options)]
        return self._observations(self.agents, {}), {a: {"hint": a} for a in self.agents}

    def _observations(self, agents, actions):
        return {a: np.array([self.time, actions.get(a, -1)], np.float32) for a in agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.seen.append(dict(actions))
        self.time += 1
        if self.time == 5:
            self.agents.append("a_3")
        present = list(self.agents)
        over = self.time == self.ends_at
        terminations = {a: np.bool_(self.time == 3 and a == "a_1") for a in present}
        rewards = {a: np.float32(10.0 ** int(a[-1])) for a in present}
        self.agents = [a for a in present if not (over or terminations[a])]
        return (
            self._observations(present, actions),
            rewards,
            terminations,
            dict.fromkeys(present, over),
            {a: {"hint": a} for a in present},
        )


def play(env, seed=None, choose=None):
    """One episode: (agent, *last(), action) of every turn."""
    env.reset(seed=seed)
    turns = []
    for agent in env.agent_iter():
        observation, reward, terminated, truncated, info = env.last()
        action = None
        if not (terminated or truncated):
            action = choose(agent) if choose else env.action_space(agent).sample()
        turns.append((agent, observation, reward, terminated, truncated, dict(info), action))
        env.step(action)
    return turns


def ticks_by_agent(turns):
    times = defaultdict(list)
    for agent, _, _, terminated, truncated, info, _ in turns:
        if not (terminated or truncated):
            times[agent].append(info["time"])
    return dict(times)


# -- PettingZoo's own tests --------------------------------------------------------------------


@pytest.mark.parametrize("clock", [PeriodicClock(1), PeriodicClock(3), IRREGULAR], ids=str)
def test_passes_the_official_api_test(parallel, clock):
    api_test(clocked(parallel(max_cycles=15), clock), num_cycles=20)


def test_passes_the_official_api_test_with_continuous_actions(parallel):
    api_test(clocked(parallel(continuous_actions=True), IRREGULAR), num_cycles=20)


@pytest.mark.parametrize(
    "clock",
    [PeriodicClock(2, phase=1), {f"a_{n}": PeriodicClock(1 + n, phase=n) for n in range(4)}],
    ids=["all_late", "each_its_own"],
)
def test_passes_the_official_api_test_with_phases(clock):
    api_test(clocked(Corridor(), clock, idle_action=0), num_cycles=20)


def test_passes_the_official_api_test_with_births_and_deaths():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its agents are meant to differ, and it says so each time
        for clock in (PeriodicClock(1), IRREGULAR, BurstyClock(burst=2, silence=3)):
            env = generated_agents_parallel_v0.parallel_env(max_cycles=60)
            api_test(clocked(env, clock), num_cycles=300)


@pytest.mark.parametrize("clock", [IRREGULAR, JitteredClock(3, 2)], ids=str)
def test_passes_the_official_seed_test(parallel, clock):
    seed_test(lambda: clocked(parallel(), clock), num_cycles=25)


def test_passes_the_official_state_test(parallel):
    state_test(clocked(parallel(), IRREGULAR), parallel(), num_cycles=10)


def test_passes_the_official_render_test(parallel):
    render_test(lambda **mode: clocked(parallel(**mode), PeriodicClock(1)))


# -- what the world is told, and what it gives -------------------------------------------------


def test_period_one_is_the_bare_environment_step_for_step(parallel):
    env, bare = clocked(parallel(), PeriodicClock(1)), parallel()
    env.reset(seed=3)
    observations, _ = bare.reset(seed=3)
    rewards = dict.fromkeys(bare.agents, 0)
    cycles = 0
    while bare.agents:
        actions = {}
        for agent in bare.agents:
            assert env.agent_selection == agent
            observation, reward, terminated, truncated, info = env.last()
            np.testing.assert_array_equal(observation, observations[agent])
            assert (reward, terminated, truncated) == (rewards[agent], False, False)
            assert info == {"time": cycles, "elapsed": min(cycles, 1), "ticks": cycles}
            np.testing.assert_array_equal(env.state(), bare.state())
            actions[agent] = env.action_space(agent).sample()
            env.step(actions[agent])
        observations, rewards, terminations, truncations, _ = bare.step(actions)
        cycles += 1
    assert cycles == 25 or cycles == 50
    for agent in bare.possible_agents:
        observation, reward, terminated, truncated, _ = env.last()
        assert env.agent_selection == agent
        np.testing.assert_array_equal(observation, observations[agent])
        assert (reward, terminated, truncated) == (
            rewards[agent],
            terminations[agent],
            truncations[agent],
        )
        env.step(None)
    assert env.agents == []


@pytest.mark.parametrize("clock", [PeriodicClock(4), IRREGULAR, TraceClock([0, 7])], ids=str)
def test_rewards_are_conserved(parallel, clock):
    env, bare = clocked(parallel(), clock), parallel()
    got: dict[str, float] = defaultdict(float)
    for agent, _, reward, *_ in play(env, seed=5, choose=lambda agent: 1):
        got[agent] += reward
    bare.reset(seed=5)
    due: dict[str, float] = defaultdict(float)
    while bare.agents:
        for agent, reward in bare.step(dict.fromkeys(bare.agents, 1))[1].items():
            due[agent] += reward
    assert got == pytest.approx(due, rel=1e-12)


def test_the_same_seed_gives_the_same_episode(parallel):
    def episode():
        env = clocked(parallel(), IRREGULAR)
        for agent in env.possible_agents:
            env.action_space(agent).seed(0)
        env.reset(seed=11)
        first = {agent: env.observe(agent) for agent in env.agents}
        return first, play(env, seed=11), play(env)  # the next episode has no seed of its own

    one, two = episode(), episode()
    np.testing.assert_equal(one, two)
    assert ticks_by_agent(one[1]) != ticks_by_agent(one[2])


def test_actions_hold_between_ticks():
    env = Corridor()
    counts: dict[str, int] = defaultdict(int)

    def choose(agent):
        counts[agent] += 1
        return counts[agent] % 5

    clocks = {"a_0": PeriodicClock(1), "a_1": PeriodicClock(2), "a_2": TraceClock([0, 4])}
    turns = play(clocked(env, clocks | {"a_3": PeriodicClock(3)}), choose=choose)
    assert [step["a_0"] for step in env.seen] == [1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert [step["a_1"] for step in env.seen[:3]] == [1, 1, 2]
    assert [step["a_2"] for step in env.seen] == [1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert [step.get("a_3") for step in env.seen] == [None] * 5 + [1, 1, 1, 2]
    assert ticks_by_agent(turns) == {
        "a_0": list(range(9)),
        "a_1": [0, 2],
        "a_2": [0, 4],
        "a_3": [5, 8],  # a clock begins with its agent
    }


def test_what_an_agent_is_told():
    clocks = {f"a_{n}": PeriodicClock(4) for n in range(4)}
    turns = play(clocked(Corridor(), clocks), choose=lambda agent: 2)
    told = [(a, *o.tolist(), r, end, cut, i) for a, o, r, end, cut, i, _ in turns]

    def info(agent, time, elapsed, ticks):
        return {"hint": agent, "time": time, "elapsed": elapsed, "ticks": ticks}

    assert told == [
        ("a_0", 0, -1, 0, False, False, info("a_0", 0, 0, 0)),
        ("a_1", 0, -1, 0, False, False, info("a_1", 0, 0, 0)),
        ("a_2", 0, -1, 0, False, False, info("a_2", 0, 0, 0)),
        ("a_1", 3, 2, 30, True, False, info("a_1", 3, 3, 1)),
        ("a_0", 4, 2, 4, False, False, info("a_0", 4, 4, 1)),
        ("a_2", 4, 2, 400, False, False, info("a_2", 4, 4, 1)),
        ("a_3", 5, -1, 1000, False, False, info("a_3", 5, 0, 0)),
        ("a_0", 8, 2, 4, False, False, info("a_0", 8, 4, 2)),
        ("a_2", 8, 2, 400, False, False, info("a_2", 8, 4, 2)),
        ("a_0", 9, 2, 1, False, True, info("a_0", 9, 1, 3)),
        ("a_2", 9, 2, 100, False, True, info("a_2", 9, 1, 3)),
        ("a_3", 9, 2, 4000, False, True, info("a_3", 9, 4, 1)),
    ]
    for _, _, reward, terminated, truncated, told_info, _ in turns:
        assert type(terminated) is bool
        assert type(truncated) is bool
        assert isinstance(reward, int | float)
        assert not isinstance(reward, np.generic)
        assert {type(told_info[key]) for key in ("time", "elapsed", "ticks")} == {int}


def test_a_phase_holds_the_idle_action_and_loses_no_reward():
    env = Corridor()
    clocks = PeriodicClock(2, phase=2)
    turns = play(clocked(env, clocks, idle_action={"a_0": 3, "a_1": 4, "a_2": 1, "a_3": 0}))
    assert env.seen[0] == env.seen[1] == {"a_0": 3, "a_1": 4, "a_2": 1}
    assert env.seen[5]["a_3"] == env.seen[6]["a_3"] == 0
    assert ticks_by_agent(turns) == {"a_0": [2, 4, 6, 8], "a_1": [2], "a_2": [2, 4, 6, 8]} | {
        "a_3": [7]
    }
    total: dict[str, float] = defaultdict(float)
    for agent, _, reward, *_ in turns:
        total[agent] += reward
    assert total == {"a_0": 9, "a_1": 30, "a_2": 900, "a_3": 5000}


@pytest.mark.needs("mpe2.simple_spread_v3")
def test_one_agent_more_changes_nobody_elses_ticks():
    from mpe2 import simple_spread_v3

    few, many = (
        ticks_by_agent(play(clocked(simple_spread_v3.parallel_env(N=n), IRREGULAR), seed=4))
        for n in (2, 4)
    )
    assert {agent: many[agent] for agent in few} == few
    assert len({tuple(times) for times in many.values()}) == 4


def test_passes_on_what_belongs_to_the_environment():
    env = Corridor()
    wrapped = clocked(env, PeriodicClock(2))
    wrapped.reset(seed=7, options={"x": 1})
    assert env.seeds == [(7, {"x": 1})]
    assert wrapped.unwrapped is env
    assert str(wrapped) == str(env)
    assert wrapped.metadata == {**Corridor.metadata, "is_parallelizable": False}
    assert "is_parallelizable" not in Corridor.metadata
    assert wrapped.observation_space("a_0") is env.observation_space("a_0")
    assert not hasattr(wrapped, "state_space")
    with pytest.raises(NotImplementedError):
        wrapped.state()


# -- mistakes ----------------------------------------------------------------------------------

EACH = {f"a_{n}": PeriodicClock(1) for n in range(4)}
WRONG = [
    ({"a_9": PeriodicClock(1), **EACH}, None, "clocks: unknown agent 'a_9'. Did you mean"),
    ({a: EACH[a] for a in ("a_0", "a_1", "a_2")}, None, "clocks: no clock for agent 'a_3'."),
    (3, None, "clocks: 3 for agent 'a_0' is not a Clock"),
    (PeriodicClock(1, phase=1), None, "agent 'a_0' does not tick at its time 0"),
    ({**EACH, "a_2": TraceClock([4])}, {"a_1": 0}, "agent 'a_2' does not tick at its time 0"),
    (TraceClock([]), None, "agent 'a_0' does not tick at its time 0"),
    (PeriodicClock(1, phase=1), 5, "idle_action=5: not an action of agent 'a_0'; allowed: Disc"),
    (PeriodicClock(1, phase=1), "x", "idle_action='x': not an action of agent 'a_0'"),
    (PeriodicClock(1), {"b_0": 0}, "idle_action: unknown agent 'b_0'"),
]


@pytest.mark.parametrize(("clocks", "idle", "message"), WRONG, ids=[row[2] for row in WRONG])
def test_mistakes_are_named(clocks, idle, message):
    with pytest.raises(UserError) as error:
        clocked(Corridor(), clocks, idle_action=idle)
    assert message in str(error.value)


def test_an_agent_without_a_clock_is_named_when_it_appears():
    env = generated_agents_parallel_v0.parallel_env()  # it can't say beforehand who will come
    with pytest.raises(UserError, match=r"no clock for agent 'type\d_\d'"):
        clocked(env, {"nobody_0": PeriodicClock(1)}).reset(seed=0)


def test_a_world_without_end_needs_clocks_without_end():
    env = clocked(Corridor(ends_at=-1), TraceClock([0, 2]))
    with pytest.raises(UserError, match="no agent ticks after world time 7"):
        play(env, choose=lambda agent: 0)
