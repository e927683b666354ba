"""Row-wise optimisers: each row of a population keeps its own moments, step count and clipping.

A description (``Adam(lr=1e-3)``) holds no tensors; the population holds the state. With one row
the update equals that of ``torch.optim``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# how a rate falls: True: linearly, to zero at the run's end; False: not at all; shares of the run:
# to a tenth once each of them is over
Decay = bool | Sequence[float]

Slots = dict[str, Tensor]  # optimiser state by name, each [N, P] or [N, 1]


class RowOptimizer(Protocol):
    """Updates ``n`` rows of ``P`` parameters, each as if it were alone."""

    @property
    def lr(self) -> float:
        """Learning rate."""
        ...

    @property
    def clip(self) -> float | None:
        """Largest norm of one row's gradient; None: no clipping."""
        ...

    def init(self, parameters: Tensor) -> Slots:
        """State for parameters ``[N, P]`` that have not been stepped yet."""
        ...

    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        slots: Slots,
        live: Tensor,
        progress: float = 0.0,
    ) -> Tensor:
        """New parameters ``[n, P]``; updates ``slots`` in place.

        Args:
            gradient: ``[n, P]``, finite, zero in rows that are not live.
            live: ``[n, 1]``, 1 where the row steps and 0 where it keeps what it has.
            progress: share of the run that is over, for a rate that decays.
        """
        ...


def clip_rows(gradient: Tensor, norm: Tensor, clip: float | None) -> Tensor:
    """Scale each row of ``[n, P]`` to a norm of at most ``clip`` (``norm``: ``[n, 1]``)."""
    if clip is None:
        return gradient
    return gradient * (clip / (norm + 1e-6)).clamp(max=1.0)


class RateGroups:
    """Parameters of a row whose learning rates differ by factors.

    Args:
        factors: of each parameter.
        sizes: numbers in each of them, as they lie side by side.
    """

    def __init__(self, factors: Sequence[float], sizes: Sequence[int]) -> None:
        self.spans: list[tuple[int, int, float]] = []  # first number, one past the last, factor
        start = 0
        for factor, size in zip(factors, sizes, strict=True):
            end = start + size
            if self.spans and self.spans[-1][2] == factor:
                start, _, _ = self.spans.pop()
            self.spans.append((start, end, factor))
            start = end
        self.largest = max(factors, default=1.0)

    def scale_step(self, old: Tensor, new: Tensor) -> Tensor:
        """Parameters ``[n, P]`` after a step from ``old`` to ``new`` at these factors' rates."""
        scaled = new.clone()
        for start, end, factor in self.spans:
            if factor != 1:
                before = old[:, start:end]
                scaled[:, start:end] = before + factor * (new[:, start:end] - before)
        return scaled


def rate(lr: float, decay: Decay, progress: float) -> float:
    """The learning rate once a share ``progress`` of the run is over."""
    if isinstance(decay, bool):
        return lr * (1 - progress) if decay else lr
    return lr / 10 ** sum(progress >= share for share in decay)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1) without weight decay.

    Args:
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
        clip: largest norm of one row's gradient; None: no clipping.
        decay: whether the rate falls linearly, to zero at the run's end; or the shares of the run
            after which it falls to a tenth, e.g. ``(0.6, 0.8)``.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = None
    decay: Decay = False

    def init(self, parameters: Tensor) -> Slots:
        return {
            "mean": torch.zeros_like(parameters),
            "square": torch.zeros_like(parameters),
            "steps": parameters.new_zeros(len(parameters), 1),
        }

    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        slots: Slots,
        live: Tensor,
        progress: float = 0.0,
    ) -> Tensor:
        lr = rate(self.lr, self.decay, progress)
        beta1, beta2 = self.betas
        mean, square, steps = slots["mean"], slots["square"], slots["steps"]
        steps.add_(live)
        mean.lerp_(gradient, (1 - beta1) * live)
        square.mul_(1 - (1 - beta2) * live).addcmul_(gradient * ((1 - beta2) * live), gradient)
        # a row that has never stepped divides by 1, not by 0
        correction1 = 1 - torch.pow(beta1, steps.clamp(min=1))  # [n, 1]
        correction2 = 1 - torch.pow(beta2, steps.clamp(min=1))
        denominator = square.sqrt().div_(correction2.sqrt()).add_(self.eps)
        return torch.addcdiv(parameters, mean * (-lr * live / correction1), denominator)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as in ``torch.optim.SGD`` without dampening.

    Args:
        lr: learning rate.
        momentum: decay of the velocity; 0: none.
        clip: largest norm of one row's gradient; None: no clipping.
        decay: whether the rate falls linearly, to zero at the run's end; or the shares of the run
            after which it falls to a tenth, e.g. ``(0.6, 0.8)``.
    """

    lr: float = 1e-2
    momentum: float = 0.0
    clip: float | None = None
    decay: Decay = False

    def init(self, parameters: Tensor) -> Slots:
        return {"velocity": torch.zeros_like(parameters)}

    def step(
        self,
        parameters: Tensor,
        gradient: Tensor,
        slots: Slots,
        live: Tensor,
        progress: float = 0.0,
    ) -> Tensor:
        lr = rate(self.lr, self.decay, progress)
        velocity = slots["velocity"]
        velocity.mul_(1 - (1 - self.momentum) * live).add_(gradient * live)
        return parameters - lr * live * velocity
