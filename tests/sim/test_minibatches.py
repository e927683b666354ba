"""Further steps of a window on shares of its worlds, against a loop written out by hand."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dnicomm.agents import PPO, RecurrentPPO
from dnicomm.errors import UserError
from dnicomm.sim import SGD, Complete, Evaluation, PeriodicClock, Simulation, learning
from dnicomm.sim.agent import Inbox, Outcome
from dnicomm.sim.replay import replay as further_steps

B, D, LR, EPOCHS = 7, 3, 0.3, 3

pytestmark = pytest.mark.usefixtures("double")


def simulation(env: Any, agent: Any, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PeriodicClock(1),
        "topology": Complete(),
        "message_size": D,
        "num_worlds": B,
        "window": 6,
        "normalise": False,
        "optimizer": SGD(LR),
        "utility": None,
        "feedback": "none",
        "evaluation": Evaluation(num_worlds=B),
    }
    return Simulation(env, agent, **(given | own))


def of(part: Any, row: int, worlds: Tensor) -> Any:
    """A member's own, in some worlds."""
    return None if part is None else part[row, worlds]


def by_hand(agent: Any, row: int, window: Any, outcomes: Any, parts: list[Tensor]) -> None:
    """Step ``agent``, the member ``row``, once on each of ``parts``."""
    optimizer = torch.optim.SGD(agent.parameters(), LR)
    for worlds in parts:
        optimizer.zero_grad()
        state, total = agent.initial_state(len(worlds)), torch.zeros(())
        for tick, outcome in zip(window.ticks, outcomes, strict=True):
            inbox = Inbox(*(of(part, row, worlds).detach() for part in tick.inbox))
            output = agent.tick(of(tick.observation, row, worlds), inbox, state)
            active = of(tick.active, row, worlds)
            loss = agent.loss(output, Outcome(*(of(part, row, worlds) for part in outcome)))
            if active is not None:
                loss = torch.where(active, loss, 0.0)
                if isinstance(state, Tensor):
                    output = output._replace(
                        state=torch.where(active[:, None], output.state, state)
                    )
            state, total = output.state, total + loss.sum() / len(worlds)
        total.backward()
        optimizer.step()


@pytest.mark.parametrize("minibatches", [1, 3, B, 100])
@pytest.mark.parametrize(("kind", "absent"), [(PPO, 0.0), (PPO, 0.3), (RecurrentPPO, 0.3)])
def test_each_pass_is_a_step_on_each_share_of_the_worlds(
    kind, absent, minibatches, market, monkeypatch
):
    """One window of the episode's first ticks; shares are disjoint, cover all, differ by pass."""
    agent = partial(kind, width=5, epochs=EPOCHS, minibatches=minibatches)
    sim = simulation(market(absent=absent, horizon=6), agent)
    engine, (population,) = sim.engine, sim.populations
    drawn: list[Tensor] = []
    alone: list[Any] = []
    given: list[Any] = []
    draw = engine.draw

    class Noted:
        def __init__(self, random: Any) -> None:
            self.random = random

        def permutation(self, count: int) -> Any:
            order = self.random.permutation(count)
            drawn.append(torch.from_numpy(order))
            return order

    def noted(*key: str | int) -> Any:
        return Noted(draw(*key)) if key[0] == "minibatches" else draw(*key)

    def replay(engine, lane, window, outcomes) -> None:
        # the members as the first step, which is everybody's, left them
        alone.extend(population.agents.module(row) for row in range(2))
        given.append((window, list(outcomes)))
        further_steps(engine, lane, window, outcomes)

    monkeypatch.setattr(engine, "draw", noted)
    monkeypatch.setattr(learning, "replay", replay)
    engine.play(0)
    ((window, outcomes),) = given
    everybody = torch.arange(B)
    steps = min(minibatches, B)
    if minibatches == 1:
        assert not drawn
        parts = [everybody] * (EPOCHS - 1)
    else:
        assert len(drawn) == EPOCHS - 1
        assert not torch.equal(*drawn)
        assert all(torch.equal(order.sort().values, everybody) for order in drawn)
        parts = [part for order in drawn for part in order.tensor_split(steps)]
    assert population.agents.updates.max() == 1 + steps * (EPOCHS - 1)
    for row, own in enumerate(alone):
        by_hand(own, row, window, outcomes, parts)
        found = torch.cat([p.detach().flatten() for p in own.parameters()])
        torch.testing.assert_close(found, population.agents.parameters[row])


def test_messages_learn_in_the_first_pass_alone(market):
    """What a message got is not taken again by every share; where a pass is one step it is."""
    said, steps = [], []
    for epochs, minibatches in ((1, 1), (3, 2), (3, 1)):
        agent = partial(PPO, width=5, epochs=epochs, minibatches=minibatches, echo=False)
        sim = simulation(market(horizon=6), agent, feedback="exact")
        sim.engine.play(0)
        (population,) = sim.populations
        own = population.agents.module(0)
        said.append(own.message.weight)
        steps.append(own.policy.weight)
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])
    assert not torch.equal(steps[0], steps[1])


def test_it_must_be_a_whole_number(market):
    with pytest.raises(UserError, match="agent_0: minibatches is 0; it must be 1 or more"):
        simulation(market(), partial(PPO, minibatches=0))
