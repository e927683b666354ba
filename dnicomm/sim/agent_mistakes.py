"""What goes wrong inside an agent: one line that says whose, when, and where in its author's file.

A module of torch may do more than an agent can: it may keep lists, have parameters without a shape,
or be made differently each time. What can't be computed is refused before or at the first ticks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor, nn

from dnicomm.core.parameters import UnequalModules, kept_tensors
from dnicomm.errors import UserError, error_line, shortened, user_frame

WATCHED = 3  # ticks after which a list that grows has grown each time


def raise_mistake(
    what: str,
    names: Sequence[str],
    module: nn.Module,
    error: Exception,
    time: int | None = None,
    kind: str = "agent",
) -> NoReturn:
    """Raise what an agent's own code raised as one line; to be called while it is handled.

    Args:
        what: the method, for the message.
        names: of the agents.
        module: one of them.
        kind: of module, that the names are of.
        time: world time; None: before any.

    Raises:
        UserError: with ``error`` as its cause.
        Exception: ``error`` itself, if it is such a line already or memory ran out.
    """
    if isinstance(error, UserError | MemoryError | torch.OutOfMemoryError):
        raise error
    cls, hint = type(module), ""
    when = "" if time is None else f" at world time {time}"
    kept = sorted({path for path, v in kept_tensors(module) if _is_left_over(module, path, v)})
    if kept:
        hint = f". Its attribute {shortened(kept)} keeps tensors of an earlier tick: {_PLACES}"
    elif cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__:
        hint = f". What it gets wrong: dnicomm check {cls.__module__}.{cls.__qualname__}"
    if len(names) > 1 and ("vmap" in str(error) or "Batching rule" in str(error)):
        hint = f". Equal ones are computed at once by torch.func.vmap, which can't do this{hint}"
    raise UserError(
        f"{kind} {shortened(names)}: {what} failed{when}: {error_line(error).rstrip('.')}"
        f"{user_frame(error) or ''}{hint}"
    ) from error


def raise_build_mistake(what: str, error: Exception) -> NoReturn:
    """Raise what a plug-in's own constructor raised as one line; while it is handled.

    Raises:
        UserError: with ``error`` as its cause.
        Exception: ``error`` itself, if it is such a line already or memory ran out.
    """
    if isinstance(error, UserError | MemoryError | torch.OutOfMemoryError):
        raise error
    where = user_frame(error) or ""
    raise UserError(f"{what}: it can't be built: {error_line(error)}{where}") from error


_PLACES = "what it remembers belongs in its state, what it counts in a buffer (register_buffer)"


def _is_left_over(module: nn.Module, path: str, value: Tensor) -> bool:
    """Whether a tensor in an attribute is of the graph or the map of a tick that is over."""
    owner = module.get_submodule(path.rpartition(".")[0])
    if owner._forward_pre_hooks or isinstance(owner, nn.RNNBase):  # made anew in each call
        return False
    return torch._C._functorch.is_functorch_wrapped_tensor(value) or not value.is_leaf


@contextmanager
def named_members(names: Sequence[str]) -> Iterator[None]:
    """Name the members in what a population that is made of them refuses.

    Args:
        names: what to call each of them.

    Raises:
        UserError: in place of a ValueError.
    """
    try:
        yield
    except UnequalModules as error:
        raise UserError(
            f"{names[0]} and {names[error.number]} are of one kind and configuration, so they must "
            f"be equal but for their values; there is {error.found}"
        ) from error
    except ValueError as error:
        raise UserError(f"{names[0]}: {error}") from error


class AttributeWatch:
    """Finds what the first ticks of a module change and must not: all but the values of buffers.

    A list that grows by tensors in each of them, parameters and buffers that are made late, and
    parameters that are written to.
    """

    def __init__(self) -> None:
        self.ticks = 0  # seen so far
        self._attributes: Counter[str] = Counter()
        self._names: set[str] = set()
        self._values: dict[str, Tensor] = {}
        self._grown: set[str] = set()  # in all of them

    def begin(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        """Look at a module before a tick, and at the parameters that it computes with."""
        self._attributes, self._names = _attributes(module), _names(module)
        self._values = {name: value.detach().clone() for name, value in parameters.items()}

    def end(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> str | None:
        """Look at both after the tick; what is wrong with it."""
        self.ticks += 1
        made = sorted(_names(module) - self._names)
        if made:
            return f"tick makes {shortened(made)}; parameters and buffers are made in __init__"
        for name, value in parameters.items():
            before = self._values[name]
            if ((value != before) & (before == before)).any():  # NaN is what it was
                return (
                    f"tick changes the parameter {name}; only the optimiser may, and what else "
                    "changes belongs in a buffer (register_buffer)"
                )
        grown = {path for path, n in _attributes(module).items() if n > self._attributes[path]}
        self._grown = grown if self.ticks == 1 else self._grown & grown
        if not (self.is_over and self._grown):
            return None
        return f"tick appends tensors to {min(self._grown)}, an attribute of the module: {_PLACES}"

    @property
    def is_over(self) -> bool:
        """Whether it has seen enough."""
        return self.ticks == WATCHED


def _attributes(module: nn.Module) -> Counter[str]:
    """How many tensors each attribute holds that is neither parameter nor buffer."""
    return Counter(path for path, _ in kept_tensors(module))


def _names(module: nn.Module) -> set[str]:
    """Names of parameters and buffers."""
    return {name for of in (module.named_parameters(), module.named_buffers()) for name, _ in of}
