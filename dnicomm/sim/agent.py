"""The contract of an agent: one ``nn.Module`` with a tick, an initial state and a loss.

An agent is written for itself alone: batched over the ``B`` worlds it lives in, never over other
agents. The engine stacks equal agents into a population and maps their methods over its rows
(``torch.func.vmap``), so a method may use any torch operation that vmap can batch, and must not
branch in Python on the values of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

State = Any  # a pytree of tensors [B, ...]; an agent without memory uses ()


@dataclass(frozen=True)
class AgentSpec:
    """What an environment and a topology ask of one agent. Equal specs can share a population."""

    observation_shape: tuple[int, ...]  # of one observation, without the worlds
    action_size: int  # logits of a discrete action or numbers of a continuous one; 0: does not act
    discrete: bool  # whether the action is an index
    message_size: int  # D, the length of the vector it sends
    num_inputs: int  # K, channels that end at it

    @property
    def observation_size(self) -> int:
        """Numbers in one observation."""
        size = 1
        for n in self.observation_shape:
            size *= n
        return size

    @property
    def input_size(self) -> int:
        """Numbers in a flat observation and ``Inbox.flat()`` together."""
        return self.observation_size + self.num_inputs * (self.message_size + 1)


class Inbox(NamedTuple):
    """The latest message of each channel that ends at an agent."""

    messages: Tensor  # [B, K, D], zero where there is none
    mask: Tensor  # [B, K] bool: is there one to be seen, arrived in this life of the reader
    age: Tensor  # [B, K] world time since it was sent; 0 where there is none

    def flat(self, *before: Tensor) -> Tensor:
        """Messages and mask side by side, ``[B, K * (D + 1)]``, after what is given ``[B, …]``."""
        messages = self.messages.flatten(-2)
        return torch.cat([*before, messages, self.mask.to(messages.dtype)], -1)

    def pooled(self, pool: str) -> Tensor:
        """Sum or mean of the messages that are there, and their share, ``[B, D + 1]``.

        Senders are unknown. In a sum a message weighs the same however many there are; the mean is
        the channel of CommNet (Sukhbaatar et al., 2016, section 2).

        Args:
            pool: ``sum`` or ``mean``.
        """
        there = self.mask.to(self.messages.dtype)  # [B, K]
        total = (self.messages * there.unsqueeze(-1)).sum(-2)  # [B, D]
        count = there.sum(-1, keepdim=True)
        share = count / max(self.mask.shape[-1], 1)
        return torch.cat([total / count.clamp(min=1) if pool == "mean" else total, share], -1)


class TickOutput(NamedTuple):
    """What an agent gives back at a tick."""

    action: Tensor  # [B, action_size] logits, target output, or mean of a continuous action
    message: Tensor  # [B, D], before normalisation
    state: State = ()
    value: Tensor | None = None  # [B] expected return, for agents that learn from rewards
    log_std: Tensor | None = None  # [B, action_size] of a continuous action; None: not drawn
    speak: Tensor | None = None  # [B] logit of sending the message; None: it is always sent


class Outcome(NamedTuple):
    """What is known about a tick when its window ends; what an environment lacks is zero."""

    label: Tensor  # [B] int64, -1: none; of a continuous action [B, action_size], NaN: none
    action: Tensor  # [B] int64 or [B, action_size]: what the agent did
    spoke: Tensor  # [B] bool: whether it sent its message
    returns: Tensor  # [B] discounted reward from this tick on (γ per unit of world time)
    advantage: Tensor  # [B] returns less the value that the tick gave, constant
    log_policy: Tensor  # [B] how likely that action was when it was chosen (nats), constant

    @property
    def known(self) -> Tensor:
        """``[B]`` bool: where there is a label."""
        if self.label.is_floating_point():
            return ~self.label.isnan().any(-1)
        return self.label >= 0


class Agent(nn.Module):
    """Base class of agents; a subclass writes ``tick`` and, if it has memory, ``initial_state``.

    Args:
        spec: what the environment asks; sizes for the first and last layers.
    """

    # whether its methods work for [n, B, …] too once its linear maps do: see dnicomm.core.template
    stacks = False
    epochs = 1  # passes over each window; above 1 its ticks are computed again in each
    minibatches = 1  # steps of each such pass, on as many shares of the worlds
    # factors on the optimiser's learning rate, by names of parameters or submodules, or patterns of
    # them: {"encoder": 0.1, "*.bias": 2}; the first that fits counts. Frozen parameters
    # (requires_grad=False once the agent is built) don't learn at all.
    rate_factors: Mapping[str, float] = MappingProxyType({})
    normalises_advantages = False  # whether advantages of a window get mean 0 and deviation 1

    def __init__(self, spec: AgentSpec) -> None:
        super().__init__()
        self.spec = spec

    def initial_state(self, num_worlds: int) -> State:
        """State before the first tick of an episode, a pytree of ``[B, ...]``; default ``()``."""
        return ()

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        """One activation.

        Args:
            observation: ``[B, *observation_shape]`` float.
            inbox: messages that have arrived, ``[B, K, D]``.
            state: what the previous tick returned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tick(observation, inbox, state)")

    def loss(self, output: TickOutput, outcome: Outcome) -> Tensor:
        """Loss of one tick in each world, ``[B]``; default: cross-entropy with the label.

        Of a continuous action it is the mean squared distance from the label. Worlds without a
        label count as zero.
        """
        if output.action.shape[-1] == 0:
            return torch.zeros_like(outcome.returns)
        if outcome.label.is_floating_point():
            loss = (output.action - outcome.label.nan_to_num()).square().mean(-1)
        else:
            chosen = outcome.label.clamp(min=0).unsqueeze(-1)
            loss = -output.action.log_softmax(-1).gather(-1, chosen).squeeze(-1)
        return torch.where(outcome.known, loss, torch.zeros_like(loss))  # [B]
