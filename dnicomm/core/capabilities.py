"""What this machine computes under autocast: found by trying, once a process.

Which layers a processor has in bfloat16 depends on its instruction set, on torch's build, and on
environment variables that switch instructions off (``ONEDNN_MAX_CPU_ISA``). E.g. oneDNN has no
bfloat16 LSTM on an x86 processor without AVX-512 or AMX. No list of processor flags says so
reliably; a layer of a few units, forward and backward, does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

# layer and the shape of its input
LAYERS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lstm": (lambda: nn.LSTM(8, 8), (2, 2, 8)),
    "linear": (lambda: nn.Linear(8, 8), (2, 8)),
    "conv2d": (lambda: nn.Conv2d(8, 8, 3, padding=1), (2, 8, 4, 4)),
}


@cache
def supports_autocast(
    layer: str, device: torch.device, dtype: torch.dtype = torch.bfloat16
) -> bool:
    """Return whether ``device`` trains a layer under ``torch.autocast`` with ``dtype``.

    Runs a tiny layer forward and backward on the first call, and changes no random numbers.

    Args:
        layer: a key of ``LAYERS``.
        device: of the layer and its input.
        dtype: what autocast computes in.

    Raises:
        torch.OutOfMemoryError: if the device has no memory left; this says nothing of the layer.
    """
    build, shape = LAYERS[layer]
    # initial parameters are drawn on the CPU, whatever torch's default device is
    with (
        torch.device("cpu"),
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        module = build().to(device)
        try:
            with torch.autocast(device.type, dtype):
                output = module(torch.ones(shape, device=device))
            first: Tensor = output[0] if isinstance(output, tuple) else output
            first.float().sum().backward()
            torch.stack([p.grad.sum() for p in module.parameters() if p.grad is not None]).tolist()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return False
    return True
