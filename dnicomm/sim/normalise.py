"""Normalised messages: batch statistics over the worlds, before the cut.

Raw messages grow one large part common to all worlds, which drowns what differs; taking it out
with the gradient through the statistics is what lets gradient regression work between agents.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5
MOMENTUM = 0.3


class MessageNormalizer:
    """Affine-free batch normalisation of each member's messages over its active worlds.

    With fewer than two active worlds there is no batch: the running statistics stand in, as
    constants; so they do in evaluation, where worlds must not see each other.

    Args:
        size: N members.
        message_size: D.
    """

    def __init__(self, size: int, message_size: int, device: torch.device) -> None:
        self.mean = torch.zeros(size, message_size, device=device)
        self.variance = torch.zeros(size, message_size, device=device)
        self.weight = torch.zeros(size, 1, device=device)  # of the running statistics

    def __call__(
        self, message: Tensor, members: Tensor | None, active: Tensor | None, learn: bool
    ) -> Tensor:
        """Normalise ``[n, B, D]`` of ``members`` ``[n]`` (None: all), over ``active`` worlds."""
        at = slice(None) if members is None else members
        running_mean, running_var = self._running(at)
        if not learn:
            return (message - running_mean) * (running_var + EPSILON).rsqrt()
        batch = torch.ones(len(message), 1, dtype=torch.bool, device=message.device)
        if active is None:
            mean = message.mean(1, keepdim=True)  # [n, 1, D]
            centred = message - mean
            variance = centred.square().mean(1, keepdim=True)
        else:
            weight = active[..., None].to(message.dtype)
            count = weight.sum(1, keepdim=True).clamp(min=1)
            mean = (message * weight).sum(1, keepdim=True) / count
            centred = message - mean
            variance = (centred.square() * weight).sum(1, keepdim=True) / count
            batch = active.sum(1, keepdim=True) >= 2  # [n, 1]
            centred = torch.where(batch[..., None], centred, message - running_mean)
            variance = torch.where(batch[..., None], variance, running_var)
        self._update(at, mean.detach()[:, 0], variance.detach()[:, 0], batch)
        return centred * (variance + EPSILON).rsqrt()

    def _running(self, at: Tensor | slice) -> tuple[Tensor, Tensor]:
        weight = self.weight[at].clamp(min=1e-6)
        mean = self.mean[at] / weight
        variance = torch.where(self.weight[at] > 0, self.variance[at] / weight, 1.0)
        return mean[:, None], variance[:, None]

    def _update(self, at: Tensor | slice, mean: Tensor, variance: Tensor, batch: Tensor) -> None:
        finite = (torch.isfinite(mean) & torch.isfinite(variance)).all(1, keepdim=True)
        good = finite & batch  # [n, 1]
        step = MOMENTUM * good
        self.mean[at] += step * (mean.nan_to_num() - self.mean[at])
        self.variance[at] += step * (variance.nan_to_num() - self.variance[at])
        self.weight[at] += step * (1 - self.weight[at])

    def tensors(self) -> dict[str, Tensor]:
        """Running statistics by name, for a checkpoint."""
        return {"mean": self.mean, "variance": self.variance, "weight": self.weight}
