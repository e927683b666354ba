"""A recurrent net whose windows learn apart: an interface at the boundary of each window."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from dnicomm.core.interface import Interface, Message
from dnicomm.core.window import Window


class RecurrentCore(Protocol):
    """A cell with its state in one vector, so that the state can be a message."""

    def __call__(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: ``[B, I]`` and ``[B, S]`` to an output ``[B, O]`` and a state ``[B, S]``."""
        ...


class LSTMCore(nn.Module):
    """An LSTM cell whose state ``[B, 2H]`` is output and cell side by side (paper, section 2.2)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_size + hidden_size, 4 * hidden_size)
        self.state_size = 2 * hidden_size

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, c = state.chunk(2, -1)
        i, f, g, o = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, torch.cat([h, c], -1)


class DecoupledRNN:
    """Truncated backpropagation through time with a synthetic future gradient.

    At the end of a window the state goes to the next one as a message; the gradient of all later
    losses with respect to it comes from the interface. What the next window finds there is the
    target, bootstrapped by its own synthetic gradient (paper, section 2.2, equation 4).

    Args:
        core: the cell.
        interface: with a utility model of the state's size; None: plain truncation.
    """

    def __init__(self, core: RecurrentCore, interface: Interface | None) -> None:
        self.core = core
        self.interface = interface
        self._boundary: Message | None = None
        self._state: Tensor | None = None

    def start(self, state: Tensor) -> None:
        """Begin a sequence from ``state`` ``[B, S]``; the one before truly ended there."""
        self._end()
        self._state = state

    def window(
        self, xs: Tensor, context: Tensor | None = None, last: bool = False
    ) -> tuple[Tensor, RecurrentWindow]:
        """Run a window ``[T, B, I]``; outputs ``[T, B, O]`` and the window to backpropagate.

        Args:
            context: ``[B, C]`` for the utility model at the window's end.
            last: whether the sequence ends with this window: then the future gradient is zero.

        Raises:
            RuntimeError: if no sequence was started.
        """
        if self._state is None:
            raise RuntimeError("call start(state) before the first window")
        received, state = self._boundary, self._state
        outputs = []
        for x in xs:
            output, state = self.core(x, state)
            outputs.append(output)
        window = Window()
        if last or self.interface is None:
            self._boundary, self._state = None, state.detach()
        else:
            self._boundary = self.interface.send(state, context, window=window)
            self._state = self._boundary.tensor
        return torch.stack(outputs), RecurrentWindow(window, received, self._boundary)

    def _end(self) -> None:
        # a state that no window took up has no future: its target is zero
        if self._boundary is not None and self.interface is not None:
            batch = len(self._boundary.tensor)
            self._boundary.settle(loss=self._boundary.tensor.new_zeros(batch))
        self._boundary = None


class RecurrentWindow:
    """One window's losses, its boundary state, and the message it began from."""

    def __init__(self, window: Window, received: Message | None, sent: Message | None) -> None:
        self._window, self._received, self._sent = window, received, sent

    def backward(self, losses: Tensor) -> None:
        """One backward pass over the window, then the state it began from is settled.

        Args:
            losses: ``[T, B]`` losses of the window, or ``[B]`` their sum; the mean over the
                worlds of their sum over time is what the parameters descend.
        """
        losses = losses if losses.dim() == 1 else losses.sum(0)  # [B]
        self._window.add_loss(losses / len(losses))
        self._window.backward()
        if self._received is not None:
            future = 0.0 if self._sent is None else self._sent.value
            self._received.settle(loss=losses.detach() + future)
