"""Advantage actor-critic agents for environments with rewards (Mnih et al., 2016, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnicomm.agents.recurrent import GatedCell
from dnicomm.errors import UserError
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, Outcome, State, TickOutput

VALUE_WEIGHT = 0.5


class ActorCritic(Agent):
    """Policy and value over one hidden layer.

    The return of a tick counts all rewards from then to the window's end, discounted per unit of
    world time, and the value of what follows: a semi-Markov return, whatever the clock.

    Args:
        width: units of the hidden layer.
        entropy: weight of the policy's entropy.

    Raises:
        UserError: if the action space is not discrete.
    """

    def __init__(self, spec: AgentSpec, width: int = 64, entropy: float = 0.01) -> None:
        super().__init__(spec)
        if not spec.discrete and spec.action_size:
            raise UserError(
                f"agent: {type(self).__name__} takes discrete actions; this environment asks for "
                f"{spec.action_size} continuous numbers"
            )
        self.entropy = entropy
        self.body = nn.Sequential(nn.Linear(spec.input_size, width), nn.Tanh())
        self.message = nn.Linear(width, spec.message_size)
        self.policy = nn.Linear(width, spec.action_size)
        self.value = nn.Linear(width, 1)

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        h = self.body(torch.cat([observation.flatten(1), inbox.flat()], -1))
        return self.heads(h, state)

    def heads(self, h: Tensor, state: State) -> TickOutput:
        """Action, message and value of a hidden activation ``[B, width]``."""
        return TickOutput(self.policy(h), self.message(h), state, self.value(h).squeeze(-1))

    def loss(self, output: TickOutput, outcome: Outcome) -> Tensor:
        assert output.value is not None
        error = outcome.returns - output.value  # [B]
        loss = VALUE_WEIGHT * error.square()
        if output.action.shape[-1]:
            log_policy = output.action.log_softmax(-1)
            taken = log_policy.gather(-1, outcome.action[:, None]).squeeze(-1)
            entropy = -(log_policy.exp() * log_policy).sum(-1)
            loss = loss - taken * error.detach() - self.entropy * entropy
        return loss


class RecurrentActorCritic(ActorCritic):
    """The same with a gated recurrent unit after the hidden layer.

    Args:
        width: units of the hidden layer and of the state.
        entropy: weight of the policy's entropy.
    """

    def __init__(self, spec: AgentSpec, width: int = 64, entropy: float = 0.01) -> None:
        super().__init__(spec, width, entropy)
        self.width = width
        self.cell = GatedCell(width, width)

    def initial_state(self, num_worlds: int) -> Tensor:
        return torch.zeros(num_worlds, self.width)

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        x = self.body(torch.cat([observation.flatten(1), inbox.flat()], -1))
        h = self.cell(x, state)
        return self.heads(h, h)
