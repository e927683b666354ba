"""A feed-forward agent for labelled environments."""

from __future__ import annotations

from torch import Tensor, nn

from dnicomm.agents.reading import flat
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, State, TickOutput


class FeedForward(Agent):
    """One hidden layer from observation and inbox to action and message.

    Args:
        width: units of the hidden layer.
    """

    stacks = True

    def __init__(self, spec: AgentSpec, width: int = 64) -> None:
        super().__init__(spec)
        self.body = nn.Sequential(nn.Linear(spec.input_size, width), nn.ReLU())
        self.message = nn.Linear(width, spec.message_size)
        self.action = nn.Linear(width, spec.action_size)

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        h = self.body(inbox.flat(flat(observation, self.spec)))
        return TickOutput(action=self.action(h), message=self.message(h), state=state)
