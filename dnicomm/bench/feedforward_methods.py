"""The ``method`` of a feed-forward experiment: which utility models stand between its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dnicomm.bench.checks import choice, flag, just, number, sizes, whole
from dnicomm.core import (
    Adam,
    CriticUtility,
    GradientUtility,
    Interface,
    LocalUtility,
    SyntheticInput,
    UtilityModel,
)
from dnicomm.core.optimizers import Decay
from dnicomm.errors import UserError

UTILITIES = ("gradient", "critic", "local")
WITHOUT = ("none", "backprop")  # methods that have no utility models: nothing but a name
KEYS = (
    "name", "utility", "context", "hidden", "kernel_size", "normalise", "sobolev", "lr",
    "gradient_scale",
)  # fmt: skip
INPUT_KEYS = ("hidden", "lr")


class Method:
    """How the layers learn, checked.

    Args:
        method: ``name``; and unless that is ``none`` or ``backprop``:
            ``utility`` (``gradient``, ``critic`` or ``local``), ``context`` (``none`` or
            ``label``), ``hidden`` (sizes of hidden layers; channels in a CNN), ``kernel_size``
            (odd; in a CNN), ``normalise`` (whether they see activations normalised over the
            batch), ``sobolev`` (critics: weight of fitting the gradient too), ``lr``,
            ``gradient_scale``.
        decay: of the utility models' rate.

    Raises:
        UserError: if a key is missing or unknown, or a value is not allowed.
    """

    def __init__(self, method: Mapping[str, Any], decay: Decay) -> None:
        if "name" not in method:
            raise UserError("method.name is missing: what the method is called in tables")
        self.name = str(method["name"])
        keys = ("name",) if self.name in WITHOUT else KEYS
        just("method", method, keys)
        self.decoupled = self.name not in WITHOUT
        if not self.decoupled:
            return
        self.utility = choice("method.utility", method["utility"], UTILITIES)
        self.labelled = choice("method.context", method["context"], ("none", "label")) == "label"
        self.hidden = sizes("method.hidden", method["hidden"])
        self.kernel_size = whole("method.kernel_size", method["kernel_size"], least=1)
        if self.kernel_size % 2 == 0:
            raise UserError(f"method.kernel_size={self.kernel_size}: must be odd")
        self.normalise = flag("method.normalise", method["normalise"])
        self.sobolev = number("method.sobolev", method["sobolev"], least=0)
        self.scale = number("method.gradient_scale", method["gradient_scale"], least=0)
        self.optimizer = Adam(number("method.lr", method["lr"], above=0), decay=decay)
        if self.utility == "local" and not self.labelled:
            raise UserError("method.context=none: a local loss needs the label (context: label)")
        if self.sobolev and self.utility != "critic":
            raise UserError(f"method.sobolev={self.sobolev:g}: only a critic has it")

    def interface(self, shape: tuple[int, ...], num_classes: int) -> Interface:
        """An interface for messages of ``shape``."""
        return Interface(self._utility(shape, num_classes), self.optimizer, self.scale)

    def _utility(self, shape: tuple[int, ...], num_classes: int) -> UtilityModel:
        label = num_classes if self.labelled else 0
        body = self.hidden, self.kernel_size, self.normalise
        if self.utility == "gradient":
            return GradientUtility(shape, label, *body)
        if self.utility == "local":
            return LocalUtility(shape, label, label, *body)
        return CriticUtility(shape, label, label, *body, sobolev=self.sobolev)


def synthetic_input(
    keys: Mapping[str, Any], input_size: int, output_size: int, decay: Decay
) -> Interface:
    """A model of a layer's input, made from the input of the net.

    Raises:
        UserError: if a key is missing or unknown, or a value is not allowed.
    """
    just("inputs", keys, INPUT_KEYS)
    model = SyntheticInput(input_size, output_size, hidden=sizes("inputs.hidden", keys["hidden"]))
    optimizer = Adam(number("inputs.lr", keys["lr"], above=0), decay=decay)
    return Interface(model, optimizer, reduction="sum")


def decay_of(value: bool | Sequence[float]) -> Decay:
    """How rates fall, checked."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f"decay={value}: must be true, false or a list of shares of the run")
    return tuple(number("decay", share, least=0, most=1) for share in value)


def positions_of(value: Any, method: Method, layers: int) -> list[int]:
    """Hidden layers that an interface follows, checked; none where backpropagation goes on."""
    allowed = f"interfaces={value}: must be all, or numbers of 1 to {layers} in rising order"
    if isinstance(value, str):
        if value != "all":
            raise UserError(allowed)
        found = list(range(1, layers + 1))
    elif not isinstance(value, Sequence) or not value:
        raise UserError(allowed)
    else:
        found = list(value)
        if any(type(p) is not int or not 1 <= p <= layers for p in found):
            raise UserError(allowed)
        if sorted(set(found)) != found:
            raise UserError(allowed)
    return [] if method.name == "backprop" else found
