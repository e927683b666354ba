"""A number that is not finite harms the agent it comes from, for one update, and nobody else."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from dnicomm.core import Adam, CriticUtility, GradientUtility
from dnicomm.sim import (
    Complete,
    Evaluation,
    Override,
    PoissonClock,
    Simulation,
    TickOutput,
    UtilitySettings,
)

BAD = "agent_2"


@pytest.fixture(scope="module")
def faulty(walker) -> Any:
    """Recurrent agents, one of which may fail at its third tick, in the first world."""

    class Faulty(walker):
        def __init__(self, spec, part: str) -> None:
            super().__init__(spec)
            self.part = part
            self.register_buffer("fault", torch.zeros(()))

        def fails(self, ticks: torch.Tensor) -> torch.Tensor:
            first = torch.arange(len(ticks), device=ticks.device) == 0
            return first & (ticks == 3) & (self.fault > 0)

        def tick(self, observation, inbox, state) -> TickOutput:
            output = super().tick(observation, inbox, state)
            bad = self.fails(output.state["ticks"])[:, None]
            message = output.message
            if self.part == "message":
                message = torch.where(bad, float("nan"), message)
            return output._replace(message=message)

        def loss(self, output, outcome):
            loss = super().loss(output, outcome)
            if self.part == "loss":  # 0/0 as in a mean over nobody
                bad = self.fails(output.state["ticks"])
                loss = loss + output.action.sum(-1) * 0 / torch.where(bad, 0.0, 1.0)
            return loss

    return Faulty


class Cliff(nn.Module):
    """Zero, with a derivative that is not a number."""

    def forward(self, x):
        return (x * 0).abs().sqrt()


def simulation(town, agent, **own) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.8),
        "topology": Complete(),
        "message_size": 4,
        "num_worlds": 5,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=1000, episodes=1, num_worlds=3),
    }
    return Simulation(town(num_agents=4, horizon=14), agent, **(given | own))


def break_one(sim: Simulation) -> None:
    for population in sim.populations:
        if BAD in population.names:
            population.agents.buffers["fault"][population.names.index(BAD)] = 1.0


def finite(sim: Simulation) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in sim.tensors().values())


def numbers(record: dict[str, Any]) -> list[float]:
    parts = [*record["agents"].values(), *record["channels"].values(), record["metrics"]]
    return [v for part in parts for v in part.values() if v is not None]


@pytest.mark.parametrize(
    ("part", "utility", "normalise"),
    [
        ("loss", GradientUtility, True),
        ("loss", CriticUtility, False),
        ("message", GradientUtility, False),
        ("message", CriticUtility, True),
    ],
)
def test_the_others_go_on(part, utility, normalise, town, faulty, device):
    """The faulty agent is a row of the same population as the others."""
    records = []
    for broken in (False, True):
        sim = simulation(
            town, partial(faulty, part=part), utility=UtilitySettings(utility, Adam(1e-2)),
            normalise=normalise, device=device,
        )  # fmt: skip
        assert len(sim.populations) == 1
        if broken:
            break_one(sim)
        records.append(sim.run(28).history[-1])
        assert finite(sim)
        assert all(abs(number) < 1e9 for number in numbers(records[-1]))
    whole, broken = (record["agents"] for record in records)
    for name in whole:
        if name != BAD:
            assert broken[name]["updates"] == whole[name]["updates"]
            assert broken[name]["skipped_updates"] == 0
            assert broken[name]["bad_messages"] == 0
    lost = broken[BAD]["skipped_updates"]
    assert broken[BAD]["updates"] + lost == whole[BAD]["updates"]
    if part == "loss":
        assert lost == 2  # one in each episode
        assert broken[BAD]["bad_messages"] == 0
    else:
        # on three channels, in two episodes; normalised or not, the other worlds go on
        assert broken[BAD]["bad_messages"] == 2 * 3
        assert lost == 0


def test_a_gradient_that_is_not_a_number_is_skipped(town, walker, device):
    """Every update of that agent; all the others' take place."""

    class Steep(walker):
        def tick(self, observation, inbox, state) -> TickOutput:
            output = super().tick(observation, inbox, state)
            return output._replace(action=output.action + Cliff()(output.action))

    sim = simulation(town, walker, agents={BAD: Override(Steep)}, device=device)
    before = {p.names[0]: p.agents.parameters.clone() for p in sim.populations}
    agents = sim.run(14).history[-1]["agents"]
    assert finite(sim)
    assert agents[BAD]["updates"] == 0
    assert agents[BAD]["skipped_updates"] == agents[BAD]["ticks"]
    assert torch.equal(sim.populations[1].agents.parameters, before[BAD])
    for name, own in agents.items():
        if name != BAD:
            assert (own["updates"], own["skipped_updates"]) == (own["ticks"], 0)


def test_senders_that_wait_for_a_bad_receiver_skip_too(town, faulty, device):
    """Exact feedback: the graph is one, so that all skip that update; nothing is lost for good."""
    sim = simulation(
        town, partial(faulty, part="loss"), feedback="exact", exact_window=7, device=device
    )
    break_one(sim)
    agents = sim.run(28).history[-1]["agents"]
    assert finite(sim)
    for own in agents.values():
        assert own["skipped_updates"] >= 1
        assert own["updates"] >= 2


def test_an_evaluation_survives_bad_messages(town, faulty, device):
    """A receiver goes on with what it had."""
    sim = simulation(town, partial(faulty, part="message"), device=device)
    break_one(sim)
    record = sim.evaluate()
    assert all(abs(number) < 1e9 for number in numbers(record))
    assert finite(sim)
