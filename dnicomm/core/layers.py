"""A feed-forward net whose layers learn apart: an interface after every layer but the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dnicomm.core.interface import Interface


class DecoupledSequential(nn.Module):
    """Layers that update as soon as they have run (paper, section 2.1 and figure 2).

    Layer i gets its gradient from the utility model of layer i + 1, whose target comes from what
    layer i + 1 was told in turn: true gradient information percolates down from the loss.

    Args:
        layers: the modules, first to last; the last one's output goes to the loss.
        interfaces: one between each two layers.
        optimizer: builds an optimiser from a layer's parameters, one a layer.

    Raises:
        ValueError: if there is not one interface fewer than layers.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        interfaces: Sequence[Interface],
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = torch.optim.Adam,
    ) -> None:
        super().__init__()
        if len(interfaces) != len(layers) - 1:
            raise ValueError(
                f"{len(layers)} layers need {len(layers) - 1} interfaces, got {len(interfaces)}"
            )
        self.layers = nn.ModuleList(layers)
        self.interfaces = list(interfaces)
        parameters = [list(layer.parameters()) for layer in layers]
        self.optimizers = [optimizer(p) if p else None for p in parameters]

    def forward(self, x: Tensor) -> Tensor:
        """The ordinary chained forward pass, ``[B, …]`` to ``[B, …]``."""
        for layer in self.layers:
            x = layer(x)
        return x

    def update(
        self, x: Tensor, loss: Callable[[Tensor], Tensor], context: Tensor | None = None
    ) -> Tensor:
        """One decoupled step of every layer on one batch.

        Args:
            x: input ``[B, …]``.
            loss: the last layer's output to a loss of each example, ``[B]``.
            context: ``[B, C]`` for every utility model.

        Returns:
            The loss of each example, ``[B]``.
        """
        received = None  # the message this layer works on
        for layer, interface, optimizer in zip(
            self.layers[:-1], self.interfaces, self.optimizers[:-1], strict=True
        ):
            if optimizer is not None:
                optimizer.zero_grad()
            sent = interface.send(layer(x), context)
            if received is not None:
                # the value of what it sent is this layer's loss, in the critic's view
                received.settle(loss=sent.value)
            if optimizer is not None:
                optimizer.step()
            x, received = sent.tensor, sent
        last = self.optimizers[-1]
        if last is not None:
            last.zero_grad()
        losses = loss(self.layers[-1](x))  # [B]
        losses.mean().backward()
        if received is not None:
            received.settle(loss=losses)
        if last is not None:
            last.step()
        return losses.detach()
