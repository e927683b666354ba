"""Full unlock: layers that wait for nothing, neither for gradients nor for their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnicomm.core.interface import Interface, Message
from dnicomm.core.layers import DecoupledSequential, LayerPass
from dnicomm.core.utility import Body, Estimate, Target, UtilityModel


class SyntheticInput(UtilityModel):
    """Predicts the activation that a layer is going to receive, from the input of the whole net.

    It belongs to the receiver, like every utility model, but stands on the forward way: its
    message is the net's input, what it says in place of a gradient is an activation, and its
    target is the activation that came (paper, section 2.1, "synthetic inputs"). It begins at zero.

    Args:
        message_size: D of the net's input.
        output_size: of the activation.
        context_size: numbers in the context.
        hidden: sizes of hidden layers.
    """

    def __init__(
        self,
        message_size: int,
        output_size: int,
        context_size: int = 0,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__(message_size, context_size)
        self.body = Body(self.message_shape, context_size, output_size, hidden)

    def forward(self, message: Tensor, context: Tensor) -> Estimate:
        """``[B, D]`` and ``[B, C]`` to an estimate whose "gradient" is ``[B, output_size]``."""
        return Estimate(self.body(message, context), message.new_zeros(len(message)))

    def loss(self, estimate: Estimate, target: Target) -> Tensor:
        return F.mse_loss(estimate.gradient, target.gradient, reduction="none").sum(1)


class UnlockedSequential(DecoupledSequential):
    """Every layer trains on what it foresees of its input (paper, section 2.1, figure 3).

    Layer i computes on its synthetic input and learns from its utility model's synthetic gradient,
    so all layers may run at once. What layer i - 1 really gave out is the target of layer i's
    synthetic input, and the gradient that layer i found at its synthetic input is the target of
    what its utility model said of the real activation. :meth:`forward` is the plain chain: in a
    test no input is synthetic.

    Args:
        layers: the modules, first to last.
        interfaces: one between each two layers.
        inputs: one for each layer but the first, with a :class:`SyntheticInput` and
            ``reduction="sum"``, for activations are per example already.
        optimizer: builds an optimiser from a layer's parameters, one a layer.

    Raises:
        ValueError: if the numbers do not fit, or an interface is missing.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        interfaces: Sequence[Interface],
        inputs: Sequence[Interface],
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = torch.optim.Adam,
    ) -> None:
        super().__init__(layers, interfaces, optimizer)
        if len(inputs) != len(interfaces) or None in interfaces:
            raise ValueError(
                f"{len(layers)} layers need {len(layers) - 1} interfaces and as many synthetic "
                f"inputs, got {len(inputs)}"
            )
        if any(one.reduction != "sum" for one in inputs):
            raise ValueError("synthetic inputs are per example: their reduction must be 'sum'")
        self.inputs = list(inputs)

    def _pass_on(self, done: LayerPass, x: Tensor, order: Sequence[int] | None) -> Tensor:
        """The next layer's input as that layer foresees it."""
        foreseen: Message = self.inputs[done.number].send(x.detach())
        if self._learns(done.number + 1, order):  # the model is the next layer's own
            foreseen.settle(target=done.output)
        return foreseen.synthetic.detach().requires_grad_(torch.is_grad_enabled())
