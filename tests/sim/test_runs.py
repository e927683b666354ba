"""A run is decided by its seed, and by nothing else: not by who else lives, stops or looks on."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnicomm.agents import FeedForward
from dnicomm.core import Adam, GradientUtility
from dnicomm.envs.relay import Relay
from dnicomm.errors import UserError
from dnicomm.sim import (
    Chain,
    Complete,
    EdgeList,
    Evaluation,
    Override,
    PoissonClock,
    Simulation,
    UtilitySettings,
    standard_channel,
)


class Forgetful(FeedForward):
    """With random numbers of its own."""

    def __init__(self, spec) -> None:
        super().__init__(spec, width=8)
        self.body.append(nn.Dropout(0.3))


def simulation(env: Any, agent: Any = FeedForward, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.6),
        "channel": standard_channel(delay=[0, 2], drop=0.1, noise=0.05, quantise=6),
        "message_size": 4,
        "num_worlds": 6,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=12, episodes=1, num_worlds=6),
    }
    return Simulation(env, agent, **(given | own))


def figures(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "wall_s"}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


def of_agent(sim: Simulation, name: str) -> dict[str, Tensor]:
    """All that belongs to one agent."""
    (population,) = [p for p in sim.populations if name in p.names]
    row = population.names.index(name)
    inputs = population.spec.num_inputs
    found = {f"agents.{k}": v[row] for k, v in population.agents.tensors().items()}
    if population.interface is not None:
        slots = slice(row * inputs, (row + 1) * inputs)
        learnt = population.interface.utilities.tensors()
        found |= {f"utilities.{k}": v[slots] for k, v in learnt.items()}
    if population.encoder is not None:
        found |= {f"encoder.{k}": v[row] for k, v in population.encoder.tensors().items()}
    return found


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_the_same_seed_gives_the_same_run(feedback, town, walker, device):
    """Bit for bit: figures and all that was learnt."""
    env = town(num_agents=4, horizon=10, absent=0.2)
    found = []
    for seed in (3, 3, 4):
        agents = {"agent_1": Override(Forgetful), "agent_2": Override(Forgetful)}
        sim = simulation(env, walker, agents=agents, feedback=feedback, seed=seed, device=device)
        history = sim.run(20).history
        found.append(([figures(record) for record in history], sim.tensors()))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])
    assert found[0][0] != found[2][0]
    assert not same(found[0][1], found[2][1])


def test_whoever_looks_on_changes_nothing(town, walker):
    """Torch's own generator, and what else was drawn before, are of no account."""
    env = town(num_agents=3, horizon=8)
    found = []
    for noise in (0, 17):
        torch.manual_seed(noise)
        torch.rand(noise)
        sim = simulation(env, Forgetful)
        before = torch.random.get_rng_state()
        sim.run(16)
        assert torch.equal(torch.random.get_rng_state(), before)
        found.append(sim.tensors())
    assert same(*found)


def test_an_agent_apart_changes_nothing_for_the_others(town, walker):
    """One more agent, without a channel: the others' runs are the same, bit for bit."""
    found = []
    for count in (3, 4):
        env = town(num_agents=count, horizon=8, absent=0.2)
        ring = [("agent_0", "agent_1"), ("agent_1", "agent_2"), ("agent_2", "agent_0")]
        sim = simulation(env, walker, topology=EdgeList(ring))
        sim.run(16)
        found.append(sim)
    for name in ("agent_0", "agent_1", "agent_2"):
        assert same(of_agent(found[0], name), of_agent(found[1], name)), name


def test_an_agent_at_the_end_changes_nobodys_beginning(town, walker):
    """One more link of a chain: clocks, delays, losses and initial parameters stay."""
    found = []
    for count in (4, 5):
        sim = simulation(town(num_agents=count, horizon=16), walker, topology=Chain())
        before = {
            name: {k: v.clone() for k, v in of_agent(sim, name).items()}
            for name in sim.world.agents[:4]
        }
        engine = sim.engine
        engine._begin(2, None)
        clocks = engine._schedule()
        delays = [engine.delays[i].tolist() for i in range(3)]
        lost = torch.stack([part for part in engine.lost[:3] if part is not None])
        found.append(
            (before, {name: clocks[name].tolist() for name in before}, delays, lost, engine)
        )
    assert found[0][1] == found[1][1]
    assert found[0][2] == found[1][2]
    assert torch.equal(found[0][3], found[1][3])
    assert len(found[0][3]) == 3
    for name, values in found[0][0].items():
        assert same(values, found[1][0][name]), name
    # and the first agents of a relay are the same, however long it is
    relays = [simulation(Relay(num_agents=n, horizon=10)) for n in (4, 6)]
    for name in ("agent_0", "agent_1", "agent_2"):
        assert same(of_agent(relays[0], name), of_agent(relays[1], name)), name


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_a_resumed_run_is_the_one_that_was_never_stopped(feedback, town, walker, normed, device):
    """From a checkpoint as it lies in a file: the same figures and tensors, bit for bit."""

    def new() -> Simulation:
        env = town(num_agents=4, horizon=6, absent=0.1)
        agents = {"agent_1": Override(normed), "agent_2": Override(Forgetful)}
        return simulation(env, walker, agents=agents, feedback=feedback, window=3, device=device)

    undisturbed = new()
    history = undisturbed.run(24).history
    assert len(history) == 2

    stopped = new()
    first = stopped.run(12)  # two episodes: the first evaluation
    assert figures(first.history[-1]) == figures(history[0])
    kept = {name: value.clone() for name, value in stopped.tensors().items()}
    facts = json.loads(json.dumps(stopped.facts()))
    stopped.run(6)  # what is done after the checkpoint is lost

    resumed = new()
    resumed.restore(kept, facts)
    rest = resumed.run(24).history
    assert [figures(r) for r in rest] == [figures(r) for r in history[1:]]
    assert same(resumed.tensors(), undisturbed.tensors())


def test_a_checkpoint_of_another_run_is_refused(town, walker):
    sim = simulation(town(num_agents=3), walker)
    other = simulation(town(num_agents=4), walker)
    with pytest.raises(UserError, match="does not fit"):
        other.restore(sim.tensors(), sim.facts())


def test_every_agent_is_due_at_the_beginning_and_counts_its_ticks(town, walker):
    sim = simulation(town(num_agents=3, horizon=10), walker, topology=Complete())
    record = sim.run(20).history[-1]
    ticks = dict.fromkeys(sim.world.agents, 0)
    for episode in (0, 1):
        sim.engine._begin(episode, None)
        for name, times in sim.engine._schedule().items():
            assert times[0] == 0
            ticks[name] += len(times)
    assert {name: own["ticks"] for name, own in record["agents"].items()} == ticks
    assert {name: own["updates"] for name, own in record["agents"].items()} == ticks
    assert sim.agent_ticks() == sum(ticks.values())


def test_who_is_not_there_in_a_window_is_not_updated(town, walker):
    """Absent in all worlds, or due only after the last world has ended: no step, no moments."""
    env = town(num_agents=4, horizon=16, absent=0.6, last=9)
    own = {"clock": PoissonClock(0.5), "window": 4, "num_worlds": 2, "topology": Complete()}
    sim = simulation(env, walker, **own)
    (population,) = sim.populations
    assert sim.engine.play(0) == 10
    world, updates = sim.world, []
    for i, times in enumerate(sim.engine._schedule().values()):
        there = {t // 4 for t in times for b in (0, 1) if t < 9 + b and world.here[t, i, b]}
        updates.append(len(there))
    assert population.agents.updates.tolist() == updates
    assert population.agents.slots["steps"][:, 0].tolist() == updates
    assert min(updates) < 3
