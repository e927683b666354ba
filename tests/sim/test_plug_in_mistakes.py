"""What a plug-in gives back and must not: a line that says who, when and what it must be."""

import re

import numpy as np
import pytest
import torch

from dnicomm.core import Adam
from dnicomm.errors import UserError
from dnicomm.sim import Channel, Clock, Override, PeriodicClock, Ring, Simulation
from dnicomm.sim.checks import _alike

WORLDS = 5


def run(town, agent, **own):
    given = {
        "clock": PeriodicClock(2), "topology": Ring(), "message_size": 4, "num_worlds": WORLDS,
        "feedback": "exact", "utility": None, "optimizer": Adam(1e-2),
    }  # fmt: skip
    Simulation(town(num_agents=3, horizon=6), agent, **(given | own)).run(steps=6)


def tick_at(change, late):
    """A method ``tick`` whose output is changed, in every tick or from the second one on."""

    def tick(self, observation, inbox, state):
        output = type(self).__mro__[1].tick(self, observation, inbox, state)
        self.ticks = getattr(self, "ticks", 0) + 1
        return change(output) if self.ticks > 2 * late else output

    return tick


MISTAKES = {
    "none": (lambda o: None, "what tick gives back at world time 0 is a NoneType; it must be a T"),
    "a tuple": (lambda o: tuple(o), "what tick gives back at world time 0 is a tuple; it must be"),
    "a tensor": (lambda o: o.message, "what tick gives back at world time 0 is [5, 4] float32"),
    "a number": (
        lambda o: o._replace(action=1.0),
        "action at world time 0 is a float; it must be [5, 3] float32",
    ),
    "no message": (
        lambda o: o._replace(message=None),
        "message on agent_0->agent_1 at world time 0 is a NoneType; it must be [5, 4] float32",
    ),
    "no worlds": (
        lambda o: o._replace(message=o.message[0]),
        "message on agent_0->agent_1 at world time 0 is [4] float32; it must be [5, 4] float32",
    ),
    "a column": (
        lambda o: o._replace(value=o.message[:, :1]),
        "value at world time 0 is [5, 1] float32; it must be [5] float32",
    ),
    "a deviation of another size": (
        lambda o: o._replace(log_std=o.action[:, 1:]),
        "log_std at world time 0 is [5, 2] float32; it must be [5, 3] float32",
    ),
    "a column of gates": (
        lambda o: o._replace(speak=o.message[:, :1]),
        "speak at world time 0 is [5, 1] float32; it must be [5] float32",
    ),
    "a decision": (
        lambda o: o._replace(speak=o.message[:, 0] > 0),
        "speak at world time 0 is [5] bool; it must be [5] float32",
    ),
    "another structure": (
        lambda o: o._replace(state=o.state["h"]),
        "state at world time 0 is [5, 5] float32; it must be {h: [5, 5] float32, ticks: [5] float3",
    ),
    "another shape": (
        lambda o: o._replace(state=o.state | {"h": o.state["h"][:, 1:]}),
        "state at world time 0 is {h: [5, 4] float32, ticks: [5] float32}; it must be {h: [5, 5] f",
    ),
    "another type": (
        lambda o: o._replace(state=o.state | {"ticks": 3}),
        "state at world time 0 is {h: [5, 5] float32, ticks: a int}; it must be",
    ),
}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_a_tick_gives_back(change, message, apart, town, walker, device):
    wrong = type("Wrong", (walker,), {"tick": tick_at(change, late=False)})
    own = {"clocks": {"agent_1": PeriodicClock(2, 1)}} if apart else {}
    with pytest.raises(UserError, match="agent agent_0: " + re.escape(message)):
        run(town, wrong, device=device, **own)


def test_a_later_tick(town, walker):
    change, _ = MISTAKES["another shape"]
    wrong = type("Wrong", (walker,), {"tick": tick_at(change, late=True)})
    with pytest.raises(UserError, match=r"state at world time 4 is .*, as initial_state made it"):
        run(town, wrong)


@pytest.mark.parametrize("after", [np.zeros(3), torch.zeros(5, 4), None, [], ((),)])
def test_the_state_of_who_has_none(after):
    assert _alike((), ())
    assert not _alike((), after)


LOSSES = {
    "a mean": (lambda loss: loss.mean(), "[] float32"),
    "a column": (lambda loss: loss[:, None], "[5, 1] float32"),
    "a number": (lambda loss: 0.0, "a float"),
    "whole": (lambda loss: loss.long(), "[5] int64"),
}


@pytest.mark.parametrize(("change", "found"), LOSSES.values(), ids=LOSSES)
def test_what_a_loss_is(change, found, town, walker, device):
    class Wrong(walker):
        def loss(self, output, outcome):
            return change(super().loss(output, outcome))

    message = f"agent agent_0: loss at world time 0 is {found}; it must be [5], one floating-point"
    with pytest.raises(UserError, match=re.escape(message)):
        run(town, Wrong, device=device)


@pytest.mark.parametrize("epochs", [0, 2.0, True, None])
def test_how_often_it_steps(epochs, town, walker):
    wrong = type("Wrong", (walker,), {"epochs": epochs})
    said = f"agent agent_0: epochs is {epochs}; it must be 1 or more, a whole number"
    with pytest.raises(UserError, match=re.escape(said)):
        run(town, wrong)


LINE = r"\(\S*test_plug_in_mistakes\.py:\d+\)"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("method", ["tick", "loss", "initial_state", "__init__"])
def test_what_an_agent_raises_is_a_line_with_the_place_in_its_file(method, together, town, walker):
    def crash(self, *args):
        raise ArithmeticError("mine")

    crashing = type("Crashing", (walker,), {method: crash})
    apart = {f"agent_{i}": Override(crashing, key=i) for i in range(3)}
    who = "agent_0, agent_1, agent_2" if together and method in ("tick", "loss") else "agent_0"
    said = {
        "tick": f"agent {who}: tick failed at world time 0: ArithmeticError: mine {LINE}",
        "loss": f"agent {who}: loss failed at world time 0: ArithmeticError: mine {LINE}",
        "initial_state": f"agent {who}: initial_state failed: ArithmeticError: mine {LINE}",
        "__init__": f"agent {who}: it can't be built: ArithmeticError: mine {LINE}",
    }[method]
    with pytest.raises(UserError, match=said) as raised:
        run(town, crashing, agents={} if together else apart)
    assert isinstance(raised.value.__cause__, ArithmeticError)


def test_what_fails_in_a_map_names_the_line_too(town, walker):
    class Branches(walker):
        def tick(self, observation, inbox, state):
            if observation.sum() > 0:
                pass
            return super().tick(observation, inbox, state)

    with pytest.raises(UserError, match=rf"tick failed .*{LINE}\. Equal ones are computed at on"):
        run(town, Branches)


def test_what_a_user_refuses_stays_as_it_is_said(town, walker):
    class Refuses(walker):
        def tick(self, observation, inbox, state):
            raise UserError("my own line")

    with pytest.raises(UserError, match=r"^my own line$"):
        run(town, Refuses)


CHANNELS = {
    "back in time": ("delays", lambda rng, n: np.full(n, -2), "-2 among them; it must give whole"),
    "halves": ("delays", lambda rng, n: np.full(n, 0.5), "[6] float64; it must give whole numbers"),
    "one delay": ("delays", lambda rng, n: 3, "[] int64; it must give whole numbers of at least 0"),
    "too few": ("delays", lambda rng, n: [0], "[1] int64; it must give whole numbers of at least"),
    "no worlds": (
        "lost",
        lambda rng, s: np.zeros(s[0], bool),
        "[6] bool; it must give [6, 5] bool",
    ),
    "no bool": ("lost", lambda rng, s: np.zeros(s), "[6, 5] float64; it must give [6, 5] bool, or"),
}


@pytest.mark.parametrize(("method", "give", "message"), CHANNELS.values(), ids=CHANNELS)
def test_what_a_channel_does(method, give, message, town, walker):
    wrong = type("Wrong", (Channel,), {method: lambda self, rng, asked: give(rng, asked)})
    said = re.escape(f"channel agent_0->agent_1: Wrong.{method} gave {message}")
    with pytest.raises(UserError, match=said):
        run(town, walker, channel=wrong())


def test_a_channel_may_give_lists(town, walker):
    class Lists(Channel):
        def delays(self, rng, count):
            return [1] * count

        def lost(self, rng, shape):
            return torch.zeros(shape, dtype=torch.bool).tolist()

    run(town, walker, channel=Lists())


def test_what_a_clock_raises_keeps_its_traceback_and_says_whose_it_was(town, walker):
    class Stops(Clock):
        def next(self, time, rng):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError) as raised:
        run(town, walker, clock=Stops())
    assert any(line.startswith("In the clock of agent_0, a ") for line in raised.value.__notes__)
