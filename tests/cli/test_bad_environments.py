"""Environments of other people that are unusual or wrong: they run, or one line says why not."""

import json

import pytest

from dnicomm.runs import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")

ENVS = '''
import os
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

SEEN = {
    "plain": spaces.Box(-1, 1, (2,), np.float32),
    "infinite": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "dict": spaces.Dict(
        {"x": spaces.Box(0, 1, (2,)), "y": spaces.Tuple([spaces.Discrete(2, start=1),
                                                       spaces.MultiDiscrete([2, 3])])}),
    "text": spaces.Text(4),
    "sequence": spaces.Sequence(spaces.Discrete(2)),
}
DONE = {
    "plain": spaces.Discrete(3),
    "multi": spaces.MultiDiscrete([2, 3]),
    "dict": spaces.Dict({"x": spaces.Discrete(2), "y": spaces.MultiBinary(2)}),
    "many": spaces.MultiDiscrete([40, 40]),
    "whole": spaces.Box(0, 5, (2,), np.int64),
}


class Env(ParallelEnv):
    """Six units of time; ``one`` dies at 3 and ``two`` is born at 2, if they do."""

    metadata = {"name": "env_v0"}

    def __init__(self, seen="plain", done="plain", seen_by_one=None, mortal=False, trouble=None):
        self.possible_agents = ["one", "two"]
        self.seen = {"one": SEEN[seen_by_one or seen], "two": SEEN[seen]}
        self.done = DONE[done]
        self.mortal, self.trouble = mortal, trouble

    def observation_space(self, agent):
        if self.trouble == "spaces":
            raise KeyError("which agent?")
        return self.seen[agent]

    def action_space(self, agent):
        return self.done

    def look(self):
        found = {agent: self.seen[agent].sample() for agent in self.agents}
        if self.armed and self.time == 4:
            if self.trouble == "nan seen":
                found["two"] = np.array([0, np.nan])
            if self.trouble == "shape":
                found["two"] = np.zeros(3)
        return found

    def reset(self, seed=None, options=None):
        for number, space in enumerate(self.seen.values()):
            space.seed(seed + number)
        self.time = 0
        self.armed = self.trouble is not None and os.path.exists("armed")
        self.agents = ["one"] if self.mortal else ["one", "two"]
        if self.armed and self.trouble == "reset":
            raise RuntimeError("no power")
        return self.look(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert all(self.done.contains(action) for action in actions.values()), actions
        assert set(actions) == set(self.agents)
        if self.armed and self.time == 3 and self.trouble == "step":
            raise ZeroDivisionError("the floor is gone")
        self.time += 1
        if self.mortal and self.time == 2:
            self.agents.append("two")
        if self.armed and self.trouble == "stranger":
            self.agents.append("three")
        rewards = {agent: np.float64(1.0) for agent in self.agents}
        if self.armed and self.time == 4 and self.trouble == "reward":
            rewards["two"] = np.float32("nan")
        gone = self.mortal and self.time == 3
        over = self.time == 6
        ended = {agent: np.bool_(gone and agent == "one") for agent in self.agents}
        cut = {agent: np.bool_(over) for agent in self.agents}
        seen, none = self.look() if "three" not in self.agents else {}, {a: {} for a in rewards}
        self.agents = [a for a in self.agents if not (ended[a] or cut[a])]
        return seen, rewards, ended, cut, none


class Empty(Env):
    def __init__(self):
        super().__init__()
        self.possible_agents = []
'''

SMALL = ["num_worlds=3", "steps=24", "eval.every=12", "eval.episodes=1", "eval.num_worlds=2",
         "window=3", "clock.rate=[1.0,0.6]", "hydra.run.dir=run"]  # fmt: skip


@pytest.fixture
def run(cli):
    cli.write("my_envs.py", ENVS)
    return lambda *words, id="my_envs:Env": cli(
        "run", "env=pettingzoo", f"env.id={id}", *SMALL, *words
    )


WORKS = {
    "different spaces, several discrete actions": [
        "+env.kwargs.seen_by_one=dict", "+env.kwargs.done=multi"
    ],
    "agents die and are born": ["+env.kwargs.mortal=true", "+env.kwargs.done=dict"],
    "infinite boxes": ["+env.kwargs.seen=infinite"],
    "images": ["+env.kwargs.seen=image", "agent=recurrent_actor_critic"],
}  # fmt: skip


@pytest.mark.parametrize("words", WORKS.values(), ids=WORKS)
def test_unusual_environments_run(cli, run, words):
    called = run(*words)
    assert called.code == 0, called.err
    summary = json.loads((cli.folder / "run" / "summary.json").read_text())
    # numpy's bools and numbers, too; who dies and is born in between gets 3 + 4 (5 alive), 6 + 6
    expected = (3 + 5) / 2 if "+env.kwargs.mortal=true" in words else 6
    assert summary["metrics"]["return"] == expected
    assert all(agent["updates"] for agent in summary["agents"].values())
    assert not any(agent["skipped_updates"] for agent in summary["agents"].values())


REFUSED = {
    "+env.kwargs.seen_by_one=text": "observation of one: Text(1, 4",
    "+env.kwargs.seen=sequence": "observation of one: Sequence(Discrete(2), stack=False) does not "
    "fit; allowed: Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of these",
    "+env.kwargs.done=many": "action of one: MultiDiscrete([40 40]) has 1600 combinations; "
    "allowed: 1024",
    "+env.kwargs.done=whole": "action of one: Box(0, 5, (2,), int64) does not fit; allowed:",
    "+env.kwargs.trouble=spaces": "env.id=my_envs:Env raised in observation_space('one'): "
    "KeyError: 'which agent?'",
    "+env.kwargs.walls=3": "TypeError: Env.__init__() got an unexpected keyword argument 'walls'",
}


@pytest.mark.parametrize(("words", "message"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_fit_is_said_before_anything_is_left(cli, run, words, message):
    called = run(words)
    assert called.code == 2
    (line,) = called.err.splitlines()
    assert message in line
    assert cli.files() == {"my_envs.py"}


def test_an_environment_without_agents(cli, run):
    called = run(id="my_envs:Empty")
    assert called.code == 2
    assert "env.id=my_envs:Empty has no agents: its possible_agents is empty" in called.err


TROUBLE = {
    "reward": "reward of two at world time 3 is np.float32(nan): must be a finite number",
    "step": "env.id=my_envs:Env raised at world time 3: ZeroDivisionError: the floor is gone",
    "nan seen": "observation of two at world time 4 has nan in it: must be finite numbers",
    "shape": "observation of two has shape (3,); its space says (2,)",
    "reset": "env.id=my_envs:Env raised in reset: RuntimeError: no power",
    "stranger": "env.id=my_envs:Env: agent 'three' appeared at world time 0 and is not in possible",
}


@pytest.fixture
def troubled(cli, run, monkeypatch):
    """A run in which trouble sets in after its first evaluation."""
    original = RunFolder.save_checkpoint

    def arming(self, *given):
        original(self, *given)
        cli.write("armed", "")

    def troubled(trouble):
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "save_checkpoint", arming)
            return run(f"+env.kwargs.trouble='{trouble}'", "clock.rate=1.0")

    return troubled


@pytest.mark.parametrize(("trouble", "message"), TROUBLE.items(), ids=TROUBLE)
def test_trouble_in_a_run_is_one_line_and_nothing_is_lost(cli, troubled, trouble, message):
    called = troubled(trouble)
    assert called.code == 2
    (line,) = called.err.splitlines()
    assert message in line
    assert line.endswith("Up to its last evaluation the run is kept: dnicomm resume run")
    folder = RunFolder.open(cli.folder / "run")
    assert [record["time"] for record in folder.metrics()] == [12]
    assert folder.latest_checkpoint().time == 12
    assert folder.summary() is None


def test_once_the_trouble_is_over_a_run_goes_on_as_if_it_never_was(cli, run, troubled):
    assert troubled("step").code == 2
    (cli.folder / "armed").unlink()
    assert cli("resume", "run").code == 0
    resumed = RunFolder.open(cli.folder / "run").metrics()
    other = ["+env.kwargs.trouble=step", "clock.rate=1.0", "hydra.run.dir=undisturbed"]
    assert run(*other).code == 0
    undisturbed = RunFolder.open(cli.folder / "undisturbed").metrics()
    for part in ("metrics", "agents", "channels"):
        assert [record[part] for record in resumed] == [record[part] for record in undisturbed]
