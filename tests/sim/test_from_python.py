"""A simulation from Python: one thread, a bar for who looks on, the numbers of the command line."""

import io
import sys
from contextvars import copy_context

import pytest
import torch

from dnicomm.agents import FeedForward
from dnicomm.bench import Experiment
from dnicomm.bench.training import run
from dnicomm.envs import Relay
from dnicomm.errors import UserError
from dnicomm.sim import Delay, Evaluation, PoissonClock, Simulation, World
from dnicomm.sim.progress_bar import ProgressBar
from dnicomm.sim.torch_threads import torch_threads


@pytest.fixture
def two_threads(monkeypatch):
    """A program that has set two threads, on any machine."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == 2


def relay(**settings):
    evaluation = Evaluation(every=20, episodes=1, num_worlds=4)
    return Simulation(Relay(num_agents=2), FeedForward, num_worlds=4, evaluation=evaluation,
                      **settings)  # fmt: skip


def seen_in(sim, steps=20):
    """Torch's threads at the steps of its worlds, in training and tests."""
    seen = set()
    for engine in (sim.engine, sim.examiner):
        step = engine.world.step

        def watch(step=step):
            seen.add(torch.get_num_threads())
            return step()

        engine.world.step = watch
    threads = sim.run(steps).summary["threads"]
    return seen | {threads}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("settings", "expected"), [({}, 1), ({"threads": 3}, 3)])
def test_it_runs_on_one_thread_unless_told_otherwise(settings, expected):
    assert seen_in(relay(**settings)) == {expected}
    with torch_threads(4):
        assert seen_in(relay(**settings)) == {settings.get("threads", 4)}


@pytest.mark.usefixtures("two_threads")
def test_threads_are_set_back_after_an_error():
    sim = relay(threads=3)

    def fail():
        assert torch.get_num_threads() == 3
        raise KeyboardInterrupt

    sim.world.step = fail
    with pytest.raises(KeyboardInterrupt):
        sim.run(20)
    with pytest.raises(UserError, match="threads=0"):
        relay(threads=0)


@pytest.mark.usefixtures("two_threads")
def test_a_simulation_in_another_one_sets_back_what_the_outer_one_has():
    outer, seen = relay(threads=3), []
    step = outer.world.step

    def nested():
        if not seen:
            seen.append(relay(threads=1).run(10).summary["threads"])
        seen.append(torch.get_num_threads())
        return step()

    outer.world.step = nested
    outer.run(20)
    assert seen[0] == 1
    assert set(seen[1:]) == {3}


@pytest.mark.usefixtures("two_threads")
def test_contexts_of_several_python_threads_set_back_what_was_before_all():
    """The fixture looks whether there are two threads again."""
    first, second = copy_context(), copy_context()  # each thread has one
    one, other = torch_threads(1), torch_threads(3)
    first.run(one.__enter__)
    second.run(other.__enter__)
    first.run(one.__exit__, None, None, None)
    assert torch.get_num_threads() == 3
    second.run(other.__exit__, None, None, None)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clicks(Experiment):
    """Nothing is learnt, in three updates."""

    sample, figure, steps = "clicks", "count", 3

    def step(self):
        self.updates += 1

    def evaluate(self):
        return {"count": 1.0, "threads": float(torch.get_num_threads())}

    def baseline(self):
        return self

    def moving(self):
        return {}

    tensors = moving

    def restore(self, tensors, facts): ...


def train(**settings):
    return run(Clicks(), Clicks, 1, cost=lambda fresh: {}, **settings)


def test_progress_is_shown_in_a_terminal_unless_silenced(monkeypatch, capsys):
    def shown(call, stream=None):
        stream = stream or Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        call()
        return stream.getvalue()

    sim = relay()
    assert "world time" in shown(lambda: sim.run(20))
    assert "accuracy" in shown(lambda: sim.run(40, progress=True), io.StringIO())
    assert shown(lambda: sim.run(60, progress=False)) == ""
    assert shown(lambda: sim.run(80), io.StringIO()) == ""
    assert shown(lambda: sim.run(100, on_progress=lambda progress: None)) == ""
    assert "update" in shown(train)
    assert shown(lambda: train(progress=False)) == ""
    assert shown(train, io.StringIO()) == ""
    assert capsys.readouterr().out == ""


def test_in_a_notebook_it_is_a_line(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    relay().run(20)
    lines = [line.strip() for line in sys.stderr.getvalue().split("\r")]
    assert lines[1] == "world time 0 of 20"
    assert lines[-1].startswith("world time 20 of 20  accuracy ")
    assert sys.stderr.getvalue().endswith("\n")


def test_what_is_printed_during_a_run_goes_where_it_always_went(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with ProgressBar("time") as bar:
        bar.update(0, 2)
        print("mine")
    assert sys.stdout.getvalue() == "mine\n"


def test_there_is_one_bar_at_a_time(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar("outer"):
        with ProgressBar("inner", wanted=True) as inner:
            inner.update(1, 2)
        assert "inner" not in sys.stderr.getvalue()
    with ProgressBar("later") as later:
        later.update(1, 2)
    assert "later 1 of 2" in sys.stderr.getvalue()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("settings", "expected"), [({}, 1), ({"threads": 3}, 3)])
def test_an_experiment_runs_on_one_thread_unless_told_otherwise(settings, expected):
    assert train(**settings)["metrics"]["threads"] == expected


def test_clocks_may_be_told_of_the_worlds():
    def clocks(world):
        assert isinstance(world, World)
        return {world.agents[1]: PoissonClock(rate=0.5)}

    sim = relay(clocks=clocks, channel=Delay(0, 2))
    assert sim.engine.clocks == {"agent_0": PoissonClock(1.0), "agent_1": PoissonClock(0.5)}
