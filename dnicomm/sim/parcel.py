"""Messages on their way, and messages whose life is over, many side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Index = NDArray[np.int64]


@dataclass
class Parcel:
    """Messages sent at one time that arrive together: ``e`` slots by ``B`` worlds."""

    slots: Index  # [e] distinct
    value: Tensor  # [e, B, D]; part of the sender's graph where feedback is exact
    context: Tensor  # [e, B, C] frozen at send time
    mask: Tensor  # [e, B] bool, worlds in which it was sent and not lost
    sent_at: int  # world time
    arrival: int  # world time, after sent_at
    whole: bool = False  # whether the host knows that the mask is true everywhere


@dataclass
class Settlement:
    """Messages whose life is over, with what their receivers found."""

    slots: Index  # [e] distinct
    value: Tensor  # [e, B, D] as it was delivered
    context: Tensor  # [e, B, C]
    gradient: Tensor  # [e, B, D] target: sum over all reads
    cost: Tensor  # [e, B] the receiver's losses at those reads
    reads: Tensor  # [e, B] how often it was read
    mask: Tensor  # [e, B] bool, the worlds this is about
    sent_at: Tensor  # [e, B] world time

    @cached_property
    def was_read(self) -> Tensor:
        """``[e, B]`` bool, which of them were read at all."""
        return self.mask & (self.reads > 0)


def together(batch: Sequence[Settlement]) -> Settlement:
    """Settlements of distinct slots as one."""
    return Settlement(
        np.concatenate([s.slots for s in batch]),
        *(
            torch.cat([getattr(s, name) for s in batch])
            for name in ("value", "context", "gradient", "cost", "reads", "mask", "sent_at")
        ),
    )
