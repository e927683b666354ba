"""Utility models: what a receiver tells a sender at once about a message.

A utility model belongs to the receiver. From a message ``[B, *shape]`` and a context ``[B, C]`` it
predicts the gradient of the receiver's future loss with respect to the message (the *synthetic
gradient*, Jaderberg et al., "Decoupled Neural Interfaces using Synthetic Gradients", ICML 2017,
section 2), and it is fitted to the gradient that the receiver found later (the *target*).

Gradients and losses are per example: of each world's own loss, not of the mean over the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Estimate(NamedTuple):
    """What a utility model says of a message."""

    gradient: Tensor  # [B, *message_shape] synthetic gradient
    value: Tensor  # [B] predicted loss of the receiver; zero where the model has no such view
    outcome: Tensor | None = None  # [B, W, C] predicted logits of the receiver's next W outputs


class Target(NamedTuple):
    """What the receiver found later."""

    gradient: Tensor  # [B, *message_shape] gradient of its loss with respect to the message
    cost: Tensor  # [B] its loss, with the predicted value of what it sent in turn
    outcome: Tensor | None = None  # [B, W, C] distributions of its next W outputs; zero: none


class Body(nn.Module):
    """Linear, MLP or convolutional map from a message and a context, zero at the start.

    The last layer starts with weights and bias zero (paper, appendix C.1), so that the first
    step equals no feedback at all.

    Args:
        message_shape: ``(D,)``, or ``(channels, height, width)`` for a convolutional body.
        context_size: numbers in the context; in a convolutional body each becomes a plane.
        output_size: D or channels of the output.
        hidden: sizes of the hidden layers (ReLU); empty: linear.
        kernel_size: side of the convolution kernels (same padding).
        normalise: whether messages are normalised over the batch (and the map), by statistics
            that are constants to what is differentiated.
        flat: whether a convolutional body ends in a linear map of all places, averaged to at most
            ``SIDE`` × ``SIDE``, to ``[B, output_size]``.
    """

    SIDE = 8  # one average of all places would not say where something is

    def __init__(
        self,
        message_shape: tuple[int, ...],
        context_size: int,
        output_size: int,
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        normalise: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__()
        self.convolutional = len(message_shape) == 3
        self.normalise = normalise
        sizes = [message_shape[0] + context_size, *hidden, output_size]
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            if i:
                layers.append(nn.ReLU())
            if not self.convolutional:
                layers.append(nn.Linear(inputs, outputs))
            elif flat and i == len(hidden):
                height, width = (min(side, self.SIDE) for side in message_shape[1:])
                layers += [nn.AdaptiveAvgPool2d((height, width)), nn.Flatten()]
                layers.append(nn.Linear(inputs * height * width, outputs))
            else:
                layers.append(nn.Conv2d(inputs, outputs, kernel_size, padding="same"))
        last = layers[-1]
        assert isinstance(last, nn.Linear | nn.Conv2d)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers)

    def forward(self, message: Tensor, context: Tensor) -> Tensor:
        if self.normalise:
            over = (0, 2, 3) if self.convolutional else (0,)
            constant = message.detach()
            variance, mean = torch.var_mean(constant, over, correction=0, keepdim=True)
            message = (message - mean) / (variance + 1e-5).sqrt()
        if self.convolutional:
            planes = context[:, :, None, None].expand(-1, -1, *message.shape[-2:])
            return self.layers(torch.cat([message, planes], 1))
        return self.layers(torch.cat([message, context], -1))


class UtilityModel(nn.Module):
    """Base class of utility models; a subclass writes ``forward`` and ``loss``.

    Args:
        message_size: D, or ``(channels, height, width)``.
        context_size: numbers in the context, labels included.
    """

    fits_unread = True  # whether a message that nobody read is something to learn from
    needs_cost = False  # whether fitting needs the receiver's loss beside the gradient
    needs_outcome = False  # whether it needs the distributions of the receiver's outputs
    # factors on the optimiser's learning rate, by names of parameters or submodules
    rate_factors: Mapping[str, float] = MappingProxyType({})

    def __init__(self, message_size: int | Sequence[int], context_size: int = 0) -> None:
        super().__init__()
        shape = (message_size,) if isinstance(message_size, int) else tuple(message_size)
        if len(shape) not in (1, 3) or any(n < 1 for n in shape):
            raise ValueError(f"message_size={message_size}: D or (channels, height, width)")
        if context_size < 0:
            raise ValueError(f"context_size={context_size}: must not be negative")
        self.message_shape = shape
        self.context_size = context_size

    def forward(self, message: Tensor, context: Tensor) -> Estimate:
        """Estimate for messages ``[B, *message_shape]`` in contexts ``[B, C]``."""
        raise NotImplementedError

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        """What to minimise in fitting, ``[B]``."""
        raise NotImplementedError


class GradientUtility(UtilityModel):
    """Regresses the target gradient: the synthetic gradient of DNI (paper, section 2.1).

    With the label in its context it is cDNI (section 2.3). Linear by default: with targets
    bootstrapped through a chain, linear models were the better ones.

    Args:
        message_size: D, or ``(channels, height, width)`` for a convolutional body.
        context_size: C.
        hidden: sizes of hidden layers, or channels of hidden convolutions.
        kernel_size: of a convolutional body.
        normalise: whether it sees messages normalised over the batch.
    """

    def __init__(
        self,
        message_size: int | Sequence[int],
        context_size: int = 0,
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        normalise: bool = False,
    ) -> None:
        super().__init__(message_size, context_size)
        channels = self.message_shape[0]
        self.body = Body(self.message_shape, context_size, channels, hidden, kernel_size, normalise)

    def forward(self, message: Tensor, context: Tensor) -> Estimate:
        return Estimate(self.body(message, context), message.new_zeros(message.shape[0]))

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        error = F.mse_loss(estimate.gradient, target.gradient, reduction="none")  # one kernel
        return error.flatten(1).sum(1)


class _LossModel(UtilityModel):
    """Predicts a loss from the message; the synthetic gradient is that prediction's derivative.

    With ``num_classes`` it predicts logits and takes their cross-entropy with the label, the
    first ``num_classes`` numbers of the context (one-hot; all zero where there is none). The body
    does not see the label.
    """

    def __init__(
        self,
        message_size: int | Sequence[int],
        context_size: int,
        num_classes: int,
        hidden: Sequence[int],
        kernel_size: int,
        normalise: bool,
    ) -> None:
        super().__init__(message_size, context_size)
        if not 0 <= num_classes <= context_size:
            raise ValueError(
                f"num_classes={num_classes}: the label is part of the context, whose size is "
                f"{context_size}"
            )
        self.num_classes = num_classes
        outputs = num_classes or 1
        rest = context_size - num_classes
        self.body = Body(
            self.message_shape, rest, outputs, hidden, kernel_size, normalise, flat=True
        )

    def predict(self, message: Tensor, context: Tensor) -> Tensor:
        """Predicted loss, ``[B]``."""
        outputs = self.body(message, context[:, self.num_classes :])  # [B, num_classes or 1]
        if self.num_classes == 0:
            return outputs[:, 0]
        label = context[:, : self.num_classes]
        return -(label * outputs.log_softmax(-1)).sum(-1)

    def forward(self, message: Tensor, context: Tensor) -> Estimate:
        def total(message: Tensor) -> tuple[Tensor, Tensor]:
            value = self.predict(message, context)
            return value.sum(), value

        gradient, value = torch.func.grad(total, has_aux=True)(message)
        return Estimate(gradient, value)


class CriticUtility(_LossModel):
    """Predicts the receiver's loss and differentiates it: ``g = ∂V(m, c)/∂m``.

    The error-critic view of a synthetic gradient (Werbos; Czarnecki et al., "Sobolev Training for
    Neural Networks", NeurIPS 2017, section 4). V is fitted to the receiver's loss where it read
    the message plus the V of what it sent then.

    Args:
        num_classes: of a labelled receiver; 0: a scalar critic.
        hidden, kernel_size, normalise: as in :class:`GradientUtility`.
        sobolev: weight of fitting the gradient too.
    """

    fits_unread = False  # the loss of a receiver that never read it says nothing of a message
    needs_cost = True

    def __init__(
        self,
        message_size: int | Sequence[int],
        context_size: int = 0,
        num_classes: int = 0,
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        normalise: bool = False,
        sobolev: float = 0.0,
    ) -> None:
        super().__init__(message_size, context_size, num_classes, hidden, kernel_size, normalise)
        if sobolev < 0 or not math.isfinite(sobolev):
            raise ValueError(f"sobolev={sobolev}: must be a number of at least 0")
        self.sobolev = sobolev

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        loss = (estimate.value - target.cost).square()
        if self.sobolev:
            error = F.mse_loss(estimate.gradient, target.gradient, reduction="none")
            loss = loss + self.sobolev * error.flatten(1).sum(1)
        return loss


class LocalUtility(_LossModel):
    """Trained on the label alone (decoupled greedy learning, Belilovsky et al., ICML 2020).

    Not the receiver's view at all: the control that every synthetic gradient has to beat.

    Args:
        num_classes: of the label; the first numbers of the context.
        hidden, kernel_size, normalise: as in :class:`GradientUtility`.
    """

    def __init__(
        self,
        message_size: int | Sequence[int],
        context_size: int,
        num_classes: int,
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        normalise: bool = False,
    ) -> None:
        super().__init__(message_size, context_size, num_classes, hidden, kernel_size, normalise)
        if num_classes < 1:
            raise ValueError("LocalUtility learns from a label: num_classes must be at least 1")

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        return estimate.value
