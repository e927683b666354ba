"""The public checks: quiet about what is right, plain about each way of being wrong."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dnicomm.agents import ActorCritic, FeedForward, Recurrent
from dnicomm.core import GradientUtility
from dnicomm.envs import Counting, Relay
from dnicomm.envs.relay import RelayWorld
from dnicomm.sim import (
    Agent,
    AgentSpec,
    Channel,
    Clock,
    Drop,
    JitteredClock,
    Noise,
    PoissonClock,
    TickOutput,
    TraceClock,
    standard_channel,
)
from dnicomm.testing import check_agent, check_channel, check_clock, check_env, check_utility


def _only(complaints, part):
    assert len(complaints) == 1, complaints
    assert part in complaints[0]


# -- agents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "agent", [FeedForward, Recurrent, ActorCritic, lambda s: FeedForward(s, 3)]
)
def test_agents_that_are_right(agent):
    assert check_agent(agent) == []


def test_an_agent_for_one_spec_alone():
    spec = AgentSpec((6,), 4, True, 8, 2)

    class Choosy(FeedForward):
        def __init__(self, spec):
            assert spec.num_inputs == 2
            super().__init__(spec)

    assert check_agent(Choosy, spec) == []
    complaints = check_agent(Choosy)
    assert complaints[0].endswith("(first of a chain: nothing comes in)")


def _agent(change):
    """An agent that is right but for what ``change(output, self, observation, inbox)`` does."""

    class Changed(FeedForward):
        def tick(self, observation, inbox, state):
            return change(super().tick(observation, inbox, state), self, observation, inbox)

    return Changed


WRONG_TICKS = {
    "returns a tuple": (lambda o, *_: tuple(o), "tick returns a tuple; it must be a"),
    "returns nothing": (lambda o, *_: None, "tick returns a NoneType"),
    "raises": (lambda o, *_: 1 / 0, "tick failed: ZeroDivisionError: division by zero"),
    "has a short message": (
        lambda o, *_: o._replace(message=o.message[:, 1:]),
        "message has shape [5, 7]; it must be [5, 8]",
    ),
    "has another dtype": (
        lambda o, *_: o._replace(action=o.action.double()),
        "action is float64; it must be float32",
    ),
    "is not finite": (
        lambda o, *_: o._replace(message=o.message / 0),
        "message has numbers in it that are not finite",
    ),
    "has a value a world too many": (
        lambda o, *_: o._replace(value=o.action),
        "value has shape [5, 4]; it must be [5]",
    ),
    "has another state": (
        lambda o, *_: o._replace(state=o.message),
        "the state that tick returns is built otherwise than initial_state's",
    ),
    "mixes worlds": (
        lambda o, *_: o._replace(message=o.message - o.message.mean(0)),
        "worlds are not independent: changing what world 0 sees and hears changes the message",
    ),
    "writes into what it is given": (
        lambda o, self, observation, inbox: [o, observation.add_(1)][0],
        "tick writes into what it is given",
    ),
    "branches on values": (
        lambda o, *_: o if o.message.sum() > 0 else o._replace(message=-o.message),
        "can't be computed at once by torch.func.vmap",
    ),
    "learns nothing": (
        lambda o, *_: TickOutput(o.action.detach(), o.message.detach(), o.state),
        "neither loss nor message depends on a parameter",
    ),
}


@pytest.mark.parametrize(("change", "complaint"), WRONG_TICKS.values(), ids=WRONG_TICKS)
def test_ticks_that_are_wrong(change, complaint):
    _only(check_agent(_agent(change)), complaint)


def test_what_is_no_agent():
    class NoTick(Agent):
        pass

    _only(check_agent(dict), "dict is no torch.nn.Module; derive it from dnicomm.sim.Agent")
    _only(check_agent(nn.Linear), "Linear is an nn.Module but no Agent")
    _only(check_agent(lambda spec: nn.Linear(1, 1)), "a Linear was built, and that is no Agent")
    _only(check_agent(NoTick), "NoTick has no tick(self, observation, inbox, state)")


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (lambda worlds: [1.0], "initial_state holds a float"),
        (lambda worlds: torch.zeros(7, worlds), "initial_state(5) holds a tensor [7, 5]"),
        (lambda worlds: torch.zeros(()), "initial_state(5) holds a tensor []"),
    ],
)
def test_states_that_are_wrong(state, complaint):
    class Stateful(FeedForward):
        def initial_state(self, num_worlds):
            return state(num_worlds)

    _only(check_agent(Stateful), complaint)


def test_states_that_change_their_dtype():
    class Drifting(Recurrent):
        def tick(self, observation, inbox, state):
            output = super().tick(observation, inbox, state)
            return output._replace(state=output.state.double())

    _only(check_agent(Drifting), "float64; initial_state gave [5, 64] float32")


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        (lambda output, outcome: output.action.sum(), "loss has shape []; it must be [5]"),
        (lambda output, outcome: 1 / 0, "loss failed: ZeroDivisionError"),
        (lambda output, outcome: 0.0, "loss is a float; it must be a tensor [5]"),
    ],
)
def test_losses_that_are_wrong(loss, complaint):
    class Losing(FeedForward):
        def loss(self, output, outcome):
            return loss(output, outcome)

    assert complaint in check_agent(Losing)[0]


def odd(add, use=lambda self, h: self.part(h)):
    """An agent with something odd between its body and its heads."""

    class Odd(Agent):
        def __init__(self, spec):
            super().__init__(spec)
            self.body = nn.Linear(spec.input_size, 4)
            self.message = nn.Linear(4, spec.message_size)
            self.action = nn.Linear(4, spec.action_size)
            self.part = add()

        def tick(self, observation, inbox, state):
            h = use(self, torch.tanh(self.body(torch.cat([observation, inbox.flat()], -1))))
            return TickOutput(self.action(h), self.message(h))

    return Odd


def scaled(self, h):
    return h * self.part.to(h.dtype)


def kept(self, h):
    self.part.append(h)
    return sum(self.part)


def followed(self, h):
    with torch.no_grad():
        self.part.weight.lerp_(torch.zeros(4, 4), 0.1)
    return self.part(h)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "agent",
    [
        odd(lambda: nn.Parameter(torch.tensor(1.0)), scaled),
        odd(lambda: nn.Parameter(torch.ones(4).double(), requires_grad=False), scaled),
        odd(lambda: nn.Linear(4, 4).requires_grad_(False)),
        odd(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))),
        odd(lambda: nn.utils.spectral_norm(nn.Linear(4, 4))),
        odd(lambda: nn.utils.weight_norm(nn.Linear(4, 4))),
        lambda spec: FeedForward(spec).requires_grad_(False),
    ],
    ids=["no dimensions", "float64 at rest", "at rest", "spectral norm", "old spectral norm",
         "old weight norm", "nothing learns"],
)  # fmt: skip
def test_ordinary_modules_are_right(agent):
    assert check_agent(agent) == []


def with_factors(spec):
    agent = FeedForward(spec)
    agent.rate_factors = {"bodi": 2}
    return agent


def replaced(self, h):
    self.part = nn.Parameter(self.part.detach() * 0.9)
    return h * self.part


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("agent", "complaint"),
    [
        (
            odd(lambda: nn.Parameter(torch.ones(4)), replaced),
            "tick puts another parameter in the place of part, which learns nothing",
        ),
        (
            odd(lambda: None, lambda self, h: (self.register_buffer("seen", h.detach()), h)[1]),
            "tick makes seen; parameters and buffers are made in __init__",
        ),
        (odd(lambda: nn.Parameter(torch.ones(4).double()), scaled), "parameter part is float64; "),
        (odd(lambda: nn.LazyLinear(4)), "parameter part.weight has no shape yet (a lazy layer); "),
        (odd(list, kept), "tick appends tensors to part, an attribute of the module: what it rem"),
        (odd(lambda: nn.Linear(4, 4), followed), "tick changes the parameter part.weight; only th"),
        (odd(lambda: nn.Linear(4, 4).requires_grad_(False), followed), "tick changes the paramete"),
        (odd(lambda: nn.Embedding(3, 4, sparse=True), lambda self, h: h), "has sparse gradients"),
        (with_factors, "rate_factors: no parameter is called 'bodi'. Did you mean 'body'?"),
    ],
    ids=[
        "another",
        "late",
        "float64",
        "lazy",
        "a list",
        "steps itself",
        "steps rests",
        "sparse",
        "factors",
    ],
)
def test_modules_that_cannot_be_agents(agent, complaint):
    assert complaint in check_agent(agent)[0]


def test_what_an_agent_raises_names_the_line_in_its_file():
    def crash(self, h):
        raise KeyError("mine")

    found = check_agent(odd(lambda: None, crash))[0]
    assert found.startswith("tick failed: KeyError: 'mine' (")
    assert "test_conformance_checks.py:" in found


# -- clocks and channels --------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [PoissonClock(0.3), JitteredClock(4, 2), TraceClock([0, 5])])
def test_clocks_that_are_right(clock):
    assert check_clock(clock) == []


class Every(Clock):
    """Ticks at every time; its parts can be replaced."""

    def next(self, time, rng):
        return time + 1


@pytest.mark.parametrize(
    ("method", "replacement", "complaint"),
    [
        ("next", lambda self, time, rng: time, "next(0, rng) gives 0; the next tick must be later"),
        ("next", lambda self, time, rng: time + 1 + int(rng.random() * 0), None),
        ("first", lambda self, rng: None, "it never ticks in an episode of 200"),
        ("ticks", lambda self, rng, horizon: [0, 5, 5], "a gap is below 1"),
        ("ticks", lambda self, rng, horizon: [0.5], "it must be one of integers"),
        ("ticks", lambda self, rng, horizon: np.arange(1, horizon), "give other ticks than ticks"),
        ("ticks", lambda self, rng, horizon: np.arange(horizon + 1), "that are not in 0 to 199"),
        (
            "ticks",
            lambda self, rng, horizon: np.arange(0, horizon, 1 + horizon // 100),
            "the ticks of a short episode are not the first ones of a longer one",
        ),
    ],
)
def test_clocks_that_are_wrong(monkeypatch, method, replacement, complaint):
    monkeypatch.setattr(Every, method, replacement)
    complaints = check_clock(Every())
    assert complaints == [] if complaint is None else any(complaint in c for c in complaints)


def test_a_clock_that_remembers():
    class Drifting(Every):
        made = 0

        def first(self, rng):
            self.made += 1
            return self.made % 2

    assert any("the same generator gives other ticks" in c for c in check_clock(Drifting()))


@pytest.mark.parametrize(
    "channel", [Channel(), Drop(0.3), Noise(1.0), standard_channel([0, 3], 0.1, 0.2, 4)]
)
def test_channels_that_are_right(channel):
    assert check_channel(channel) == []


@pytest.mark.parametrize(
    ("method", "replacement", "complaint"),
    [
        ("delays", lambda self, rng, count: np.full(count, -1), "a delay is negative"),
        ("delays", lambda self, rng, count: np.ones(3), "it must be 20 integers"),
        ("lost", lambda self, rng, shape: np.zeros(shape), "it must be None or [20, 5] bool"),
        ("lost", lambda self, rng, shape: np.random.random(shape) < 0.5, "draw from rng alone"),
        ("distort", lambda self, message, rng: message[:, 1:], "what distort returns has shape"),
        ("distort", lambda self, message, rng: message.add_(1), "distort writes into the message"),
        ("distort", lambda self, message, rng: 1 / 0, "distort failed: ZeroDivisionError"),
    ],
)
def test_channels_that_are_wrong(method, replacement, complaint):
    cls = type("Wrong", (Channel,), {method: replacement})
    assert any(complaint in c for c in check_channel(cls()))


# -- utility models ---------------------------------------------------------------------------


def test_utility_models_that_are_wrong():
    class Eager(GradientUtility):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            nn.init.ones_(self.body.layers[-1].bias)

    class Summed(GradientUtility):
        def loss(self, estimate, target):
            return super().loss(estimate, target).mean()

    class Bare(GradientUtility):
        def forward(self, message, context):
            return super().forward(message, context).gradient

    _only(check_utility(Eager), "the first synthetic gradient is not zero")
    _only(check_utility(Summed), "loss has shape []; it must be [5]")
    _only(check_utility(Bare), "forward returns a Tensor; it must be a")
    _only(check_utility(lambda message_size, context_size: nn.Linear(1, 1)), "is no UtilityModel")
    _only(check_utility(lambda message_size: None), "it can't be built: TypeError")


# -- environments -----------------------------------------------------------------------------


@pytest.mark.parametrize("env", [Relay(num_agents=3), Counting(), Counting(irregular=True)])
def test_environments_that_are_right(env):
    assert check_env(env) == []


def _relay(**replacements):
    """A relay whose world has some of its methods replaced."""
    cls = type("Wrong", (RelayWorld,), replacements)

    @dataclasses.dataclass
    class Changed(Relay):
        def make(self, num_worlds, split, device):
            return cls(self, num_worlds, split, device)

    return Changed(num_agents=2)


@pytest.mark.parametrize(
    ("name", "replacement", "complaint"),
    [
        ("observe", lambda self, agents: torch.zeros(1, 3, 2), "what agent_0 observes has shape"),
        ("observe", lambda self, agents: 1 / 0, "observe failed for agent_0: ZeroDivisionError"),
        ("labels", lambda self, agents: torch.zeros(1, 3), "the labels of agent_0 is float32"),
        ("step", lambda self: torch.zeros(3), "what step returns has shape [3]; it must be [2, 3]"),
        ("rewards", True, "rewards is true, and step returns none"),
        ("score", lambda self: {"accuracy": torch.zeros(())}, "score accuracy has shape []"),
        ("context", lambda self, field: torch.zeros(3, 1), "context('label') has shape [3, 1]"),
        ("episode_length", lambda self: 99, "episode_length() is 99; it must be from 1 to horizon"),
        ("active", lambda self: torch.ones(2, 3), "active() is float32; it must be bool"),
        ("truncated", lambda self: torch.ones(2, 3), "truncated() is float32; it must be bool"),
        ("truncated", lambda self: torch.ones(2, 3, dtype=torch.bool), "that alive() says go on"),
        ("schedule", lambda self: {"agent_0": [0]}, "schedule() says nothing of agent_1"),
        ("label_field", "digit", "label_field is digit, which is not in context_fields"),
        ("default_context", ("digit",), "default_context names digit, which is not in"),
        ("spaces", lambda self, agent: (3,), "spaces('agent_0') is a tuple; it must be Agent"),
    ],
)  # fmt: skip
def test_environments_that_are_wrong(name, replacement, complaint):
    assert any(complaint in c for c in check_env(_relay(**{name: replacement})))


def test_an_environment_with_random_numbers_of_its_own():
    def observe(self, agents):
        return torch.rand(1, 3, 64 if agents[0] == 0 else 0)

    _only(check_env(_relay(observe=observe)), "goes another way")


def test_what_is_no_environment():
    _only(check_env(RelayWorld), "is no Env")


def test_utility_models_may_rest_in_part_but_not_be_double():
    def rests(message_size, context_size):
        model = GradientUtility(message_size, context_size, hidden=(4,))
        model.body.layers[0].requires_grad_(False)
        return model

    def double(message_size, context_size):
        model = GradientUtility(message_size, context_size)
        model.extra = nn.Parameter(torch.ones(2).double())
        return model

    assert check_utility(rests) == []
    assert check_utility(lambda **sizes: GradientUtility(**sizes).requires_grad_(False)) == []
    _only(check_utility(double), "parameter extra is float64; parameters that learn must be")
