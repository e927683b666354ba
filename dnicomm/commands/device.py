"""The device that a configuration names."""

from __future__ import annotations

import torch

from dnicomm.commands.values import refusal
from dnicomm.errors import UserError


def device_of(name: str) -> torch.device:
    """The device of that name; ``auto`` is the GPU if there is one.

    Raises:
        UserError: if this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise refusal("device", name, "auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = {0: "no CUDA device", 1: "only cuda:0"}.get(count, f"cuda:0 to cuda:{count - 1}")
            raise UserError(f"device={name}: this machine has {have}; use auto or cpu")
    elif device.index:
        raise refusal("device", name, "auto, cpu, cuda or cuda:N")
    return device
