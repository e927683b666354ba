"""What training says, the test says: the same messages, and a gap that is measured and told."""

import pytest
import torch
from torch import nn

from dnicomm.sim import (
    SGD,
    Agent,
    Complete,
    Evaluation,
    PoissonClock,
    Simulation,
    TickOutput,
)
from dnicomm.sim.engine import Engine
from dnicomm.sim.gap import measure_gap

EPISODES = 30  # until the running statistics are what they will be
BOUND = 0.1  # deviations of a message: what the statistics still move in an episode


class Parrot(Agent):
    """Says more of what it heard than of what it sees: what all have in common goes round."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.see = nn.Linear(spec.observation_size, spec.message_size)
        self.echo = nn.Linear(spec.message_size, spec.message_size)
        self.action = nn.Linear(spec.observation_size, spec.action_size)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            self.echo.weight.normal_(generator=generator).mul_(0.3)

    def tick(self, observation, inbox, state):
        heard = self.echo(inbox.messages.sum(1))
        return TickOutput(self.action(observation), self.see(observation) + heard, state)


def said(engine, episode: int) -> torch.Tensor:
    """All messages that go out in an episode, ``[M, B, D]``."""
    found = []
    engine.observer = lambda lane, tick, *rest: found.append(tick)
    engine.play(episode)
    engine.observer = None
    return torch.cat([tick.message.detach() for tick in found])


def test_a_fixed_policy_says_the_same_in_training_and_in_a_test(town):
    """Where everybody hears everybody and what is said follows from what was just heard.

    The episode, its clocks and its worlds are the same; only the mode differs.
    """
    simulation = Simulation(
        town(num_agents=3), Parrot, clock=PoissonClock(0.8), topology=Complete(), feedback="none",
        utility=None, message_size=4, num_worlds=32, optimizer=SGD(0.0),
        evaluation=Evaluation(num_worlds=4),
    )  # fmt: skip
    for episode in range(EPISODES):
        simulation.engine.play(episode)
    training = said(simulation.engine, EPISODES)
    test = Engine(
        simulation.world, simulation.populations, simulation.edges, simulation.engine.clocks,
        simulation.channel, simulation.engine.feedback, seed=simulation.seed, learn=False,
    )  # fmt: skip
    tested = said(test, EPISODES)
    assert training.shape == tested.shape
    assert len(training) > 20
    assert training.std().item() > 0.5
    assert (training - tested).square().mean().sqrt().item() < BOUND


def scores(mean: float, spread: float, count: int = 64) -> list[torch.Tensor]:
    steps = torch.linspace(-1, 1, count)
    return [mean + spread * part for part in steps.chunk(2)]


def test_a_gap_is_told_where_it_is_large_and_no_accident():
    gap = measure_gap("return", scores(3.2, 1.0), scores(7.2, 1.0))
    assert gap.size == pytest.approx(4)
    assert gap.matters()
    assert gap.words().startswith("return: test 3.2, training 7.2")


@pytest.mark.parametrize(
    ("test", "training", "spread"),
    [(7.0, 7.2, 0.01), (3.2, 7.2, 40.0), (0.0, 0.0, 0.0)],
    ids=["small", "by chance", "nothing"],
)
def test_any_other_gap_is_not_told(test, training, spread):
    assert not measure_gap("return", scores(test, spread), scores(training, spread)).matters()


def test_a_standard_error_is_that_of_the_difference():
    """Of worlds, where there is an episode each; else at least that of the episodes' means."""
    one, other = (
        torch.randn(50, generator=torch.Generator().manual_seed(0)).double().split([30, 20])
    )
    assert measure_gap("x", [one], [other]).error == pytest.approx(
        (one.var() / 30 + other.var() / 20).sqrt().item()
    )
    test, training = [torch.full((9,), x) for x in (1.0, 3.0)], [torch.full((9,), 2.0)] * 3
    assert measure_gap("x", test, training).error == pytest.approx((2 / 3 * (1 / 2 + 1 / 3)) ** 0.5)


def test_an_evaluation_has_the_gap_among_its_metrics(town):
    simulation = Simulation(
        town(), Parrot, clock=PoissonClock(0.8), topology=Complete(), message_size=4, num_worlds=4,
        evaluation=Evaluation(num_worlds=4),
    )  # fmt: skip
    record = simulation.evaluate()
    metrics = record["metrics"]
    first = next(iter(metrics))
    assert metrics["train_gap"] == pytest.approx(metrics[f"train_{first}"] - metrics[first])
    assert isinstance(record["warnings"], list)
