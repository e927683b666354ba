"""Ordinary modules of torch as agents: frozen parts, buffers, odd parameters, taken out again."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from dnicomm.agents import PPO, ActorCritic, FeedForward, RecurrentPPO
from dnicomm.core import Adam, CriticUtility, GradientUtility
from dnicomm.core.least_squares import LeastSquaresUtility
from dnicomm.errors import UserError
from dnicomm.sim import (
    Agent,
    Complete,
    Evaluation,
    Inbox,
    Override,
    PoissonClock,
    Simulation,
    TickOutput,
    UtilitySettings,
)

N, B, D = 3, 4, 3


def simulation(env: Any, agent: Any, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.6),
        "topology": Complete(),
        "message_size": D,
        "num_worlds": B,
        "window": 4,
        "optimizer": Adam(1e-2, clip=0.1),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=100, episodes=1, num_worlds=B),
    }
    return Simulation(env, agent, **(given | own))


def apart(kind: Any) -> dict[str, Override]:
    """Everybody alone of its kind."""
    return {f"agent_{i}": Override(kind, key=i) for i in range(N)}


# -- frozen parts -------------------------------------------------------------------------------


def at_rest(kind: Any, how: str, **options: Any) -> Any:
    """Agents of a kind whose body rests: as frozen parameters, or as buffers."""

    class Resting(kind):
        def __init__(self, spec):
            super().__init__(spec, **options)
            for layer in self.body:
                if not isinstance(layer, nn.Linear):
                    continue
                if how == "frozen":
                    layer.requires_grad_(False)
                else:
                    for name, value in list(layer.named_parameters()):
                        delattr(layer, name)
                        layer.register_buffer(name, value.detach())

    if kind.__dict__.get("stacks"):
        Resting.stacks = True
    return Resting


def learns(sim: Simulation) -> dict[str, dict[str, torch.Tensor]]:
    """Everybody's values by their names, whatever holds them."""
    return {name: sim.module(name).state_dict() for name in sim.world.agents}


KINDS = {
    "feedforward": (FeedForward, {"width": 6}, "town"),
    "a2c": (ActorCritic, {"width": 6}, "market"),
    "ppo": (PPO, {"width": 6, "epochs": 3}, "market"),
    "shares": (PPO, {"width": 6, "epochs": 3, "minibatches": 2}, "market"),
    "recurrent ppo": (RecurrentPPO, {"width": 6, "epochs": 2}, "market"),
}
WAYS = {
    "many": {},
    "alone": {"agents": True},
    "shared": {"share_parameters": True},
    "exact": {"feedback": "exact", "utility": None},
    "critic": {"utility": UtilitySettings(CriticUtility, Adam(1e-2))},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_is_as_constant_as_a_buffer(kind, way, request, double):
    """Runs with the same values at rest in two ways are the same, step by step."""
    cls, options, place = KINDS[kind]
    env = request.getfixturevalue(place)(num_agents=N)
    found = []
    for how in ("frozen", "buffers"):
        agent, own = at_rest(cls, how, **options), dict(WAYS[way])
        if own.pop("agents", False):
            own["agents"] = apart(agent)
        sim = simulation(env, agent, **own)
        before = learns(sim)
        sim.run(steps=env.horizon)
        found.append((before, learns(sim), sim))
    (old, new, frozen), (_, other, _) = found
    for name in new:
        for key, value in other[name].items():
            # Adam moves a gradient of nothing but rounding, 1e-17, by 1e-9 of its rate
            torch.testing.assert_close(new[name][key], value, rtol=1e-9, atol=1e-9)
            moved = not torch.equal(new[name][key], old[name][key])
            # a critic says the same in all worlds at first, of which normalisation leaves nothing
            if not key.startswith("message."):
                assert moved == (not key.startswith("body.")), (name, key)
    for population in frozen.populations:
        assert population.agents.slots["mean"].shape == population.agents.parameters.shape
        assert "body.0.weight" in population.agents.frozen
        assert not population.agents.skipped.any()


class Half(GradientUtility):
    """Its first layer keeps what it was given by chance."""

    def __init__(self, message_size, context_size=0):
        super().__init__(message_size, context_size, hidden=(5,))
        nn.init.normal_(self.body.layers[2].weight)
        self.body.layers[0].requires_grad_(False)


def test_utility_models_with_a_part_at_rest(town):
    sim = simulation(town(num_agents=N), FeedForward, utility=UtilitySettings(Half, Adam(1e-2)))
    (population,) = sim.populations
    utilities = population.interface.utilities
    before = {k: v.clone() for k, v in utilities.tensors().items()}
    sim.run(steps=16)
    after = utilities.tensors()
    assert torch.equal(after["frozen.body.layers.0.weight"], before["frozen.body.layers.0.weight"])
    assert (after["parameters"] != before["parameters"]).any(1).all()
    assert after["slot.mean"].shape == after["parameters"].shape


def test_somebody_with_nothing_to_learn_takes_part(town):
    def rests(spec):
        return FeedForward(spec, width=5).requires_grad_(False)

    sim = simulation(town(num_agents=N), FeedForward, agents={"agent_1": Override(rests, key="r")})
    before = learns(sim)
    sim.run(steps=16)
    for name, values in learns(sim).items():
        same = all(torch.equal(value, before[name][key]) for key, value in values.items())
        assert same == (name == "agent_1")


def test_who_rests_differently_is_no_member(town):
    made = []

    def sometimes(spec):
        made.append(FeedForward(spec, width=5))
        made[-1].action.requires_grad_(len(made) != 2)
        return made[-1]

    said = (r"agent agent_0 and agent agent_1 are of one kind and configuration, so they must be "
            r"equal but for their values; there is parameter action\.weight \[3, 5\] float32 and "
            r"parameter action\.weight \[3, 5\] float32, frozen")  # fmt: skip
    with pytest.raises(UserError, match=said):
        simulation(town(num_agents=N), sometimes)


def test_least_squares_with_a_part_at_rest_are_refused(town):
    def rests(message_size, context_size):
        return LeastSquaresUtility(message_size, context_size).requires_grad_(False)

    with pytest.raises(UserError, match=r"utility model of agent_1->agent_0: .* can't be frozen"):
        simulation(town(num_agents=N), FeedForward, utility=UtilitySettings(rests, Adam()))


def test_runs_with_a_part_at_rest_go_on_as_if_never_stopped(town):
    agent = at_rest(FeedForward, "frozen", width=6)
    whole, first, second = (simulation(town(num_agents=N), agent, seed=seed) for seed in (0, 0, 0))
    whole.run(steps=32)
    first.run(steps=16)
    for population in second.populations:  # what is at rest comes from the checkpoint, too
        for value in population.agents.frozen.values():
            value.zero_()
    second.restore({k: v.clone() for k, v in first.tensors().items()}, first.facts())
    second.run(steps=32)
    tensors = second.tensors()
    assert any(".frozen." in name for name in tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in whole.tensors().items())


def test_agents_have_rates_of_their_own(town):
    class Slow(FeedForward):
        rate_factors = {"body": 0.0, "*.bias": 0.5}  # noqa: RUF012

    for agents in ({}, apart(Slow)):
        sim = simulation(town(num_agents=N), Slow, agents=agents)
        before = learns(sim)
        sim.run(steps=16)
        for name, values in learns(sim).items():
            for key, value in values.items():
                assert torch.equal(value, before[name][key]) == key.startswith("body"), key


def test_rates_of_nothing_are_refused(town):
    class Misspelt(FeedForward):
        rate_factors = {"boby": 0.1}  # noqa: RUF012

    with pytest.raises(UserError, match=r"agent agent_0: rate_factors: .*'boby'.* Did you mean"):
        simulation(town(num_agents=N), Misspelt)


# -- odd modules: each works, or is one line ---------------------------------------------------


class Ordinary(Agent):
    """A body, something odd after it, and two heads."""

    def __init__(self, spec, width: int = 4) -> None:
        super().__init__(spec)
        self.body = nn.Linear(spec.input_size, width)
        self.message = nn.Linear(width, spec.message_size)
        self.action = nn.Linear(width, spec.action_size)
        self.add(width)

    def add(self, width):
        pass

    def odd(self, h):
        return self.part(h)

    def tick(self, observation, inbox, state):
        h = self.odd(torch.tanh(self.body(torch.cat([observation, inbox.flat()], -1))))
        return TickOutput(self.action(h), self.message(h), state)


def part_of(make):
    return {"add": lambda self, width: setattr(self, "part", make(width))}


def parameter_of(value, requires_grad=True):
    """A parameter that multiplies what the body gives."""
    return part_of(lambda width: nn.Parameter(value, requires_grad)) | {
        "odd": lambda self, h: h * self.part.to(h.dtype)
    }


def count(self, h):
    self.part += 1
    return h


def once(self, h):
    if self.part is None:
        self.part = torch.arange(h.shape[-1]).to(h.dtype)
    return h + self.part


WORKS = {
    "no dimensions": parameter_of(torch.tensor(1.0)),
    "a float64 at rest": parameter_of(torch.ones(4).double(), False),
    "whole numbers at rest": parameter_of(torch.ones(4, dtype=torch.int64), False),
    "spectral norm": part_of(lambda width: parametrizations.spectral_norm(nn.Linear(width, width))),
    "weight norm": part_of(lambda width: parametrizations.weight_norm(nn.Linear(width, width))),
    "orthogonal": part_of(lambda width: parametrizations.orthogonal(nn.Linear(width, width))),
    "old spectral norm": part_of(lambda width: nn.utils.spectral_norm(nn.Linear(width, width))),
    "old weight norm": part_of(lambda width: nn.utils.weight_norm(nn.Linear(width, width))),
    "dropout": part_of(lambda width: nn.Dropout(0.5)),
    "batch norm": part_of(nn.BatchNorm1d),
    "in place": part_of(lambda width: nn.Sequential(nn.Linear(width, width), nn.ReLU(True))),
    "a cell": part_of(lambda width: nn.GRUCell(width, width)),
    "unused": part_of(lambda width: nn.Linear(7, 7)) | {"odd": lambda self, h: h},
    "a counter": {
        "add": lambda self, width: self.register_buffer("part", torch.tensor(0)), "odd": count
    },
    "made at the first tick": part_of(lambda width: None) | {"odd": once},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("own", WORKS.values(), ids=WORKS)
def test_ordinary_modules_work(own, alone, town):
    kind = type("Odd", (Ordinary,), own)
    sim = simulation(town(num_agents=N), kind, agents=apart(kind) if alone else {})
    sim.run(steps=16)
    for population in sim.populations:
        assert population.agents.updates.all()
        assert not population.agents.skipped.any()
    module = sim.module("agent_2")
    inbox = Inbox(torch.zeros(B, N - 1, D), torch.zeros(B, N - 1).bool(), torch.zeros(B, N - 1))
    assert module.tick(torch.zeros(B, 3), inbox, ()).action.shape == (B, 3)
    if own is WORKS["a counter"]:
        assert 0 < int(module.part) - 1 <= 16


class Tied(Ordinary):
    def add(self, width):
        self.part = nn.Linear(width, width)
        self.again = nn.Linear(width, width)
        self.again.weight = self.part.weight

    def odd(self, h):
        return self.again(torch.tanh(self.part(h)))


@pytest.mark.parametrize("alone", [True, False])
def test_tied_parameters_stay_tied(alone, town):
    sim = simulation(town(num_agents=N), Tied, agents=apart(Tied) if alone else {})
    before = sim.module("agent_0").part.weight.clone()
    sim.run(steps=16)
    module = sim.module("agent_0")
    assert module.part.weight is module.again.weight
    assert not torch.equal(module.part.weight, before)


def keep(self, h):
    self.part.append(h)
    return torch.stack(self.part[-2:]).mean(0)


def keep_named(self, h):
    self.part[len(self.part)] = h.detach()
    return h


def keep_last(self, h):
    h = h if self.part is None else h + self.part
    self.part = h
    return h


def clip(self, h):
    self.part.weight.data.clamp_(-0.01, 0.01)
    return self.part(h)


def make_late(self, h):
    if self.part is None:
        del self.part
        self.part = nn.Linear(4, 4)
    return self.part(h)


REMEMBERS = "what it remembers belongs in its state, what it counts in a buffer"
REFUSED = {
    "float64": (parameter_of(torch.ones(4).double()), "parameter part is float64; parameters that"),
    "bfloat16": (parameter_of(torch.ones(4).bfloat16()), "parameter part is bfloat16; parameters"),
    "complex": (parameter_of(torch.ones(4) * 1j), "parameter part is complex64; parameters that l"),
    "lazy": (part_of(lambda width: nn.LazyLinear(width)), "parameter part.weight has no shape yet"),
    "meta": (
        part_of(lambda width: nn.Linear(width, width, device="meta")),
        "parameter part.weight is on the meta device",
    ),
    "it steps itself": (
        part_of(lambda width: nn.Linear(width, width)) | {"odd": clip},
        "",  # one by one it is known by its values, in a map torch says it
    ),
    "a table of norms": (
        part_of(lambda width: nn.Embedding(3, width, max_norm=0.1))
        | {"odd": lambda self, h: h + self.part((h[:, 0] > 0).long())},
        "tick changes the parameter part.weight; only the optimiser may",
    ),
    "late": (part_of(lambda width: None) | {"odd": make_late}, ""),
    "a late buffer": (
        {"odd": lambda self, h: (self.register_buffer("mean", h.detach().mean(0)), h)[1]},
        "tick makes mean; parameters and buffers are made in __init__",
    ),
    "a list": (part_of(lambda width: []) | {"odd": keep}, REMEMBERS),
    "a dict": (part_of(lambda width: {}) | {"odd": keep_named}, REMEMBERS),
    "the last one": (part_of(lambda width: None) | {"odd": keep_last}, REMEMBERS),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("own", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_work_is_one_line(own, said, alone, town):
    kind = type("Odd", (Ordinary,), own)
    with pytest.raises(UserError, match=r"^agent agent_\d") as raised:
        simulation(town(num_agents=N), kind, agents=apart(kind) if alone else {}, window=1).run(
            steps=16
        )
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    if said is REMEMBERS:
        assert "part" in str(raised.value)


def test_what_only_one_can_do_is_one_line_for_many(town):
    class Odd(Ordinary):
        def add(self, width):
            self.part = nn.GRU(width, width)

        def odd(self, h):
            return self.part(h[None])[0][0]

    sim = simulation(town(num_agents=N), Odd, agents=apart(Odd))
    before = sim.module("agent_1").part.weight_ih_l0.clone()
    sim.run(steps=16)
    assert not torch.equal(sim.module("agent_1").part.weight_ih_l0, before)
    said = r"agent_0.*: tick failed .*\(\S*test_modules\.py:\d+\)\. Equal ones are computed at once"
    with pytest.raises(UserError, match=said):
        simulation(town(num_agents=N), Odd).run(steps=16)


@pytest.mark.parametrize("method", ["forward", "loss"])
def test_what_a_utility_model_raises_is_one_line(method, town):
    class Crashes(GradientUtility):
        pass

    def crash(self, *args):
        raise ArithmeticError("mine")

    setattr(Crashes, method, crash)
    sim = simulation(town(num_agents=N), FeedForward, utility=UtilitySettings(Crashes, Adam()))
    said = r"utility model of agent_\d->agent_\d.*: \w.* failed: ArithmeticError: mine \(\S*\.py:\d"
    with pytest.raises(UserError, match=said) as raised:
        sim.run(steps=16)
    assert isinstance(raised.value.__cause__, ArithmeticError)


def test_lists_written_by_a_loss_are_somebodys_own_business(town):
    class Notes(FeedForward):
        def __init__(self, spec):
            super().__init__(spec)
            self.notes = []

        def loss(self, output, outcome):
            loss = super().loss(output, outcome)
            self.notes.append(loss.detach())
            return loss

    simulation(town(num_agents=N), Notes, agents=apart(Notes)).run(steps=16)


# -- an agent taken out ------------------------------------------------------------------------


class Everything(Ordinary):
    """Something of each kind: at rest, without dimensions, buffers, tied, in training or not."""

    def add(self, width):
        self.rest = nn.Linear(width, width).requires_grad_(False)
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(0.5)
        self.register_buffer("calls", torch.tensor(0))

    def odd(self, h):
        self.calls += 1
        return self.drop(self.norm(self.rest(h))) * self.gate


@pytest.mark.parametrize("way", ["many", "alone", "shared"])
def test_a_module_does_what_the_agent_does(way, town):
    sim = simulation(
        town(num_agents=N), Everything, agents=apart(Everything) if way == "alone" else {},
        share_parameters=way == "shared",
    )  # fmt: skip
    sim.run(steps=16)
    ticks = []

    def look(lane, tick, observation, inbox, state):
        for row, member in enumerate(tick.members):
            parts = (observation[row], *(part[row] for part in inbox))
            given = [part.clone() for part in parts]
            ticks.append((lane.population.names[member], given, tick.output.action[row].clone(),
                          tick.output.message[row].clone()))  # fmt: skip

    sim.examiner.observer = look
    sim.evaluate()
    assert {name for name, *_ in ticks} == set(sim.world.agents)
    modules = {name: sim.module(name) for name in sim.world.agents}
    for name, (observation, *inbox), action, message in ticks:
        output = modules[name].tick(observation, Inbox(*inbox), ())
        torch.testing.assert_close(output.action, action)
        torch.testing.assert_close(output.message, message)


@pytest.mark.parametrize("share", [True, False])
def test_a_module_is_ordinary_and_its_own(share, town):
    sim = simulation(town(num_agents=N), Everything, share_parameters=share)
    sim.run(steps=16)
    before = {name: value.clone() for name, value in sim.tensors().items()}
    module = sim.module("agent_1")
    assert type(module) is Everything
    assert not module.training
    resting = [name for name, p in module.named_parameters() if not p.requires_grad]
    assert resting == ["rest.weight", "rest.bias"]
    twin = Everything(module.spec)
    twin.load_state_dict(module.state_dict())
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), 0.1)
    inbox = Inbox(torch.zeros(B, N - 1, D), torch.zeros(B, N - 1).bool(), torch.zeros(B, N - 1))
    action = module.tick(torch.randn(B, 3), inbox, ()).action
    F.cross_entropy(action, torch.zeros(B).long()).backward()
    optimizer.step()
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in sim.tensors().items())
    sim.run(steps=32)
    assert sim.module("agent_1").gate != 0


def test_there_is_no_module_of_a_stranger(town):
    sim = simulation(town(num_agents=N), partial(FeedForward, width=4))
    with pytest.raises(UserError, match=r"no agent 'agent_7'\. Did you mean 'agent_\d' or"):
        sim.module("agent_7")
