"""Agents that begin new lives within an episode, and mail that is seen for a while only."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from dnicomm.agents import RecurrentActorCritic, RecurrentPPO
from dnicomm.core import GradientUtility
from dnicomm.sim import (
    SGD,
    Agent,
    Complete,
    EdgeList,
    Evaluation,
    Inbox,
    PoissonClock,
    Simulation,
    TickOutput,
    UtilitySettings,
    standard_channel,
)

B, T = 4, 24


class Counter(Agent):
    """Its state is how often it has ticked, and what it has heard."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.message = nn.Linear(spec.observation_size, spec.message_size)
        self.action = nn.Linear(spec.input_size + 1, spec.action_size)

    def initial_state(self, num_worlds):
        return torch.zeros(num_worlds), {"heard": torch.full((num_worlds,), 0.5)}

    def tick(self, observation, inbox: Inbox, state) -> TickOutput:
        count, heard = state[0] + 1, state[1]["heard"] + inbox.messages.sum((1, 2))
        x = torch.cat([observation, inbox.flat(), heard[:, None]], -1)
        return TickOutput(self.action(x), self.message(observation), (count, {"heard": heard}))

    def loss(self, output, outcome):
        return output.action.square().sum(-1)


def simulation(env: Any, agent: Any, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.6),
        "channel": standard_channel(delay=[0, 2], drop=0.1),
        "topology": Complete(),
        "message_size": 3,
        "num_worlds": B,
        "optimizer": SGD(1e-3),
        "utility": UtilitySettings(GradientUtility, SGD(1e-3), context=("receiver", "sender")),
        "evaluation": Evaluation(every=1000, episodes=1, num_worlds=B),
    }
    return Simulation(env, agent, **(given | own))


@pytest.mark.parametrize(
    ("window", "feedback", "learns"),
    [(1, "synthetic", True), (5, "synthetic", True), (5, "exact", True), (5, "none", False)],
)
def test_a_new_life_has_a_new_state_and_has_heard_nothing(window, feedback, learns, market, device):
    """Where it is born and nowhere else, whether or not it ticks at once, in windows or between."""
    env = market(num_agents=3, horizon=T, absent=0.3, births=0.1)
    sim = simulation(env, Counter, window=window, exact_window=window, feedback=feedback,
                     device=device)  # fmt: skip
    engine = sim.engine if learns else sim.examiner
    seen = []

    def note(lane, tick, observation, inbox, state) -> None:
        seen.append((lane.population, tick, inbox, state))

    engine.observer = note
    engine.play(0)
    world = engine.world
    ticked: dict[tuple[int, int], list[int]] = {(n, b): [] for n in range(3) for b in range(B)}
    forgot = hidden = 0
    for population, tick, inbox, (count, more) in seen:
        for row, member in enumerate(tick.members):
            agent = int(population.indices[member])
            for b in range(B):
                births = [t for t in range(tick.time + 1) if world.born[t, agent, b]]
                born = max(births, default=0)
                own = [t for t in ticked[agent, b] if t >= born]
                assert count[row, b] == len(own)
                forgot += len(ticked[agent, b]) - len(own)
                if not own:
                    assert more["heard"][row, b] == 0.5
                for k in range(population.spec.num_inputs):
                    age = inbox.age[row, b, k].item()
                    assert tick.time - age >= (born if inbox.mask[row, b, k] else 0)
                    hidden += bool(born and not inbox.mask[row, b, k])
                if tick.active[row, b]:
                    ticked[agent, b].append(tick.time)
    assert forgot > 10
    assert hidden > 10


def test_a_new_life_may_hear_what_was_said_before_it(market):
    """The same mail as if nobody had been born, and a new state all the same."""
    heard = []
    for births in (0.0, 0.2):
        env = market(num_agents=3, horizon=T, births=births, hears=True)
        sim = simulation(env, Counter, window=5, feedback="none", optimizer=SGD(0.0))
        found = []

        def note(lane, tick, observation, inbox, state, found=found) -> None:
            found.append((inbox.mask.clone(), inbox.age.clone(), state[0].clone()))

        sim.engine.observer = note
        sim.engine.play(0)
        heard.append(found)
    assert len(heard[0]) == len(heard[1])
    for (mask, age, _), (other_mask, other_age, _) in zip(*heard, strict=True):
        assert torch.equal(mask, other_mask)
        assert torch.equal(age, other_age)
    assert any(not torch.equal(one[2], other[2]) for one, other in zip(*heard, strict=True))


@pytest.mark.parametrize("kind", [RecurrentActorCritic, RecurrentPPO])
def test_nobody_else_feels_a_birth(kind, market):
    """One of two agents that don't talk is born anew: bit for bit the same run of the other one."""
    found = []
    for births in (False, True):
        sim = simulation(
            market(horizon=T, births=0.2), partial(kind, width=6), topology=EdgeList([]), window=4
        )
        reset = sim.world.reset

        def begin(episode, rng, sim=sim, reset=reset, births=births) -> None:
            reset(episode, rng)
            sim.world.born[:, 0] &= births
            sim.world.born[:, 1] = False

        sim.world.reset = begin
        sim.engine.play(0)
        found.append(sim.populations[0].agents.parameters)
    assert not torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("lifetime", [1, 3])
def test_a_world_says_how_long_mail_is_seen(lifetime, market, device):
    """In training and in evaluation, of reads and of the looks at what follows a window."""
    ages = []
    for own in (lifetime, None):
        sim = simulation(market(horizon=T, lifetime=own), partial(RecurrentActorCritic, width=6),
                         channel=standard_channel(), window=3, device=device)  # fmt: skip
        for engine in (sim.engine, sim.examiner):
            found: list[Inbox] = []
            engine.intervene = lambda time, lane, members, inbox, to=found: (
                to.append(inbox) or inbox
            )
            engine.play(0)
            there = torch.cat([inbox.age[inbox.mask] for inbox in found])
            ages.append(there.max().item())
            assert all(not inbox.messages[~inbox.mask].any() for inbox in found)
            assert all(not inbox.age[~inbox.mask].any() for inbox in found)
    assert ages[:2] == [lifetime] * 2
    assert min(ages[2:]) > lifetime
