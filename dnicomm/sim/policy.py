"""What an agent's outputs say of its actions: drawing them, and how likely they were.

A discrete action is drawn from the softmax of ``action``; a continuous one from a Gaussian around
it, if the agent gives ``log_std``; whether to send the message from the sigmoid of ``speak``, if
the agent gives that. All is batched: ``[...]`` stands for ``[B]`` in an agent's own loss and for
``[n, B]`` in the engine.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.sim.agent import TickOutput

LOG_TWO_PI = math.log(2 * math.pi)


IMPOSSIBLE = -1e9  # a logit whose probability is zero, and whose gradient is too


class Choice(NamedTuple):
    """What an agent did at a tick."""

    action: Tensor  # [...] int64, or [..., action_size] float
    spoke: Tensor | None  # [...] bool, whether its message is sent; None: it has no choice


def within(output: TickOutput, allowed: Tensor | None) -> TickOutput:
    """``output`` with a policy that only does what is ``allowed`` ``[..., action_size]`` bool.

    None: whatever there is. A row that allows nothing says nothing.
    """
    if allowed is None:
        return output
    allowed = allowed | ~allowed.any(-1, keepdim=True)
    return output._replace(action=output.action.masked_fill(~allowed, IMPOSSIBLE))


def choose(output: TickOutput, discrete: bool, noise: Tensor | None) -> Choice:
    """Actions drawn with ``noise``, or without it the likeliest.

    Args:
        output: ``[...]`` of a tick.
        discrete: whether the action is an index.
        noise: uniform numbers in (0, 1), ``[..., action_size + 1]``; the last is for speaking.
    """
    scores = output.action.detach()
    size = scores.shape[-1]
    if noise is not None:
        drawn = noise[..., :size]
        if discrete:
            scores = scores - torch.log(-torch.log(drawn))  # Gumbel
        elif output.log_std is not None:
            normal = math.sqrt(2) * torch.erfinv(2 * drawn - 1)
            scores = scores + output.log_std.detach().exp() * normal
    if not discrete:
        action = scores
    elif size:
        action = scores.argmax(-1)
    else:
        action = torch.zeros(scores.shape[:-1], dtype=torch.int64, device=scores.device)
    if output.speak is None:
        return Choice(action, None)
    threshold = 0.5 if noise is None else noise[..., size]
    return Choice(action, output.speak.detach().sigmoid() > threshold)


def log_policy(output: TickOutput, discrete: bool, action: Tensor, spoke: Tensor | None) -> Tensor:
    """Log-probability (or density) ``[...]`` of what was done; zero where nothing was chosen."""
    total = torch.zeros_like(output.message[..., 0])
    if output.action.shape[-1] and discrete:
        chosen = output.action.log_softmax(-1).gather(-1, action.unsqueeze(-1))
        total = total + chosen.squeeze(-1)
    elif not discrete and output.log_std is not None:
        distance = (action - output.action) * (-output.log_std).exp()
        density = -0.5 * (distance.square() + LOG_TWO_PI) - output.log_std
        total = total + density.sum(-1)
    if output.speak is not None and spoke is not None:
        total = total - F.softplus(torch.where(spoke, -output.speak, output.speak))
    return total


def entropy(output: TickOutput, discrete: bool) -> Tensor:
    """Entropy ``[...]`` in nats of what an agent may do."""
    total = torch.zeros_like(output.message[..., 0])
    if output.action.shape[-1] and discrete:
        log_p = output.action.log_softmax(-1)
        total = total - (log_p.exp() * log_p).sum(-1)
    elif not discrete and output.log_std is not None:
        total = total + (output.log_std + 0.5 * (1 + LOG_TWO_PI)).sum(-1)
    if output.speak is not None:
        p = output.speak.sigmoid()
        total = total + F.softplus(output.speak) - p * output.speak
    return total
