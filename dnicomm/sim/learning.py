"""Where windows end: one backward pass, one step of each population, settled messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dnicomm.core import Target
from dnicomm.sim.agent import Inbox, Outcome, TickOutput
from dnicomm.sim.checks import check_loss
from dnicomm.sim.mail import Settlement
from dnicomm.sim.window import OpenWindow, Tick

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine, Lane

SHARE_MOMENTUM = 0.01  # of a channel's running share of messages read


def close_windows(engine: Engine, time: int, lanes: Sequence[Lane]) -> None:
    """End the windows of ``lanes`` at ``time``.

    Losses of their ticks and messages with their gradients are backpropagated, in one pass for
    each window (one for all, where feedback is exact). Then populations step, and messages whose
    life is over train the utility models.
    """
    costs = []
    for lane in lanes:
        costs.append([] if lane.window is None else _add_losses(engine, time, lane, lane.window))
    for lane in lanes:
        if lane.window is not None:
            lane.window.record.backward()
    for lane, cost in zip(lanes, costs, strict=True):
        if lane.window is None:  # nobody was due, but senders' windows end all the same
            lane.mailbox.cut()
        else:
            _update(engine, lane, lane.window, cost)
        for settlement in lane.mailbox.take_settlements():
            _settle(lane, settlement)


def _add_losses(engine: Engine, time: int, lane: Lane, window: OpenWindow) -> list[Tensor]:
    """Record the losses of a window's ticks; each tick's cost to its senders' critics."""
    population = lane.population
    returns = _returns(engine, time, lane, window)
    costs = []
    for i, tick in enumerate(window.ticks):
        worlds = tick.output.message.shape[:2]
        label = tick.label
        if label is None:
            label = torch.full(worlds, -1, dtype=torch.int64, device=tick.at.device)
        outcome = Outcome(label, tick.action, returns[i])
        loss = population.agents.call(tick.rows, "loss", tick.output, outcome)  # [n, B]
        check_loss(tick.time, population.names[int(tick.members[0])], worlds, loss)
        loss = tick.masked(loss)
        window.record.add_loss(loss)
        meter = population.agent_meter
        counted = torch.ones_like(label) if tick.label is None else label >= 0
        meter.add("loss", tick.at, loss.detach().nan_to_num().sum(1))
        meter.add("losses", tick.at, tick.masked(counted).sum(1))
        cost = loss.detach()
        if tick.foreseen is not None:
            cost = cost + tick.masked(tick.foreseen)
        costs.append(cost)
    interface = population.interface
    if population.remembers and interface is not None and interface.needs_cost:
        # what it reads it may use at any later tick of the window
        costs = _to_go(window.ticks, costs)
    return costs


def _to_go(ticks: Sequence[Tick], costs: Sequence[Tensor]) -> list[Tensor]:
    """Each tick's cost with that of the same members' later ones in the window."""
    later: dict[int, Tensor] = {}
    found = []
    for tick, cost in zip(reversed(ticks), reversed(costs), strict=True):
        rows = [
            own + later[m] if m in later else own
            for m, own in zip(tick.members.tolist(), cost, strict=True)
        ]
        later.update(zip(tick.members.tolist(), rows, strict=True))
        found.append(torch.stack(rows))
    return found[::-1]


@torch.no_grad()
def _returns(engine: Engine, time: int, lane: Lane, window: OpenWindow) -> list[Tensor]:
    """Discounted reward from each tick to the window's end, and the value of what follows.

    γ counts per unit of world time, within a hold and across it; the value comes from the
    members' present observation and inbox, a read that does not count as one.
    """
    if not engine.rewards or not window.ticks:
        return [
            tick.output.message.new_zeros(tick.output.message.shape[:2]) for tick in window.ticks
        ]
    population, world = lane.population, engine.world
    indices = torch.from_numpy(population.indices[window.members]).to(world.device)
    future = _value_now(engine, time, lane, window)
    by_time: dict[int, Tensor] = {}
    for t in range(time, window.start - 1, -1):
        alive = engine.alive[t]
        if alive is not None:
            future = torch.where(alive[indices], future, 0.0)
        future = engine.rewards[t][indices] + engine.gamma * future  # [w, B]
        by_time[t] = future
    found = []
    for tick in window.ticks:
        place = window.place(tick.members)
        found.append(by_time[tick.time] if place is None else by_time[tick.time][place])
    return found


def _value_now(engine: Engine, time: int, lane: Lane, window: OpenWindow) -> Tensor:
    """Value of the members' situation after ``time``, ``[w, B]``.

    Zero if they have no value, and at the end of an episode whose world tells no other end.
    """
    first = window.ticks[0].output
    worlds = first.message.shape[1]
    over = engine.world.ended() is None and time + 1 == engine.world.episode_length()
    if first.value is None or over:
        return first.message.new_zeros(len(window.members), worlds)
    observation = engine.world.observe(lane.population.indices[window.members].tolist())
    inbox = Inbox(*lane.mailbox.peek(time + 1, window.members))
    # statistics that the agents keep see their ticks only, and this is none
    buffers = {name: buffer.clone() for name, buffer in window.rows.buffers.items()}
    rows = replace(window.rows, buffers=buffers)
    output: TickOutput = lane.population.agents.call(rows, "tick", observation, inbox, window.state)
    assert output.value is not None
    return output.value.nan_to_num()


def _update(engine: Engine, lane: Lane, window: OpenWindow, costs: Sequence[Tensor]) -> None:
    """Step the members of a window and write their states back."""
    gradient = window.rows.parameters.grad
    if gradient is not None:
        # losses are summed over worlds so that messages get each world's own gradient
        gradient = gradient / engine.world.num_worlds
    live = torch.zeros(len(window.members), dtype=torch.bool, device=engine.world.device)
    for tick in window.ticks:
        place = window.place(tick.members)
        ticked = torch.ones_like(tick.at) if tick.active is None else tick.active.any(1)
        at = slice(None) if place is None else place
        live[at] |= ticked.bool()
    lane.population.agents.step(window.rows, gradient, live, engine.progress)
    engine.keep_state(lane)
    lane.mailbox.close_window(costs, first_only=lane.population.remembers)
    lane.window = None


def _settle(lane: Lane, settlement: Settlement) -> None:
    """Fit the utility models of messages whose life is over, and keep count of them."""
    population = lane.population
    rows = torch.from_numpy(settlement.slots).to(settlement.mask.device)
    was_read = settlement.mask & (settlement.reads > 0)
    interface, synthetic = population.interface, None
    if interface is not None:
        mask = settlement.mask if interface.fits_unread else was_read
        target = Target(settlement.gradient, settlement.cost)
        synthetic = interface.fit(settlement.value, settlement.context, target, rows, mask).gradient
    population.channel_meter.settle(rows, settlement, synthetic)
    share = was_read.sum(1) / settlement.mask.sum(1).clamp(min=1)  # [e]
    step = SHARE_MOMENTUM * settlement.mask.any(1)
    population.share_read[rows] += step * (share - population.share_read[rows])
