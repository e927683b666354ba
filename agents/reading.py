"""What an agent reads at a tick: its observation and its inbox as one vector."""

from __future__ import annotations

import torch
from torch import Tensor

from dnicomm.sim.agent import AgentSpec, Inbox


def reading_size(spec: AgentSpec, pool: str | None) -> int:
    """Numbers in :func:`reading`."""
    if pool is None:
        return spec.input_size
    return spec.observation_size + spec.message_size + 1


def reading(observation: Tensor, inbox: Inbox, pool: str | None) -> Tensor:
    """Observation and inbox side by side, ``[B, size]``.

    Args:
        pool: ``sum`` or ``mean`` over channels in place of each channel's message: who sent is not
            seen; None: it is.
    """
    if pool is None:
        return inbox.flat(observation.flatten(1))
    return torch.cat([observation.flatten(1), inbox.pooled(pool)], -1)


def flat(observation: Tensor, spec: AgentSpec) -> Tensor:
    """An observation ``[…, *observation_shape]`` as numbers in a row, ``[…, size]``."""
    dimensions = len(spec.observation_shape)
    return observation if dimensions == 1 else observation.flatten(-dimensions)
