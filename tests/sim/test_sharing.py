"""Members that are one network, and runs of rewards that are stopped and resumed."""

import json
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnicomm.agents import PPO, ActorCritic, RecurrentActorCritic, RecurrentPPO
from dnicomm.core import SGD, Adam, CriticUtility, GradientUtility
from dnicomm.sim import (
    Complete,
    Evaluation,
    GumbelSymbol,
    Override,
    PeriodicClock,
    PoissonClock,
    RegulariseDiscretise,
    Simulation,
    UtilitySettings,
    standard_channel,
)

N, B, D = 3, 4, 3
FROZEN = SGD(lr=0.0, momentum=1.0)  # moves nothing, and adds all gradients up


class Kept(PPO):
    """With statistics that it keeps, and a count."""

    def __init__(self, spec, epochs: int = 2) -> None:
        super().__init__(spec, width=5, epochs=epochs)
        self.body.append(nn.BatchNorm1d(5))


def simulation(env: Any, agent: Any, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.6),
        "channel": standard_channel(delay=[0, 1], drop=0.1),
        "topology": Complete(),
        "message_size": D,
        "num_worlds": B,
        "window": 4,
        "gae_lambda": 0.9,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2), context=("sender", "time")),
        "evaluation": Evaluation(every=8, episodes=1, num_worlds=B),
    }
    return Simulation(env, agent, **(given | own))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


# -- one network for all --------------------------------------------------------------------------

KINDS = {
    "a2c": partial(ActorCritic, width=6, pool="mean"),
    "recurrent": partial(RecurrentActorCritic, width=6),
    "ppo": partial(PPO, width=6, epochs=3, gate=True),
    "recurrent_ppo": partial(RecurrentPPO, width=6, epochs=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_share_are_one_network(kind, market, device):
    env = market(num_agents=N, absent=0.2)
    sim = simulation(env, KINDS[kind], share_parameters=True, device=device)
    (population,) = sim.populations
    before = population.agents.parameters.clone()
    sim.engine.play(0)
    assert population.agents.parameters.shape[0] == 1
    rows = population.gather(None, requires_grad=False)
    assert rows.parameters.shape[0] == N
    assert all(torch.equal(row, rows.parameters[0]) for row in rows.parameters)
    assert not torch.equal(before, population.agents.parameters)
    updates = {own["updates"] for own in sim.evaluate()["agents"].values()}
    assert updates == {population.agents.updates.item()}


@pytest.mark.parametrize(
    ("kind", "feedback"),
    [("a2c", "exact"), ("recurrent", "synthetic"), ("ppo", "exact"), ("kept", "synthetic")],
)
def test_who_is_alone_shares_with_nobody(kind, feedback, market, device):
    """Populations of one member: bit for bit as without."""
    agent, found = KINDS.get(kind, Kept), []
    for share in (False, True):
        sim = simulation(
            market(absent=0.2), agent, agents={"agent_1": Override(key="apart")},
            share_parameters=share, feedback=feedback, device=device,
        )  # fmt: skip
        sim.engine.play(0)
        found.append(sim.tensors())
    assert same(*found)


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
@pytest.mark.parametrize("window", [1, 4])
def test_the_shared_gradient_is_the_sum_of_the_members(window, feedback, market, double, device):
    """Members with equal parameters and their own gradients, against one that has them all."""
    found = []
    for share in (False, True):
        sim = simulation(
            market(num_agents=N, absent=0.3, births=0.1), partial(RecurrentActorCritic, width=6),
            share_parameters=share, optimizer=FROZEN, window=window, feedback=feedback,
            exact_window=window, device=device,
        )  # fmt: skip
        (population,) = sim.populations
        agents = population.agents
        if not share:
            agents.parameters[:] = agents.parameters[:1].clone()
        sim.engine.play(0)
        found.append((agents, population))
    (apart, plain), (together, shared) = found
    assert torch.equal(apart.parameters[:1], together.parameters)
    velocity = apart.slots["velocity"]
    torch.testing.assert_close(together.slots["velocity"], velocity.sum(0, keepdim=True))
    assert all(not torch.equal(velocity[0], row) for row in velocity[1:])
    # receivers' utility models are each channel's own
    learnt = plain.interface.utilities.parameters
    torch.testing.assert_close(shared.interface.utilities.parameters, learnt)


def test_a_shared_step_is_that_of_the_sum(market, double):
    """Of one optimiser, as of one network; members who were not there give nothing."""
    sims = [
        simulation(market(num_agents=N, absent=0.5), KINDS["a2c"], share_parameters=share,
                   window=4, optimizer=own, clock=PeriodicClock(2))
        for share, own in ((False, FROZEN), (True, SGD(0.1)))
    ]  # fmt: skip
    for sim in sims:
        agents = sim.populations[0].agents
        agents.parameters[:] = agents.parameters[:1].clone()
    for sim in sims:
        sim.engine.play(0, 4)  # one window
    apart, together = (sim.populations[0].agents for sim in sims)
    want = apart.parameters[:1] - 0.1 * apart.slots["velocity"].sum(0, keepdim=True)
    torch.testing.assert_close(together.parameters, want)
    assert together.updates.tolist() == [1]


def test_what_members_keep_is_the_mean_over_them(market, double, device):
    """Statistics of one window in which all were there, each from where all of them began."""
    found = []
    for share in (False, True):
        sim = simulation(
            market(num_agents=N), partial(Kept, epochs=1), share_parameters=share, window=1,
            clock=PeriodicClock(1), optimizer=SGD(0.0), device=device,
        )  # fmt: skip
        (population,) = sim.populations
        if not share:
            population.agents.parameters[:] = population.agents.parameters[:1].clone()
        sim.engine.play(0, 1)
        found.append(population.agents.buffers)
    apart, together = found
    for name, buffer in together.items():
        mean = apart[name].to(torch.get_default_dtype()).mean(0, keepdim=True)
        torch.testing.assert_close(buffer.to(mean), mean, msg=name)
    assert not torch.equal(*apart["body.2.running_mean"][:2])


def test_agents_of_different_kinds_share_with_their_own_kind_only(market):
    sim = simulation(
        market(num_agents=4), ActorCritic, share_parameters=True,
        agents={"agent_2": Override(partial(ActorCritic, width=5), key="small")},
    )  # fmt: skip
    assert [(p.names, len(p.agents.parameters)) for p in sim.populations] == [
        (["agent_0", "agent_1", "agent_3"], 1), (["agent_2"], 1),
    ]  # fmt: skip


# -- stopped and resumed --------------------------------------------------------------------------

RUNS: dict[str, dict[str, Any]] = {
    "shared": {"agent": partial(Kept), "share_parameters": True},
    "gumbel": {"agent": partial(ActorCritic, width=6), "discrete": GumbelSymbol(0.7)},
    "dru": {"agent": KINDS["recurrent"], "discrete": RegulariseDiscretise(), "feedback": "exact"},
    "ppo": {"agent": KINDS["ppo"], "utility": UtilitySettings(CriticUtility, Adam(1e-2))},
    "recurrent_ppo": {"agent": KINDS["recurrent_ppo"], "feedback": "mixed"},
    "scarce": {
        "agent": partial(RecurrentActorCritic, width=6, gate=True, pool="mean"),
        "channel": standard_channel(bandwidth=0.4, queue=1, cost=0.1, cost_unit="bit", quantise=4),
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_one_that_was_never_stopped(name, market, device):
    """From a checkpoint as it lies in a file: the same figures and tensors, bit for bit."""

    def new() -> Simulation:
        discrete = name in ("gumbel", "ppo", "scarce")
        env = market(horizon=8, absent=0.1, births=0.1, lifetime=3, discrete=discrete)
        return simulation(env, device=device, **RUNS[name])

    def figures(record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if key != "wall_s"}

    undisturbed = new()
    history = undisturbed.run(16).history
    stopped = new()
    first = stopped.run(8)
    assert figures(first.history[-1]) == figures(history[0])
    kept = {key: value.clone() for key, value in stopped.tensors().items()}
    facts = json.loads(json.dumps(stopped.facts()))
    resumed = new()
    resumed.restore(kept, facts)
    rest = resumed.run(16).history
    assert [figures(record) for record in rest] == [figures(record) for record in history[1:]]
    assert same(resumed.tensors(), undisturbed.tensors())
    assert not same(kept, undisturbed.tensors())
    assert all(own["skipped_updates"] == 0 for own in history[-1]["agents"].values())
