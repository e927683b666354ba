"""Modules and optimisers as named tensors, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dnicomm.errors import UserError


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict(keep_vars=True).items()}


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser, by the number of the parameter; there from the first step on."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{prefix}.{number}.{name}": value
        for number, parameter in enumerate(parameters)
        for name, value in optimizer.state.get(parameter, {}).items()
    }


@torch.no_grad()
def load_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take the values of :func:`module_tensors` back.

    Raises:
        UserError: if one is missing or of another shape.
    """
    for name, own in module_tensors(prefix, module).items():
        own.copy_(_fitting(name, own, tensors))


def load_optimizer(
    prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Take the values of :func:`optimizer_tensors` back."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        if name.startswith(f"{prefix}."):
            number, _, slot = name.removeprefix(f"{prefix}.").partition(".")
            parameter = parameters[int(number)]
            if value.shape == parameter.shape and value.dim():
                # laid out as the parameter, for the last bits of a step depend on it
                own = torch.empty_like(parameter, dtype=value.dtype).detach()
                optimizer.state[parameter][slot] = own.copy_(value)
            else:  # counts stay on the host where the optimiser keeps them there
                device = parameter.device if value.dim() else value.device
                optimizer.state[parameter][slot] = value.clone().to(device)


@torch.no_grad()
def load_tensors(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy each named value into the tensor of that name.

    Raises:
        UserError: if one is missing or of another shape.
    """
    for name, value in own.items():
        value.copy_(_fitting(name, value, tensors))


def _fitting(name: str, own: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    if name not in tensors or tensors[name].shape != own.shape:
        found = "there is none" if name not in tensors else f"it is {list(tensors[name].shape)}"
        raise UserError(f"the checkpoint does not fit: {name} should be {list(own.shape)}, {found}")
    return tensors[name]
