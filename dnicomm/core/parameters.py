"""What a module's parameters must be so that rows of a population can hold them.

Parameters that learn lie side by side in one matrix, so they are of one floating-point type. Frozen
ones (``requires_grad=False``) and buffers are kept each by itself, and may be of any type.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils import _pytree as pytree

from dnicomm.errors import nearest

AnyModule = TypeVar("AnyModule", bound=nn.Module)

# what nn.Module keeps in its own attributes: values that are lent, submodules and hooks
_OWN = set(vars(nn.Module()))


def learnable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that an optimiser steps, by name, tied ones once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def frozen_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters with ``requires_grad=False``, by name, tied ones once."""
    return {name: p for name, p in module.named_parameters() if not p.requires_grad}


def check_parameters(module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Check that a population can hold a module.

    Args:
        dtype: what parameters that learn must be; None: of one floating-point type.

    Raises:
        ValueError: if a parameter has no shape yet, is of another type or has hooks.
    """
    for kind, named in (("parameter", module.named_parameters()),
                        ("buffer", module.named_buffers())):  # fmt: skip
        for name, value in named:
            if isinstance(value, UninitializedParameter | UninitializedBuffer):
                raise ValueError(
                    f"{kind} {name} has no shape yet (a lazy layer); give the layer its sizes when "
                    "it is made"
                )
            if value.is_meta:
                raise ValueError(f"{kind} {name} is on the meta device, where there are no values")
    for path, part in module.named_modules():
        sparse = isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.sparse
        if sparse and part.weight.requires_grad:
            raise ValueError(
                f"parameter {path}.weight has sparse gradients (sparse=True), and rows are dense; "
                "leave sparse out"
            )
    first = ""
    for name, parameter in learnable_parameters(module).items():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise ValueError(
                f"parameter {name} has a gradient hook, which would never be called: parameters "
                "are lent to the module; change the gradient in tick or loss instead"
            )
        if dtype is None and parameter.is_floating_point():
            first, dtype = f", as {name} is", parameter.dtype
        if dtype is None or parameter.dtype != dtype:
            wanted = "of a floating-point type" if dtype is None else f"{_short(dtype)}{first}"
            raise ValueError(
                f"parameter {name} is {_short(parameter.dtype)}; parameters that learn must be "
                f"{wanted} (frozen ones, requires_grad=False, and buffers may be of any type)"
            )


class UnequalModules(ValueError):
    """Modules of one population differ in more than their values.

    Args:
        number: of the first that differs from number 0.
        found: what the two have.
    """

    def __init__(self, number: int, found: str) -> None:
        super().__init__(
            "the modules of a population must have equal parameters and buffers; in numbers 0 and "
            f"{number} there is {found}"
        )
        self.number, self.found = number, found


def check_equal(modules: Sequence[nn.Module]) -> None:
    """Check that modules differ in nothing but their values.

    Raises:
        UnequalModules: names the first parameter or buffer in which two differ.
    """
    first, *others = (_structure(module) for module in modules)
    for number, other in enumerate(others, 1):
        if other == first:
            continue
        named = [{line[0]: line for line in lines} for lines in (first, other)]
        for name in [line[0] for line in first + other]:
            pair = [own.get(name) for own in named]
            if pair[0] != pair[1]:
                found = [f"no {name}" if own is None else _shown(*own) for own in pair]
                raise UnequalModules(number, " and ".join(found))
        raise UnequalModules(number, "another order of parameters")


Line = tuple[str, bool, torch.Size, torch.dtype, bool]  # name, whether it is a parameter, and so on


def _structure(module: nn.Module) -> list[Line]:
    lines = [(name, True, p.shape, p.dtype, p.requires_grad)
             for name, p in module.named_parameters()]  # fmt: skip
    return lines + [(name, False, b.shape, b.dtype, True) for name, b in module.named_buffers()]


def _shown(name: str, is_parameter: bool, shape: torch.Size, dtype: torch.dtype, grad: bool) -> str:
    kind, state = "parameter" if is_parameter else "buffer", "" if grad else ", frozen"
    return f"{kind} {name} {list(shape)} {_short(dtype)}{state}"


def rate_factors(module: nn.Module) -> list[float] | None:
    """The factor on the learning rate of each parameter that learns; None: 1 for all.

    A module says it in ``rate_factors``: from a pattern (``encoder``, ``encoder.*.bias``), of names
    of parameters or of a submodule, to a factor. The first pattern that fits a name counts.

    Raises:
        ValueError: if a pattern fits nothing, or a factor is no number of at least 0.
    """
    given: Any = getattr(module, "rate_factors", None)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError(f"rate_factors is a {type(given).__name__}; it must be a dict from names")
    known = [name for name, _ in module.named_parameters()]
    for pattern, factor in given.items():
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not (number and math.isfinite(factor) and factor >= 0):
            raise ValueError(f"rate_factors: {pattern!r} is {factor}; must be a number from 0 on")
        if not any(_fits(name, pattern) for name in known):
            parts = {name.partition(".")[0] for name in known}
            raise ValueError(
                f"rate_factors: no parameter is called {pattern!r}.{nearest(str(pattern), parts)}"
            )
    if not given:
        return None
    return [
        next((float(factor) for pattern, factor in given.items() if _fits(name, pattern)), 1.0)
        for name in learnable_parameters(module)
    ]


def _fits(name: str, pattern: Any) -> bool:
    return isinstance(pattern, str) and (
        fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
    )


def kept_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors in attributes that are neither parameters nor buffers, each with its attribute."""
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in _OWN and not isinstance(value, int | float | str | nn.Module):
                path = f"{prefix}.{name}" if prefix else name
                yield from (
                    (path, leaf) for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)
                )


def copy_module(module: AnyModule) -> AnyModule:
    """A deep copy; what a tick has left in attributes is cut from its graph in it."""
    memo: dict[int, Any] = {}
    for value in [*(value for _, value in kept_tensors(module)), *module.buffers()]:
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            memo[id(value)] = None  # a map that is over: there is nothing in it any more
        elif not value.is_leaf:
            memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
