"""Utility models that foresee what a receiver will say, not only what it will cost.

An *outcome* is the distribution over C classes that the receiver gives out at a step. From a
message these models predict the receiver's next W outcomes; their synthetic gradient is the
derivative of the cross-entropy of that prediction with the labels of those steps. The labels are in
the context and known only later where they are the future of a text: hindsight context.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dnicomm.core.utility import Body, Estimate, Target, UtilityModel


class OutcomeUtility(UtilityModel):
    """Predicts the receiver's own next W outcomes, and differentiates their loss.

    An error critic (see ``CriticUtility``) whose value is ``Σ_w CE(outcome_w, label_w)``. It is
    fitted to what the receiver gave out, never to the labels: where the receiver does not know the
    answer, neither does the model.

    Args:
        message_size: D.
        num_classes: C.
        horizon: W; the context holds W one-hot labels, all zero where a step has none.
        hidden: sizes of hidden layers.
    """

    needs_outcome = True

    def __init__(
        self, message_size: int, num_classes: int, horizon: int, hidden: Sequence[int] = ()
    ) -> None:
        if num_classes < 1 or horizon < 1:
            raise ValueError(f"num_classes={num_classes}, horizon={horizon}: at least 1 each")
        super().__init__(message_size, num_classes * horizon)
        self.num_classes, self.horizon = num_classes, horizon
        self.body = Body(self.message_shape, 0, num_classes * horizon, hidden)

    def forward(self, message: Tensor, context: Tensor) -> Estimate:
        labels = context.unflatten(-1, (self.horizon, self.num_classes))  # [B, W, C]

        def total(message: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            outputs = self.body(message, context[..., :0])
            logits = outputs.unflatten(-1, (self.horizon, self.num_classes))  # [B, W, C]
            value = -(labels * logits.log_softmax(-1)).sum((-1, -2))  # [B]
            return value.sum(), (value, logits)

        gradient, (value, logits) = torch.func.grad(total, has_aux=True)(message)
        return Estimate(gradient, value, logits)

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        assert estimate.outcome is not None
        assert target.outcome is not None
        return -(target.outcome * estimate.outcome.log_softmax(-1)).sum((-1, -2))


class LocalOutcomeUtility(OutcomeUtility):
    """The same model fitted to the labels alone: plain auxiliary prediction of the future.

    Not the receiver's view at all: the control for :class:`OutcomeUtility`.
    """

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        return estimate.value
