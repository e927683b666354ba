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

import torch
from torch import Tensor

from dnicomm.sim.encoding import MessageEncoder, Occasion

EPSILON = 1e-5
MOMENTUM = 0.01  # weight of a batch in the running statistics, at least


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
        at = occasion.members
        if at is None:
            at = torch.arange(len(self.mean), device=message.device)
        if not occasion.learn:
            mean, inverse = self._constants(at)
            return (message - mean) * inverse
        active = occasion.active
        if active is None and message.shape[1] < 2:
            active = torch.ones(message.shape[:2], dtype=torch.bool, device=message.device)
        if active is None:
            batch_mean = message.mean(1, keepdim=True)  # [n, 1, D]
            centred = message - batch_mean
            variance = centred.square().mean(1, keepdim=True)
            if not occasion.again:
                self._add(at, batch_mean.detach()[:, 0], variance.detach()[:, 0], None)
        else:
            message = torch.where(active[..., None], message, 0.0)  # whatever stood there
            weight = active[..., None].to(message.dtype)
            count = weight.sum(1, keepdim=True).clamp(min=1)
            batch_mean = (message * weight).sum(1, keepdim=True) / count
            centred = message - batch_mean
            variance = (centred.square() * weight).sum(1, keepdim=True) / count
            enough = active.sum(1, keepdim=True) >= 2  # [n, 1]
            if not occasion.again:
                self._add(at, batch_mean.detach()[:, 0], variance.detach()[:, 0], enough)
            # who speaks in one world alone has no batch to learn from
            batch_mean = torch.where(enough[..., None], batch_mean, self.mean[at][:, None])
            centred = message - batch_mean
            variance = torch.where(enough[..., None], variance, self.variance[at][:, None])
        kept = occasion.kept
        if not occasion.again:
            kept["mean"], kept["inverse"] = self._constants(at)
        mean, inverse = kept["mean"], kept["inverse"]
        with torch.no_grad():
            scale = (variance + EPSILON).sqrt() * inverse
            shift = (batch_mean - mean) * inverse
        return centred * (variance + EPSILON).rsqrt() * scale + shift

    def _constants(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Running mean and inverse deviation, ``[n, 1, D]``; 0 and 1 before the first batch."""
        return self.mean[at][:, None], (self.variance[at][:, None] + EPSILON).rsqrt()

    def _add(self, at: Tensor, mean: Tensor, variance: Tensor, good: Tensor | None) -> None:
        """Take a batch's statistics ``[n, D]`` in, where ``good`` ``[n, 1]`` and finite.

        The first batches count alike, later ones as in a moving average. Their spread about the
        running mean is part of the variance (the moments of a mixture).
        """
        step = (1 / (self.batches[at] + 1)).clamp(min=MOMENTUM)  # [n, 1]
        total = (mean.sum() + variance.sum()) if mean.device.type == "cpu" else None
        taken: Tensor | float = 1.0
        if good is not None or total is None or not math.isfinite(total.item()):
            fine = (torch.isfinite(mean) & torch.isfinite(variance)).all(1, keepdim=True)
            taken = (fine if good is None else fine & good).to(mean.dtype)
            step, mean, variance = step * taken, mean.nan_to_num(), variance.nan_to_num()
        before = self.mean[at]
        apart = mean - before
        spread = torch.addcmul(self.variance[at], step, apart.square())
        self.mean[at] = torch.addcmul(before, step, apart)
        self.variance[at] = torch.lerp(spread, variance, step.expand_as(spread))
        self.batches[at] += taken

    def tensors(self) -> dict[str, Tensor]:
        """Statistics by name, for a checkpoint."""
        return {f"statistics.{name}": tensor for name, tensor in vars(self).items()}
