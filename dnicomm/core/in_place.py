"""Optimiser steps on rows where they lie, on the CPU: nothing is gathered, each byte passes once.

A step moves each row's parameters, gradient and moments through the processor, and next to nothing
is computed on them. Gathered, stepped by a chain of operations and scattered back they pass some
twenty times; here one kernel reads and writes them once, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dnicomm.core.optimizers import Adam, RowOptimizer, Slots, clip_rows, rate

BLOCK = 2**18  # numbers of a gradient at once: still in the cache when they are used again
LARGEST_RATE, LEAST_EPSILON = 1e3, 1e-12  # within them a finite row stays finite


def fused_adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    divisor: Tensor | None = None,
) -> None:
    """torch's kernel of Adam, in place, on tensors whose ``steps`` count this one already.

    Args:
        divisor: of the gradients, which it changes; None: 1.
    """
    torch._fused_adam_(
        parameters,
        gradients,
        means,
        squares,
        [],
        steps,
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
        grad_scale=divisor,
    )


class RowsInPlace:
    """Steps rows of a population's own tensors by Adam.

    The plain way looks at each row after its step and takes back what is not finite. Here a step is
    only taken where that can't happen: from finite moments, by a finite gradient. Who else wrote to
    the tensors shows in their version counters; then they are looked through once.

    Args:
        parameters: ``[N, P]``.
        slots: Adam's moments and steps.
    """

    def __init__(self, parameters: Tensor, slots: Slots) -> None:
        self.parameters, self.slots = parameters, dict(slots)
        self._rows = list(parameters.unbind(0))
        self._moments = {name: list(slot.unbind(0)) for name, slot in slots.items()}
        # of one row the lists need not be made anew
        names = ("mean", "square", "steps")
        self._only = ([self._rows[0]], *([self._moments[name][0]] for name in names))
        self._watched = (parameters, *slots.values())
        self._trusted: list[int] = []

    @staticmethod
    def can(optimizer: RowOptimizer | None, parameters: Tensor) -> bool:
        """Whether rows can be stepped here at all."""
        return (
            type(optimizer) is Adam
            and parameters.device.type == "cpu"
            and parameters.is_floating_point()
            and parameters.shape[1] > 0
            and abs(optimizer.lr) <= LARGEST_RATE
            and optimizer.eps >= LEAST_EPSILON
        )

    def of(self, parameters: Tensor, slots: Slots) -> bool:
        """Whether these are the tensors that are stepped here."""
        return (
            self.parameters is parameters
            and slots["mean"] is self.slots["mean"]
            and slots["square"] is self.slots["square"]
            and slots["steps"] is self.slots["steps"]
        )

    def trusted(self) -> bool:
        """Whether everything that a step starts from is finite."""
        if self._versions() == self._trusted:
            return True
        if not all(math.isfinite(tensor.sum().item()) for tensor in self._watched):
            return False
        self._trusted = self._versions()
        return True

    def step(
        self,
        optimizer: Adam,
        rows: Sequence[int],
        gradient: Tensor,
        due: Sequence[bool] | None,
        scale: float,
        progress: float,
    ) -> tuple[Tensor, list[bool]]:
        """One step of ``rows``, but for those that are not due or whose gradient is not finite.

        Args:
            gradient: ``[n, P]``, divided by ``scale`` in place where that is not 1.

        Returns:
            Norm of each row's gradient, ``[n]``, and which rows were stepped.
        """
        lr = rate(optimizer.lr, optimizer.decay, progress)
        divisor = None if scale == 1 else torch.tensor(scale, dtype=torch.float32)
        size = max(BLOCK // gradient.shape[1], 1)
        rows = list(rows)
        everybody = due is None or all(due)
        norms: list[Tensor] = []
        stepped: list[bool] = []
        for start in range(0, len(rows), size):
            part, chosen = gradient[start : start + size], rows[start : start + size]
            norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)  # [k, 1]
            if divisor is not None:
                norm /= scale
            norms.append(norm[:, 0])
            divide = divisor
            if optimizer.clip is not None:
                part = clip_rows(part if divide is None else part / scale, norm, optimizer.clip)
                divide = None
            given = list(part.unbind(0))
            if everybody and math.isfinite(norm.sum().item()):
                stepped += [True] * len(chosen)
            else:
                good = [math.isfinite(value) for value in norm[:, 0].tolist()]
                if due is not None:
                    good = [a and b for a, b in zip(good, due[start : start + size], strict=True)]
                stepped += good
                chosen = [row for row, fine in zip(chosen, good, strict=True) if fine]
                given = [row for row, fine in zip(given, good, strict=True) if fine]
                if not chosen:
                    continue
            self.slots["steps"].index_add_(0, torch.tensor(chosen), norm.new_ones(len(chosen), 1))
            fused_adam(
                [self._rows[row] for row in chosen],
                given,
                [self._moments["mean"][row] for row in chosen],
                [self._moments["square"][row] for row in chosen],
                [self._moments["steps"][row] for row in chosen],
                lr,
                optimizer.betas,
                optimizer.eps,
                divide,
            )
        self._trusted = self._versions()
        return torch.cat(norms) if norms else gradient.new_zeros(0), stepped

    def step_only(self, optimizer: Adam, gradient: Tensor, progress: float) -> bool:
        """One step of the only row, unclipped; False if its gradient ``[1, P]`` is not finite."""
        if not math.isfinite(torch.linalg.vector_norm(gradient).item()):
            return False
        parameters, mean, square, steps = self._only
        steps[0] += 1
        lr = rate(optimizer.lr, optimizer.decay, progress)
        betas, eps = optimizer.betas, optimizer.eps
        fused_adam(parameters, [gradient[0]], mean, square, steps, lr, betas, eps)
        self._trusted = self._versions()
        return True

    def _versions(self) -> list[int]:
        return [tensor._version for tensor in self._watched]
