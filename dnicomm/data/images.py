"""What every loader of labelled images returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, split into a part to train on and a part that is only ever tested on.

    Images are ``[n, 1, H, W]`` float32 in [0, 1], labels ``[n]`` int64 in ``[0, num_classes)``,
    all on the CPU.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
