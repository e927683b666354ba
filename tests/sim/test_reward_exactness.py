"""Agents that learn from rewards: with the true gradients at once, or when they come, the same.

As for labels (test_exactness.py): parameters are frozen, gradients add up, numbers are float64.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dnicomm.agents import PPO, ActorCritic, RecurrentActorCritic, RecurrentPPO
from dnicomm.core import SGD, Estimate, GradientUtility, Target
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

B, D, T = 5, 3, 16
FROZEN = SGD(lr=0.0, momentum=1.0)

pytestmark = pytest.mark.usefixtures("double")


class Echo(RecurrentPPO):
    """Its message, its state and what it acts on are one and the same."""

    def heads(self, h, seen, state):
        return super().heads(h, seen, state)._replace(message=h)


class Ledger:
    """In an interface's place: writes down every target, or answers with what was written down."""

    fits_unread, needs_cost, context_size = True, False, 1

    def __init__(self, sim: Simulation, population: Any, written: Tensor | None) -> None:
        self.written = written
        shape = len(population.inputs), T, B, sim.message_size
        self.target = torch.zeros(shape, device=sim.device)

    def _at(self, context: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        times = (context[..., 0] * T).round().long()
        worlds = torch.arange(times.shape[1], device=times.device)
        return rows[:, None].expand_as(times), times, worlds.expand_as(times)

    def estimate(self, message: Tensor, context: Tensor, rows: Tensor) -> Estimate:
        none = torch.zeros_like(message)
        said = none if self.written is None else self.written[self._at(context, rows)]
        return Estimate(said, none[..., 0])

    def fit(
        self, message: Tensor, context: Tensor, target: Target, rows: Tensor, mask: Tensor
    ) -> Estimate:
        at = tuple(index[mask] for index in self._at(context, rows))
        self.target.index_put_(at, target.gradient[mask])
        return Estimate(torch.zeros_like(message), torch.zeros_like(message[..., 0]))


def play(env: Any, agent: Any, feedback: str, written: list[Ledger] | None, **own: Any) -> Any:
    """One episode: the gradients of all agents, by name, and the ledgers."""
    given: dict[str, Any] = {
        "clocks": {"agent_0": PoissonClock(0.7), "agent_1": PeriodicClock(2)},
        "agents": {"agent_1": Override(key="apart")},
        "channel": standard_channel(delay=[0, 2], drop=0.1, noise=0.1),
        "topology": Complete(),
        "message_size": D,
        "num_worlds": B,
        "window": T,
        "optimizer": FROZEN,
        "utility": UtilitySettings(GradientUtility, FROZEN, context=("time",)),
        "evaluation": Evaluation(num_worlds=B),
        "gae_lambda": 0.9,
        "gamma": 0.95,
    }
    sim = Simulation(env, agent, feedback=feedback, **(given | own))
    books = []
    for number, population in enumerate(sim.populations):
        before = None if written is None else written[number].target
        population.interface = Ledger(sim, population, before)  # type: ignore[assignment]
        books.append(population.interface)
    sim.engine.play(0)
    gradients = {p.names[0]: p.agents.slots["velocity"][0] for p in sim.populations}
    return gradients, books


def check(env: Any, agent: Any, **own: Any) -> None:
    exact, books = play(env, agent, "exact", None, **own)
    oracle, again = play(env, agent, "synthetic", books, **own)
    without, _ = play(env, agent, "none", None, **own)
    for name, gradient in exact.items():
        torch.testing.assert_close(oracle[name], gradient, rtol=1e-9, atol=1e-11)
        assert not torch.allclose(without[name], gradient, rtol=1e-3)
    for one, other in zip(books, again, strict=True):
        torch.testing.assert_close(other.target, one.target, rtol=1e-9, atol=1e-11)
        assert one.target.any()


PLACES = [{}, {"absent": 0.3, "births": 0.1, "lifetime": 4}, {"discrete": False, "last": 9}]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("kind", [ActorCritic, RecurrentActorCritic])
def test_an_oracle_equals_backpropagation(kind, place, market, device):
    """A pair of actor-critics in one window: a message learns from its receiver's whole loss."""
    check(market(horizon=T, **place), partial(kind, width=6), device=device)


@pytest.mark.parametrize(
    "own",
    [
        {"discrete": GumbelSymbol(0.7)},
        {"discrete": RegulariseDiscretise(1.0)},
        {"normalise": False, "channel": standard_channel(bandwidth=0.5, queue=2, cost=0.1)},
    ],
    ids=["gumbel", "dru", "scarce"],
)
def test_whatever_becomes_of_messages(own, market, device):
    check(market(horizon=T, absent=0.2), partial(RecurrentActorCritic, width=6), **own,
          device=device)  # fmt: skip


@pytest.mark.parametrize("kind", [ActorCritic, RecurrentActorCritic])
def test_agents_that_choose_when_to_send(kind, market):
    check(market(horizon=T), partial(kind, width=6, gate=True, pool="mean"))


@pytest.mark.parametrize("kind", [PPO, RecurrentPPO])
def test_each_step_on_a_window(kind, market, device):
    """Frozen, every epoch finds the gradient of the first one."""
    env = market(horizon=T, absent=0.2)
    thrice, books = play(env, partial(kind, width=6, epochs=3), "exact", None, device=device)
    agent = partial(kind, width=6, epochs=1)
    oracle, _ = play(env, agent, "synthetic", books, device=device)
    for name, gradient in oracle.items():
        torch.testing.assert_close(thrice[name], 3 * gradient, rtol=1e-9, atol=1e-11)


def test_members_that_are_one_network(market):
    check(
        market(horizon=T, absent=0.2), partial(RecurrentActorCritic, width=6),
        share_parameters=True, agents={},
    )  # fmt: skip


@pytest.mark.parametrize("window", [1, 5])
def test_agents_without_memory_may_step_whenever_they_like(window, market, device):
    """With no future (γ = 0) a tick's loss is its own, and windows only split a sum."""
    own = {"gamma": 0.0, "device": device}
    env, agent = market(horizon=T, absent=0.2), partial(ActorCritic, width=6)
    exact, books = play(env, agent, "exact", None, **own)
    oracle, _ = play(env, agent, "synthetic", books, window=window, **own)
    for name, gradient in exact.items():
        torch.testing.assert_close(oracle[name], gradient, rtol=1e-9, atol=1e-11)


# -- many in one kernel ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "discrete"), [(PPO, True), (RecurrentPPO, False), (ActorCritic, False), (Echo, True)]
)
def test_a_population_equals_its_members_one_by_one(kind, discrete, market, device):
    """The same random numbers for an agent, whoever is in its population."""
    found = []
    for keys in (("a", "a", "a"), ("a", "b", "c")):
        sim = Simulation(
            market(num_agents=3, discrete=discrete, absent=0.2, births=0.1),
            partial(kind, width=D if kind is Echo else 6, gate=True),
            clock=PoissonClock(0.6), gae_lambda=0.8, topology=Complete(), message_size=D,
            num_worlds=B, window=6, evaluation=Evaluation(num_worlds=B), device=device,
            normalise=kind is not Echo,
            agents={f"agent_{i}": Override(key=key) for i, key in enumerate(keys)},
            optimizer=SGD(0.3, momentum=0.5, clip=1.0),
            channel=standard_channel(delay=[0, 2], drop=0.1),
            utility=UtilitySettings(GradientUtility, SGD(0.05), context=("sender", "receiver")),
        )  # fmt: skip
        by_agent(sim)
        sim.engine.play(0)
        assert len(sim.populations) == len(set(keys))
        found.append(
            {
                name: population.agents.parameters[row]
                for population in sim.populations
                for row, name in enumerate(population.names)
            }
        )
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-8, atol=1e-10)


def by_agent(sim: Any) -> None:
    """Random numbers that depend on the agent alone, not on its place in a population."""

    def uniform(key, population, members, like, numbers) -> Tensor:
        drawn = [
            sim.engine.draw(key[0], population.names[int(m)], *key[2:]).random((B, numbers))
            for m in members
        ]
        return torch.from_numpy(np.stack(drawn)).to(like)

    sim.engine.uniform = uniform
