"""Scarce links against a simulation of one message at a time, and what messages cost."""

import math
from collections import deque
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dnicomm.agents import ActorCritic, FeedForward
from dnicomm.core import Adam, GradientUtility
from dnicomm.errors import UserError
from dnicomm.sim import (
    Chain,
    Channel,
    Complete,
    EdgeList,
    Evaluation,
    GumbelSymbol,
    PeriodicClock,
    PoissonClock,
    Quantise,
    RegulariseDiscretise,
    Scarce,
    Simulation,
    UtilitySettings,
    standard_channel,
)
from dnicomm.sim.scarcity import LinkQueues

B, D = 4, 3
CPU = torch.device("cpu")


class Link:
    """One link in one world: a server that takes one message after another."""

    def __init__(self, bandwidth: Fraction, queue: int) -> None:
        self.service, self.queue = 1 / bandwidth, queue
        self.waiting: deque[int] = deque()  # times at which they were sent
        self.serving: int | None = None
        self.free_at = Fraction(0)
        self.finished: dict[int, Fraction] = {}  # by the time at which it was sent

    def advance(self, time: int) -> None:
        """What is through by ``time`` leaves, and the next one begins at once."""
        while self.serving is not None and self.free_at <= time:
            self.finished[self.serving] = self.free_at
            self.serving = None
            if self.waiting:
                self.begin(self.waiting.popleft(), self.free_at)

    def begin(self, sent_at: int, now: Fraction) -> None:
        self.serving, self.free_at = sent_at, now + self.service

    def send(self, time: int) -> bool:
        """Whether a message sent now is taken."""
        self.advance(time)
        if self.serving is None:
            self.begin(time, Fraction(time))
        elif len(self.waiting) < self.queue:
            self.waiting.append(time)
        else:
            return False
        return True


bandwidths = st.fractions(Fraction(1, 12), Fraction(3), max_denominator=12)


@given(
    bandwidth=bandwidths,
    queue=st.integers(0, 4),
    data=st.data(),
    edges=st.integers(1, 3),
    worlds=st.integers(1, 3),
    length=st.integers(1, 24),
)
@settings(deadline=None, max_examples=150)
def test_a_link_serves_one_message_after_another(bandwidth, queue, data, edges, worlds, length):
    """First come first served, and the last one to come is dropped where the queue is full."""
    queues = LinkQueues(Scarce(float(bandwidth), queue), edges, worlds, 10**6, CPU)
    links = [[Link(bandwidth, queue) for _ in range(worlds)] for _ in range(edges)]
    later: dict[tuple[int, int, int], int] = {}
    for time in range(length):
        at = data.draw(st.lists(st.integers(0, edges - 1), unique=True), "edges that send")
        if not at:
            continue
        each = st.lists(st.booleans(), min_size=worlds, max_size=worlds)
        mask = torch.tensor(data.draw(st.lists(each, min_size=len(at), max_size=len(at))))
        waits, carried = queues.admit(torch.tensor(at), time, mask)
        assert waits.dtype == torch.int64
        assert carried.dtype == torch.bool
        for e, edge in enumerate(at):
            for world in range(worlds):
                taken = bool(mask[e, world]) and links[edge][world].send(time)
                assert bool(carried[e, world]) == taken
                assert 0 <= waits[e, world] <= queues.longest
                if taken:
                    later[edge, world, time] = int(waits[e, world])
    for (edge, world, time), wait in later.items():
        links[edge][world].advance(10**6)
        # through at that moment, and there at the next whole unit of time
        assert wait == math.ceil(links[edge][world].finished[time]) - (time + 1)


@given(bandwidth=st.floats(1e-300, 1e300), queue=st.integers(0, 10**6), horizon=st.integers(1, 50))
@settings(deadline=None)
def test_nothing_waits_for_longer_than_an_episode_lasts(bandwidth, queue, horizon):
    """However narrow the link is."""
    queues = LinkQueues(Scarce(bandwidth, queue), 1, 1, horizon, CPU)
    assert 0 <= queues.longest <= horizon
    for time in range(horizon):
        later, carried = queues.admit(torch.tensor([0]), time, torch.ones(1, 1) > 0)
        assert 0 <= later.item() <= queues.longest
        assert carried.item() or time > 0
        if bandwidth >= 1:
            assert later.item() == 0
            assert carried.item()
        elif time == 0:  # the first one is through after the time it takes
            takes = min(1 / bandwidth, horizon + 1)
            assert later.item() == max(math.ceil(takes - 1e-9) - 1, 0)


# -- in a simulation ------------------------------------------------------------------------------


def simulation(env: Any, agent: Any, channel: Channel, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.7),
        "message_size": D,
        "num_worlds": B,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=1000, episodes=1, num_worlds=B),
    }
    return Simulation(env, agent, channel=channel, **(given | own))


@pytest.mark.parametrize(
    ("bandwidth", "queue", "feedback"),
    [(0.5, 0, "exact"), (0.4, 2, "synthetic"), (0.4, 2, "exact"), (0.01, 3, "synthetic")],
)
def test_mail_arrives_when_its_link_lets_it(bandwidth, queue, feedback, town, device):
    """Then it is delayed, or lost; each message is settled once in each world, whatever happens."""
    channel = standard_channel(delay=[0, 2], drop=0.2, bandwidth=bandwidth, queue=queue)
    env = town(num_agents=2, absent=0.2, horizon=20)
    sim = simulation(env, FeedForward, channel, topology=Chain(), feedback=feedback, device=device)
    inboxes = {}

    def note(time, lane, members, inbox):
        if lane.population.names == ["agent_1"]:
            inboxes[time] = inbox
        return inbox

    sim.engine.intervene = note
    sim.engine.play(0)
    engine, world = sim.engine, sim.world
    ticks = engine._schedule()
    sent, arrived = 0, [[] for _ in range(B)]
    for b in range(B):
        link = Link(Fraction(bandwidth).limit_denominator(1000), queue)
        times = [t for t in ticks["agent_0"] if world.here[t, 0, b]]
        sent += len(times)
        carried = [t for t in times if link.send(t)]
        link.advance(10**9)
        for t in carried:
            if not engine.lost[0][t, b]:
                usual = t + 1 + engine.delays[0, t]
                arrived[b].append((usual + math.ceil(link.finished[t]) - (t + 1), t))
    assert set(inboxes) == set(ticks["agent_1"])
    for time, inbox in inboxes.items():
        for b in range(B):
            newest = max((t for arrival, t in arrived[b] if arrival <= time), default=None)
            assert bool(inbox.mask[0, b, 0]) == (newest is not None)
            assert inbox.age[0, b, 0] == (0 if newest is None else time - newest)
    (receiver,) = [p for p in sim.populations if p.names == ["agent_1"]]
    assert receiver.channel_meter.sums["settled"].item() == sent > 20


@pytest.mark.parametrize(
    ("scarce", "feedback"),
    [({"bandwidth": 1.0}, "synthetic"), ({"bandwidth": 7.5, "queue": 3}, "exact")],
)
def test_a_link_that_is_wide_enough_changes_nothing(scarce, feedback, town, walker):
    """Nobody sends more than one message a unit of time: bit for bit the same run."""
    found = []
    for more in ({}, scarce):
        channel = standard_channel(delay=[0, 2], drop=0.1, noise=0.1, **more)
        env = town(num_agents=3, horizon=10, absent=0.2)
        sim = simulation(env, walker, channel, topology=Complete(), feedback=feedback, window=3)
        sim.engine.play(0)
        found.append(sim.tensors())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


# -- what messages cost ---------------------------------------------------------------------------

EDGES = [("agent_0", "agent_1"), ("agent_0", "agent_2"), ("agent_1", "agent_2")]


def charged(sim: Any) -> tuple[Tensor, Tensor]:
    """Messages sent and what they took from rewards, by time and agent, ``[T, N, B]`` each."""
    world, engine = sim.world, sim.engine
    count = torch.zeros(world.horizon, len(world.agents), B)
    ticks = []
    engine.observer = lambda lane, tick, *rest: ticks.append((lane.population, tick))
    engine.play(0)
    for population, tick in ticks:
        for row, member in enumerate(tick.members):
            name = population.names[int(member)]
            there = torch.ones(B) > 0 if tick.active is None else tick.active[row].cpu()
            if tick.spoke is not None:
                there = there & tick.spoke[row].cpu()
            for sender, receiver in sim.edges:
                ends = [world.agents.index(sender)], [world.agents.index(receiver)]
                doors = world.open_edges(*ends)
                if sender == name:
                    count[tick.time, ends[0][0]] += there & (doors is True or doors[0].cpu())
    cost = [paid - got for paid, got in zip(world.paid, engine.rewards, strict=True)]
    return count, torch.stack(cost).cpu()


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("absent", [0.0, 0.3])
def test_each_message_is_charged_to_its_sender(gate, absent, market, double, device):
    """At the time when it is sent, for each channel on which it is, whether it arrives or not."""
    channel = standard_channel(drop=0.5, bandwidth=0.3, cost=0.25)
    sim = simulation(
        market(num_agents=3, absent=absent), partial(ActorCritic, width=6, gate=gate), channel,
        topology=EdgeList(EDGES), device=device,
    )  # fmt: skip
    shut = torch.tensor([True, True, False, True], device=device)  # one world's links are down
    sim.world.open_edges = lambda senders, receivers: shut.expand(len(senders), -1)
    count, cost = charged(sim)
    torch.testing.assert_close(cost, 0.25 * count)
    assert not count[:, 2].any()  # it has no channel
    assert not count[..., 2].any()
    assert count[:, 0].max() == 2
    if gate or absent:
        assert len(count[0, 0].unique()) > 1 or len(count[:, 1].unique()) > 1
    meter = {p.names[0]: p.agent_meter for p in sim.populations}["agent_0"]
    paid = torch.stack(sim.engine.rewards)[:, 0].sum()
    torch.testing.assert_close(meter.sums["reward"][0], paid)


def test_the_world_may_use_the_tensor_of_its_answer_again(market, double):
    """What is on its way arrives, though its link is shut by the time."""
    sim = simulation(
        market(num_agents=2), partial(ActorCritic, width=6), standard_channel(),
        topology=EdgeList(EDGES[:1]),
    )  # fmt: skip
    open_now = torch.ones(1, B, dtype=torch.bool)
    step, heard = sim.world.step, []

    def shuts_after(*args):
        open_now[:] = False
        return step(*args)

    sim.world.open_edges = lambda senders, receivers: open_now.expand(len(senders), -1)
    sim.world.step = shuts_after
    sim.engine.observer = lambda lane, tick, seen, inbox, state: heard.append(inbox.mask.any())
    sim.engine.play(0)
    assert any(heard)


BITS = [
    ({}, {}, 32 * D),
    ({"quantise": 5}, {}, 5 * D),
    ({}, {"discrete": GumbelSymbol()}, math.log2(D)),
    ({}, {"discrete": RegulariseDiscretise()}, D),
    ({"quantise": 5}, {"discrete": RegulariseDiscretise()}, D),
]


@pytest.mark.parametrize(("channel", "own", "bits"), BITS, ids=[str(n) for n in range(len(BITS))])
def test_bits_are_charged_as_many_as_there_are(channel, own, bits, market, double):
    link = standard_channel(cost=0.01, cost_unit="bit", **channel)
    sim = simulation(market(), ActorCritic, link, topology=Chain(), **own)
    count, cost = charged(sim)
    torch.testing.assert_close(cost, 0.01 * bits * count)
    assert count.any()


def test_a_message_that_is_not_finite_is_not_sent_and_costs_nothing(market):
    class Stutterer(ActorCritic):
        def tick(self, observation, inbox, state):
            output = super().tick(observation, inbox, state)
            bad = torch.where(observation[:, :1] > 0, torch.nan, 0.0)
            return output._replace(message=output.message + bad)

    sim = simulation(market(), Stutterer, Scarce(cost=1.0), topology=Chain(), normalise=False,
                     clock=PeriodicClock(1), feedback="none")  # fmt: skip
    sim.engine.play(0)
    for time, (paid, got) in enumerate(zip(sim.world.paid, sim.engine.rewards, strict=True)):
        good = ~(sim.world.seen[time, 0, :, 0] > 0)
        torch.testing.assert_close(paid[0] - got[0], good.float())
        torch.testing.assert_close(paid[1], got[1])


def test_tests_score_what_the_world_pays(market):
    """What messages cost is the senders' to learn from; the score is the environment's."""
    scores = []
    for cost in (0.0, 3.0):
        sim = simulation(market(), ActorCritic, standard_channel(cost=cost))
        scores.append(sim.evaluate()["metrics"]["return"])
        assert all(e.message_cost == 0 for e in (sim.examiner, sim.rehearser))
    assert scores[0] == scores[1]


def test_a_cost_changes_what_is_learnt(market):
    found = []
    for cost in (0.0, 0.5):
        agent = partial(ActorCritic, gate=True)
        sim = simulation(market(), agent, standard_channel(cost=cost), feedback="none")
        sim.run(24)
        found.append(sim.populations[0].agents.parameters)
    assert not torch.equal(*found)


def test_a_cost_needs_rewards(town):
    with pytest.raises(UserError) as refused:
        simulation(town(), FeedForward, standard_channel(cost=0.1))
    assert str(refused.value) == (
        "channel.cost=0.1: town gives no rewards that a message could cost"
    )


# -- what a channel says of itself ----------------------------------------------------------------


def test_links_one_after_another_are_as_scarce_as_the_scarce_one():
    channel = standard_channel(1, 0.1, 0.2, 6, bandwidth=0.5, queue=2, cost=0.1, cost_unit="bit")
    assert (channel.bandwidth, channel.queue) == (0.5, 2)
    assert (channel.cost, channel.cost_unit, channel.number_bits) == (0.1, "bit", 6)
    plain = standard_channel(1, 0.1)
    assert (plain.bandwidth, plain.cost, plain.number_bits) == (None, 0.0, 32)
    assert Quantise(3).number_bits == 3


REFUSED: dict[str, tuple[list[Any], str]] = {
    "bandwidth": ([0, -1.0, math.inf, math.nan, "a", True], "a number above 0 (messages a unit"),
    "queue": ([-1, 1.5, True, "a", None], "a whole number of at least 0"),
    "cost": ([-0.1, math.nan, math.inf, "a", True], "a number of at least 0"),
    "cost_unit": (["bits", None, 3], "message or bit"),
}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [(key, value, allowed) for key, (values, allowed) in REFUSED.items() for value in values],
)
def test_what_is_refused(key, value, allowed):
    with pytest.raises(UserError) as refused:
        standard_channel(**{key: value})
    assert str(refused.value).startswith(f"channel.{key}={value}: must be {allowed}")
    assert "\n" not in str(refused.value)
