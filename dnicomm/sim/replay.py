"""Further steps on the same window, as proximal policy optimisation takes them.

The first step is that of every agent: one backward pass over losses and messages. For each
further epoch the members' ticks are computed again, with their stepped parameters and from the
same observations and inboxes, and their losses with the same outcomes: all worlds in one step, or
a share of the worlds in each. A message gets the gradient again that it had in the first pass,
synthetic or true: its receiver is not asked anew, and the utility model is fitted to the first
pass alone. Not so where a pass has several steps: nothing bounds what that many of them would do
to what messages mean, as the clip does for actions, so there it counts in the first step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.core import Window
from dnicomm.core.tree import mapped
from dnicomm.sim.agent import Inbox, Outcome, TickOutput
from dnicomm.sim.policy import within
from dnicomm.sim.window import OpenWindow, Tick, take_rows

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine
    from dnicomm.sim.lane import Lane

Tree = TypeVar("Tree")


@dataclass
class _Again:
    """A tick, or all of a window's side by side, to be computed again."""

    ticks: Sequence[Tick]
    observation: Tensor  # [n, B, …]; of several ticks [n, B, T, …], and so on
    inbox: Inbox
    active: Tensor | None
    allowed: Tensor | None  # [n, B, A], or [n, B, T, A]
    outcome: Outcome
    told: Sequence[Tensor | None]  # [n, B, D] each, what the ticks' messages get

    def within(
        self, worlds: Tensor | None
    ) -> tuple[Tensor, Inbox, Tensor | None, Tensor | None, Outcome]:
        """Observation, inbox, activity, allowed actions and outcome in ``worlds`` (None: all)."""
        whole = (self.observation, self.inbox, self.active, self.allowed, self.outcome)
        own = _within(whole, worlds)
        if len(self.ticks) == 1:
            return own
        return mapped(lambda leaf: leaf.flatten(1, 2), own)

    def say(self, window: Window, message: Tensor, worlds: Tensor | None) -> None:
        """Put the messages ``[n, b·T, D]`` into ``window``, with their gradients."""
        messages = message.unflatten(1, (-1, len(self.ticks))).unbind(2)
        for tick, message, gradient in zip(self.ticks, messages, self.told, strict=True):
            if gradient is not None:
                if tick.encode is not None:
                    message = tick.encode(message, worlds)
                window.add_output(message, _within(gradient, worlds))


def replay(engine: Engine, lane: Lane, window: OpenWindow, outcomes: Sequence[Outcome]) -> None:
    """The steps of a window after the first.

    Args:
        outcomes: of the window's ticks.
    """
    repeats = lane.population.minibatches == 1
    pairs = zip(window.ticks, outcomes, strict=True)
    again = [_again(tick, outcome, repeats) for tick, outcome in pairs]
    if _independent(lane, window):
        again = [_together(again)]
    for epoch in range(1, lane.population.epochs):
        for worlds in _parts(engine, lane, window, epoch):
            _step(engine, lane, window, again, worlds)


def _again(tick: Tick, outcome: Outcome, repeats: bool) -> _Again:
    assert tick.inbox is not None, "ticks that are computed again keep what they read"
    assert tick.observation is not None
    inbox = tick.inbox._replace(messages=tick.inbox.messages.detach())
    got = tick.message.grad if repeats else None
    told = None if got is None else got.detach().clone()
    return _Again([tick], tick.observation, inbox, tick.active, tick.allowed, outcome, [told])


def _independent(lane: Lane, window: OpenWindow) -> bool:
    """Whether the ticks can be computed side by side: no state, no statistics, always everybody."""
    everybody = all(len(tick.members) == len(window.members) for tick in window.ticks)
    return everybody and not lane.population.remembers and not window.rows.buffers


def _together(again: Sequence[_Again]) -> _Again:
    """Ticks of one window as one, with time after the worlds: ``[n, B, T, …]``."""
    if len(again) == 1:
        return again[0]
    everywhere = torch.ones_like(again[0].outcome.returns, dtype=torch.bool)
    active = _filled([a.active for a in again], everywhere)
    size = again[0].ticks[0].output.action.shape[-1]
    everything = everywhere.unsqueeze(-1).expand(*everywhere.shape, size)
    allowed = _filled([a.allowed for a in again], everything)
    parts = [
        (a.observation, a.inbox, there, choice, a.outcome)
        for a, there, choice in zip(again, active, allowed, strict=True)
    ]
    observation, inbox, live, free, outcome = pytree.tree_map(
        lambda *leaves: _side_by_side(leaves), *parts
    )
    ticks, told = [a.ticks[0] for a in again], [a.told[0] for a in again]
    return _Again(ticks, observation, inbox, live, free, outcome, told)


def _filled(masks: Sequence[Tensor | None], everything: Tensor) -> Sequence[Tensor | None]:
    """``masks`` with ``everything`` in place of None, unless all of them are None."""
    if all(mask is None for mask in masks):
        return masks
    return [everything if mask is None else mask for mask in masks]


def _side_by_side(leaves: Sequence[Any]) -> Any:
    return None if leaves[0] is None else torch.stack(list(leaves), 2)


def _parts(engine: Engine, lane: Lane, window: OpenWindow, epoch: int) -> list[Tensor | None]:
    """The worlds of each step of an epoch, ``[b]``, drawn anew; None: all of them."""
    population, count = lane.population, engine.world.num_worlds
    if population.minibatches == 1:
        return [None]
    order = engine.draw("minibatches", population.names[0], window.start, epoch).permutation(count)
    return list(engine.tensor(order).tensor_split(min(population.minibatches, count)))


def _step(
    engine: Engine,
    lane: Lane,
    window: OpenWindow,
    ticks: Sequence[_Again],
    worlds: Tensor | None,
) -> None:
    """One step of a window's members, on ``worlds`` ``[b]`` (None: all)."""
    population = lane.population
    rows = population.gather(window.at, requires_grad=True)
    state = _within(window.first_state, worlds)
    again = OpenWindow(window.start, window.members, rows, Window(), state)
    births = list(window.births) if population.remembers else []
    for own in ticks:
        tick = own.ticks[0]
        while births and births[0][0] <= tick.time:
            time, born, start = births.pop(0)
            again.begin_again(_within(born, worlds), time, _within(start, worlds))
        place = window.place(tick.members)
        taken = rows if place is None else rows.take(place)
        observation, inbox, active, allowed, outcome = own.within(worlds)
        before = take_rows(again.state, place)
        try:
            output: TickOutput = population.agents.call(taken, "tick", observation, inbox, before)
            output = within(output, allowed)
            again.update_state(place, output.state, active)
            loss: Tensor = population.agents.call(taken, "loss", output, outcome)
        except Exception as error:
            population.raise_mistake("a further pass", tick.members, tick.time, error)
        again.record.add_loss(loss if active is None else torch.where(active, loss, 0.0))
        own.say(again.record, output.message, worlds)
    try:
        again.record.backward()
    except Exception as error:
        population.raise_mistake("a further pass", window.members, window.start, error)
    found = rows.gradient()
    # buffers counted these ticks in the first pass
    rows.buffers = {name: buffer.detach() for name, buffer in window.rows.buffers.items()}
    count = engine.world.num_worlds if worlds is None else len(worlds)
    population.learn(rows, found, window.live(worlds), engine.progress, count)


def _within(tree: Tree, worlds: Tensor | None) -> Tree:
    """``tree`` of tensors ``[n, B, …]`` in ``worlds`` ``[b]`` (None: all)."""
    if worlds is None:
        return tree
    found: Tree = mapped(lambda leaf: leaf[:, worlds], tree)
    return found
