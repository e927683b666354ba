"""``dnicomm list`` and ``dnicomm check``."""

import pytest

from dnicomm.commands.options import GROUPS, options

PLUG_INS = """
import numpy as np
import torch
from torch import nn
from dnicomm.core import GradientUtility
from dnicomm.sim import Agent, Channel, Clock, Env, PeriodicClock, TickOutput


class Repeater(Agent):
    def __init__(self, spec, width=64):
        super().__init__(spec)
        self.body = nn.Sequential(nn.Linear(spec.input_size, width), nn.ReLU())
        self.message = nn.Linear(width, spec.message_size)
        self.action = nn.Linear(width, spec.action_size)

    def tick(self, observation, inbox, state):
        h = self.body(torch.cat([observation, inbox.flat()], -1))
        return TickOutput(action=self.action(h), message=self.message(h), state=state)


class Short(Repeater):
    def tick(self, observation, inbox, state):
        output = super().tick(observation, inbox, state)
        return output._replace(message=output.message[:, 1:])


class Late(Channel):
    def __init__(self, by: int = 1):
        self.by = by

    def delays(self, rng, count):
        return np.full(count, self.by)


class Backwards(PeriodicClock):
    def ticks(self, rng, horizon):
        return super().ticks(rng, horizon)[::-1]


class NoWorld(Env):
    name = "none"

    def make(self, num_worlds, split, device):
        return None
"""
GUESS = """
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class Guess(ParallelEnv):
    metadata = {"name": "guess_v0"}
    possible_agents = ["a_0", "b_0"]

    def __init__(self, broken=False):
        self.broken = broken
        self.spaces = {a: (Box(0, 1, (2,), np.float32), Discrete(2)) for a in self.possible_agents}

    def observation_space(self, agent):
        return self.spaces[agent][0]

    def action_space(self, agent):
        return self.spaces[agent][1]

    def reset(self, seed=None, options=None):
        self.agents, self.time = list(self.possible_agents), 0
        return self.look(), {a: {} for a in self.agents}

    def look(self):
        return {a: np.ones(2, np.float32) for a in self.agents}

    def step(self, actions):
        self.time += 1
        if self.broken and self.time == 3:
            raise ValueError("lost the plot")
        agents, over = self.agents, self.time == 8
        seen = self.look()
        self.agents = [] if over else agents
        return (seen, {a: 1.0 for a in agents}, {a: over for a in agents},
                {a: False for a in agents}, {a: {} for a in agents})


def make():
    return Guess()
"""


def test_everything_is_listed(cli):
    called = cli("list")
    assert (called.code, called.err) == (0, "")
    for group in GROUPS:
        for option in options(group):
            assert f"  {option.name} " in called.out
            assert option.line in called.out


@pytest.mark.parametrize("word", ["clock", "clocks", "topologies", "utilities"])
def test_one_group_is_listed_also_by_its_plural(cli, word):
    called = cli("list", word)
    assert called.code == 0
    assert called.out.count("=\n") == 1


def test_the_manual_of_an_option_and_of_the_keys(cli):
    poisson, keys = cli("list", "clock=poisson"), cli("list", "keys")
    assert "rate: [1.0, 0.6, 0.3, 0.5]" in poisson.out
    assert "above 0 and at most 1" in poisson.out
    assert "gamma: 0.99 # discount of rewards" in keys.out
    assert "hydra:" not in keys.out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("agnets", "agnets: there is no such group. Did you mean 'agent'?"),
        ("clock=poison", "clock=poison: there is no such clock. Did you mean 'poisson'?"),
        ("--long", "--long: there is no such flag"),
    ],
)
def test_what_can_not_be_listed(cli, word, message):
    called = cli("list", word)
    assert called.code == 2
    assert called.err.startswith(f"dnicomm: {message}")


@pytest.fixture
def mine(cli):
    cli.write("my_plug_ins.py", PLUG_INS)
    cli.write("my_guess.py", GUESS)
    cli.write("my_broken.py", "import not_there\n")
    return cli


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("my_plug_ins.Repeater", "an agent"),
        ("my_plug_ins:Repeater width=8", "an agent"),
        ("my_plug_ins.Late by=3", "a channel"),
        ("dnicomm.sim.BurstyClock burst=2 silence=3", "a clock"),
        ("dnicomm.core.GradientUtility hidden=[8]", "a utility model"),
        ("dnicomm.envs.Relay num_agents=3", "an environment"),
        ("my_guess.Guess", "a PettingZoo environment"),
        ("my_guess.make", "a PettingZoo environment"),
        pytest.param(
            "mpe2.simple_speaker_listener_v4", "a PettingZoo module",
            marks=pytest.mark.needs("mpe2.simple_speaker_listener_v4"),
        ),
        ("gymnasium.envs.classic_control.CartPoleEnv", "a Gymnasium environment"),
    ],
)  # fmt: skip
def test_what_is_right(mine, words, kind):
    called = mine("check", *words.split())
    assert (called.code, called.err) == (0, "")
    assert called.out == f"{words.split()[0]}, {kind}: nothing to put right\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("my_plug_ins.Short", "message has shape [5, 7]; it must be [5, 8]"),
        ("my_plug_ins.Late by=-1", "a delay is negative"),
        ("my_plug_ins.Backwards", "ticks do not get later and later"),
        ("my_plug_ins.NoWorld", "make returns a NoneType; it must be a dnicomm.sim.World"),
        ("my_guess.Guess broken=true", "ValueError: lost the plot"),
    ],
)
def test_what_is_wrong(mine, words, complaint):
    called = mine("check", *words.split())
    assert called.code == 1
    assert called.out.startswith(f"{words.split()[0]}, ")
    assert f"\n  - {complaint}" in called.out or complaint in called.out.split("\n  - ")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("my_plug_ins.Repaeter", "my_plug_ins has no Repaeter. Did you mean 'Repeater'"),
        ("my_plug_ins.Repeater widht=3", "Repeater has no such option. Did you mean 'width'?"),
        ("my_plug_ins.Repeater 3", "3: must be KEY=VALUE"),
        ("my_plug_ins", "is a module without parallel_env, env or raw_env"),
        ("my_nothing.Agent", "there is no module 'my_nothing'"),
        ("my_broken.Agent", "my_broken failed to import: ModuleNotFoundError: No module named"),
        ("my_broken", "my_broken failed to import"),
        ("Repeater", "Repeater: must be a dotted path"),
        ("dnicomm.sim.Star", "is none of what can be checked: an Agent, Env, Clock"),
        ("agent=custom", "agent=custom stands for no class that could be checked"),
        ("agent=feedfwd", "there is no such agent. Did you mean 'feedforward'?"),
    ],
)
def test_what_can_not_be_checked(mine, words, message):
    called = mine("check", *words.split())
    assert called.code == 2
    assert message in called.err
    assert len(called.err.splitlines()) == 1


@pytest.mark.parametrize(
    "word",
    [
        f"{group}={option.name}"
        for group in ("env", "agent", "clock", "channel", "utility")
        for option in options(group)
        if option.name not in ("custom", "none", "trace", "gym", "pettingzoo")
    ],
)
def test_our_own_options_are_right(cli, word):
    called = cli("check", word)
    assert called.code == 0, called.out + called.err
