"""The one idea: cut the graph, feed back at once, learn from the truth later.

An :class:`Interface` stands where one module hands an activation to another: layer to layer, a
recurrent net to its own next window, agent to agent. It holds the receiver's utility models (one,
or a population of them, a row a channel) and their optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dnicomm.core.closed_form import Alone, Evaluation, closed_form
from dnicomm.core.optimizers import Adam, RowOptimizer
from dnicomm.core.population import Population
from dnicomm.core.rows import Rows
from dnicomm.core.stages import stage
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
    _rows: Rows | None  # None where there is a closed form
    _evaluation: Evaluation
    _version: int

    @property
    def value(self) -> Tensor:
        """The receiver's loss as the utility model predicts it, ``[B]``."""
        return self._evaluation.estimate.value.detach().reshape(len(self.tensor))

    @property
    def outcome(self) -> Tensor | None:
        """Logits of the receiver's next outputs, as the model predicts them, ``[B, W, C]``."""
        predicted = self._evaluation.estimate.outcome
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
        self._closed = closed_form(models[0])
        self._only: Alone | None = None
        self.progress = 0.0  # share of the run that is over, for utility models' rates that decay
        self._version = 0  # of the utility models: how often they were fitted

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_only": None}  # a copy has parameters of its own

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
        if self._closed is not None and self._by_formula(message):
            maps = self._closed.body.maps(gathered.parameters)
            return self._closed.evaluate(maps, message, context).estimate
        estimate: Estimate = self.utilities.call(gathered, "forward", message, context)
        return estimate

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
        with stage("backward"):
            return self._fit(message.detach(), context.detach(), target, rows, mask)

    def _fit(
        self,
        message: Tensor,
        context: Tensor,
        target: Target,
        rows: Tensor | None,
        mask: Tensor | None,
    ) -> Estimate:
        if self._by_formula(message):
            estimate = self._fit_by_formula(message, context, target, rows, mask)
            if estimate is not None:
                return estimate
        gathered = self.utilities.rows(rows)
        estimate = self.utilities.call(gathered, "forward", message, context)
        self._step(gathered, estimate, target, mask)
        return Estimate(estimate.gradient.detach(), estimate.value.detach())

    def _by_formula(self, message: Tensor) -> bool:
        """Whether these messages' estimates and fits go without autograd."""
        return (
            self._closed is not None
            and message.device.type == "cpu"  # a GPU would have to be asked what is finite
            and message.dtype == self.utilities.parameters.dtype
            and not torch.is_autocast_enabled("cpu")
        )

    @torch.no_grad()
    def _fit_by_formula(
        self,
        message: Tensor,
        context: Tensor,
        target: Target,
        index: Tensor | None,
        mask: Tensor | None,
    ) -> Estimate | None:
        """:meth:`fit` in closed form; None where something is not finite, and nothing is done."""
        assert self._closed is not None
        rows = self.utilities.rows(index, requires_grad=False)
        maps = self._closed.body.maps(rows.parameters)
        evaluation = self._closed.evaluate(maps, message, context)
        error = self._closed.errors(evaluation.estimate, target, 1.0)
        if not self._closed.is_sound(target, error):
            return None
        live, half = None, message.shape[1] / 2  # of the squares' mean, half the gradient is known
        if mask is not None and not mask.numpy().all():
            count = mask.sum(1)
            live, half = count > 0, 0.5
            error *= (mask.to(error.dtype) / count.clamp(min=1)[:, None])[..., None]
        found = self._closed.descend(maps, evaluation, error)
        self.utilities.step(rows, found, live=live, progress=self.progress, scale=half)
        self._version += 1
        return evaluation.estimate

    def _alone(self) -> Alone:
        """The only utility model, in closed form."""
        if self._only is None or self._only.parameters is not self.utilities.parameters:
            assert self._closed is not None
            self._only = Alone(self._closed, self.utilities.parameters)
        return self._only

    def _step(self, rows: Rows, estimate: Estimate, target: Target, mask: Tensor | None) -> Tensor:
        """A fit by autograd; the loss before it, ``[E, B]``."""
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
        found = rows.gradient_of(mean.sum())
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
        rows, evaluation = self._evaluate(h.detach(), context.detach())
        g = evaluation.estimate.gradient.detach()
        if rows is not None:
            g = g[0].to(h.dtype)  # under autocast it may be another
        injected = g * (self.gradient_scale / self._examples(h))
        if window is not None:
            window.add_output(h, injected)
        elif h.requires_grad:
            h.backward(injected)
        return Message(m, context, g, injected, self, rows, evaluation, self._version)

    def _evaluate(self, message: Tensor, context: Tensor) -> tuple[Rows | None, Evaluation]:
        """What the only utility model says, kept so that settling can fit this very evaluation."""
        if self._closed is not None and self._by_formula(message):
            return None, self._alone().evaluate(message, context)
        rows = self.utilities.rows()
        said = self.utilities.call(rows, "forward", message[None], context[None])
        return rows, Evaluation(said, [])

    def _examples(self, h: Tensor) -> int:
        return len(h) if self.reduction == "mean" else 1

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
        gradient = found_by(message, target)
        rows, evaluation = message._rows, message._evaluation
        if message._version != self._version:  # fitted since: what it says now is another thing
            rows, evaluation = self._evaluate(message.tensor.detach(), message.context.detach())
        if self.needs_cost and loss is not None:
            cost = loss.detach()
        else:
            cost = torch.zeros(batch, device=gradient.device, dtype=gradient.dtype)
        examples = self._examples(gradient)  # per example, whatever the receiver's reduction
        if rows is None:
            alone = self._alone()
            loss = alone.fit(evaluation, Target(gradient, cost), examples)
            if loss is not None and self.utilities.step_if_finite(alone.gradient, self.progress):
                self._version += 1
                return loss
            # something is not finite: the plain way sorts it out
            rows = self.utilities.rows()
            given = message.tensor.detach()[None], message.context.detach()[None]
            evaluation = Evaluation(self.utilities.call(rows, "forward", *given), [])
        seen = None if outcome is None else outcome.detach()[None]
        wanted = Target(gradient[None] * examples, cost[None], seen)
        return self._step(rows, evaluation.estimate, wanted, None)[0]


def found_by(message: Message, target: Tensor | None) -> Tensor:
    """Gradient ``[B, *shape]`` that the receiver found, in its own reduction."""
    gradient = message.tensor.grad if target is None else target
    return torch.zeros_like(message.tensor) if gradient is None else gradient.detach()
