"""Agents that choose when to send: what a silence is to receivers, to batches and to learning."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal

from dnicomm.agents import PPO, ActorCritic
from dnicomm.core import Adam, GradientUtility
from dnicomm.sim import (
    SGD,
    Agent,
    Chain,
    Complete,
    Evaluation,
    PeriodicClock,
    PoissonClock,
    Simulation,
    TickOutput,
    UtilitySettings,
    learning,
    standard_channel,
)
from dnicomm.sim.agent import Inbox, Outcome
from dnicomm.sim.normalise import EPSILON

B, D = 6, 3
SURE = 1e4  # a logit that leaves nothing to chance

pytestmark = pytest.mark.usefixtures("double")


class Moody(Agent):
    """Speaks where the first number that it sees is above zero."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.message = nn.Linear(spec.input_size, spec.message_size)
        self.action = nn.Linear(spec.input_size, spec.action_size)

    def tick(self, observation, inbox, state) -> TickOutput:
        x = torch.cat([observation, inbox.flat()], -1)
        return TickOutput(self.action(x), self.message(x), state, speak=SURE * observation[:, 0])

    def loss(self, output, outcome):
        return output.action.square().sum(-1)


def simulation(env: Any, agent: Any, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.7),
        "message_size": D,
        "num_worlds": B,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=1000, episodes=1, num_worlds=B),
    }
    return Simulation(env, agent, **(given | own))


def ticks_of(sim: Simulation, engine: Any) -> list[tuple[Any, Any]]:
    """Populations and their ticks, as an episode is played."""
    found: list[tuple[Any, Any]] = []
    engine.observer = lambda lane, tick, *rest: found.append((lane.population, tick))
    engine.play(0)
    return found


# -- a silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
@pytest.mark.parametrize("engine", ["engine", "examiner"])
def test_nobody_hears_who_stays_silent(feedback, engine, market, device):
    """The inbox holds the newest message that was sent; a silence replaces nothing."""
    sim = simulation(
        market(num_agents=2, horizon=16, absent=0.2), Moody, topology=Chain(), feedback=feedback,
        channel=standard_channel(delay=[0, 2]), device=device,
    )  # fmt: skip
    own, inboxes = getattr(sim, engine), {}

    def note(time, lane, members, inbox):
        if lane.population.names == ["agent_1"]:
            inboxes[time] = inbox
        return inbox

    own.intervene = note
    own.play(0)
    world, ticks = own.world, own._schedule()
    sent = np.zeros(B, dtype=int)
    silent = 0
    for b in range(B):
        there = [t for t in ticks["agent_0"] if world.here[t, 0, b]]
        spoken = [t for t in there if world.seen[t, 0, b, 0] > 0]
        sent[b], silent = len(spoken), silent + len(there) - len(spoken)
        for time, inbox in inboxes.items():
            found = [t for t in spoken if t + 1 + own.delays[0, t] <= time]
            assert bool(inbox.mask[0, b, 0]) == bool(found)
            assert inbox.age[0, b, 0] == (time - max(found) if found else 0)
    assert len(inboxes) > 5
    assert silent > 0
    if engine == "engine":
        (receiver,) = [p for p in sim.populations if p.names == ["agent_1"]]
        assert receiver.channel_meter.sums["settled"].item() == sent.sum()


def test_a_silence_is_no_part_of_a_batch(market, device):
    """Messages are normalised over the worlds in which they are sent."""
    sim = simulation(market(), Moody, clock=PeriodicClock(1), device=device)
    said: dict[int, list[torch.Tensor]] = {}  # by member, what went out in batches
    batches = 0
    for _, tick in ticks_of(sim, sim.engine):
        for row, member in enumerate(tick.members.tolist()):
            there = tick.spoke[row]
            if there.sum() < 2:
                continue
            batches += 1
            own = tick.output.message[row, there].detach()
            said.setdefault(member, []).append(own)
            # so few batches count alike
            mean = torch.stack([m.mean(0) for m in said[member]]).mean(0)
            spread = [(m - mean).square().mean(0) for m in said[member]]
            deviation = (torch.stack(spread).mean(0) + EPSILON).sqrt()
            torch.testing.assert_close(tick.message[row, there].detach(), (own - mean) / deviation)
    assert batches > 10


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_a_silence_is_told_nothing(feedback, market, monkeypatch):
    """Neither by a utility model nor by the receiver itself."""
    sim = simulation(
        market(), partial(PPO, width=6, epochs=2, gate=True), feedback=feedback,
        clock=PeriodicClock(1), normalise=False, channel=standard_channel(), window=12,
        topology=Complete(),
    )  # fmt: skip
    with torch.no_grad():  # a utility model that has something to say
        for population in sim.populations:
            population.interface.utilities.parameters.normal_(
                generator=torch.Generator().manual_seed(0)
            )
    found, plain = [], learning.replay

    def note(engine, lane, window, outcomes):
        found.extend(window.ticks)
        plain(engine, lane, window, outcomes)

    monkeypatch.setattr(learning, "replay", note)
    sim.engine.play(0)
    told = [tick for tick in found if tick.message.grad is not None]
    assert len(told) > 5
    for tick in told:
        assert not tick.message.grad[~tick.spoke].any()
    assert any(tick.message.grad[tick.spoke].any() for tick in told)
    assert 0 < torch.stack([tick.spoke for tick in found]).double().mean() < 1


# -- the choice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [True, False])
def test_it_is_drawn_in_training_and_certain_in_evaluation(discrete, market, device):
    sim = simulation(market(discrete=discrete), partial(ActorCritic, width=6, gate=True),
                     device=device)  # fmt: skip
    size = sim.populations[0].spec.action_size
    spoken = []
    for population, tick in ticks_of(sim, sim.engine):
        key = "action", population.names[0], tick.time
        like = tick.output.action
        noise = sim.engine.uniform(key, population, tick.members, like, size + 1)[..., size]
        assert torch.equal(tick.spoke, tick.output.speak.sigmoid() > noise)
        spoken.append(tick.spoke.double().mean())
    assert 0 < torch.stack(spoken).mean() < 1
    for engine in (sim.examiner, sim.rehearser):
        for _, tick in ticks_of(sim, engine):
            assert torch.equal(tick.spoke, tick.output.speak > 0)


@pytest.mark.parametrize("kind", [ActorCritic, partial(PPO, epochs=1)])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_policy_gradient_includes_it(kind, discrete, market, monkeypatch):
    """A step on a window by hand: what was done, and whether it was said."""
    sim = simulation(
        market(discrete=discrete, absent=0.2), partial(kind, width=6, gate=True, entropy=0.3),
        feedback="none", optimizer=SGD(0.5), window=12, normalise=False,
    )  # fmt: skip
    (population,) = sim.populations
    members = [population.agents.module(row) for row in range(len(population.names))]
    seen, outcomes, plain = [], [], learning._update

    def note(lane, tick, observation, inbox, state) -> None:
        seen.append((tick, observation, Inbox(*(part.detach().clone() for part in inbox))))

    def update(engine, lane, window, found, costs) -> None:
        outcomes.extend(found)
        plain(engine, lane, window, found, costs)

    sim.engine.observer = note
    monkeypatch.setattr(learning, "_update", update)
    sim.engine.play(0)
    spoken = torch.cat([tick.spoke.flatten() for tick, *_ in seen]).double()
    assert 0 < spoken.mean() < 1
    for row, member in enumerate(members):
        optimizer, total = torch.optim.SGD(member.parameters(), 0.5), torch.zeros(())
        for (tick, observation, inbox), outcome in zip(seen, outcomes, strict=True):
            if row in tick.members:
                at = list(tick.members).index(row)
                own = Outcome(*(part[at] for part in outcome))
                assert torch.equal(own.spoke, tick.spoke[at])
                out = member.tick(observation[at], Inbox(*(part[at] for part in inbox)), ())
                loss = by_hand(out, own, discrete)
                total = total + torch.where(tick.active[at], loss, 0.0).sum() / B
        total.backward()
        optimizer.step()
        flat = torch.cat([p.detach().flatten() for p in member.parameters()])
        torch.testing.assert_close(flat, population.agents.parameters[row])


def by_hand(out: Any, outcome: Outcome, discrete: bool) -> Tensor:
    """The loss of a tick, ``[B]``."""
    law = Categorical(logits=out.action) if discrete else Normal(out.action, out.log_std.exp())
    likely, undecided = law.log_prob(outcome.action), law.entropy()
    if not discrete:
        likely, undecided = likely.sum(-1), undecided.sum(-1)
    gate = Bernoulli(logits=out.speak)
    likely = likely + gate.log_prob(outcome.spoke.double())
    torch.testing.assert_close(outcome.log_policy, likely.detach())
    value = 0.5 * (out.value - outcome.returns).square()
    return -likely * outcome.advantage + value - 0.3 * (undecided + gate.entropy())
