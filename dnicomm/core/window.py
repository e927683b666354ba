"""What one module backpropagates at once."""

from __future__ import annotations

import torch
from torch import Tensor


class Window:
    """Collects losses, messages and states with their gradients; backpropagates once.

    The sender's side of an interface: between two updates everything that has a gradient, true or
    synthetic, is recorded here, and ONE ``torch.autograd.backward`` carries it all.
    """

    def __init__(self) -> None:
        self._outputs: list[Tensor] = []
        self._gradients: list[Tensor] = []

    def add_loss(self, loss: Tensor) -> None:
        """Record a loss of any shape; its elements are summed."""
        self.add_output(loss, torch.ones_like(loss))

    def add_output(self, output: Tensor, gradient: Tensor) -> None:
        """Record an output of the module's graph and the gradient given to it.

        Raises:
            ValueError: if their shapes differ.
        """
        if output.shape != gradient.shape:
            shapes = f"{tuple(output.shape)} and {tuple(gradient.shape)}"
            raise ValueError(f"an output and its gradient must have one shape, got {shapes}")
        if output.requires_grad:
            self._outputs.append(output)
            self._gradients.append(gradient)

    def __len__(self) -> int:
        return len(self._outputs)

    def backward(self) -> None:
        """Backpropagate what was recorded into the ``.grad`` of the leaves; empty afterwards."""
        outputs, gradients = self._outputs, self._gradients
        self._outputs, self._gradients = [], []
        if outputs:
            torch.autograd.backward(outputs, gradients)
