"""Optimiser steps on rows where they lie, on the CPU: nothing is gathered, each byte passes once.

A step moves each row's parameters, gradient and moments through the processor, and next to nothing
is computed on them. Gathered, stepped by a chain of operations and scattered back they pass some
twenty times; here one kernel reads and writes them once, row by row.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from dnicomm.core.optimizers import Adam, RateGroups, RowOptimizer, Slots, clip_rows, rate
from dnicomm.core.rows import Gradient
from dnicomm.core.workers import spread

BLOCK = 2**18  # numbers of a gradient at once: still in the cache when they are used again
NARROW = 2**12  # numbers of a row, below which a second thread is no use
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
        groups: parameters with rates of their own; None: there are none.
    """

    def __init__(self, parameters: Tensor, slots: Slots, groups: RateGroups | None = None) -> None:
        self.parameters, self.slots = parameters, dict(slots)
        self._groups = groups
        self._rows = list(parameters.unbind(0))
        self._moments = {name: list(slot.unbind(0)) for name, slot in slots.items()}
        # of one row the lists need not be made anew
        names = ("mean", "square", "steps")
        self._only = ([self._rows[0]], *([self._moments[name][0]] for name in names))
        self._size = max(BLOCK // parameters.shape[1], 1)  # rows of a block
        self._places = threading.local()  # where a block of a gradient is put together
        self._watched = (parameters, *slots.values())
        self._trusted: list[int] = []

    @staticmethod
    def can(
        optimizer: RowOptimizer | None, parameters: Tensor, groups: RateGroups | None = None
    ) -> bool:
        """Whether rows can be stepped here at all."""
        largest = 1.0 if groups is None else max(groups.largest, 1.0)
        return (
            type(optimizer) is Adam
            and parameters.device.type == "cpu"
            and parameters.is_floating_point()
            and parameters.shape[1] > 0
            and abs(optimizer.lr) * largest <= LARGEST_RATE
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
        gradient: Gradient,
        due: Sequence[bool] | None,
        scale: float,
        progress: float,
    ) -> list[bool]:
        """One step of ``rows``, but for those that are not due or whose gradient is not finite.

        Args:
            gradient: of the rows; if it is one part, that is divided by ``scale`` in place.

        Returns:
            Which rows were stepped.
        """
        lr = rate(optimizer.lr, optimizer.decay, progress)
        rows = list(rows)
        if due is not None and all(due):
            due = None

        def work(start: int) -> list[bool]:
            last = start + self._size
            own = None if due is None else due[start:last]
            return self._step_block(optimizer, rows[start:last], gradient, start, own, scale, lr)

        narrow = self.parameters.shape[1] < NARROW
        found = spread(work, range(0, len(rows), self._size), narrow)
        self._trusted = self._versions()
        return [fine for stepped in found for fine in stepped]

    @torch.no_grad()
    def _step_block(
        self,
        optimizer: Adam,
        rows: Sequence[int],
        gradient: Gradient,
        start: int,
        due: Sequence[bool] | None,
        scale: float,
        lr: float,
    ) -> list[bool]:
        """:meth:`step` of ``rows``, whose gradient begins at ``start``; ``due``: None: all."""
        part, given = self._block(gradient, start, len(rows))
        divisor = None if scale == 1 else torch.tensor(scale, dtype=torch.float32)
        stepped, flat = [True] * len(rows), part.reshape(-1)
        # finite squares have a finite sum, as a rule; where it is not, each row is looked at
        if due is not None or not math.isfinite(flat.dot(flat).item()):
            norms = torch.linalg.vector_norm(part, dim=1).tolist()
            stepped = [math.isfinite(norm) for norm in norms]
            if due is not None:
                stepped = [a and b for a, b in zip(stepped, due, strict=True)]
        if optimizer.clip is not None:
            part, divisor = part if divisor is None else part / scale, None
            norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)  # [k, 1]
            given = clip_rows(part, norm, optimizer.clip).contiguous().unbind(0)
        if not all(stepped):
            rows = [row for row, fine in zip(rows, stepped, strict=True) if fine]
            given = [row for row, fine in zip(given, stepped, strict=True) if fine]
        if rows:
            self.slots["steps"].numpy()[rows] += 1
            self._adam(
                [self._rows[row] for row in rows],
                list(given),
                [self._moments["mean"][row] for row in rows],
                [self._moments["square"][row] for row in rows],
                [self._moments["steps"][row] for row in rows],
                lr,
                optimizer.betas,
                optimizer.eps,
                divisor,
            )
        return stepped

    def _adam(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        steps: list[Tensor],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        divisor: Tensor | None,
    ) -> None:
        """:func:`fused_adam` of rows, span by span where rates differ."""
        if self._groups is None:
            fused_adam(parameters, gradients, means, squares, steps, lr, betas, eps, divisor)
            return
        for start, end, factor in self._groups.spans:
            values, found, mean, square = (
                [row[start:end] for row in rows] for rows in (parameters, gradients, means, squares)
            )
            fused_adam(values, found, mean, square, steps, lr * factor, betas, eps, divisor)

    def _block(self, gradient: Gradient, start: int, count: int) -> tuple[Tensor, Sequence[Tensor]]:
        """The gradient of ``count`` rows from ``start`` on, ``[k, P]``, and the same row by row.

        It is put together where the one before it was: in the cache.
        """
        parts = gradient
        if count < len(gradient[0]):
            parts = [part[start : start + count] for part in gradient]
        if len(parts) == 1:  # the kernel takes rows to be in one piece
            whole = parts[0].contiguous()
            return whole, whole.unbind(0)
        place = self._places  # of this thread
        if not hasattr(place, "rows") or len(place.rows) < count:
            place.joined = self.parameters.new_empty(count, self.parameters.shape[1])
            place.rows = place.joined.unbind(0)
        joined = place.joined[:count] if count < len(place.rows) else place.joined
        return torch.cat(tuple(parts), 1, out=joined), place.rows[:count]

    def step_only(self, optimizer: Adam, gradient: Tensor, progress: float) -> bool:
        """One step of the only row, unclipped; False if its gradient ``[1, P]`` is not finite."""
        if not math.isfinite(torch.linalg.vector_norm(gradient).item()):
            return False
        parameters, mean, square, steps = self._only
        steps[0] += 1
        lr = rate(optimizer.lr, optimizer.decay, progress)
        betas, eps = optimizer.betas, optimizer.eps
        self._adam(parameters, [gradient[0]], mean, square, steps, lr, betas, eps, None)
        self._trusted = self._versions()
        return True

    def _versions(self) -> list[int]:
        return [tensor._version for tensor in self._watched]
