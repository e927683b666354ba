"""A hand-written policy for the signalling game, and the best there is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.errors import UserError
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, Outcome, State, TickOutput

THRESHOLD = 0.5  # between a bit's two values, -1 (0 where messages are made bits) and 1


class Naming(Agent):
    """The speaker says the object's number in bits, the listener names the object it heard of last.

    However old a message is, no other object is likelier than the one in it, as long as the object
    changes with a probability of at most 1 - 1/K. Run it with ``message.normalise=false`` or
    ``message.discrete=dru``.

    Args:
        attributes, values: of the environment.

    Raises:
        UserError: the environment is another, or a message has fewer numbers than an object bits.
    """

    def __init__(self, spec: AgentSpec, attributes: int = 2, values: int = 3) -> None:
        super().__init__(spec)
        self.attributes, self.values = attributes, values
        self.num_objects = values**attributes
        self.bits = max((self.num_objects - 1).bit_length(), 1)
        seen = spec.observation_shape == (attributes * values,) and not spec.action_size
        named = spec.observation_shape == (0,) and spec.action_size == self.num_objects
        if not (seen or named):
            raise UserError(
                f"agent: Naming is for signalling, with agent.attributes={attributes} and "
                f"agent.values={values} as env.attributes and env.values"
            )
        if spec.message_size < self.bits:
            raise UserError(
                f"message.size={spec.message_size}: Naming says {self.bits} bits of an object"
            )
        self.nothing = torch.nn.Parameter(torch.zeros(1))  # to learn; a network has something

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        worlds, size = observation.shape[0], self.spec.message_size
        places = torch.arange(self.bits, device=observation.device)
        if self.spec.action_size:
            heard = (inbox.messages[:, 0, : self.bits] > THRESHOLD).long()  # [B, bits]
            number = (heard << places).sum(-1).clamp(max=self.num_objects - 1)
            scores = 100.0 * F.one_hot(number, self.num_objects)
            return TickOutput(scores, observation.new_zeros(worlds, size) + 0 * self.nothing, state)
        one_hot = observation.unflatten(-1, (self.attributes, self.values))
        powers = self.values ** torch.arange(self.attributes, device=observation.device)
        number = (one_hot.argmax(-1) * powers).sum(-1)  # [B]
        said = 2.0 * ((number[:, None] >> places) & 1) - 1
        message = F.pad(said, (0, size - self.bits)) + 0 * self.nothing
        return TickOutput(observation.new_zeros(worlds, 0), message, state)

    def loss(self, output: TickOutput, outcome: Outcome) -> Tensor:
        return torch.zeros_like(outcome.returns)
