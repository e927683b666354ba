"""A recurrent net whose windows learn apart: an interface at the boundary of each window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from dnicomm.core.capabilities import supports_autocast
from dnicomm.core.interface import Interface, Message
from dnicomm.core.window import Window


class RecurrentCore(Protocol):
    """A recurrent net with its state in one vector, so that the state can be a message."""

    def __call__(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[T, B, I]`` and ``[B, S]`` to outputs ``[T, B, O]`` and the state after them."""
        ...


class LSTMCore(nn.Module):
    """An LSTM whose state ``[B, 2H]`` is output and cell side by side (paper, section 2.2).

    A whole window is one fused call. The forget gate's bias starts at 1. Under autocast it computes
    in the parameters' own dtype where the device has no fused LSTM of autocast's
    (:func:`dnicomm.core.capabilities.supports_autocast`).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size)
        self.state_size = 2 * hidden_size
        with torch.no_grad():
            self.lstm.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] = 1
            self.lstm.get_parameter("bias_hh_l0")[hidden_size : 2 * hidden_size] = 0

    def forward(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        kind = xs.device.type
        if torch.is_autocast_enabled(kind) and not supports_autocast(
            "lstm", xs.device, torch.get_autocast_dtype(kind)
        ):
            own = self.lstm.get_parameter("weight_ih_l0").dtype
            with torch.autocast(kind, enabled=False):
                return self._run(xs.to(own), state.to(own))
        return self._run(xs, state)

    def _run(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, c = (part.contiguous() for part in state[None].chunk(2, -1))  # [1, B, H] each
        outputs, (h, c) = self.lstm(xs, (h, c))
        return outputs, torch.cat([h, c], -1)[0].to(state.dtype)  # autocast makes it another


class FutureGradients(nn.Module):
    """The auxiliary task: foresee the synthetic gradient that a window will end with.

    Every output of a window but the last one predicts it; the error reaches the core, so that what
    matters after the window is in its state early (paper, section 2.2; at which steps the paper's
    own net predicts is not certain).

    Args:
        output_size: O of the core.
        state_size: S.
    """

    def __init__(self, output_size: int, state_size: int) -> None:
        super().__init__()
        self.predict = nn.Linear(output_size, state_size)

    def loss(self, outputs: Tensor, synthetic: Tensor) -> Tensor:
        """Squared error ``[B]`` for outputs ``[T, B, O]``; zero where T is 1."""
        if len(outputs) == 1:
            return outputs.new_zeros(outputs.shape[1])
        error = self.predict(outputs[:-1]) - synthetic.detach()  # [T - 1, B, S]
        return error.square().sum(-1).mean(0)


class DecoupledRNN:
    """Truncated backpropagation through time with a synthetic future gradient.

    At the end of a window the state goes to the next one as a message; the gradient of all later
    losses with respect to it comes from the interface. What the next window finds there is the
    target, bootstrapped by its own synthetic gradient (paper, section 2.2, equation 4). Where the
    interface scales what it injects, that is what the target and the value of a critic are
    bootstrapped with: the scale discounts the windows after the next one.

    Args:
        core: the net.
        interface: with a utility model of the state's size; None: plain truncation.
        auxiliary: the auxiliary task; None: without. Its parameters are the user's to optimise.
    """

    def __init__(
        self,
        core: RecurrentCore,
        interface: Interface | None,
        auxiliary: FutureGradients | None = None,
    ) -> None:
        self.core = core
        self.interface = interface
        self.auxiliary = auxiliary
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
        received = self._boundary
        outputs, state = self.core(xs, self._state)
        window = Window()
        error = None
        if last or self.interface is None:
            self._boundary, self._state = None, state.detach()
        else:
            self._boundary = self.interface.send(state, context, window=window)
            self._state = self._boundary.tensor
            if self.auxiliary is not None:
                error = self.auxiliary.loss(outputs, self._boundary.synthetic)  # [B]
                window.add_loss(error / len(error))
        return outputs, RecurrentWindow(window, received, self._boundary, error)

    def _end(self) -> None:
        # a state that no window took up has no future: its target is zero
        if self._boundary is not None and self.interface is not None:
            batch = len(self._boundary.tensor)
            foreseen = self._boundary.outcome
            self._boundary.settle(
                loss=self._boundary.tensor.new_zeros(batch),
                outcome=None if foreseen is None else torch.zeros_like(foreseen),
            )
        self._boundary = None

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint between two windows holds: the state, and what it was sent with."""
        kept = {} if self._state is None else {"state": self._state.detach()}
        if self._boundary is not None:
            kept["context"] = self._boundary.context
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of :meth:`tensors` back: the next window begins there."""
        self._boundary, self._state = None, tensors.get("state")
        if self.interface is not None and self._state is not None and "context" in tensors:
            self._boundary = self.interface.send(self._state, tensors["context"])
            self._state = self._boundary.tensor


class RecurrentWindow:
    """One window's losses, its boundary state, and the message it began from.

    Attributes:
        received: the message it began from; None at the start of a sequence.
        sent: the message it ends with; None at the end of one.
        auxiliary_error: ``[B]`` of the auxiliary task; None where there is none.
    """

    def __init__(
        self,
        window: Window,
        received: Message | None,
        sent: Message | None,
        auxiliary_error: Tensor | None = None,
    ) -> None:
        self._window, self.received, self.sent = window, received, sent
        self.auxiliary_error = None if auxiliary_error is None else auxiliary_error.detach()

    def backward(self, losses: Tensor, outcomes: Tensor | None = None, settle: bool = True) -> None:
        """One backward pass over the window, then the state it began from is settled.

        Args:
            losses: ``[T, B]`` losses of the window, or ``[B]`` their sum; the mean over the
                worlds of their sum over time is what the parameters descend.
            outcomes: ``[T, B, C]`` distributions that the net gave out, zero where nothing was
                asked of it; for utility models that predict them.
            settle: False where :class:`LambdaReturns` settles it later.
        """
        losses = losses if losses.dim() == 1 else losses.sum(0)  # [B]
        self._window.add_loss(losses / len(losses))
        self._window.backward()
        if self.received is None or not settle:
            return
        cost = losses.detach()
        if self.sent is not None:
            cost = cost + self.sent.interface.gradient_scale * self.sent.value
        self.received.settle(loss=cost, outcome=self._seen(outcomes))

    def _seen(self, outcomes: Tensor | None) -> Tensor | None:
        """The W outcomes after the received state: given out here, or foreseen for later."""
        predicted = None if self.received is None else self.received.outcome
        if predicted is None or outcomes is None:
            return None
        seen = outcomes.detach().transpose(0, 1)  # [B, T, C]
        later = None if self.sent is None else self.sent.outcome
        rest = torch.zeros_like(predicted) if later is None else later.softmax(-1)
        return torch.cat([seen, rest], 1)[:, : predicted.shape[1]]
