"""Some members of a population, gathered once for everything computed in a window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# of n rows with P parameters: [n, p] each, side by side, P numbers in all. It comes as a backward
# pass finds it, for to put it together costs a pass over memory of its own
Gradient = Sequence[Tensor]


class Layout:
    """Where each parameter of a module lies in a row of ``P`` numbers.

    Args:
        shapes: of the parameters, in order.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        self.shapes = list(shapes)
        self.sizes = [math.prod(shape) for shape in shapes]

    def views(self, parameters: Tensor) -> list[Tensor]:
        """Parameters ``[n, P]`` as ``[n, *shape]`` each; of one row ``[P]`` as ``[*shape]``."""
        # one split, whose backward is one concatenation
        parts, lead = parameters.split_with_sizes(self.sizes, -1), parameters.shape[:-1]
        return [p.view((*lead, *s)) for p, s in zip(parts, self.shapes, strict=True)]


@dataclass
class Rows:
    """Members with their parameters, and a place for what backward passes find of them.

    Gathering inside the graph instead would cost a dense gradient of the whole population at each
    use.
    """

    index: Tensor | None  # [n] int64 into the population; None: all, in order
    parameters: Tensor  # [n, P]
    buffers: dict[str, Tensor]  # [n, ...] each
    frozen: list[Tensor] = field(default_factory=list)  # [n, ...] each, of parameters at rest
    _leaves: list[Tensor] = field(default_factory=list)
    _taken: Tensor | None = None  # [n, P] gradient of rows taken from these

    def take(self, positions: Tensor) -> Rows:
        """The rows at ``positions`` ``[k]``, distinct, of these; their gradient comes to these."""
        return Rows(
            None if self.index is None else self.index[positions],
            _Take.apply(self.parameters, positions, self),
            {name: buffer[positions] for name, buffer in self.buffers.items()},
            [value[positions] for value in self.frozen],
        )

    def values(self, layout: Layout) -> list[Tensor]:
        """Parameters to compute with, ``[n, *shape]`` each; of one row alone ``[*shape]``."""
        alone = len(self.parameters) == 1
        if not (self.parameters.requires_grad and self.parameters.is_leaf):
            return layout.views(self.parameters[0] if alone else self.parameters)
        if not self._leaves:  # each its own, so that nothing has to put their gradients together
            own = self.parameters.detach()
            self._leaves = [v.requires_grad_() for v in layout.views(own[0] if alone else own)]
        return self._leaves

    def gradient(self) -> Gradient | None:
        """What backward passes found; None: nothing."""
        whole = self._taken
        found = [leaf.grad for leaf in self._leaves]
        if all(part is None for part in found):
            return None if whole is None else [whole]
        parts = self._parts(found)
        return parts if whole is None else [whole + torch.cat(parts, 1)]

    def gradient_of(self, loss: Tensor) -> Gradient:
        """The gradient of a loss that was computed with :meth:`values`."""
        if not (self._leaves and loss.requires_grad):  # everything that counts in it is frozen
            return self._parts([None] * len(self._leaves))
        return self._parts(torch.autograd.grad(loss, self._leaves, allow_unused=True))

    def _add(self, positions: Tensor, gradient: Tensor) -> None:
        if self._taken is None:
            self._taken = torch.zeros(self.parameters.shape, dtype=gradient.dtype,
                                      device=gradient.device)  # fmt: skip
        self._taken.index_add_(0, positions, gradient)

    def _parts(self, found: Sequence[Tensor | None]) -> list[Tensor]:
        count = len(self.parameters)
        return [
            (torch.zeros_like(leaf) if part is None else part).reshape(count, leaf.numel() // count)
            for leaf, part in zip(self._leaves, found, strict=True)
        ]


class _Take(torch.autograd.Function):
    """Some rows, whose gradient is added where it belongs.

    Autograd would make a gradient of all rows of it, zero but for these, at each tick of a window.
    """

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, positions: Tensor, rows: Rows) -> Tensor:
        ctx.positions, ctx.rows = positions, rows
        ctx.leaf = parameters.is_leaf
        return parameters.index_select(0, positions)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        if ctx.leaf:
            ctx.rows._add(ctx.positions, gradient)
            return None, None, None
        whole = gradient.new_zeros(ctx.rows.parameters.shape)  # of rows that are taken themselves
        return whole.index_add_(0, ctx.positions, gradient), None, None
