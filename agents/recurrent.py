"""A recurrent agent for labelled environments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnicomm.agents.reading import flat
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, State, TickOutput


class GatedCell(nn.Module):
    """A gated recurrent unit of linear and pointwise operations, which vmap can batch."""

    def __init__(self, input_size: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_size + width, 2 * width)
        self.candidate = nn.Linear(input_size + width, width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        reset, keep = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        new = torch.tanh(self.candidate(torch.cat([x, reset * h], -1)))
        return keep * h + (1 - keep) * new


class Recurrent(Agent):
    """A hidden layer, a gated recurrent unit, and heads for action and message.

    Args:
        width: units of the hidden layer and of the state.
    """

    stacks = True

    def __init__(self, spec: AgentSpec, width: int = 64) -> None:
        super().__init__(spec)
        self.width = width
        self.body = nn.Sequential(nn.Linear(spec.input_size, width), nn.ReLU())
        self.cell = GatedCell(width, width)
        self.message = nn.Linear(width, spec.message_size)
        self.action = nn.Linear(width, spec.action_size)

    def initial_state(self, num_worlds: int) -> Tensor:
        return torch.zeros(num_worlds, self.width)

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        x = self.body(inbox.flat(flat(observation, self.spec)))
        h = self.cell(x, state)
        return TickOutput(action=self.action(h), message=self.message(h), state=h)
