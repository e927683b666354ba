"""Environments that draw from global generators, or from spaces that nobody seeded."""

import json
import os
import random
import sys
import types

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from dnicomm.agents import ActorCritic
from dnicomm.envs import PettingZooEnv
from dnicomm.envs.space_seeds import SpaceSeeds
from dnicomm.runs import RunFolder
from dnicomm.sim import Evaluation, Simulation, notices
from dnicomm.sim.random import generator, global_seed
from dnicomm.testing import check_env


class Dice(ParallelEnv):
    """What two agents see and get is thrown anew at each step, from the source that is named.

    Args:
        source: numpy, normal, python, torch, space (of actions), parts (of a space's parts),
            system, or own: a generator that the seed of a reset does not reach.
        at: "reset", or "step" alone.
    """

    metadata = {"name": "dice_v0"}  # noqa: RUF012
    possible_agents = ["a_0", "a_1"]  # noqa: RUF012

    def __init__(self, source, at="both"):
        self.source, self.at = source, at
        self.rng = np.random.default_rng()
        self.actions = {agent: spaces.Discrete(2) for agent in self.possible_agents}
        self.seen = spaces.Dict({"x": spaces.Box(0, 1, (2,), np.float32)})
        # some draw in the constructor too
        self.slope = 0.5 if source in ("own", "space", "parts") else self.throw()

    def throw(self):
        if self.source == "space":
            return float(self.actions["a_0"].sample())
        if self.source == "parts":
            return float(self.seen.sample()["x"][0])
        return {
            "numpy": np.random.rand, "normal": np.random.randn, "python": random.random,
            "torch": lambda: torch.rand(()).item(), "own": self.rng.random,
            "system": lambda: os.urandom(1)[0] / 255,
        }[self.source]()  # fmt: skip

    def observation_space(self, agent):
        return self.seen

    def action_space(self, agent):
        return self.actions[agent]

    def _see(self, first):
        thrown = 0.5 if first and self.at == "step" else self.throw()
        self.number = np.array([thrown, self.slope], np.float32)
        return {agent: {"x": self.number} for agent in self.agents}

    def reset(self, seed=None, options=None):
        self.agents, self.time = self.possible_agents[:], 0
        return self._see(first=True), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.time += 1
        seen, live = self._see(first=False), self.agents
        rewards = {a: float(self.number[0]) * actions[a] for a in live}
        self.agents = live if self.time < 4 else []
        return seen, rewards, *(dict.fromkeys(live, x) for x in (self.time == 4, False, {}))


SOURCES = ["numpy", "normal", "python", "torch", "space", "parts"]


@pytest.fixture(autouse=True)
def dice(monkeypatch):
    module = types.ModuleType("their_dice")
    vars(module).update(Dice=Dice)
    monkeypatch.setitem(sys.modules, "their_dice", module)
    monkeypatch.setattr(notices, "_shown", set())


def simulation(source, every=8, at="both", seed=0):
    return Simulation(
        env=PettingZooEnv("their_dice.Dice", {"source": source, "at": at}), agent=ActorCritic,
        num_worlds=2, utility=None, feedback="none", window=4, seed=seed,
        evaluation=Evaluation(every=every, episodes=1, num_worlds=3),
    )  # fmt: skip


def run(sim, steps=16, folder=None):
    """All that was learnt, and all metrics."""
    result = sim.run(steps, folder)
    learnt = {
        name: tensor.clone() for name, tensor in sim.tensors().items() if "_meter" not in name
    }
    return learnt, [record["metrics"] for record in result.history]


def disturb(number):
    """What else a program draws and seeds."""
    random.seed(number)
    np.random.seed(number)
    np.random.randn(number)
    torch.manual_seed(number)


@pytest.mark.parametrize("source", SOURCES)
def test_two_runs_with_one_seed_are_equal(source):
    disturb(1)
    first, metrics = run(simulation(source))
    disturb(2)
    again, same = run(simulation(source))
    assert metrics == same
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert run(simulation(source, seed=1))[1] != metrics


@pytest.mark.parametrize("source", SOURCES)
def test_how_often_it_is_tested_changes_no_training(source):
    seldom, _ = run(simulation(source, every=16))
    often, _ = run(simulation(source, every=4))
    parameters = [name for name in seldom if name.endswith("parameters")]
    assert parameters
    assert all(torch.equal(seldom[name], often[name]) for name in parameters)


@pytest.mark.parametrize("source", SOURCES)
def test_a_resumed_run_is_exact(source, tmp_path):
    whole, metrics = run(simulation(source), 24)
    folder = RunFolder.create(tmp_path / "run", {})
    disturb(3)
    run(simulation(source), 8, folder)
    disturb(4)
    later, kept = simulation(source), folder.latest_checkpoint()
    assert kept is not None
    later.restore(kept.tensors, kept.facts)
    learnt, rest = run(later, 24)
    assert metrics[1:] == rest
    assert all(torch.equal(whole[name], learnt[name]) for name in whole)


def test_the_users_numbers_go_on_as_if_nothing_had_happened():
    def numbers():
        return [np.random.randn(), np.random.rand(), random.gauss(0, 1), torch.rand(()).item()]

    disturb(7)  # an odd number of normal ones: the second of a pair is kept
    random.gauss(0, 1)
    undisturbed = numbers()
    disturb(7)
    random.gauss(0, 1)
    with simulation("normal") as sim:
        sim.run(8)
    assert numbers() == undisturbed


def test_global_generators_inside_of_one_another_and_after_an_error():
    np.random.seed(1)
    expected = np.random.rand(2).tolist()
    np.random.seed(1)
    with global_seed(0, "outer"):
        outer = np.random.rand(3)
    first = np.random.rand()

    def fail():
        with global_seed(0, "outer"):
            again = [np.random.rand()]
            with global_seed(0, "inner"):
                np.random.seed(9)  # as old environments do in reset
            assert [*again, *np.random.rand(2)] == outer.tolist()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert [first, np.random.rand()] == expected


def test_contexts_of_several_threads_leave_the_users_numbers():
    disturb(5)
    np.random.randn()
    expected = [np.random.randn(), random.random()]
    disturb(5)
    np.random.randn()
    first, second = global_seed(0, "first"), global_seed(0, "second")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # not the other way round, as in one thread
    second.__exit__(None, None, None)
    assert [np.random.randn(), random.random()] == expected


def test_another_bit_generator_of_the_users_is_put_back():
    users = np.random.get_bit_generator()
    other = np.random.PCG64(3)
    np.random.set_bit_generator(other)
    try:
        with global_seed(0, "x"):
            first = np.random.rand()
        assert np.random.get_bit_generator() is other
    finally:
        np.random.set_bit_generator(users)
    with global_seed(0, "x"):
        assert np.random.rand() == first


@pytest.mark.parametrize("source", ["own", "system"])
def test_what_no_seed_reaches_is_said_once(source, capsys):
    run(simulation(source))
    run(simulation(source))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dnicomm: env.id=their_dice.Dice: two resets with one seed differ")
    assert "a_0" in line
    (complaint,) = check_env(PettingZooEnv("their_dice.Dice", {"source": source}))
    assert line == f"dnicomm: {complaint}"


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_said_of_what_is_seeded(source, capsys):
    run(simulation(source))
    assert capsys.readouterr().err == ""
    assert check_env(PettingZooEnv("their_dice.Dice", {"source": source})) == []


def test_a_check_finds_it_in_steps_too():
    (complaint,) = check_env(PettingZooEnv("their_dice.Dice", {"source": "own", "at": "step"}))
    assert "goes another way" in complaint


def test_every_kind_of_space_is_seeded():
    box, text = spaces.Box(0, 1, (2,), np.float32), spaces.Text(5)
    whole = [
        spaces.Tuple((box, spaces.Discrete(9))), spaces.MultiDiscrete([4, 5]),
        spaces.OneOf((spaces.MultiBinary(4), text)), spaces.Sequence(box),
        spaces.Graph(box, spaces.Discrete(3)), spaces.Dict({"a": spaces.Dict({"b": text})}),
    ]  # fmt: skip
    whole[1]._np_random = np.random.Generator(np.random.MT19937(3))  # of another kind

    def draw(number):
        SpaceSeeds(whole).draw(generator(0, number))
        return [json.dumps(space.sample(), default=str) for space in whole for _ in range(2)]

    assert draw(1) == draw(1) != draw(2)
