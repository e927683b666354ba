"""Whether an experiment computes in bfloat16, as far as its device can."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dnicomm.core.capabilities import supports_autocast

NAMES = {"linear": "linear layers", "conv2d": "convolutions"}


def plan_autocast(
    autocast: bool, layers: Sequence[str], device: torch.device
) -> tuple[bool, list[str]]:
    """Decide whether to enter autocast; say in a line each what is computed in float32 instead.

    Args:
        autocast: what was asked for.
        layers: keys of :data:`dnicomm.core.capabilities.LAYERS` that the net is made of. An LSTM
            alone falls back to float32 by itself (:class:`dnicomm.core.LSTMCore`); without any of
            the others there is nothing to gain.
        device: where the net lives.
    """
    if not autocast:
        return False, []
    missing = [layer for layer in layers if not supports_autocast(layer, device)]
    others = [NAMES[layer] for layer in missing if layer != "lstm"]
    if others:
        names = " or ".join(others)
        return False, [
            f"autocast=true: {device.type} has no bfloat16 {names} here; all is computed in float32"
        ]
    if missing:
        return True, [
            f"autocast=true: {device.type} has no bfloat16 LSTM here; the LSTM is computed in "
            "float32, the rest in bfloat16"
        ]
    return True, []
