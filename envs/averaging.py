"""A hand-written policy for the consensus: what learning agents are measured by."""

from __future__ import annotations

import torch
from torch import Tensor

from dnicomm.errors import UserError
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, Outcome, State, TickOutput


class Averaging(Agent):
    """Says at each tick the mean of what it said before and of what its neighbours last said.

    The estimates meet in a mean of the private numbers whose weights depend on who ticked and was
    heard when: near to equal, and so near to the mean (Boyd et al., *Randomized gossip algorithms*,
    2006, for pairs that average at once). Run it with ``message.normalise=false``.

    Raises:
        UserError: the environment is another.
    """

    def __init__(self, spec: AgentSpec) -> None:
        super().__init__(spec)
        if spec.observation_shape != (1,) or spec.action_size != 1 or spec.discrete:
            raise UserError("agent: Averaging is for consensus, with one number to see and to say")
        self.nothing = torch.nn.Parameter(torch.zeros(1))  # to learn; a network has something

    def initial_state(self, num_worlds: int) -> State:
        return torch.zeros(num_worlds), torch.zeros(num_worlds)  # estimate, whether there is one

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        estimate, begun = state
        estimate = torch.where(begun > 0, estimate, observation[:, 0])  # [B]
        heard = inbox.mask.to(estimate.dtype)  # [B, K]
        total = estimate + (inbox.messages[..., 0] * heard).sum(-1)
        estimate = total / (1 + heard.sum(-1)) + 0 * self.nothing
        said = estimate[:, None]
        rest = observation.new_zeros(observation.shape[0], self.spec.message_size - 1)
        state = (estimate, torch.ones_like(begun))
        return TickOutput(said, torch.cat([said, rest], -1), state)

    def loss(self, output: TickOutput, outcome: Outcome) -> Tensor:
        return torch.zeros_like(outcome.returns)
