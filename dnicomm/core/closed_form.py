"""Utility models without autograd: their estimates and the gradient of their fit, by formula.

A linear map or a small perceptron with a squared error is a handful of matrix products; recording
and replaying them costs more than computing them. :func:`closed_form` says which models have one;
each of them is tested against the plain way, which all others go.

Shapes: messages ``[E, B, D]`` of E models at once, with parameters ``[E, P]``; or ``[B, D]`` of one
model alone, whose parameters are those of a single row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dnicomm.core.perceptron import Maps, Perceptron
from dnicomm.core.products import product
from dnicomm.core.utility import CriticUtility, Estimate, GradientUtility, Target, UtilityModel


@dataclass
class Evaluation:
    """What was said of some messages, and what a fit needs of how it came about."""

    estimate: Estimate
    passed: list[Tensor]  # through the layers; empty where autograd recorded it
    outer: Tensor | None = None  # [(E,) B, outputs] of a critic: gradient of its value


class ClosedForm(ABC):
    """Estimates and fits of equal utility models.

    Args:
        model: one of them.
    """

    shows = False  # whether whatever of the target is not finite makes the fit's gradient so

    def __init__(self, model: GradientUtility | CriticUtility) -> None:
        self.body = Perceptron(model.body.layers)

    @abstractmethod
    def evaluate(self, maps: Maps, message: Tensor, context: Tensor) -> Evaluation:
        """Estimates of messages ``[(E,) B, D]`` in contexts ``[(E,) B, C]``."""

    @abstractmethod
    def errors(self, estimate: Estimate, target: Target, scale: float) -> Tensor:
        """Errors ``[(E,) B, …]``; the sum of their squares is the loss of each example.

        Args:
            target: whose gradient is yet to be multiplied by ``scale``.
        """

    def is_sound(self, target: Target, error: Tensor) -> bool:
        """Whether every example is something to learn from, as the plain way sees it."""
        total = error.sum() + target.cost.sum()
        return math.isfinite(total.item())

    @abstractmethod
    def outer(self, evaluation: Evaluation, error: Tensor) -> Tensor:
        """Gradient of half the loss with respect to the last layer's output."""

    def descend(self, maps: Maps, evaluation: Evaluation, error: Tensor) -> list[Tensor]:
        """Gradient of half the sum of the losses, ``[E, p]`` of each parameter."""
        deltas = self.body.inward(maps, evaluation.passed, self.outer(evaluation, error))
        return self.body.parameter_gradient(evaluation.passed, deltas)


class Alone:
    """One utility model with its parameters, and a place for their gradient.

    Args:
        form: of the model.
        parameters: ``[1, P]``, changed in place from now on.
    """

    def __init__(self, form: ClosedForm, parameters: Tensor) -> None:
        self.form, self.parameters = form, parameters
        self.maps = form.body.maps(parameters[0])
        self.gradient = torch.empty_like(parameters)  # [1, P]
        self._found = form.body.maps(self.gradient[0])

    def evaluate(self, message: Tensor, context: Tensor) -> Evaluation:
        """Estimate of messages ``[B, D]`` in contexts ``[B, C]``."""
        return self.form.evaluate(self.maps, message, context)

    def fit(self, evaluation: Evaluation, target: Target, scale: float) -> Tensor | None:
        """The losses ``[B]``; the gradient of their mean is in ``gradient``.

        Args:
            target: ``[B, …]``, whose gradient is yet to be multiplied by ``scale``.

        Returns:
            None, and no gradient, where something is not finite.
        """
        form, passed = self.form, evaluation.passed
        error = form.errors(evaluation.estimate, target, scale)
        # what is not finite in an error of gradients shows in the gradient of the parameters
        if not form.shows and not form.is_sound(target, error):
            return None
        outer = form.outer(evaluation, error)
        deltas = [outer] if len(passed) == 2 else form.body.inward(self.maps, passed, outer)
        form.body.put_gradient(self._found, passed, deltas, 2 / len(error))
        return torch.linalg.vector_norm(error, dim=-1).square_()


class ClosedGradient(ClosedForm):
    """A :class:`GradientUtility` of linear layers."""

    shows = True

    def evaluate(self, maps: Maps, message: Tensor, context: Tensor) -> Evaluation:
        passed = self.body.forward(maps, _seen(message, context))
        return Evaluation(Estimate(passed[-1], message.new_zeros(message.shape[:-1])), passed)

    def errors(self, estimate: Estimate, target: Target, scale: float) -> Tensor:
        return torch.sub(estimate.gradient, target.gradient, alpha=scale)

    def outer(self, evaluation: Evaluation, error: Tensor) -> Tensor:
        return error


class ClosedCritic(ClosedForm):
    """A :class:`CriticUtility` of linear layers that is fitted to its value alone."""

    def __init__(self, model: CriticUtility) -> None:
        super().__init__(model)
        self.num_classes = model.num_classes

    def evaluate(self, maps: Maps, message: Tensor, context: Tensor) -> Evaluation:
        count, size = self.num_classes, context.shape[-1] - self.num_classes
        label = context if size == 0 else context[..., :count]
        seen = _seen(message, context[..., count:]) if size else message
        passed = self.body.forward(maps, seen)
        output = passed[-1]
        if count:
            log_p = output.log_softmax(-1)
            value = (label * log_p).sum(-1).neg_()
            outer = log_p.exp_().mul_(label.sum(-1, keepdim=True)).sub_(label)
        else:
            value, outer = output[..., 0], torch.ones_like(output)
        inner = self.body.inward(maps, passed, outer)[0]
        gradient = product(inner, maps[0][0])
        if size:
            gradient = gradient[..., : message.shape[-1]]
        return Evaluation(Estimate(gradient, value), passed, outer)

    def errors(self, estimate: Estimate, target: Target, scale: float) -> Tensor:
        return (estimate.value - target.cost).unsqueeze(-1)

    def is_sound(self, target: Target, error: Tensor) -> bool:
        # it does not fit the gradient, but an example with a bad one is a bad example
        return super().is_sound(target, error) and math.isfinite(target.gradient.sum().item())

    def outer(self, evaluation: Evaluation, error: Tensor) -> Tensor:
        assert evaluation.outer is not None
        return evaluation.outer * error


def _seen(message: Tensor, context: Tensor) -> Tensor:
    return torch.cat([message, context], -1) if context.shape[-1] else message


def closed_form(model: UtilityModel) -> ClosedForm | None:
    """The closed form of a utility model; None where it has none (or is somebody's own).

    One with a frozen parameter goes the plain way: a form gives all gradients at once.
    """
    if not all(parameter.requires_grad for parameter in model.parameters()):
        return None
    if type(model) is GradientUtility:
        form: type[ClosedForm] = ClosedGradient
    elif type(model) is CriticUtility and not model.sobolev:
        form = ClosedCritic
    else:
        return None
    body = model.body
    plain = len(model.message_shape) == 1 and not body.normalise and not body.convolutional
    return form(model) if plain else None
