"""What a critic is fitted to: the receiver's losses where it read, and what it sent was worth."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from dnicomm.agents import FeedForward
from dnicomm.core import Estimate, GradientUtility, Rows, Window
from dnicomm.sim import (
    SGD,
    Chain,
    Evaluation,
    PoissonClock,
    Simulation,
    TickOutput,
    UtilitySettings,
    standard_channel,
)
from dnicomm.sim.learning import _to_go
from dnicomm.sim.window import OpenWindow, Tick

WORLDS, HORIZON = 4, 14


def worth(channel: int, time: int) -> float:
    """What the receiver's model says of a message, whatever is in it."""
    return 100.0 * (channel + 1) + time


class Appraiser:
    """In an interface's place: says what messages are worth, and keeps what it is told."""

    fits_unread, needs_cost, context_size = False, True, 1

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.found: dict[tuple[int, int], tuple[float, torch.Tensor]] = {}
        self.unread: set[tuple[int, int]] = set()

    def estimate(self, message, context, rows) -> Estimate:
        times = (context[..., 0] * HORIZON).round()  # [1, B]
        return Estimate(torch.zeros_like(message), times + worth(self.channel, 0))

    def fit(self, message, context, target, rows, mask) -> Estimate:
        times = (context[..., 0] * HORIZON).round().long()
        for b in range(WORLDS):
            key = (int(times[0, b]), b)
            if mask[0, b]:
                assert key not in self.found, "settled twice"
                self.found[key] = (target.cost[0, b].item(), target.gradient[0, b])
        return Estimate(torch.zeros_like(message), torch.zeros_like(message[..., 0]))


@pytest.mark.parametrize(("remembers", "window"), [(False, 1), (False, 5), (True, 1), (True, 5)])
def test_costs(remembers, window, town, walker):
    """A chain of three, by hand: the middle one is charged for its loss and for what it sends.

    One with a memory may use at any later tick what it read: a message is charged, at its first
    read, with all that comes until the window's end.
    """
    kind = walker if remembers else FeedForward

    class Known(kind):
        """Its loss is known beforehand."""

        def loss(self, output, outcome):
            return outcome.label + 2.0 + 0 * output.action.sum(-1)

    env = town(num_agents=3, horizon=HORIZON, absent=0.25)
    sim = Simulation(
        env,
        Known,
        clock=PoissonClock(0.6),
        channel=standard_channel(delay=[0, 2], drop=0.2),
        topology=Chain(),
        message_size=2,
        window=window,
        optimizer=SGD(0.0),
        utility=UtilitySettings(GradientUtility, SGD(0.0), context=("time",)),
        num_worlds=WORLDS,
        evaluation=Evaluation(num_worlds=WORLDS),
    )
    # the two receivers are one population, of two rows: give each its own channel's model
    books = [Appraiser(0), Appraiser(1)]
    (receivers,) = [p for p in sim.populations if p.spec.num_inputs]

    class Both:
        fits_unread, needs_cost, context_size = False, True, 1

        def estimate(self, message, context, rows) -> Estimate:
            said = [
                books[int(row)].estimate(message[i : i + 1], context[i : i + 1], None)
                for i, row in enumerate(rows)
            ]
            gradients, values = [s.gradient for s in said], [s.value for s in said]
            return Estimate(torch.cat(gradients), torch.cat(values))

        def fit(self, message, context, target, rows, mask) -> Estimate:
            for i, row in enumerate(rows):
                at = slice(i, i + 1)
                own = type(target)(target.gradient[at], target.cost[at])
                books[int(row)].fit(message[at], context[at], own, rows, mask[at])
            return Estimate(torch.zeros_like(message), torch.zeros_like(message[..., 0]))

    receivers.interface = Both()
    sim.engine.play(0)
    engine, world = sim.engine, sim.world
    ticks = engine._schedule()

    for channel in (0, 1):
        sender, receiver = channel, channel + 1
        reads = defaultdict(list)
        there = {
            b: [t for t in ticks[f"agent_{receiver}"] if world.here[t, receiver, b]]
            for b in range(WORLDS)
        }
        ages = []
        for b in range(WORLDS):
            sent = [
                s
                for s in ticks[f"agent_{sender}"]
                if world.here[s, sender, b] and not engine.lost[channel][s, b]
            ]
            for t in there[b]:
                arrived = [s for s in sent if s + 1 + engine.delays[channel, s] <= t]
                if arrived:
                    reads[max(arrived), b].append(t)
                    ages.append(t - max(arrived))

        def cost(t: int, b: int, receiver: int = receiver) -> float:
            loss = world.asked[t, receiver, b].item() + 2.0
            return loss + (worth(1, t) if receiver == 1 else 0.0)

        want = {}
        for (s, b), times in reads.items():
            if remembers:
                end = (times[0] // window + 1) * window
                times = [t for t in there[b] if times[0] <= t < end]
            want[s, b] = sum(cost(t, b) for t in times)
        assert {key: found for key, (found, _) in books[channel].found.items()} == pytest.approx(
            want
        )
        assert any(len(times) > 1 for times in reads.values())
        row = receivers.names.index(f"agent_{receiver}")
        summary = receivers.channel_meter.summary(row)
        assert summary["age"] == pytest.approx(sum(ages) / len(ages))


def test_what_a_new_life_costs_is_not_charged_to_the_old_one(device):
    """By hand: member 0 is born anew at its third tick in world 1, member 1 never."""
    ones = torch.ones(2, 2, device=device)
    ticks = [_tick(time, members, device) for time, members in ((0, [0, 1]), (1, [0]), (2, [0, 1]))]
    born = torch.tensor([[False, True], [False, False]], device=device)
    window = OpenWindow(0, np.array([0, 1]), ticks[0].rows, Window(), (), ticks=ticks)
    window.begin_again(born, 2, ())
    costs = [ones, 10 * ones[:1], 100 * ones]
    first, second, third = _to_go(window, costs)
    assert first.tolist() == [[111.0, 11.0], [101.0, 101.0]]
    assert second.tolist() == [[110.0, 10.0]]
    assert third.tolist() == [[100.0, 100.0], [100.0, 100.0]]


def _tick(time, members, device) -> Tick:
    at = torch.tensor(members, device=device)
    nothing = torch.zeros(len(members), 2, 1, device=device)
    output = TickOutput(nothing, nothing)
    rows = Rows(None, nothing, {})
    return Tick(time, np.array(members), at, rows, output, nothing, None, nothing, None, None)
