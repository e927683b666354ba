"""λ-returns for a recurrent net: targets that look several windows ahead.

The target for the state at the start of a window mixes, at every boundary that follows, the
gradient found beyond it with the utility model's own (paper, appendix A, for layers; Pemberton &
Costa, "BP(λ)", TMLR 2024, for time). λ = 0 is the bootstrapped target of DNI, λ = 1 the true
gradient of the windows looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dnicomm.core.interface import Interface, Message
from dnicomm.core.recurrent import RecurrentCore, RecurrentWindow
from dnicomm.core.utility import Target

Recorded = tuple[Message | None, Tensor, Tensor]  # what a window began from, its xs and targets


class LambdaReturns:
    """Settles the states of a :class:`DecoupledRNN` K windows later, by their λ-returns.

    The windows are computed once more, with the parameters of that time: K times the cost of
    settling at once.

    Args:
        core: the net.
        interface: whose utility model is fitted; a gradient regression.
        loss: outputs ``[T, B, O]`` and targets ``[T, B, …]`` to losses ``[T, B]``.
        share: λ, from 0 to 1.
        windows: K, at least 1.
    """

    def __init__(
        self,
        core: RecurrentCore,
        interface: Interface,
        loss: Callable[[Tensor, Tensor], Tensor],
        share: float,
        windows: int,
    ) -> None:
        if not 0 <= share <= 1 or windows < 1:
            raise ValueError(f"share={share}, windows={windows}: 0 to 1, and at least 1")
        self.core, self.interface, self.loss = core, interface, loss
        self.share, self.windows = share, windows
        self._recorded: list[Recorded] = []

    def add(self, window: RecurrentWindow, xs: Tensor, targets: Tensor) -> None:
        """Record a window that was backpropagated with ``settle=False``; settle what is due."""
        self._recorded.append((window.received, xs, targets))
        if window.sent is None:  # a true end: nothing more is to come for any of them
            while self._recorded:
                self._settle(None)
        elif len(self._recorded) == self.windows:
            self._settle(window.sent)

    def _settle(self, sent: Message | None) -> None:
        received = self._recorded[0][0]
        if received is not None:
            gradient = self.target(sent)
            cost = gradient.new_zeros(1, len(gradient))
            self.interface.fit(
                received.tensor[None], received.context[None], Target(gradient[None], cost)
            )
        self._recorded.pop(0)

    def target(self, sent: Message | None) -> Tensor:
        """The λ-return of the oldest state recorded, ``[B, S]`` per example.

        Args:
            sent: the message at the end of the newest window; None where the sequence ends.
        """
        first = self._recorded[0][0]
        assert first is not None
        state = first.tensor
        passed: list[tuple[Tensor, Tensor, Tensor]] = []
        for _, xs, targets in self._recorded:
            begun = state.detach().requires_grad_()
            outputs, state = self.core(xs, begun)
            passed.append((begun, state, self.loss(outputs, targets).sum()))
        gradient = torch.zeros_like(state)
        if sent is not None:
            gradient = self._synthetic(state.detach(), sent.context)
        for number in reversed(range(len(passed))):
            begun, after, loss = passed[number]
            (gradient,) = torch.autograd.grad(
                [loss, after], [begun], [torch.ones_like(loss), gradient]
            )
            message = self._recorded[number][0]
            if number and message is not None:
                synthetic = self._synthetic(begun.detach(), message.context)
                gradient = self.share * gradient + (1 - self.share) * synthetic
        return gradient

    def _synthetic(self, state: Tensor, context: Tensor) -> Tensor:
        estimate = self.interface.estimate(state[None], context[None])
        return self.interface.gradient_scale * estimate.gradient[0]

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the windows recorded, oldest first."""
        kept: dict[str, Tensor] = {}
        for number, (message, xs, targets) in enumerate(self._recorded):
            kept |= {f"{number}.xs": xs, f"{number}.targets": targets}
            if message is not None:
                kept |= {f"{number}.state": message.tensor, f"{number}.context": message.context}
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of :meth:`tensors` back."""
        self._recorded = []
        while f"{len(self._recorded)}.xs" in tensors:
            name = str(len(self._recorded))
            state, message = tensors.get(f"{name}.state"), None
            if state is not None:
                message = self.interface.send(state, tensors[f"{name}.context"])
            self._recorded.append((message, tensors[f"{name}.xs"], tensors[f"{name}.targets"]))
