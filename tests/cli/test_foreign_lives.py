"""Environments that hold a port: how many a command builds, and that each is closed once."""

import json
import signal
import time

import pytest

from dnicomm.agents import FeedForward
from dnicomm.core import Adam, GradientUtility
from dnicomm.envs import Relay
from dnicomm.runs import RunFolder
from dnicomm.sim import Delay, Evaluation, PoissonClock, Simulation, UtilitySettings

PORT = '''
import os, time
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

def log(word):
    with open("log", "a") as file:
        file.write(word + " ")

class Port(ParallelEnv):
    """At most ``most`` may be open; ``trouble`` in a step, or in close."""
    metadata, possible_agents, open = {"name": "port_v0"}, ["a", "b"], 0

    def __init__(self, most=100, trouble=""):
        if Port.open >= most:
            raise OSError("the port is taken")
        Port.open += 1
        self.trouble, self.steps, self.seed = trouble, 0, 0
        log("open")

    def observation_space(self, agent, space=Box(0, 1, (2,), np.float32)): return space
    def action_space(self, agent, space=Discrete(2)): return space

    def reset(self, seed=None, options=None):
        self.agents, self.time, self.rng = self.possible_agents[:], 0, np.random.default_rng(seed)
        return self.seen(), {agent: {} for agent in self.agents}

    def seen(self):
        return {agent: self.rng.random(2, np.float32) for agent in self.agents}

    def step(self, actions):
        self.steps += 1
        if self.trouble == "raises" and self.steps == 20:
            raise ValueError("mine")
        if self.trouble == "hangs":
            log("hanging")
            time.sleep(60)
        self.time += 1
        seen, live = self.seen(), self.agents
        self.agents = live if self.time < 4 else []
        return seen, *({a: x * actions[a] for a in live} for x in (1.0, False, False)), {}

    def step(self, actions, step=step):
        seen, paid, _, _, infos = step(self, actions)
        return seen, paid, dict.fromkeys(paid, self.time == 4), dict.fromkeys(paid, False), infos

    def close(self):
        Port.open -= 1
        log("close")
        if self.trouble == "close":
            raise OSError("it was closed already")
'''
ONE = ["run", "env=pettingzoo", "env.id=my_port.Port", "num_worlds=1", "window=4", "steps=16",
       "eval.every=8", "eval.episodes=1", "utility=none", "feedback=none"]  # fmt: skip


@pytest.fixture
def port(cli, monkeypatch):
    """The environment in the working folder; reads what happened to its copies."""
    monkeypatch.delitem(__import__("sys").modules, "my_port", raising=False)
    cli.write("my_port.py", PORT)

    def read():
        path = cli.folder / "log"
        words = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return words

    return read


def test_one_copy_is_enough_to_train_and_test_in(cli, port):
    refused = cli(*ONE, "env.kwargs.most=1", "hydra.run.dir=own")  # a second one to test in
    assert refused.code == 2
    assert "the port is taken (my_port.py:17). Where no more can exist" in refused.err
    assert port() == ["open", "close"]
    done = cli(*ONE, "env.kwargs.most=1", "eval.worlds=shared", "hydra.run.dir=run")
    assert (done.code, port()) == (0, ["open", "close"])
    metrics = RunFolder.open(cli.folder / "run").metrics()[-1]["metrics"]
    assert {"return", "train_return"} <= metrics.keys()
    for command in ("eval", "resume"):
        done = cli(command, "run")
        assert done.code == 0, done.err
    assert port() == ["open", "close"]  # what has ended is not resumed
    refused = cli(*ONE, "eval.worlds=shared", "eval.num_worlds=3")
    assert refused.code == 2
    assert "eval.num_worlds=3: with eval.worlds=shared" in refused.err
    assert "must be own or shared" in cli(*ONE, "eval.worlds=mine").err


def test_a_run_without_tests(cli, port):
    done = cli(*ONE, "env.kwargs.most=1", "eval.episodes=0", "hydra.run.dir=run")
    assert (done.code, port()) == (0, ["open", "close"]), done.err
    records = RunFolder.open(cli.folder / "run").metrics()
    assert [list(record["metrics"]) for record in records] == [["train_return"]] * 2
    assert (cli.folder / "run" / "report.html").exists()
    refused = cli("eval", "run")
    assert (refused.code, port()) == (2, ["open", "close"])
    assert "--episodes=" in refused.err
    tested = cli("eval", "run", "--episodes=2", "--json", "--metrics=none")
    assert "return" in json.loads(tested.out)["metrics"]
    assert cli("compare", "run").code == 0
    assert cli(*ONE, "eval.episodes=0", "-m", "seed=0,1").code == 0


def test_tests_in_the_training_worlds_change_no_training(cli, port):
    def learnt(*words):
        folder = "-".join(words).replace("=", "-")
        assert cli(*ONE, *words, f"hydra.run.dir={folder}").code == 0
        checkpoint = RunFolder.open(cli.folder / folder).latest_checkpoint()
        assert checkpoint is not None
        tensors = checkpoint.tensors.items()
        return {name: tensor.tolist() for name, tensor in tensors if "_meter" not in name}

    own = learnt("eval.worlds=own")
    assert learnt("eval.worlds=shared") == own
    assert learnt("eval.worlds=shared", "eval.every=4") == own
    assert learnt("eval.episodes=0", "eval.every=16") == own


@pytest.mark.parametrize("words", [[], ["-m", "seed=0,1"]])
def test_every_copy_is_closed_at_the_end(cli, port, words):
    assert cli(*ONE, *words).code == 0
    happened = port()
    assert happened.count("open") == happened.count("close") >= 2


def test_every_copy_is_closed_after_an_error(cli, port):
    done = cli(*ONE, "env.kwargs.trouble=raises", "num_worlds=3", "hydra.run.dir=run")
    assert done.code == 2
    assert "mine" in done.err
    happened = port()
    assert happened.count("open") == happened.count("close") == 6
    for command in (["resume", "run"], ["eval", "run"]):
        assert cli(*command).code in (0, 2)
        happened = port()
        assert happened.count("open") == happened.count("close") == 6


def test_every_copy_is_closed_after_a_refusal(cli, port):
    for words in (["agent=feedforward"], ["logger=[nothing]"], ["eval.num_worlds=0"]):
        assert cli(*ONE, *words).code == 2
        happened = port()
        assert happened.count("open") == happened.count("close")


def test_what_close_raises_fails_no_run(cli, port):
    done = cli(*ONE, "env.kwargs.trouble=close")
    assert done.code == 0
    said = "dnicomm: env.id=my_port.Port: close() raised OSError: it was closed already"
    assert done.err.splitlines() == [said, said]
    assert port() == ["open", "open", "close", "close"]


def test_a_check_has_room_in_one_copy(cli, port):
    found = cli("check", "my_port.Port", "most=2")
    happened = port()
    assert happened.count("open") == happened.count("close") == 5, found.out


def test_a_check_of_what_can_exist_once(cli, port):
    found = cli("check", "my_port.Port", "most=1")
    assert (found.code, port().count("close")) == (1, 4)
    assert "train with num_worlds=1 eval.worlds=shared" in found.out
    assert "1 to put right" in found.out


def test_ctrl_c_in_a_step_closes_every_copy(cli, port):
    process = cli.start(*ONE, "env.kwargs.trouble=hangs", "num_worlds=2", "hydra.run.dir=run")
    for _ in range(600):
        if (cli.folder / "log").exists() and "hanging" in (cli.folder / "log").read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"stopped" in err
    happened = port()
    assert happened.count("open") == happened.count("close") == 4


def test_from_python_the_numbers_are_those_of_the_command_line(cli):
    words = ["env.num_agents=3", "num_worlds=8", "clock.rate=0.5", "channel.delay=[0,2]",
             "steps=60", "eval.every=30", "eval.episodes=2", "eval.num_worlds=16",
             "agent.width=16", "seed=4"]  # fmt: skip
    assert cli("run", *words, "hydra.run.dir=run").code == 0
    result = Simulation(
        env=Relay(num_agents=3),
        agent=lambda spec: FeedForward(spec, width=16),
        clock=PoissonClock(rate=0.5),
        channel=Delay(0, 2),
        utility=UtilitySettings(GradientUtility, Adam(3e-3)),
        optimizer=Adam(1e-3),
        num_worlds=8,
        evaluation=Evaluation(every=30, episodes=2, num_worlds=16),
        seed=4,
    ).run(steps=60)
    records = RunFolder.open(cli.folder / "run").metrics()
    assert [record["metrics"] for record in result.history] == [r["metrics"] for r in records]
    assert [record["agents"] for record in result.history] == [r["agents"] for r in records]
