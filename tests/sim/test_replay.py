"""Several steps on one window, against a loop written out with torch's own optimiser.

Two agents talk to each other, on clocks of their own, with worlds in which they are not there and
lives that end. What their receivers say of messages is known beforehand. Numbers are float64.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dnicomm.agents import PPO, ActorCritic, RecurrentPPO
from dnicomm.core import Estimate, GradientUtility
from dnicomm.sim import (
    SGD,
    Adam,
    Complete,
    Evaluation,
    GumbelSymbol,
    Override,
    PeriodicClock,
    PoissonClock,
    RegulariseDiscretise,
    Simulation,
    UtilitySettings,
    learning,
    standard_channel,
)
from dnicomm.sim.agent import Inbox, Outcome
from dnicomm.sim.encoding import Occasion
from dnicomm.sim.normalise import EPSILON
from dnicomm.sim.replay import replay as further_steps
from dnicomm.sim.window import OpenWindow, Tick

B, D, LR = 5, 3, 0.3

pytestmark = pytest.mark.usefixtures("double")


class Echo(RecurrentPPO):
    """Its message, its state and what it acts on are one and the same."""

    def heads(self, h, seen, state):
        return super().heads(h, seen, state)._replace(message=h)


class Rated(ActorCritic):
    """A2C, written with the ratio of probabilities."""

    normalises_advantages = True

    def policy_loss(self, likely, outcome):
        return -(likely - outcome.log_policy).exp() * outcome.advantage


class Kept(PPO):
    """With statistics that it keeps, and noise of its own."""

    def __init__(self, spec, epochs: int = 4) -> None:
        super().__init__(spec, width=6, epochs=epochs)
        self.body.append(nn.BatchNorm1d(6))


class Oracle:
    """In an interface's place: says of each message what was drawn beforehand."""

    fits_unread, needs_cost, context_size = True, False, 1

    def __init__(self, sim: Simulation, population: Any) -> None:
        self.engine = sim.engine
        draw = torch.Generator().manual_seed(len(population.names[0]))
        shape = len(population.inputs), sim.world.horizon, sim.num_worlds, sim.message_size
        self.said = torch.randn(shape, generator=draw).to(sim.device)
        self.asked = self.fitted = 0
        self.target = torch.zeros_like(self.said)

    def at(self, context: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        times = (context[..., 0] * self.engine.length).round().long()
        worlds = torch.arange(times.shape[1], device=times.device)
        return rows[:, None].expand_as(times), times, worlds.expand_as(times)

    def estimate(self, message, context, rows):
        self.asked += 1
        return Estimate(self.said[self.at(context, rows)], torch.zeros_like(message[..., 0]))

    def fit(self, message, context, target, rows, mask):
        self.fitted += int(mask.sum())
        at = tuple(index[mask] for index in self.at(context, rows))
        self.target.index_put_(at, target.gradient[mask])
        return Estimate(torch.zeros_like(message), torch.zeros_like(message[..., 0]))


@dataclass
class Seen:
    """A window as it was before the further steps."""

    window: OpenWindow
    outcomes: list[Outcome]
    before: dict[int, Any] = field(default_factory=dict)  # states before each tick
    inputs: dict[int, tuple[Tensor, Inbox]] = field(default_factory=dict)

    @property
    def ticks(self) -> list[Tick]:
        return self.window.ticks


def simulation(env: Any, agent: Any, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clocks": {"agent_0": PoissonClock(0.6), "agent_1": PeriodicClock(2)},
        "agents": {"agent_1": Override(key="apart")},
        "channel": standard_channel(delay=[0, 1]),
        "topology": Complete(),
        "message_size": D,
        "num_worlds": B,
        "window": 6,
        "normalise": False,
        "optimizer": SGD(LR),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2), context=("time",)),
        "evaluation": Evaluation(num_worlds=B),
        "gae_lambda": 0.9,
    }
    return Simulation(env, agent, **(given | own))


def watch(sim: Simulation, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Seen]]:
    """Windows of each population, by its first agent, as they come to be replayed."""
    found: dict[str, list[Seen]] = {p.names[0]: [] for p in sim.populations}
    before: dict[int, Any] = {}
    inputs: dict[int, Any] = {}

    def note(lane, tick, observation, inbox, state) -> None:
        detached = pytree.tree_map(lambda leaf: leaf.detach().clone(), (inbox, state))
        before[id(tick)], inputs[id(tick)] = detached[1], (observation.clone(), detached[0])

    def replay(engine, lane, window, outcomes) -> None:
        seen = Seen(window, list(outcomes))
        for tick in window.ticks:
            seen.before[tick.time], seen.inputs[tick.time] = before[id(tick)], inputs[id(tick)]
        found[lane.population.names[0]].append(seen)
        further_steps(engine, lane, window, outcomes)

    sim.engine.observer = note
    monkeypatch.setattr(learning, "replay", replay)
    return found


def masked(active: Tensor | None, new: Tensor, old: Tensor | float) -> Tensor:
    if active is None:
        return new
    return torch.where(active.reshape(active.shape + (1,) * (new.dim() - 1)), new, old)


def by_hand(
    agent: Any, seen: Seen, told: dict[int, Tensor], epochs: int, encode: Any, born: Tensor
) -> None:
    """Train ``agent``, the only one of its population, on a window.

    Args:
        told: gradients of its messages ``[B, D]``, by time.
        encode: a tick and a message ``[B, D]`` to what was sent.
        born: ``[T, B]`` when it began to live anew.
    """
    optimizer = torch.optim.SGD(agent.parameters(), LR)
    for _ in range(epochs):
        optimizer.zero_grad()
        state, total, now = None, torch.zeros(()), seen.window.start
        for tick, outcome in zip(seen.ticks, seen.outcomes, strict=True):
            active = None if tick.active is None else tick.active[0]
            if state is None:
                state = pytree.tree_map(lambda leaf: leaf[0], seen.before[tick.time])
            fresh = agent.initial_state(B)
            for time in range(now, tick.time + 1):
                state = pytree.tree_map(partial(masked, born[time]), fresh, state)
            now = tick.time + 1
            observation, inbox = seen.inputs[tick.time]
            output = agent.tick(observation[0], Inbox(*(part[0] for part in inbox)), state)
            state = pytree.tree_map(partial(masked, active), output.state, state)
            loss = agent.loss(output, Outcome(*(part[0] for part in outcome)))
            total = total + masked(active, loss, 0.0).sum() / B
            if tick.time in told:
                total = total + (encode(tick, output.message) * told[tick.time]).sum() / B
        total.backward()
        optimizer.step()


def as_it_is(tick: Tick, message: Tensor) -> Tensor:
    return message


def parameters(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def sent(tick: Tick, seen: Tensor) -> Tensor:
    """What was said of the messages of a tick, where there were any, ``[B, D]``."""
    return seen[tick.time] if tick.active is None else masked(tick.active[0], seen[tick.time], 0.0)


# -- the same as by hand ------------------------------------------------------------------------

PLACES = [{}, {"absent": 0.3}, {"births": 0.2}, {"absent": 0.3, "births": 0.2, "discrete": False}]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("kind", [PPO, RecurrentPPO, Echo])
def test_epochs_are_steps_on_the_stored_window(kind, place, market, monkeypatch, device):
    """Two windows: the second one begins with states, and holds mail of the first."""
    size = {"width": D if kind is Echo else 6, "epochs": 3, "gate": kind is RecurrentPPO}
    sim = simulation(market(**place), partial(kind, **size), device=device)
    found = watch(sim, monkeypatch)
    for population in sim.populations:
        population.interface = Oracle(sim, population)
    alone = {p.names[0]: p.agents.module(0).to(device) for p in sim.populations}
    sim.engine.play(0)
    said = {p.names[0]: p.interface.said[0] for p in sim.populations}
    other = {"agent_0": "agent_1", "agent_1": "agent_0"}
    for number, population in enumerate(sim.populations):
        name, own = population.names[0], alone[population.names[0]]
        assert len(found[name]) == 2
        for seen in found[name]:
            told = {}
            for tick in seen.ticks:
                told[tick.time] = sent(tick, said[other[name]])
                if tick.spoke is not None:
                    told[tick.time] = masked(tick.spoke[0], told[tick.time], 0.0)
                # a message that is itself a root of the backward pass keeps what it was given
                torch.testing.assert_close(tick.message.grad[0], told[tick.time])
            by_hand(own, seen, told, 3, as_it_is, sim.world.born[:, number])
        torch.testing.assert_close(parameters(own), population.agents.parameters[0])
        assert population.agents.updates.tolist() == [6]


@pytest.mark.parametrize("kind", [PPO, Echo])
def test_the_true_gradient_comes_again_where_senders_wait(kind, market, monkeypatch, device):
    """Exact feedback: what flowed through a message is its target, as receivers found it."""
    agent = partial(kind, width=D if kind is Echo else 6, epochs=3)
    sim = simulation(market(absent=0.3), agent, feedback="exact", device=device)
    found = watch(sim, monkeypatch)
    for population in sim.populations:
        population.interface = Oracle(sim, population)
    alone = {p.names[0]: p.agents.module(0).to(device) for p in sim.populations}
    sim.engine.play(0)
    target = {p.names[0]: p.interface.target[0] for p in sim.populations}
    assert all(p.interface.asked == 0 for p in sim.populations)
    for name, other in (("agent_0", "agent_1"), ("agent_1", "agent_0")):
        (seen,) = found[name]
        told = {tick.time: sent(tick, target[other]) for tick in seen.ticks}
        for tick in seen.ticks:
            grad = tick.message.grad
            grad = torch.zeros(1, B, D) if grad is None else grad.cpu()
            torch.testing.assert_close(grad[0], told[tick.time].cpu())
        assert any(value.any() for value in told.values())
        by_hand(alone[name], seen, told, 3, as_it_is, sim.world.born[:, 0])
        (population,) = [p for p in sim.populations if p.names == [name]]
        torch.testing.assert_close(parameters(alone[name]), population.agents.parameters[0])


def normalised_like(ticks):
    """Batch renormalisation by hand: constants of the first pass, the gradient of a batch."""
    deviations, said = {}, []
    for tick in ticks:
        there = slice(None) if tick.active is None else tick.active[0]
        said.append(tick.output.message[0, there].detach())
        mean = torch.stack([m.mean(0) for m in said]).mean(0)
        spread = torch.stack([(m - mean).square().mean(0) for m in said]).mean(0)
        deviations[tick.time] = (spread + EPSILON).sqrt()

    def normalised(tick: Tick, message: Tensor) -> Tensor:
        there = slice(None) if tick.active is None else tick.active[0]
        own = F.batch_norm(message[there], None, None, training=True, eps=EPSILON)
        now = (message[there].detach().var(0, unbiased=False) + EPSILON).sqrt()
        own = own * now / deviations[tick.time]
        return torch.zeros_like(message).index_put((torch.arange(B)[there],), own)

    return normalised


def test_normalised_messages_are_normalised_again(market, monkeypatch):
    """By the constants of the first pass, with the gradient of the batch as it is now.

    The running statistics have seen it in the first pass.
    """
    place, found = market(absent=0.2, horizon=6), []
    for epochs in (1, 3):
        sim = simulation(place, partial(PPO, width=6, epochs=epochs), normalise=True)
        windows = watch(sim, monkeypatch)
        for population in sim.populations:
            population.interface = Oracle(sim, population)
        alone = [p.agents.module(0) for p in sim.populations]
        sim.engine.play(0)
        found.append([p.encoder.tensors() for p in sim.populations])
        if epochs == 1:
            continue
        for number, own in enumerate(alone):
            (seen,) = windows[f"agent_{number}"]
            said = sim.populations[1 - number].interface.said[0]
            told = {tick.time: sent(tick, said) for tick in seen.ticks}
            assert all(tick.active[0].sum() >= 2 for tick in seen.ticks), "a batch at each tick"
            by_hand(own, seen, told, 3, normalised_like(seen.ticks), sim.world.born[:, number])
            got = sim.populations[number].agents.parameters[0]
            torch.testing.assert_close(parameters(own), got)
    for once, thrice in zip(*found, strict=True):
        assert all(torch.equal(value, thrice[name]) for name, value in once.items())


@pytest.mark.parametrize("encoder", [GumbelSymbol(0.7), RegulariseDiscretise(1.0)])
def test_discrete_messages_are_drawn_with_the_same_noise(encoder, market, monkeypatch):
    sim = simulation(market(), partial(PPO, width=6, epochs=3), discrete=encoder)
    found = watch(sim, monkeypatch)
    for population in sim.populations:
        population.interface = Oracle(sim, population)
    alone = [p.agents.module(0) for p in sim.populations]
    sim.engine.play(0)
    engine = sim.engine
    for number, population in enumerate(sim.populations):
        name = population.names[0]

        def again(tick: Tick, message: Tensor, population=population, name=name) -> Tensor:
            key = "message", name, tick.time
            noise = engine.uniform(key, population, np.array([0]), message[None], D)
            return encoder.encode(message[None], Occasion(True, noise=noise))[0]

        said = sim.populations[1 - number].interface.said[0]
        for seen in found[name]:
            told = {tick.time: said[tick.time] for tick in seen.ticks}
            by_hand(alone[number], seen, told, 3, again, sim.world.born[:, number])
        torch.testing.assert_close(parameters(alone[number]), population.agents.parameters[0])


# -- one step is that of A2C ----------------------------------------------------------------------


def test_one_epoch_is_a2c_with_a_ratio(market, device):
    """Bit for bit: the ratio is 1 where it is taken, and nothing is clipped there."""
    found = []
    for kind in (partial(PPO, epochs=1), Rated):
        sim = simulation(
            market(absent=0.2, births=0.1), partial(kind, width=6), normalise=True, device=device
        )
        sim.engine.play(0)
        found.append(sim.tensors())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


# -- what must not be done twice ------------------------------------------------------------------


def test_further_steps_that_step_nowhere_leave_no_trace(market, device):
    """Frozen: mail, utility models, statistics, figures and later windows as with one epoch."""
    found = []
    for epochs in (1, 4):
        sim = simulation(
            market(absent=0.2), partial(Kept, epochs=epochs), optimizer=SGD(0.0), normalise=True,
            device=device,
        )  # fmt: skip
        sim.engine.play(0)
        parts = dict(sim.tensors())
        updates = [parts.pop(f"{i}.agents.updates") for i in (0, 1)]
        assert [u.tolist() for u in updates] == [[2 * epochs]] * 2
        for i, population in enumerate(sim.populations):
            for meter in (population.channel_meter, population.agent_meter):
                parts |= {f"{i}.{type(meter)}.{k}": v for k, v in meter.sums.items()}
        found.append(parts)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
    assert any("buffer.body" in name for name in found[0])


def test_receivers_are_asked_and_fitted_once(market):
    counts = []
    for epochs in (1, 4):
        sim = simulation(market(), partial(PPO, width=6, epochs=epochs))
        for population in sim.populations:
            population.interface = Oracle(sim, population)
        sim.engine.play(0)
        counts.append([(p.interface.asked, p.interface.fitted) for p in sim.populations])
    assert counts[0] == counts[1]
    assert min(min(pair) for pair in counts[0]) > 0


def test_who_was_not_there_does_not_step(market):
    """Absent in every world of a window, with moments that would move it."""
    sim = simulation(market(absent=0.2, horizon=12), partial(PPO, width=6), optimizer=Adam(1e-2))
    reset = sim.world.reset

    def begin(episode, rng) -> None:
        reset(episode, rng)
        sim.world.here[6:, 1] = False  # agent_1, in the second window

    sim.world.reset = begin
    sim.engine.play(0)
    updates = {p.names[0]: p.agents.updates.item() for p in sim.populations}
    assert updates == {"agent_0": 8, "agent_1": 4}
