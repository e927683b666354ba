"""What can be proved of a run: asynchrony, losses and populations change nothing they must not.

Parameters are frozen where gradients are compared: ``SGD(lr=0, momentum=1)`` moves nothing and
adds every gradient up in its velocity. Numbers are float64, so that only errors are large.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.agents import FeedForward
from dnicomm.core import CriticUtility, Estimate, GradientUtility, Target
from dnicomm.envs.relay import Relay
from dnicomm.sim import (
    SGD,
    Adam,
    Chain,
    Channel,
    Complete,
    Delay,
    Drop,
    EdgeList,
    Evaluation,
    Inbox,
    Noise,
    Override,
    PeriodicClock,
    PoissonClock,
    Quantise,
    Ring,
    Simulation,
    UtilitySettings,
)
from dnicomm.sim.channel import Series as Links

FROZEN = SGD(lr=0.0, momentum=1.0)
ROUGH = Links((Quantise(8), Delay(0, 3), Noise(0.1), Drop(0.2)))

pytestmark = pytest.mark.usefixtures("double")


def clocks(count: int) -> dict[str, PoissonClock]:
    """Irregular ones of different rates, for ``agent_0`` and so on."""
    rates = [0.9, 0.35, 0.6, 0.8, 0.5, 0.7]
    return {f"agent_{i}": PoissonClock(rates[i]) for i in range(count)}


def simulation(env: Any, agent: Any, feedback: str = "synthetic", **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clocks": clocks(env.num_agents),
        "channel": ROUGH,
        "message_size": 4,
        "num_worlds": 5,
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=10_000, episodes=1, num_worlds=4),
    }
    return Simulation(env, agent, feedback=feedback, **(given | own))


def by_agent(sim: Simulation, what: Callable[[Any], Tensor]) -> dict[str, Tensor]:
    """Rows of populations' tensors, by agents' names."""
    return {
        name: what(population)[row]
        for population in sim.populations
        for row, name in enumerate(population.names)
    }


def gradients(sim: Simulation) -> dict[str, Tensor]:
    """Sums of all gradients found by frozen agents."""
    return by_agent(sim, lambda p: p.agents.slots["velocity"])


def parameters(sim: Simulation) -> dict[str, Tensor]:
    return by_agent(sim, lambda p: p.agents.parameters)


def by_channel(sim: Simulation, what: Callable[[Any], Tensor]) -> dict[Any, Tensor]:
    return {
        edge: what(population)[slot]
        for population in sim.populations
        for slot, edge in enumerate(population.inputs)
        if edge is not None
    }


def close(got: dict[Any, Tensor], want: dict[Any, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        difference = (got[name] - value).abs()
        assert (difference <= 1e-11 + 1e-9 * value.abs()).all(), f"{name}: {difference.max()}"


def differ(got: dict[Any, Tensor], want: dict[Any, Tensor]) -> set[Any]:
    return {name for name in want if not torch.allclose(got[name], want[name], atol=1e-7)}


class Ledger:
    """In an interface's place: writes down every target, or answers with what was written down.

    A message is known by its channel, the time at which it was sent (its context) and its world.
    """

    fits_unread, needs_cost, context_size = True, False, 1

    def __init__(self, sim: Simulation, population: Any, written: Tensor | None) -> None:
        self.engine, self.population, self.written = sim.engine, population, written
        shape = (len(population.inputs), sim.world.horizon, sim.num_worlds)
        self.target = torch.zeros(*shape, sim.message_size, device=sim.device)
        self.value = torch.zeros_like(self.target)
        self.settled = torch.zeros(shape, device=sim.device)

    def _at(self, context: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        times = (context[..., 0] * self.engine.length).round().long()  # [e, B]
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
        self.value.index_put_(at, message[mask])
        self.settled.index_put_(at, torch.ones_like(at[1]).to(self.settled), accumulate=True)
        return Estimate(torch.zeros_like(message), torch.zeros_like(message[..., 0]))


def keep_books(sim: Simulation, written: dict[int, Ledger] | None = None) -> dict[int, Ledger]:
    """Put a ledger in every population's interface's place."""
    ledgers = {}
    for number, population in enumerate(sim.populations):
        if population.spec.num_inputs:
            before = None if written is None else written[number].target
            ledgers[number] = Ledger(sim, population, before)
            population.interface = ledgers[number]  # type: ignore[assignment]
    return ledgers


def noise(like: Tensor) -> Tensor:
    """The same each time, for something to be told."""
    draw = torch.Generator(like.device).manual_seed(0)
    return torch.randn(like.shape, generator=draw, device=like.device)


def one_episode(sim: Simulation) -> Simulation:
    sim.engine.play(0)
    return sim


# -- oracle = exact ---------------------------------------------------------------------------

frozen: dict[str, Any] = {
    "optimizer": FROZEN,
    "utility": UtilitySettings(GradientUtility, FROZEN, context=("time",)),
}


@pytest.mark.parametrize(("window", "normalise"), [(1, True), (7, False), (7, True), (24, True)])
def test_relay_with_an_oracle_equals_backpropagation(window, normalise, device):
    """Agents without memory: whatever their windows, the parts add up to the exact gradient."""
    own = frozen | {"normalise": normalise, "device": device, "window": window}
    env = Relay(num_agents=5, horizon=24)
    exact = simulation(env, FeedForward, "exact", **own)
    books = keep_books(exact)
    one_episode(exact)
    oracle = simulation(env, FeedForward, "synthetic", **own)
    again = keep_books(oracle, books)
    one_episode(oracle)
    without = one_episode(simulation(env, FeedForward, "none", **own))

    close(gradients(oracle), gradients(exact))
    for number, book in books.items():
        close({"target": again[number].target}, {"target": book.target})
        assert torch.equal(again[number].settled, book.settled)
        assert book.settled.max() == 1  # once, in each world in which it was sent
        sent = book.settled > 0
        found = book.target.abs().sum(-1) > 0
        assert found.any()
        assert (sent & ~found).any()  # lost, overtaken or never read: zero
        assert not (found & ~sent).any()
        sums = exact.populations[number].channel_meter.sums
        assert (sums["reads"] > sums["read"]).any()  # some were read more than once
    # without feedback all but the last agent learn nothing
    last = "agent_4"
    assert differ(gradients(without), gradients(exact)) == set(exact.world.agents) - {last}
    assert all(g.abs().sum() > 0 for g in gradients(exact).values())


@pytest.mark.parametrize(
    ("topology", "missing"),
    [(Ring(), 0.3), (Ring(both=True), 0.0), (Complete(), 0.0), (Complete(), 0.3)],
)
def test_recurrent_agents_with_an_oracle_equal_backpropagation(
    town, walker, topology, missing, device
):
    """Everybody talks, remembers, and has something to say at every tick; one window."""
    env = town(num_agents=4, horizon=16, absent=missing, shut=missing)
    own = frozen | {"topology": topology, "window": env.horizon, "device": device}
    own["agents"] = {"agent_1": Override(key="b"), "agent_3": Override(walker, key="c")}
    exact = simulation(env, walker, "exact", **own)
    books = keep_books(exact)
    one_episode(exact)
    oracle = simulation(env, walker, "synthetic", **own)
    again = keep_books(oracle, books)
    one_episode(oracle)
    without = one_episode(simulation(env, walker, "none", **own))

    close(gradients(oracle), gradients(exact))
    assert differ(gradients(without), gradients(exact)) == set(exact.world.agents)
    for number, book in books.items():
        close({"target": again[number].target}, {"target": book.target})
        assert book.settled.max() == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_feedback_is_between_true_and_synthetic(share, device):
    """From one agent to another, parameters and utility model frozen: a weighted mean."""
    env = Relay(num_agents=2, horizon=12)
    found = {}
    for feedback in ("exact", "synthetic", "mixed"):
        own = frozen | {"feedback_share": share, "window": 12, "device": device}
        sim = simulation(env, FeedForward, feedback, gradient_scale=0.5, **own)
        (receiver,) = [p for p in sim.populations if p.interface is not None]
        assert receiver.interface is not None
        receiver.interface.utilities.parameters.normal_(
            generator=torch.Generator(device).manual_seed(0)
        )
        found[feedback] = gradients(one_episode(sim))
    true, said, mixed = found["exact"], found["synthetic"], found["mixed"]
    assert differ(said, true) == {"agent_0"}
    want = {name: share * true[name] + (1 - share) * said[name] for name in true}
    close(mixed, want)


@pytest.mark.parametrize("feedback", ["exact", "synthetic"])
def test_what_arrives_is_what_the_channel_made_of_it(feedback, device):
    class Doubled(Channel):
        def distort(self, message, rng):
            return 2 * message

    found = []
    for channel in (Channel(), Doubled()):
        env = Relay(num_agents=2, horizon=6)
        sim = simulation(
            env, FeedForward, feedback, channel=channel, **(frozen | {"device": device})
        )
        (book,) = keep_books(sim).values()
        one_episode(sim)
        found.append(book)
    assert found[0].value.abs().sum() > 0
    torch.testing.assert_close(found[1].value, 2 * found[0].value)


def test_what_is_injected_is_scaled_and_what_is_learnt_is_not(device):
    """The first agent of a relay of two lives on feedback alone; the second one needs none."""
    found = []
    for scale in (1.0, 3.0, 0.0):
        env = Relay(num_agents=2, horizon=10)
        sim = simulation(env, FeedForward, gradient_scale=scale, **(frozen | {"device": device}))
        (book,) = keep_books(sim).values()
        book.written = noise(book.target)
        found.append((gradients(one_episode(sim)), book.target))
    (one, target), (three, same), (zero, _) = found
    assert torch.equal(target, same)
    assert one["agent_0"].abs().max() > 1e-3
    close(three, {"agent_0": 3 * one["agent_0"], "agent_1": one["agent_1"]})
    assert not zero["agent_0"].any()


def test_a_critic_speaks_for_the_share_of_messages_that_are_read(device):
    """It knows of those alone; regression of gradients knows of the others, as zero."""
    found = []
    for fits_unread, share in ((True, 0.25), (False, 0.25), (False, 1.0)):
        own = frozen | {"window": 10, "device": device}
        sim = simulation(Relay(num_agents=2, horizon=10), FeedForward, **own)
        (book,) = keep_books(sim).values()
        book.written, book.fits_unread = noise(book.target), fits_unread
        book.population.share_read.fill_(share)
        found.append(gradients(one_episode(sim))["agent_0"])
    assert found[0].abs().max() > 1e-3
    close({"agent_0": found[1]}, {"agent_0": 0.25 * found[0]})
    close({"agent_0": found[2]}, {"agent_0": found[0]})


@pytest.mark.parametrize("normalise", [True, False])
def test_what_was_not_sent_is_not_answered(town, walker, normalise, device):
    """A channel that takes nothing, whatever its receiver would say."""
    found = []
    for said in (0.0, 1.0):
        own = frozen | {"topology": Chain(), "normalise": normalise, "device": device}
        sim = simulation(town(num_agents=3, absent=0.3), walker, **own)
        sim.world.walls = [(0, 1)]
        for book in keep_books(sim).values():
            book.written = said * noise(book.target)
        found.append((gradients(one_episode(sim)), book))
    (silent, book), (loud, _) = found
    slot = book.population.names.index("agent_1")
    assert not book.settled[slot].any()
    assert differ(loud, silent) == {"agent_1"}  # who sends to the last one


def test_who_has_seen_and_heard_nothing_says_nothing(device):
    """An episode one unit too short for the relay: nobody answers, and nobody is blamed."""
    for horizon in (3, 4):
        sim = simulation(
            Relay(num_agents=4, horizon=horizon), FeedForward, "exact", clocks=None,
            clock=PeriodicClock(1), channel=Delay(0), **(frozen | {"device": device}),
        )  # fmt: skip
        books = keep_books(sim)
        one_episode(sim)
        assert sim.world.score()["answered"].mean() == float(horizon == 4)
        assert all(bool(g.any()) == (horizon == 4) for g in gradients(sim).values())
        # agent i sends from time i on
        sent = [int(book.settled[slot].sum()) for book in books.values()
                for slot in range(len(book.settled))]  # fmt: skip
        assert sorted(sent) == [5 * (horizon - i) for i in (2, 1, 0)]


# -- zero utility = none ----------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 5])
def test_an_untrained_utility_model_is_no_feedback_at_all(town, walker, normed, window, device):
    """Bit for bit, over several episodes."""
    env = town(num_agents=4, horizon=10, absent=0.2)
    found = []
    for feedback in ("synthetic", "none"):
        sim = simulation(
            env,
            walker,
            feedback,
            utility=UtilitySettings(GradientUtility, SGD(0.0)),
            agents={"agent_1": Override(normed), "agent_3": Override(FeedForward)},
            topology=Ring(both=True),
            optimizer=Adam(1e-2),
            window=window,
            device=device,
        )
        sim.run(20)
        found.append(sim.tensors())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_trained_utility_model_is_some_feedback(town, walker):
    env = town(num_agents=3, horizon=12)
    found = []
    for feedback in ("synthetic", "none"):
        sim = simulation(env, walker, feedback, optimizer=Adam(1e-2))
        sim.run(24)
        found.append(parameters(sim))
    assert differ(*found) == set(found[0])


# -- stacked = looped -------------------------------------------------------------------------

# Adam divides tiny gradients by their own size, and so makes much of the last digit; a linear
# critic says the same in all worlds, of which normalisation leaves rounding errors
UTILITIES = {
    "gradient": UtilitySettings(GradientUtility, SGD(0.05), context=("hint", "time")),
    "receiver": UtilitySettings(GradientUtility, SGD(0.05), context=("receiver",)),
    "critic": UtilitySettings(partial(CriticUtility, hidden=[6]), SGD(0.05)),
}
SMOOTH = Links((Delay(0, 3), Noise(0.1), Drop(0.2)))  # a rounded message may jump


@pytest.mark.parametrize(
    ("kind", "utility", "missing", "window", "feedback"),
    [
        ("walker", "gradient", 0.3, 1, "synthetic"),
        ("walker", "receiver", 0.3, 4, "synthetic"),
        ("walker", "critic", 0.0, 3, "synthetic"),
        ("normed", "gradient", 0.0, 3, "synthetic"),
        ("walker", "gradient", 0.3, 4, "exact"),
    ],
)
def test_a_population_equals_its_members_one_by_one(
    kind, utility, missing, window, feedback, town, walker, normed, device
):
    """Two kinds of agent, one after the other; together, and each as a population of one."""
    env = town(num_agents=4, horizon=12, absent=missing, shut=missing)
    agent = {"walker": walker, "normed": normed}[kind]
    keys = [("a", "b"), ("a", "b", "c", "d")]
    found = []
    for own in keys:
        sim = simulation(
            env,
            agent,
            feedback,
            agents={f"agent_{i}": Override(key=own[i % len(own)]) for i in range(4)},
            topology=Complete(),
            utility=UTILITIES[utility],
            optimizer=SGD(0.1, momentum=0.5, clip=1.0),
            channel=SMOOTH,
            window=window,
            exact_window=window,
            device=device,
        )
        assert len(sim.populations) == len(own)
        figures = sim.run(24).history[-1]
        found.append((sim, figures))
    (stacked, said), (looped, apart) = found
    close(parameters(stacked), parameters(looped))
    for name in stacked.populations[0].encoder.tensors():
        close(
            by_agent(stacked, lambda p, name=name: p.encoder.tensors()[name]),
            by_agent(looped, lambda p, name=name: p.encoder.tensors()[name]),
        )
    close(by_channel(stacked, lambda p: p.share_read), by_channel(looped, lambda p: p.share_read))
    close(
        by_channel(stacked, lambda p: p.interface.utilities.parameters),
        by_channel(looped, lambda p: p.interface.utilities.parameters),
    )
    for name in stacked.populations[0].agents.buffers:
        close(
            by_agent(stacked, lambda p, name=name: p.agents.buffers[name]),
            by_agent(looped, lambda p, name=name: p.agents.buffers[name]),
        )
    for part in ("agents", "channels"):
        for name, figures in said[part].items():
            for what, value in figures.items():
                other = apart[part][name][what]
                assert (value is None) == (other is None), (name, what)
                assert value is None or value == pytest.approx(other, rel=1e-6), (name, what)


def test_members_with_fewer_channels_leave_the_rest_of_their_inbox_empty(town, walker, device):
    """One agent hears two, another one: equal but for a channel on which nothing ever comes."""
    env = town(num_agents=4, horizon=15)
    edges = [("agent_0", "agent_2"), ("agent_1", "agent_2"), ("agent_0", "agent_3")]
    found = []
    for more in ([], [("agent_1", "agent_3")]):
        sim = simulation(env, walker, topology=EdgeList(edges + more), device=device)
        population = next(p for p in sim.populations if "agent_3" in p.names)
        assert population.names == ["agent_2", "agent_3"]
        if more:  # the same channel, always shut
            sim.world.walls = [(1, 3)]
        one_episode(sim)
        found.append(sim)
    close(parameters(found[0]), parameters(found[1]))


def test_a_utility_model_sees_the_last_state_of_its_own_receiver(town, walker):
    """Frozen when the message is sent; of receivers without memory there is none."""
    seen = {}
    env = town(num_agents=3, horizon=8)
    sim = simulation(
        env, walker, agents={"agent_2": Override(FeedForward)}, topology=Chain(),
        channel=Delay(0), clock=PeriodicClock(1), clocks=None, window=3,
        utility=UtilitySettings(GradientUtility, SGD(0.0), context=("receiver", "time")),
    )  # fmt: skip
    for population in sim.populations:
        if population.interface is not None:
            own = seen[population.names[-1]] = []

            def fit(message, context, target, rows, mask, own=own):
                own.append(context[mask])
                return Estimate(torch.zeros_like(message), torch.zeros_like(message[..., 0]))

            population.interface.fit = fit
    one_episode(sim)
    assert torch.cat(seen["agent_2"]).shape == (8 * 5, 1)  # every message in every world
    assert torch.cat(seen["agent_1"]).shape == (8 * 5, 7)
    for context in seen["agent_1"]:
        h, ticks, time = context[:, :5], context[:, 5], context[:, 6]
        assert h.all()
        assert torch.equal(ticks, (time * 8).round() + 1)  # its tick at that very time included


# -- worlds are independent -------------------------------------------------------------------


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_worlds_do_not_feel_each_other_within_an_update(town, walker, feedback, device):
    """Another world's observations and labels change nothing in this one, messages raw."""
    books, answers = [], []
    for perturbed in (None, 2):
        env = town(num_agents=4, horizon=14, absent=0.2, shut=0.2, perturbed=perturbed)
        own = frozen | {"normalise": False, "window": 14, "topology": Complete(), "device": device}
        sim = simulation(env, walker, feedback, **own)
        spy = keep_books(sim)
        given = torch.ones_like(spy[0].target) * torch.arange(5, device=device)[:, None]
        spy[0].written = given  # something to be told in every world
        one_episode(sim)
        books.append(spy[0])
        answers.append(sim.world.answer)
    others = [0, 1, 3, 4]
    close({0: books[1].target[:, :, others]}, {0: books[0].target[:, :, others]})
    assert torch.equal(books[1].settled, books[0].settled)
    assert torch.equal(answers[1][:, others], answers[0][:, others])
    assert not torch.allclose(books[1].target[:, :, 2], books[0].target[:, :, 2])


def test_what_an_absent_agent_would_see_is_of_no_account(town, walker, device):
    """Garbage in worlds in which an agent is not there: the same run, bit for bit."""
    found = []
    for garbage in (False, True):
        env = town(num_agents=4, horizon=14, absent=0.4, garbage=garbage)
        sim = simulation(
            env, walker, topology=Complete(), window=3, optimizer=Adam(1e-2), device=device
        )
        sim.run(14)
        found.append(sim.tensors())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_worlds_that_have_ended_teach_nothing(town, walker, device):
    """World b ends at 6 + b: as if from then on nobody had been there."""
    found = []
    for how in ({"last": 6}, {"leave": 6}):
        env = town(num_agents=3, horizon=14, **how)
        sim = simulation(env, walker, topology=Complete(), window=3, device=device)
        sim.run(10)  # the last world ends at 10
        found.append(sim.tensors())
    close(*found)


# -- windows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_window_is_backpropagation_through_its_ticks(town, walker, window, device):
    """A lone recurrent agent against a plain loop: one step a window, its state cut between."""
    length, worlds = 10, 5
    env = town(num_agents=1, horizon=length)
    sim = simulation(
        env, walker, clocks=None, clock=PoissonClock(0.5), optimizer=SGD(0.5), window=window,
        normalise=False, device=device,
    )  # fmt: skip
    (population,) = sim.populations
    agent = population.agents.module(0)
    one_episode(sim)

    world = sim.world
    world.reset(0, sim.engine.draw("world"))
    optimizer = torch.optim.SGD(agent.parameters(), 0.5)
    state = agent.initial_state(worlds)
    state = {name: leaf.to(device) for name, leaf in state.items()}
    nobody = Inbox(*(torch.zeros(worlds, 0, *more, device=device) for more in ((4,), (), ())))
    ticks = set(sim.engine._schedule()["agent_0"])
    assert len(ticks) < length
    loss, ticked = torch.zeros((), device=device), False
    for time in range(length):
        if time in ticks:
            world.time = time
            output = agent.tick(world.observe([0])[0], nobody, state)
            label = world.labels([0])[0]
            loss = (
                loss
                + F.cross_entropy(output.action, label, ignore_index=-1, reduction="sum") / worlds
            )
            state, ticked = output.state, True
        if (time + 1) % window == 0 or time == length - 1:
            if ticked:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            state = {name: leaf.detach() for name, leaf in state.items()}
            loss, ticked = torch.zeros((), device=device), False
    for name, value in population.agents.module(0).named_parameters():
        close({name: value}, {name: dict(agent.named_parameters())[name]})


def test_senders_that_wait_may_have_windows_in_which_a_receiver_is_silent(town, walker, device):
    """Mail on its way over an edge at which its receiver has no window carries no old graph."""
    env = town(num_agents=2, horizon=24)
    sim = simulation(
        env, walker, "exact", exact_window=4, topology=Ring(), channel=Delay(3), device=device,
        agents={"agent_1": Override(key="slow")},
        clocks={"agent_0": PeriodicClock(1), "agent_1": PeriodicClock(7)},
    )  # fmt: skip
    sim.run(24)
    updates = by_agent(sim, lambda p: p.agents.updates)
    assert updates == {"agent_0": 6, "agent_1": 4}


# -- evaluation -------------------------------------------------------------------------------


def test_evaluation_does_not_depend_on_the_number_of_its_worlds(normed, device):
    """The same digits get the same answers; batch statistics stay out of it."""
    answers = []
    for worlds in (1, 7, 20):
        sim = simulation(
            Relay(num_agents=3, horizon=20), normed, num_worlds=16, channel=Delay(0, 2),
            evaluation=Evaluation(every=1000, episodes=1, num_worlds=worlds), device=device,
        )  # fmt: skip
        sim.run(40)
        answers.append(sim.examiner.world.answer)
    assert torch.equal(answers[0], answers[2][:1])
    assert torch.equal(answers[1], answers[2][:7])
    assert len(set(answers[2].tolist())) > 1


def test_evaluation_changes_nothing(town, walker, normed, device):
    """Parameters, statistics, buffers, figures: as if there had been none."""
    found = []
    for every in (1000, 5):
        sim = simulation(
            town(num_agents=4, horizon=10), walker, agents={"agent_2": Override(normed)},
            topology=Ring(), evaluation=Evaluation(every=every, episodes=2), device=device,
        )  # fmt: skip
        figures = sim.run(30).history[-1]
        found.append((sim.tensors(), figures["metrics"]))
    assert all(torch.equal(value, found[1][0][name]) for name, value in found[0][0].items())
    assert found[0][1] == found[1][1]
