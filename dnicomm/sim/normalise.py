"""Normalised messages: constants on the way out, batch statistics on the way back.

Raw messages grow one large part common to all worlds, which drowns what differs. Batch
normalisation takes it out, and its gradient keeps it from growing; but what a batch of training
worlds takes out at every tick, a world by itself cannot. Where agents hear what follows from what
they said (a cycle of channels), a common part that is left grows from tick to tick, and agents
that did well in training are lost in a test. Batch renormalisation (Ioffe, 2017, section 3) has
both: a message is the same in training and in a test, and its gradient that of a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dnicomm.sim.encoding import MessageEncoder, Occasion

EPSILON = 1e-5
MOMENTUM = 0.02  # weight of a batch in the running statistics, at least


class MessageNormalizer(MessageEncoder):
    """Affine-free batch renormalisation of each member's messages.

    A message goes out less a running mean and over a running deviation, in training as in a test,
    where worlds must not see each other. Both count all there is of a member's messages: the
    deviation holds what differs between worlds and what differs between ticks. In training the
    gradient is that of normalising by the batch: the active worlds of a tick, at least two. The
    running statistics take that batch in before it goes out.

    Args:
        size: N members.
        message_size: D.
    """

    def __init__(self, size: int, message_size: int, device: torch.device) -> None:
        self.mean = torch.zeros(size, message_size, device=device)
        self.variance = torch.ones(size, message_size, device=device)
        self.batches = torch.zeros(size, 1, device=device)  # taken in so far

    def encode(self, message: Tensor, occasion: Occasion) -> Tensor:
        at, active = occasion.members, occasion.active
        if at is None:
            at = torch.arange(len(self.mean), device=message.device)
        if not occasion.learn:
            mean, inverse = self._constants(at)
            return (message - mean) * inverse
        if active is None and message.shape[1] < 2:
            active = torch.ones(message.shape[:2], dtype=torch.bool, device=message.device)
        batch = _measure(message.detach(), active)
        if not occasion.again:
            self._add(at, batch)
            occasion.kept["mean"], occasion.kept["inverse"] = self._constants(at)
        mean, inverse = occasion.kept["mean"], occasion.kept["inverse"]
        encoded: Tensor = _Renormalise.apply(message, mean, inverse, batch)
        return encoded

    def _constants(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Running mean and inverse deviation, ``[n, 1, D]``; 0 and 1 before the first batch."""
        mean, variance = self.mean.index_select(0, at), self.variance.index_select(0, at)
        return mean[:, None], (variance[:, None] + EPSILON).rsqrt()

    def _add(self, at: Tensor, batch: _Batch) -> None:
        """Take a batch's statistics in, where there is one.

        The first batches count alike, later ones as in a moving average. Their spread about the
        running mean is part of the variance (the moments of a mixture).
        """
        mean, variance = batch.mean[:, 0], batch.variance[:, 0]  # [n, D]
        batches = self.batches.index_select(0, at)
        step = (batches + 1).reciprocal().clamp_(min=MOMENTUM)  # [n, 1]
        taken: Tensor | float = 1.0
        if batch.good is not None:
            taken = batch.good[:, 0].to(mean.dtype)
            step, mean, variance = step * taken, mean.nan_to_num(), variance.nan_to_num()
        before = self.mean.index_select(0, at)
        apart = mean - before
        spread = self.variance.index_select(0, at).addcmul_(step, apart.square())
        self.mean.index_copy_(0, at, before.addcmul_(step, apart))
        self.variance.index_copy_(0, at, spread.lerp_(variance, step.expand_as(spread)))
        self.batches.index_copy_(0, at, batches + taken)

    def tensors(self) -> dict[str, Tensor]:
        """Statistics by name, for a checkpoint."""
        return {f"statistics.{name}": tensor for name, tensor in vars(self).items()}


@dataclass(frozen=True)
class _Batch:
    """Messages of one tick, less their mean over the worlds."""

    active: Tensor | None  # [n, B, 1] bool; None: all
    count: Tensor | int  # [n, 1, 1] of active worlds, at least 1
    mean: Tensor  # [n, 1, D]
    centred: Tensor  # [n, B, D]
    variance: Tensor  # [n, 1, D]
    good: Tensor | None  # [n, 1, 1] bool, where there are two worlds and all is finite; None: all


def _measure(message: Tensor, active: Tensor | None) -> _Batch:
    """Statistics of ``message`` ``[n, B, D]`` over its ``active`` ``[n, B]`` worlds (None: all)."""
    good: Tensor | None = None
    count: Tensor | int = message.shape[1]
    if active is None:
        mean = message.mean(1, keepdim=True)
        centred = message - mean
        variance = centred.square().mean(1, keepdim=True)
    else:
        active = active[..., None]
        number = active.sum(1, keepdim=True)
        count = number.clamp(min=1)
        message = torch.where(active, message, 0.0)  # whatever stood there
        mean = message.sum(1, keepdim=True) / count
        centred = torch.where(active, message - mean, 0.0)
        variance = centred.square().sum(1, keepdim=True) / count
        good = number >= 2
    if variance.device.type != "cpu" or not math.isfinite(variance.sum().item()):
        # what is not finite makes the mean, and so the variance, not finite
        finite = torch.isfinite(variance).all(2, keepdim=True)
        good = finite if good is None else good & finite
    return _Batch(active, count, mean, centred, variance, good)


class _Renormalise(torch.autograd.Function):
    """``(x - mean) * inverse``, with the gradient of batch normalisation in its place.

    Ioffe's r and d are constants that turn the batch's normalisation into this (section 3); with
    them the gradient is the one through the batch's mean and deviation, in units of the running
    one. Where there is no batch, mean and deviation are constants for the gradient, too.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, inverse: Tensor, batch: _Batch) -> Tensor:
        ctx.inverse, ctx.batch = inverse, batch
        return (x - mean) * inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        inverse, batch = ctx.inverse, ctx.batch
        if batch.active is not None:
            gradient = torch.where(batch.active, gradient, 0.0)
        unit = batch.centred * (batch.variance + EPSILON).rsqrt()
        if batch.good is not None:
            unit = torch.where(batch.good, unit, 0.0)
        common = gradient.sum(1, keepdim=True) / batch.count
        along = (gradient * unit).sum(1, keepdim=True) / batch.count
        part = torch.addcmul(common, unit, along)
        if batch.active is not None:
            part = torch.where(batch.active, part, 0.0)
        if batch.good is not None:
            part = torch.where(batch.good, part, 0.0)
        return (gradient - part) * inverse, None, None, None
