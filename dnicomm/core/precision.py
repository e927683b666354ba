"""What a machine computes in lower precision: asked of the operation itself, once."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn


@cache
def runs_lstm(dtype: torch.dtype, device_type: str) -> bool:
    """Whether an LSTM of ``dtype`` runs forward and backward on a device.

    oneDNN has a bfloat16 LSTM only for x86 processors with AVX-512 or AMX; on others torch hands it
    one all the same, and it fails.
    """
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        lstm = nn.LSTM(2, 2, device=device_type)
        xs = torch.zeros(2, 1, 2, device=device_type)
        try:
            with torch.autocast(device_type, dtype):
                outputs, _ = lstm(xs)
            outputs.float().sum().backward()
        except RuntimeError:
            return False
    return True
