"""torch.compile, where it compiles something."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dnicomm.errors import UserError


def check_compiler(what: str, device: str = "cpu") -> None:
    """Check that torch finds what it needs to make code for a device, without making any.

    Args:
        what: what asks for it.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: if it doesn't.
    """
    if device == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UserError(f"{what}: torch.compile finds no Triton for this GPU; install triton")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError(
            f"{what}: torch.compile finds no C++ compiler; install g++, or set CXX to another"
        ) from error
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise UserError(
            f"{what}: torch.compile finds no {header}; install Python's headers (python3-dev)"
        )


def compile_layer(layer: nn.Module, **options: Any) -> None:
    """Compile what a layer computes, in place.

    ``layer.compile()`` would compile nothing: of a plain stack of torch's own modules every frame
    is torch's own, and those are left as they are. What is compiled anew is counted by code, and
    after eight times no more is: so each layer has a piece of code of its own.

    Args:
        options: of ``torch.compile``.
    """
    plain = layer.forward

    def forward(x: Tensor) -> Tensor:
        computed: Tensor = plain(x)
        return computed

    forward.__code__ = forward.__code__.replace(co_name=f"forward_{id(layer)}")
    layer.forward = torch.compile(forward, **options)


class Counted:
    """A compiler that makes the code it makes by default, and counts how often it is asked to."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx  # takes seconds to import

        self.count += 1
        return cast(Callable[..., Any], compile_fx(graph, inputs))
