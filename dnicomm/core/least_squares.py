"""Linear gradient regression without a learning rate: least squares with forgetting.

A synthetic gradient that is a linear function of message and context has its best weights in
closed form, from moments that are averaged over the last messages. Targets that are rare and large
(a receiver that is mostly right) leave a model fitted by small steps either behind or jittering;
this one is where its data say, from the first fit on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dnicomm.core.interface import Interface, Message, found_by
from dnicomm.core.utility import Estimate, GradientUtility, Target

LINEAR = ["body.layers.0.weight", "body.layers.0.bias"]


class LeastSquaresUtility(GradientUtility):
    """A linear :class:`GradientUtility` that solves for its weights; see :class:`LeastSquares`.

    Args:
        message_size: D.
        context_size: C.
        memory: fits over which its moments are averaged: one counts e-fold less after as many.
        ridge: added to the mean squares of what it sees; messages are normalised, contexts 0 or 1.
    """

    moments: Tensor  # [X, X] sum of products of what it saw; X = D + C + 1
    products: Tensor  # [X, D] sum of products of what it saw and the targets
    count: Tensor  # [1] how many examples that was

    def __init__(
        self, message_size: int, context_size: int = 0, memory: float = 50.0, ridge: float = 1e-3
    ) -> None:
        super().__init__(message_size, context_size)
        if not memory >= 1:
            raise ValueError(f"memory={memory}: must be a number of fits, at least 1")
        if not ridge > 0:
            raise ValueError(f"ridge={ridge}: must be a number above 0")
        self.keep, self.ridge = 1 - 1 / memory, ridge
        size = message_size + context_size + 1
        self.register_buffer("moments", torch.zeros(size, size))
        self.register_buffer("products", torch.zeros(size, message_size))
        self.register_buffer("count", torch.zeros(1))

    def solve(self, message: Tensor, context: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Take examples in; the best parameters ``[P]`` after them.

        Args:
            message: ``[B, D]``; context: ``[B, C]``; target: ``[B, D]``.
            weight: ``[B]``, 0 for an example to leave out.
        """
        seen = torch.cat([message, context, torch.ones_like(message[:, :1])], 1)  # [B, X]
        weighted = seen * weight[:, None]
        # where there is nothing to take in, nothing is forgotten
        keep = torch.where(weight.sum() > 0, self.keep, 1.0)
        self.moments = keep * self.moments + weighted.T @ seen
        self.products = keep * self.products + weighted.T @ target
        self.count = keep * self.count + weight.sum()
        count = self.count.clamp(min=1)
        ridge = self.ridge * torch.eye(len(self.moments), device=message.device)
        weights = torch.linalg.solve(self.moments / count + ridge, self.products / count)  # [X, D]
        return torch.cat([weights[:-1].T.flatten(), weights[-1]])


class LeastSquares(Interface):
    """An interface whose utility models are fitted in closed form; it has no optimiser to set.

    Args:
        utility: :class:`LeastSquaresUtility`, one or a row a channel.
        gradient_scale, reduction: as of any interface.

    Raises:
        ValueError: if a parameter is frozen: the solution is for all of them.
    """

    def __init__(
        self,
        utility: LeastSquaresUtility | Sequence[LeastSquaresUtility],
        gradient_scale: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(utility, None, gradient_scale, reduction)
        model = self.utilities.template
        if self.utilities.frozen:
            names = ", ".join(self.utilities.frozen)
            raise ValueError(
                f"least squares solve for all weights at once: {names} can't be frozen"
            )
        assert [name for name, _ in model.named_parameters()] == LINEAR

    @torch.no_grad()
    def fit(
        self,
        message: Tensor,
        context: Tensor,
        target: Target,
        rows: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Estimate:
        """Take in what receivers found and solve; the estimate before it.

        Args:
            message: ``[E, B, D]``; context: ``[E, B, C]``; target: ``[E, B, …]``.
            mask: ``[E, B]`` bool, entries to learn from; a target that is not finite is left out.
        """
        message, context = message.detach(), context.detach()
        gathered = self.utilities.rows(rows, requires_grad=False)
        estimate: Estimate = self.utilities.call(gathered, "forward", message, context)
        good = torch.isfinite(target.gradient).all(-1)  # [E, B]
        if mask is not None:
            good = good & mask
        gradient = torch.where(good[..., None], target.gradient, 0.0)
        old, weight = gathered.parameters, good.to(message.dtype)
        new = self.utilities.call(gathered, "solve", message, context, gradient, weight)  # [E, P]
        live = good.any(1) & torch.isfinite(new).all(1)
        at = slice(None) if rows is None else rows
        self.utilities.parameters[at] = torch.where(live[:, None], new, old)
        self.utilities.updates[at] += live
        self.utilities.keep_buffers(gathered)
        self._version += 1
        return estimate

    def _settle(
        self,
        message: Message,
        loss: Tensor | None,
        target: Tensor | None,
        outcome: Tensor | None,
    ) -> Tensor:
        tensor, context = message.tensor.detach(), message.context.detach()
        gradient = found_by(message, target) * self._examples(message.tensor)
        cost = gradient.new_zeros(len(gradient))
        found = self.fit(tensor[None], context[None], Target(gradient[None], cost[None]))
        return (found.gradient[0] - gradient).square().sum(1)
