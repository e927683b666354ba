"""The one idea: cut the graph, feed back at once, learn from the truth later.

An :class:`Interface` stands where one module hands an activation to another: layer to layer, a
recurrent net to its own next window, agent to agent. It holds the receiver's utility models (one,
or a population of them, a row a channel) and their optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dnicomm.core.optimizers import Adam, RowOptimizer
from dnicomm.core.population import Population, Rows
from dnicomm.core.utility import Estimate, Target, UtilityModel
from dnicomm.core.window import Window


@dataclass
class Message:
    """An activation on its way: ``tensor`` is for the receiver, ``synthetic`` for the sender."""

    tensor: Tensor  # [B, *shape] leaf; its .grad becomes the target
    context: Tensor  # [B, C] as it was at send time
    synthetic: Tensor  # [B, *shape] synthetic gradient per example, unscaled
    injected: Tensor  # [B, *shape] what the sender got: scaled, in the loss's reduction
    interface: Interface
    _rows: Rows
    _estimate: Estimate
    _version: int

    @property
    def value(self) -> Tensor:
        """The receiver's loss as the utility model predicts it, ``[B]``."""
        return self._estimate.value[0].detach()

    @property
    def outcome(self) -> Tensor | None:
        """Logits of the receiver's next outputs, as the model predicts them, ``[B, W, C]``."""
        predicted = self._estimate.outcome
        return None if predicted is None else predicted[0].detach()

    def settle(
        self,
        loss: Tensor | None = None,
        target: Tensor | None = None,
        outcome: Tensor | None = None,
    ) -> Tensor:
        """The receiver has backpropagated: fit the utility model. Returns its loss, ``[B]``.

        Args:
            loss: the receiver's loss; critics need it per example, ``[B]``.
            target: gradient to learn, ``[B, *shape]``, in the receiver's reduction; None: what
                the receiver's backward pass left in ``tensor.grad`` (zero where it left none).
            outcome: ``[B, W, C]`` distributions of the receiver's next outputs, for models that
                predict them; zero where there was none.

        Raises:
            ValueError: if a critic is given no loss ``[B]``, or a model of outcomes no outcome.
        """
        return self.interface._settle(self, loss, target, outcome)


class Interface:
    """Decouples senders from receivers by utility models.

    Args:
        utility: one utility model, or a sequence of equal ones, a row a channel.
        optimizer: row-wise optimiser of the utility models.
        gradient_scale: factor on what is injected into the sender; what is learnt stays unscaled.
        reduction: how the receiver's loss treats the batch. With ``"mean"`` gradients are ``1/B``
            of each example's own; the interface undoes that for the utility model, whose targets
            must not shrink with the batch, and does it again for the sender.

    Example::

        interface = Interface(GradientUtility(message_size=256, context_size=10))
        message = interface.send(encoder(x), context=one_hot(y))  # the encoder has its gradients
        loss = F.cross_entropy(head(message.tensor), y)
        loss.backward()
        message.settle()
    """

    def __init__(
        self,
        utility: UtilityModel | Sequence[UtilityModel],
        optimizer: RowOptimizer | None = None,
        gradient_scale: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction={reduction!r}: 'mean' or 'sum'")
        models = [utility] if isinstance(utility, UtilityModel) else list(utility)
        self.utilities = Population(models, optimizer or Adam())
        self.gradient_scale = gradient_scale
        self.reduction = reduction
        self.context_size = models[0].context_size
        self.fits_unread = models[0].fits_unread
        self.needs_cost = models[0].needs_cost
        self.needs_outcome = models[0].needs_outcome
        self.progress = 0.0  # share of the run that is over, for utility models' rates that decay
        self._version = 0  # of the utility models: how often they were fitted

    def to(self, device: torch.device) -> Interface:
        """Move the utility models to ``device``, in place."""
        self.utilities.to(device)
        return self

    # -- many channels at once ----------------------------------------------------------------

    @torch.no_grad()
    def estimate(self, message: Tensor, context: Tensor, rows: Tensor | None = None) -> Estimate:
        """Synthetic gradients of messages ``[E, B, *shape]`` in contexts ``[E, B, C]``.

        Args:
            rows: ``[E]`` int64, the utility model of each message; None: all, in order.
        """
        gathered = self.utilities.rows(rows, requires_grad=False)
        return self.utilities.call(gathered, "forward", message, context)

    def fit(
        self,
        message: Tensor,
        context: Tensor,
        target: Target,
        rows: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Estimate:
        """One step of the utility models on what receivers found; the estimate before it.

        The utility's loss reaches neither sender nor receiver: all that comes in is cut.

        Args:
            message: ``[E, B, *shape]``; context: ``[E, B, C]``; target: ``[E, B, …]``.
            mask: ``[E, B]`` bool, entries to learn from; a target that is not finite is left out.
        """
        gathered = self.utilities.rows(rows)
        estimate = self.utilities.call(gathered, "forward", message.detach(), context.detach())
        self._step(gathered, estimate, target, mask)
        return Estimate(estimate.gradient.detach(), estimate.value.detach())

    def _step(self, rows: Rows, estimate: Estimate, target: Target, mask: Tensor | None) -> Tensor:
        target = target._replace(gradient=target.gradient.detach(), cost=target.cost.detach())
        gradient, cost = target.gradient, target.cost
        # a sum is as finite as its terms, and needs one pass
        good = torch.isfinite(gradient.flatten(2).sum(2) + cost)  # [E, B]
        if mask is not None:
            good = good & mask
        clean, whole = target, not good.is_cuda and bool(good.all())
        if not whole:  # to ask a GPU would cost more than to compute
            each = good.reshape(*good.shape, *[1] * (gradient.dim() - 2))
            clean = Target(
                torch.where(each, gradient, 0.0), torch.where(good, cost, 0.0), target.outcome
            )
        loss = self.utilities.call(rows, "loss", estimate, clean)  # [E, B]
        if whole:
            mean = loss.mean(1)  # [E]
        else:
            loss = torch.where(good, loss, 0.0)
            mean = loss.sum(1) / good.sum(1).clamp(min=1)
        (found,) = torch.autograd.grad(mean.sum(), [rows.parameters], allow_unused=True)
        self.utilities.step(rows, found, live=good.any(1), progress=self.progress)
        self._version += 1
        return loss.detach()

    # -- one channel, in somebody's own model -------------------------------------------------

    def send(
        self, h: Tensor, context: Tensor | None = None, window: Window | None = None
    ) -> Message:
        """Cut ``h`` and feed its synthetic gradient back.

        Args:
            h: activation ``[B, *shape]``, part of the sender's graph.
            context: ``[B, C]`` what the utility model may see beside it; None: nothing.
            window: records ``h`` and its gradient for one backward pass at the window's end;
                None: the sender's gradients are there when this returns.

        Raises:
            ValueError: if the interface holds several channels, or a size does not fit.
        """
        if self.utilities.size != 1:
            raise ValueError("send() is for an interface of one channel; use estimate() and fit()")
        model = self.utilities.template
        assert isinstance(model, UtilityModel)
        if tuple(h.shape[1:]) != model.message_shape:
            raise ValueError(
                f"message of shape {tuple(h.shape)}: the utility model takes "
                f"[B, {', '.join(map(str, model.message_shape))}]"
            )
        context = h.new_zeros(len(h), 0) if context is None else context.to(h.dtype)
        if context.shape != (len(h), self.context_size):
            raise ValueError(
                f"context of shape {tuple(context.shape)}: expected [{len(h)}, {self.context_size}]"
            )
        m = h.detach().requires_grad_()
        # evaluated with its graph, so that settling can fit this very evaluation
        rows = self.utilities.rows()
        estimate = self.utilities.call(rows, "forward", m.detach()[None], context[None].detach())
        g = estimate.gradient[0].detach().to(h.dtype)  # under autocast it may be another
        injected = g * (self.gradient_scale / self._examples(h))
        if window is not None:
            window.add_output(h, injected)
        elif h.requires_grad:
            h.backward(injected)
        return Message(m, context, g, injected, self, rows, estimate, self._version)

    def _examples(self, h: Tensor) -> int:
        return len(h) if self.reduction == "mean" else 1

    def _found(self, message: Message, target: Tensor | None) -> Tensor:
        """What the receiver found, per example ``[B, *shape]``; see :meth:`Message.settle`."""
        gradient = message.tensor.grad if target is None else target
        if gradient is None:
            gradient = torch.zeros_like(message.tensor)
        return gradient.detach() * self._examples(gradient)

    def _settle(
        self,
        message: Message,
        loss: Tensor | None,
        target: Tensor | None,
        outcome: Tensor | None,
    ) -> Tensor:
        batch = len(message.tensor)
        if self.needs_cost and (loss is None or loss.shape != (batch,)):
            raise ValueError(
                f"this utility model predicts losses: settle(loss) with loss [{batch}]"
            )
        if self.needs_outcome and outcome is None:
            raise ValueError("this utility model predicts outcomes: settle(outcome=[B, W, C])")
        gradient = self._found(message, target)
        cost = gradient.new_zeros(batch)
        if self.needs_cost and loss is not None:
            cost = loss.detach()
        rows, estimate = message._rows, message._estimate
        if message._version != self._version:  # fitted since: what it says now is another thing
            rows = self.utilities.rows()
            tensor, context = message.tensor.detach()[None], message.context.detach()[None]
            estimate = self.utilities.call(rows, "forward", tensor, context)
        seen = None if outcome is None else outcome.detach()[None]
        return self._step(rows, estimate, Target(gradient[None], cost[None], seen), None)[0]
