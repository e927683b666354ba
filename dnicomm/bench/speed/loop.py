"""The loop that a user would write: an ``nn.Module`` and a ``torch.optim.Adam`` for each agent.

It does what the simulator does for a :class:`Crowd`: mail over links that come and go, there one
unit after it was sent; synthetic gradients from the receivers' linear models; an update at each
tick, and a fit of a model for each message that a newer one replaces.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from dnicomm.agents import Recurrent
from dnicomm.bench.speed.crowd import Crowd
from dnicomm.sim import AgentSpec, Inbox


@dataclass
class _Slot:
    """What lies in one channel's place at its receiver, world by world."""

    model: nn.Linear
    optimizer: torch.optim.Optimizer
    message: Tensor  # [B, D]
    gradient: Tensor  # [B, D] found so far
    there: Tensor  # [B] bool
    arriving: tuple[Tensor, Tensor] | None = None  # a message, and the worlds that it is sent in
    over: tuple[Tensor, Tensor, Tensor] | None = None  # what was replaced, its gradient, and where


@dataclass
class _Member:
    agent: Recurrent
    optimizer: torch.optim.Optimizer
    state: Tensor  # [B, S]
    slots: list[_Slot] = field(default_factory=list)
    receivers: list[tuple[int, _Slot]] = field(default_factory=list)


class Loop:
    """A crowd, agent by agent."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.rng = np.random.default_rng(crowd.seed)
        torch.manual_seed(crowd.seed)
        self.world = crowd.env().make(crowd.num_worlds, "train", torch.device("cpu"))
        self.world.reset(0, self.rng)
        place = {name: number for number, name in enumerate(self.world.agents)}
        edges = [(place[a], place[b]) for a, b in self.world.edges or ()]
        inputs = len(edges) // crowd.num_agents
        self.members = [self._member(inputs) for _ in range(crowd.num_agents)]
        for a, b in edges:
            slot = self._slot()
            self.members[a].receivers.append((b, slot))
            self.members[b].slots.append(slot)
        self.ticks = 0

    def _member(self, inputs: int) -> _Member:
        crowd = self.crowd
        agent = Recurrent(AgentSpec((1,), 1, False, crowd.message_size, inputs), crowd.width)
        optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
        return _Member(agent, optimizer, agent.initial_state(crowd.num_worlds))

    def _slot(self) -> _Slot:
        size, worlds = self.crowd.message_size, self.crowd.num_worlds
        model = nn.Linear(size, size)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        nothing = torch.zeros(worlds, size)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        nowhere = torch.zeros(worlds, dtype=torch.bool)
        return _Slot(model, optimizer, nothing, nothing.clone(), nowhere)

    def step(self) -> None:
        """One unit of world time."""
        for member in self.members:
            for slot in member.slots:
                self._deliver(slot)
        for number in np.flatnonzero(self.rng.random(len(self.members)) < self.crowd.rate):
            self._tick(int(number))
            self.ticks += 1
        for member in self.members:
            for slot in member.slots:
                self._fit(slot)
        self.world.step()

    def _deliver(self, slot: _Slot) -> None:
        if slot.arriving is None:
            return
        message, sent = slot.arriving
        slot.arriving = None
        replaced = slot.there & sent
        if replaced.any():
            slot.over = slot.message, slot.gradient, replaced
        slot.message = torch.where(sent[:, None], message, slot.message)
        slot.gradient = torch.where(sent[:, None], 0.0, slot.gradient)
        slot.there = slot.there | sent

    def _fit(self, slot: _Slot) -> None:
        """The model learns from what was found of messages whose life is over."""
        if slot.over is None:
            return
        message, gradient, where = slot.over
        slot.over = None
        slot.optimizer.zero_grad()
        error = (slot.model(message) - gradient).square().sum(1)
        error[where].mean().backward()
        slot.optimizer.step()

    def _tick(self, number: int) -> None:
        member, world = self.members[number], self.world
        worlds, size = self.crowd.num_worlds, self.crowd.message_size
        read = [slot.message.clone().requires_grad_() for slot in member.slots]
        messages = torch.stack(read, 1) if read else torch.zeros(worlds, 0, size)
        nothing = torch.zeros(worlds, 0, dtype=torch.bool)
        there = torch.stack([slot.there for slot in member.slots], 1) if read else nothing
        inbox = Inbox(messages, there, torch.zeros(there.shape))
        member.optimizer.zero_grad()
        output = member.agent.tick(world.observe([number])[0], inbox, member.state)
        sent, told = output.message.detach(), torch.zeros(worlds, size)
        if member.receivers:
            ends = [number] * len(member.receivers), [to for to, _ in member.receivers]
            for up, (_, slot) in zip(world.open_edges(*ends), member.receivers, strict=True):
                with torch.no_grad():
                    told += torch.where(up[:, None], slot.model(sent), 0.0)
                slot.arriving = sent, up
        loss = (output.action - world.labels([number])[0]).square().mean(1)
        outputs, given = [loss, output.message], [torch.ones(worlds), told]
        torch.autograd.backward(outputs, given)
        for parameter in member.agent.parameters():
            if parameter.grad is not None:
                parameter.grad /= worlds
        member.optimizer.step()
        member.state = output.state.detach()
        world.act([number], output.action.detach()[None], None)
        for slot, leaf in zip(member.slots, read, strict=True):
            if leaf.grad is not None:
                slot.gradient = slot.gradient + leaf.grad
