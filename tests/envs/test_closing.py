"""Each copy of somebody else's environment is closed once, whatever happens."""

import gc
import os
import subprocess
import sys
import types

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.utils import parallel_to_aec

from dnicomm.agents import ActorCritic
from dnicomm.envs import ExposedEnv, GymEnv, PettingZooEnv, Relay, channelled, clocked
from dnicomm.envs import clocked_parallel as held
from dnicomm.errors import UserError
from dnicomm.sim import Evaluation, PeriodicClock, Simulation
from dnicomm.sim.closing import OpenThings, closing
from dnicomm.testing import check_env

CPU = torch.device("cpu")
BUILT: list["Port"] = []


class Port(ParallelEnv):
    """Two agents for three steps; counts how often each copy is closed.

    Args:
        most: copies that may be open at once.
        fails: number of the copy that can't be built.
        stops: number of the copy whose first step raises ``error``.
        raises: what close() raises, each time.
        odd: whether its observations are of a kind that does not fit.
    """

    metadata = {"name": "port_v0"}  # noqa: RUF012
    possible_agents = ["a_0", "a_1"]  # noqa: RUF012

    def __init__(self, most=None, fails=None, stops=None, error=None, raises=None, odd=False):
        if len(BUILT) == fails:
            raise OSError("no port is free")
        if most is not None and sum(port.closed == 0 for port in BUILT) >= most:
            raise OSError("the port is taken")
        self.number, self.stops, self.error = len(BUILT), stops, error
        self.raises, self.odd, self.closed = raises, odd, 0
        BUILT.append(self)

    def observation_space(self, agent):
        return spaces.Text(3) if self.odd else spaces.Box(0, 1, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        assert not self.closed
        self.agents, self.time = self.possible_agents[:], 0
        return self._seen(), {agent: {} for agent in self.agents}

    def _seen(self):
        return {agent: np.zeros(2, np.float32) for agent in self.agents}

    def step(self, actions):
        assert not self.closed
        if self.number == self.stops:
            raise self.error
        self.time += 1
        seen, live = self._seen(), self.agents
        self.agents = live if self.time < 3 else []
        return seen, *(dict.fromkeys(live, x) for x in (1.0, self.time == 3, False, {}))

    def close(self):
        self.closed += 1
        if self.raises is not None:
            raise self.raises


@pytest.fixture(autouse=True)
def ports(monkeypatch):
    BUILT.clear()
    module = types.ModuleType("their_ports")
    vars(module).update(Port=Port)
    monkeypatch.setitem(sys.modules, "their_ports", module)
    yield BUILT
    BUILT.clear()


def simulation(num_worlds=2, evaluation=None, **kwargs):
    return Simulation(
        env=PettingZooEnv("their_ports.Port", kwargs), agent=ActorCritic, num_worlds=num_worlds,
        utility=None, feedback="none", window=3,
        evaluation=evaluation or Evaluation(every=6, episodes=1, num_worlds=1),
    )  # fmt: skip


def closed():
    return [port.closed for port in BUILT]


def test_at_the_end_of_a_with():
    with simulation() as sim:
        sim.run(steps=9)
        assert closed() == [0, 0, 0]
    assert closed() == [1, 1, 1]  # two to train in, one to test in
    sim.close()
    assert closed() == [1, 1, 1]


def test_when_it_is_dropped():
    sim = simulation()
    sim.run(steps=3)
    del sim
    gc.collect()
    assert closed() == [1, 1, 1]


def test_a_world_alone_when_it_is_dropped():
    world = PettingZooEnv("their_ports.Port").make(2, "train", CPU)
    del world
    gc.collect()
    assert closed() == [1, 1]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_after_an_error(error):
    kind = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(kind), simulation(stops=1, error=error) as sim:
        sim.run(steps=9)
    assert closed() == [1, 1, 1]


def test_where_a_later_copy_cannot_be_built():
    with pytest.raises(UserError, match="no port is free"):
        simulation(num_worlds=8, fails=3)
    assert closed() == [1, 1, 1]


@pytest.mark.parametrize("place", ["fails", "stops"])
def test_an_environment_that_ends_the_program_is_an_error(place, monkeypatch):
    monkeypatch.setattr(
        Port, "__init__" if place == "fails" else "step", lambda *a, **k: sys.exit(3)
    )
    with pytest.raises(UserError, match="SystemExit: 3"), simulation() as sim:
        sim.run(steps=3)
    assert set(closed()) <= {1}


def test_where_the_worlds_of_the_test_cannot_be_built():
    with pytest.raises(UserError, match="no port is free"):
        simulation(fails=2)
    assert closed() == [1, 1]


def test_where_the_environment_does_not_fit():
    with pytest.raises(UserError, match="does not fit"):
        simulation(odd=True)
    assert closed() == [1, 1]


def test_where_the_simulation_does_not_fit():
    with pytest.raises(UserError, match="gradient_scale"):
        Simulation(PettingZooEnv("their_ports.Port"), ActorCritic, gradient_scale=-1.0)
    assert closed() == []
    with pytest.raises(UserError, match="there is no such agent"):
        Simulation(PettingZooEnv("their_ports.Port"), ActorCritic, num_worlds=2,
                   agents={"b_7": None})  # fmt: skip
    assert closed() == [1, 1]


@pytest.mark.parametrize("error", [ValueError("two\nlines"), SystemExit(3)])
def test_what_close_raises_is_one_line_and_hides_nothing(error, capsys):
    with pytest.raises(UserError, match="mine"), simulation(stops=1, error=ValueError("mine"),
                                                            raises=error) as sim:  # fmt: skip
        sim.run(steps=9)
    assert closed() == [1, 1, 1]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    said = "ValueError: two lines" if isinstance(error, ValueError) else "SystemExit: 3"
    assert set(lines) == {f"dnicomm: env.id=their_ports.Port: close() raised {said}"}


def test_ctrl_c_while_closing_closes_the_others_and_a_second_one_gives_up(capsys):
    sim = simulation()
    BUILT[0].raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sim.close()
    assert closed() == [1, 1, 1]
    BUILT.clear()
    sim = simulation(raises=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        sim.close()
    assert closed() == [1, 1, 0]
    assert "close() was stopped" in capsys.readouterr().err
    for port in BUILT:
        port.raises = None  # its traceback keeps the simulation
    del sim
    gc.collect()
    assert closed() == [1, 1, 1]  # what nobody tried to close is closed when it is dropped


def test_nothing_is_played_in_what_is_closed():
    sim = simulation()
    sim.close()
    for call in (lambda: sim.run(steps=3), sim.evaluate):
        with pytest.raises(UserError, match="this simulation is closed"):
            call()
    with pytest.raises(UserError, match="is closed"):
        sim.engine.play(0)


def test_at_the_end_of_a_program(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, test_closing as t, sys, types\n"
        "from pathlib import Path\n"
        "sys.modules['their_ports'] = types.SimpleNamespace(Port=t.Port)\n"
        "t.Port.close = lambda self: print('closed', self.number, flush=True)\n"
        "sim = t.simulation()\n"
        "if os.fork() == 0: sys.exit()\n"  # they are not the child's
        "os.wait()\n"
        "raise KeyboardInterrupt"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path})  # fmt: skip
    assert sorted(done.stdout.split("\n")) == ["", "closed 0", "closed 1", "closed 2"], done.stderr


def test_probes_of_a_check():
    assert check_env(PettingZooEnv("their_ports.Port", {"most": 2}), num_worlds=2) == []
    assert closed() == [1] * 4


def test_wrappers_pass_it_on():
    clock = PeriodicClock(1)
    for wrap in (
        lambda env: clocked(env, clock),
        lambda env: held(env, clock),
        lambda env: channelled(env, symbols=2),
        lambda env: channelled(parallel_to_aec(env), symbols=2),
    ):
        port = Port()
        wrap(port).close()
        assert port.closed == 1


def test_gymnasium(monkeypatch):
    shut = []

    class Solo(gymnasium.Env):
        observation_space = spaces.Box(0, 1, (1,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, True, False, {}

        def close(self):
            shut.append(self)

    gymnasium.register("Solo-v0", Solo)
    try:
        GymEnv("Solo-v0").make(2, "train", CPU).close()
    finally:
        gymnasium.registry.pop("Solo-v0")
    assert len(shut) == len(set(map(id, shut))) == 2


def test_worlds_of_ones_own():
    shut = []

    class Own(Relay):
        def make(self, num_worlds, split, device):
            world = super().make(num_worlds, split, device)
            world.close = lambda: shut.append(split)
            return world

    with Simulation(Own(), ActorCritic, num_worlds=2):
        pass
    assert shut == ["train", "test"]
    exposed = ExposedEnv(Own())
    exposed.close()
    exposed.close()
    assert shut == ["train", "test", "train"]


def test_an_environment_that_every_copy_shares_is_closed_once():
    port = Port()
    sys.modules["their_ports"].factory = lambda: port
    PettingZooEnv("their_ports.factory").make(3, "train", CPU).close()
    assert closed() == [1]


def test_the_error_of_a_block_is_not_hidden_by_an_interrupt():
    class Slow:
        def close(self):
            raise KeyboardInterrupt

    with pytest.raises(ValueError, match="mine"), closing(Slow()):
        raise ValueError("mine")
    opened = OpenThings()
    opened.add(Slow(), "slow")
    with pytest.raises(ValueError, match="mine"), opened:
        raise ValueError("mine")
