"""What an agent reads at a tick: its observation and its inbox as one vector."""

from __future__ import annotations

import torch
from torch import Tensor

from dnicomm.sim.agent import AgentSpec, Inbox


def reading_size(spec: AgentSpec, pool: bool) -> int:
    """Numbers in :func:`reading`."""
    if not pool:
        return spec.input_size
    return spec.observation_size + spec.message_size + 1


def reading(observation: Tensor, inbox: Inbox, pool: bool) -> Tensor:
    """Observation and inbox side by side, ``[B, size]``.

    Args:
        pool: the mean over channels in place of each channel's message: who sent is not seen.
    """
    heard = inbox.mean() if pool else inbox.flat()
    return torch.cat([observation.flatten(1), heard], -1)


def flat(observation: Tensor, spec: AgentSpec) -> Tensor:
    """An observation ``[…, *observation_shape]`` as numbers in a row, ``[…, size]``."""
    dimensions = len(spec.observation_shape)
    return observation if dimensions == 1 else observation.flatten(-dimensions)
