"""Actor-critic agents for environments with rewards, each with its own network.

A2C (Mnih et al., 2016, section 4) and PPO (Schulman et al., 2017), with and without memory, for
discrete and continuous actions. A message learns from its receiver's whole loss: policy, value
and entropy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnicomm.agents.reading import reading, reading_size
from dnicomm.agents.recurrent import GatedCell
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, Outcome, State, TickOutput
from dnicomm.sim.policy import entropy, log_policy


class ActorCritic(Agent):
    """Policy and value over one hidden layer.

    The return of a tick counts all rewards from then to the window's end, discounted per unit of
    world time, and the value of what follows: a semi-Markov return, whatever the clock.

    Args:
        width: units of the hidden layer.
        entropy: weight of the policy's entropy.
        echo: whether what it heard is part of what it says; else a layer of its own says what it
            sees, and learning to act does not change what its words mean.
        value_weight: weight of the value's error.
        pool: ``sum`` or ``mean``: it hears that of its inbox only, not who sent; None: each sender.
        gate: whether it learns when to send and when to stay silent (Singh et al., 2019).
    """

    def __init__(
        self,
        spec: AgentSpec,
        width: int = 64,
        entropy: float = 0.01,
        value_weight: float = 0.5,
        pool: str | None = None,
        gate: bool = False,
        echo: bool = True,
    ) -> None:
        super().__init__(spec)
        self.entropy, self.value_weight, self.pool = entropy, value_weight, pool
        self.body = nn.Sequential(nn.Linear(reading_size(spec, pool), width), nn.Tanh())
        self.echo = echo
        self.message = nn.Linear(width if echo else spec.observation_size, spec.message_size)
        self.policy = nn.Linear(width, spec.action_size)
        self.value = nn.Linear(width, 1)
        self.gate = nn.Linear(width, 1) if gate else None
        # of a continuous action; the same in all situations
        self.log_std = None if spec.discrete else nn.Parameter(torch.zeros(spec.action_size))

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        h = self.body(reading(observation, inbox, self.pool))
        return self.heads(h, observation.flatten(1), state)

    def heads(self, h: Tensor, seen: Tensor, state: State) -> TickOutput:
        """Action, message, value and gate of a hidden activation ``[B, width]``.

        Args:
            seen: the observation, ``[B, observation_size]``.
        """
        action = self.policy(h)
        return TickOutput(
            action,
            self.message(h if self.echo else seen),
            state,
            self.value(h).squeeze(-1),
            None if self.log_std is None else self.log_std.expand_as(action),
            None if self.gate is None else self.gate(h).squeeze(-1),
        )

    def loss(self, output: TickOutput, outcome: Outcome) -> Tensor:
        assert output.value is not None
        discrete = self.spec.discrete
        likely = log_policy(output, discrete, outcome.action, outcome.spoke)  # [B]
        policy = self.policy_loss(likely, outcome)
        value = self.value_weight * F.mse_loss(output.value, outcome.returns, reduction="none")
        return policy + value - self.entropy * entropy(output, discrete)

    def policy_loss(self, likely: Tensor, outcome: Outcome) -> Tensor:
        """``[B]``, from the log-probability ``[B]`` of what was done, now."""
        return -likely * outcome.advantage


class RecurrentActorCritic(ActorCritic):
    """The same with a gated recurrent unit after the hidden layer.

    Args:
        width: units of the hidden layer and of the state.
        entropy, value_weight, pool, gate, echo: as of :class:`ActorCritic`.
    """

    def __init__(
        self,
        spec: AgentSpec,
        width: int = 64,
        entropy: float = 0.01,
        value_weight: float = 0.5,
        pool: str | None = None,
        gate: bool = False,
        echo: bool = True,
    ) -> None:
        super().__init__(spec, width, entropy, value_weight, pool, gate, echo)
        self.width = width
        self.cell = GatedCell(width, width)

    def initial_state(self, num_worlds: int) -> Tensor:
        return torch.zeros(num_worlds, self.width)

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        h = self.cell(self.body(reading(observation, inbox, self.pool)), state)
        return self.heads(h, observation.flatten(1), h)


class PPO(ActorCritic):
    """Proximal policy optimisation: several clipped steps on each window.

    Args:
        width: units of the hidden layer.
        epochs: passes over each window; messages keep the gradient of the first, which is one step.
        minibatches: steps of each further pass, on as many shares of the worlds; above 1, messages
            learn in the first pass alone.
        clip: how far from 1 the ratio of new and old probability may be of use.
        entropy, value_weight, pool, gate, echo: as of :class:`ActorCritic`.
    """

    normalises_advantages = True

    def __init__(
        self,
        spec: AgentSpec,
        width: int = 64,
        epochs: int = 4,
        clip: float = 0.2,
        entropy: float = 0.01,
        value_weight: float = 0.5,
        pool: str | None = None,
        gate: bool = False,
        echo: bool = True,
        minibatches: int = 1,
    ) -> None:
        super().__init__(spec, width, entropy, value_weight, pool, gate, echo)
        self.epochs, self.clip, self.minibatches = epochs, clip, minibatches

    def policy_loss(self, likely: Tensor, outcome: Outcome) -> Tensor:
        ratio = (likely - outcome.log_policy).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        return -torch.minimum(ratio * outcome.advantage, clipped * outcome.advantage)


class RecurrentPPO(PPO, RecurrentActorCritic):
    """The same with a gated recurrent unit; ticks are computed again from the window's start.

    Arguments as of :class:`PPO`; ``width`` is that of the state too.
    """
