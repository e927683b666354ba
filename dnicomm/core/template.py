"""A module that computes with values lent to it.

A module whose class says ``stacks = True`` is lent the values of all its rows at once: its methods,
written for ``[B, …]``, work for ``[n, B, …]`` too as soon as its linear maps do, because nothing
else in them counts dimensions from the front. That is the class's own promise; a subclass, which
may write another method, has to make it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.overrides import TorchFunctionMode

from dnicomm.core.products import product


class Template:
    """A module whose parameters and buffers are lent to it for one call.

    What ``torch.func.functional_call`` does, for any method and with the places looked up once:
    for small modules the looking up costs more than the computing.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        # every owner of every value: tied weights have one value and several owners
        self.places: list[tuple[dict[str, Any], str, int]] = []
        self.firsts: list[tuple[dict[str, Any], str]] = []  # one owner of each value
        numbers: dict[tuple[str, int], int] = {}
        for of, name, value in _values_of(module):
            owner, _, leaf = name.rpartition(".")
            place = getattr(module.get_submodule(owner), of)
            number = numbers.setdefault((of, id(value)), len(numbers))
            if number == len(self.firsts):
                self.firsts.append((place, leaf))
            self.places.append((place, leaf, number))
        self.linears = [part for part in module.modules() if type(part) is nn.Linear]
        self.stacks = self._stacks()
        self._writes_out = any(_is_spectral(part) for part in module.modules())

    def mapping(self) -> AbstractContextManager[Any]:
        """A context in which its methods can be mapped over rows."""
        return _OutByCopy() if self._writes_out else nullcontext()

    def _stacks(self) -> bool:
        """Whether it takes the values of all rows at once."""
        promised = type(self.module).__dict__.get("stacks", False)
        parameters = sum(1 for _ in self.module.parameters())
        plain = all(part.bias is not None for part in self.linears)
        buffers = any(True for _ in self.module.buffers())
        return promised and plain and not buffers and parameters == 2 * len(self.linears)

    def call_stacked(self, values: Sequence[Tensor], method: str, args: Sequence[Any]) -> Any:
        """The method's result for all rows: everything is ``[n, …]``."""
        for linear in self.linears:  # as if it were the module's own method
            linear.__dict__["forward"] = partial(_stacked_linear, linear)
        try:
            return self.call(values, method, args)[0]
        finally:
            for linear in self.linears:
                del linear.__dict__["forward"]

    def call(self, values: Sequence[Tensor], method: str, args: Sequence[Any]) -> tuple[Any, list]:
        """The method's result, and ``values`` as they are afterwards (buffers may change)."""
        own = [place[name] for place, name, _ in self.places]
        for place, name, number in self.places:
            place[name] = values[number]
        try:
            result = getattr(self.module, method)(*args)
            after = [place[name] for place, name in self.firsts]
        finally:
            for (place, name, _), value in zip(self.places, own, strict=True):
                place[name] = value
        return result, after


def _values_of(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Every owner's name of every value: parameters that learn, then frozen ones, then buffers."""
    parameters = list(module.named_parameters(remove_duplicate=False))
    yield from (("_parameters", name, p) for name, p in parameters if p.requires_grad)
    yield from (("_parameters", name, p) for name, p in parameters if not p.requires_grad)
    yield from (("_buffers", name, b) for name, b in module.named_buffers(remove_duplicate=False))


def _is_spectral(part: nn.Module) -> bool:
    """Whether a module keeps a spectral norm, of torch's new kind or its old one."""
    hooks = part._forward_pre_hooks.values()
    return type(part).__name__ == "_SpectralNorm" or any(isinstance(h, SpectralNorm) for h in hooks)


class _OutByCopy(TorchFunctionMode):
    """Results that are to be written ``out=`` somewhere are copied there, which a map can do."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        out = kwargs.pop("out", None)
        result = func(*args, **kwargs)
        return result if out is None else out.copy_(result)


class _StackedLinear(torch.autograd.Function):
    """``n`` linear maps side by side; gradients of weights come as the weights lie."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight.transpose(1, 2), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        inner = product(outer, weight) if needed[0] else None
        own = product(outer.transpose(1, 2), x) if needed[1] else None  # frozen ones need none
        return inner, own, outer.sum(1) if needed[2] else None


def _stacked_linear(linear: nn.Linear, x: Tensor) -> Tensor:
    """Linear maps ``[n, outputs, inputs]`` of ``[n, …, inputs]``."""
    if x.dim() == 3:
        return _StackedLinear.apply(x, linear.weight, linear.bias)
    if x.dim() == 2:
        return _StackedLinear.apply(x[:, None], linear.weight, linear.bias)[:, 0]
    found = _StackedLinear.apply(x.flatten(1, -2), linear.weight, linear.bias)
    return found.unflatten(1, x.shape[1:-1])
