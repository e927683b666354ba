"""Normalised messages: batch statistics over the worlds, before the cut.

Raw messages grow one large part common to all worlds, which drowns what differs; taking it out
with the gradient through the statistics is what lets gradient regression work between agents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dnicomm.sim.encoding import MessageEncoder, Occasion

EPSILON = 1e-5
MOMENTUM = 0.1  # of running averages


class MessageNormalizer(MessageEncoder):
    """Affine-free batch normalisation of each member's messages over its active worlds.

    In evaluation worlds must not see each other: there, constants measured on the training worlds
    stand in (:meth:`measure`). They are measured anew for each evaluation, because parameters that
    learn at every tick leave running averages behind. With fewer than two active worlds in
    training there is no batch: running averages stand in.

    Args:
        size: N members.
        message_size: D.
    """

    def __init__(self, size: int, message_size: int, device: torch.device) -> None:
        self.running = _Average(size, message_size, device)
        self.measured = _Average(size, message_size, device)
        self._measuring = False

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Within, batches are normalised as in training, and their statistics averaged."""
        self.measured.clear()
        self._measuring = True
        try:
            yield
        finally:
            self._measuring = False

    def encode(self, message: Tensor, occasion: Occasion) -> Tensor:
        members, active = occasion.members, occasion.active
        at = slice(None) if members is None else members
        if not (occasion.learn or self._measuring):
            mean, variance = self.running.read(at)
            known = self.measured.weight[at][..., None] > 0  # [n, 1, 1]
            measured_mean, measured_variance = self.measured.read(at)
            mean = torch.where(known, measured_mean, mean)
            variance = torch.where(known, measured_variance, variance)
            return (message - mean) * (variance + EPSILON).rsqrt()
        if active is None and message.shape[1] < 2:
            active = torch.ones(message.shape[:2], dtype=torch.bool, device=message.device)
        if active is None:
            batch = torch.ones(len(message), 1, dtype=torch.bool, device=message.device)
            mean = message.mean(1, keepdim=True)  # [n, 1, D]
            centred = message - mean
            variance = centred.square().mean(1, keepdim=True)
        else:
            mean, variance = self.running.read(at)
            message = torch.where(active[..., None], message, 0.0)  # whatever stood there
            weight = active[..., None].to(message.dtype)
            count = weight.sum(1, keepdim=True).clamp(min=1)
            batch = active.sum(1, keepdim=True) >= 2  # [n, 1]
            mean = torch.where(
                batch[..., None], (message * weight).sum(1, keepdim=True) / count, mean
            )
            centred = message - mean
            found = (centred.square() * weight).sum(1, keepdim=True) / count
            variance = torch.where(batch[..., None], found, variance)
        average, step = (self.measured, None) if self._measuring else (self.running, MOMENTUM)
        if not occasion.again:
            average.add(at, mean.detach()[:, 0], variance.detach()[:, 0], batch, step)
        return centred * (variance + EPSILON).rsqrt()

    def tensors(self) -> dict[str, Tensor]:
        """Averages by name, for a checkpoint."""
        kept = {"running": self.running, "measured": self.measured}
        return {
            f"{k}.{name}": t for k, average in kept.items() for name, t in vars(average).items()
        }


class _Average:
    """Averages of batches' means and variances, by member."""

    def __init__(self, size: int, message_size: int, device: torch.device) -> None:
        self.mean = torch.zeros(size, message_size, device=device)
        self.variance = torch.zeros(size, message_size, device=device)
        self.weight = torch.zeros(size, 1, device=device)

    def clear(self) -> None:
        for tensor in vars(self).values():
            tensor.zero_()

    def read(self, at: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Mean and variance, ``[n, 1, D]``; 0 and 1 where there was no batch yet."""
        weight = self.weight[at].clamp(min=1e-6)
        variance = torch.where(self.weight[at] > 0, self.variance[at] / weight, 1.0)
        return (self.mean[at] / weight)[:, None], variance[:, None]

    def add(
        self, at: Tensor | slice, mean: Tensor, variance: Tensor, good: Tensor, step: float | None
    ) -> None:
        """Take a batch's statistics ``[n, D]`` in, where ``good`` ``[n, 1]`` and finite.

        Args:
            step: share of the new batch in a moving average; None: all batches count alike.
        """
        if mean.device.type == "cpu" and isinstance(at, Tensor):
            whole = bool(good.numpy().all()) and math.isfinite((mean.sum() + variance.sum()).item())
            if whole:  # the same for all: fewer steps
                self._add_all(at, mean, variance, step)
                return
        finite = (torch.isfinite(mean) & torch.isfinite(variance)).all(1, keepdim=True)
        weight = (good & finite).to(mean.dtype)
        keep = 1.0 if step is None else 1 - step * weight
        weight = weight * (1.0 if step is None else step)
        self.mean[at] = keep * self.mean[at] + weight * mean.nan_to_num()
        self.variance[at] = keep * self.variance[at] + weight * variance.nan_to_num()
        self.weight[at] = keep * self.weight[at] + weight

    def _add_all(self, at: Tensor, mean: Tensor, variance: Tensor, step: float | None) -> None:
        one = mean.new_ones(len(mean), 1)
        for table, new in ((self.mean, mean), (self.variance, variance), (self.weight, one)):
            if step is None:
                table.index_add_(0, at, new)
            else:
                table.index_copy_(0, at, table.index_select(0, at).lerp_(new, step))
