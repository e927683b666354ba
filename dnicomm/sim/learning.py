"""Where windows end: one backward pass, one step of each population, settled messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dnicomm.core import Target
from dnicomm.core.stages import stage
from dnicomm.sim.agent import Outcome
from dnicomm.sim.checks import check_loss
from dnicomm.sim.credit import credit
from dnicomm.sim.parcel import Settlement
from dnicomm.sim.policy import log_policy
from dnicomm.sim.replay import replay
from dnicomm.sim.window import OpenWindow

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine
    from dnicomm.sim.lane import Lane

SHARE_MOMENTUM = 0.01  # of a channel's running share of messages read


def close_windows(engine: Engine, time: int, lanes: Sequence[Lane]) -> None:
    """End the windows of ``lanes`` at ``time``.

    Losses of their ticks and messages with their gradients are backpropagated, in one pass for
    each window (one for all, where feedback is exact). Then populations step, and messages whose
    life is over train the utility models.
    """
    with stage("backward"):
        outcomes = [_outcomes(engine, time, lane) for lane in lanes]
        costs = [_add_losses(lane, own) for lane, own in zip(lanes, outcomes, strict=True)]
        for lane in lanes:
            if lane.window is not None:
                _backpropagate(time, lane, lane.window)
    with stage("settle"):
        for lane, own, cost in zip(lanes, outcomes, costs, strict=True):
            if lane.window is None:  # nobody was due, but senders' windows end all the same
                lane.mailbox.cut()
            else:
                _update(engine, lane, lane.window, own, cost)
            for settlement in lane.mailbox.take_settlements():
                _settle(lane, settlement)


def _backpropagate(time: int, lane: Lane, window: OpenWindow) -> None:
    try:
        window.record.backward()
    except Exception as error:
        lane.population.raise_mistake("the backward pass", window.members, time, error)


@torch.no_grad()
def _outcomes(engine: Engine, time: int, lane: Lane) -> list[Outcome]:
    """What is known of each tick of a window that ends at ``time``."""
    window = lane.window
    if window is None:
        return []
    found = []
    credits = credit(engine, time, lane, window)
    for tick, (returns, advantage) in zip(window.ticks, credits, strict=True):
        worlds = tick.output.message.shape[:2]
        label = tick.label
        if label is None:
            label = torch.full(worlds, -1, dtype=torch.int64, device=tick.at.device)
        spoke = tick.spoke
        if spoke is None:
            spoke = torch.ones(worlds, dtype=torch.bool, device=tick.at.device)
        likely = torch.zeros_like(returns)
        if engine.world.rewards:
            likely = log_policy(tick.output, lane.population.spec.discrete, tick.action, spoke)
        found.append(Outcome(label, tick.action, spoke, returns, advantage, likely))
    return found


def _add_losses(lane: Lane, outcomes: Sequence[Outcome]) -> list[Tensor]:
    """Record the losses of a window's ticks; each tick's cost to its senders' critics."""
    population, window = lane.population, lane.window
    if window is None:
        return []
    costs = []
    for tick, outcome in zip(window.ticks, outcomes, strict=True):
        worlds = tick.output.message.shape[:2]
        try:
            loss = population.agents.call(tick.rows, "loss", tick.output, outcome)  # [n, B]
        except Exception as error:
            population.raise_mistake("loss", tick.members, tick.time, error)
        check_loss(tick.time, population.names[int(tick.members[0])], worlds, loss)
        loss = tick.masked(loss)
        window.record.add_loss(loss)
        meter = population.agent_meter
        counted = outcome.known if tick.label is not None else torch.ones_like(outcome.known)
        meter.add("loss", tick.at, loss.detach().nan_to_num().sum(1))
        meter.add("losses", tick.at, tick.masked(counted).sum(1))
        cost = loss.detach()
        if tick.foreseen is not None:
            cost = cost + tick.masked(tick.foreseen)
        costs.append(cost)
        if population.epochs > 1 and tick.message.requires_grad:
            tick.message.retain_grad()
    interface = population.interface
    if costs and population.remembers and interface is not None and interface.needs_cost:
        # what it reads it may use at any later tick of the window
        costs = _to_go(window, costs)
    return costs


def _to_go(window: OpenWindow, costs: Sequence[Tensor]) -> list[Tensor]:
    """Each tick's cost with that of the same members' later ones in the window and in that life."""
    later = costs[0].new_zeros(len(window.members), costs[0].shape[1])  # [w, B]
    births, found = list(window.births), []
    for tick, cost in zip(reversed(window.ticks), reversed(costs), strict=True):
        while births and births[-1][0] > tick.time:  # nothing here led to what follows there
            later = torch.where(births.pop()[1], 0.0, later)
        place = window.place(tick.members)
        total = cost + (later if place is None else later[place])
        later = total if place is None else later.index_copy(0, place, total)
        found.append(total)
    return found[::-1]


def _update(
    engine: Engine,
    lane: Lane,
    window: OpenWindow,
    outcomes: Sequence[Outcome],
    costs: Sequence[Tensor],
) -> None:
    """Step the members of a window and write their states back."""
    gradient = window.rows.gradient()
    live = window.live()
    # losses are summed over worlds so that messages get each world's own gradient
    lane.population.learn(window.rows, gradient, live, engine.progress, engine.world.num_worlds)
    if lane.population.epochs > 1:
        replay(engine, lane, window, outcomes)
    engine.keep_state(lane)
    lane.mailbox.close_window(costs, first_only=lane.population.remembers)
    lane.window = None


def _settle(lane: Lane, settlement: Settlement) -> None:
    """Fit the utility models of messages whose life is over, and keep count of them."""
    population = lane.population
    rows = torch.from_numpy(settlement.slots).to(settlement.mask.device)
    interface, synthetic = population.interface, None
    if interface is not None:
        mask = settlement.mask if interface.fits_unread else settlement.was_read
        target = Target(settlement.gradient, settlement.cost)
        try:
            fitted = interface.fit(settlement.value, settlement.context, target, rows, mask)
        except Exception as error:
            population.raise_utility_mistake("its fit", settlement.slots, error)
        synthetic = fitted.gradient
    population.channel_meter.settle(rows, settlement, synthetic)
    if interface is None or interface.fits_unread:
        return  # nobody asks for the share
    share = settlement.was_read.sum(1) / settlement.mask.sum(1).clamp(min=1)  # [e]
    step = SHARE_MOMENTUM * settlement.mask.any(1)
    population.share_read[rows] += step * (share - population.share_read[rows])
