"""The loop that a user would write: an ``nn.Module`` and a ``torch.optim.Adam`` for each agent.

It does what the simulator does for a :class:`Crowd`: mail that arrives one unit after it was sent,
normalised messages, synthetic gradients from the receivers' linear models, an update at each tick,
a fit of a model for each message that a newer one replaces.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from dnicomm.agents import Recurrent
from dnicomm.bench.speed.crowd import CLASSES, Crowd
from dnicomm.sim import AgentSpec, Inbox


@dataclass
class _Slot:
    """What lies in one channel's place at its receiver."""

    model: nn.Linear
    optimizer: torch.optim.Optimizer
    message: Tensor  # [B, D]
    gradient: Tensor  # [B, D] found so far
    there: bool = False
    arriving: Tensor | None = None
    over: tuple[Tensor, Tensor] | None = None  # the message that lay there, and its gradient


@dataclass
class _Member:
    agent: Recurrent
    optimizer: torch.optim.Optimizer
    state: Tensor  # [B, S]
    slots: list[_Slot] = field(default_factory=list)
    receivers: list[_Slot] = field(default_factory=list)


class Loop:
    """A crowd, agent by agent."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.rng = np.random.default_rng(crowd.seed)
        torch.manual_seed(crowd.seed)
        count, edges = crowd.num_agents, crowd.edges()
        into = [sum(b == n for _, b in edges) for n in range(count)]
        self.members = [self._member(max(into)) for _ in range(count)]
        for a, b in edges:
            slot = self._slot()
            self.members[a].receivers.append(slot)
            self.members[b].slots.append(slot)
        self.numbers = torch.randn(count, crowd.num_worlds, 1)
        self.label = (self.numbers.mean(0)[:, 0] > 0).long()
        self.ticks = 0

    def _member(self, inputs: int) -> _Member:
        crowd = self.crowd
        agent = Recurrent(AgentSpec((1,), CLASSES, True, crowd.message_size, inputs), crowd.width)
        optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
        return _Member(agent, optimizer, agent.initial_state(crowd.num_worlds))

    def _slot(self) -> _Slot:
        size, worlds = self.crowd.message_size, self.crowd.num_worlds
        model = nn.Linear(size, size)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        nothing = torch.zeros(worlds, size)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        return _Slot(model, optimizer, nothing, nothing.clone())

    def step(self) -> None:
        """One unit of world time."""
        for member in self.members:
            for slot in member.slots:
                self._deliver(slot)
        due = np.flatnonzero(self.rng.random(len(self.members)) < self.crowd.rate)
        for number in due:
            self._tick(self.members[number], self.numbers[number])
        self.ticks += len(due)
        for member in self.members:
            for slot in member.slots:
                self._fit(slot)

    def _deliver(self, slot: _Slot) -> None:
        if slot.arriving is None:
            return
        if slot.there:
            slot.over = slot.message, slot.gradient
        slot.message, slot.arriving, slot.there = slot.arriving, None, True
        slot.gradient = torch.zeros_like(slot.message)

    def _fit(self, slot: _Slot) -> None:
        """The model learns from what was found of a message whose life is over."""
        if slot.over is None:
            return
        message, gradient = slot.over
        slot.over = None
        slot.optimizer.zero_grad()
        (slot.model(message) - gradient).square().sum(1).mean().backward()
        slot.optimizer.step()

    def _tick(self, member: _Member, seen: Tensor) -> None:
        worlds = len(seen)
        read = [slot.message.clone().requires_grad_() for slot in member.slots]
        there = torch.tensor([slot.there for slot in member.slots]).expand(worlds, -1)
        size = self.crowd.message_size
        messages = torch.stack(read, 1) if read else torch.zeros(worlds, 0, size)
        inbox = Inbox(messages, there, torch.zeros(there.shape))
        member.optimizer.zero_grad()
        output = member.agent.tick(seen, inbox, member.state)
        centred = output.message - output.message.mean(0)
        message = centred * (centred.square().mean(0) + 1e-5).rsqrt()
        sent, told = message.detach(), torch.zeros_like(message)
        with torch.no_grad():
            for slot in member.receivers:
                told += slot.model(sent)
                slot.arriving = sent
        loss = nn.functional.cross_entropy(output.action, self.label, reduction="sum")
        torch.autograd.backward([loss, message], [torch.ones_like(loss), told])
        for parameter in member.agent.parameters():
            if parameter.grad is not None:
                parameter.grad /= worlds
        member.optimizer.step()
        member.state = output.state.detach()
        for slot, leaf in zip(member.slots, read, strict=True):
            if leaf.grad is not None:
                slot.gradient += leaf.grad
