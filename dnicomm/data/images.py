"""What every loader of labelled images returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnicomm.errors import UserError


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, split into a part to train on and a part that is only ever tested on.

    Images are ``[n, C, H, W]`` float32 in [0, 1], labels ``[n]`` int64 in ``[0, num_classes)``,
    all on the CPU.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int

    def held_out(self, n: int) -> Images:
        """A split to choose settings by, in which the test images have no part.

        The training images are put into the order ``RandomState(0).permutation``, the same
        everywhere: the last ``n`` of them are what it tests on, the rest is what it trains on.

        Raises:
            UserError: ``n`` leaves nothing to test on or nothing to train on.
        """
        total = len(self.train_labels)
        if not 0 < n < total:
            raise UserError(
                f"Cannot hold out {n} of {total} training images: choose 1 to {total - 1}."
            )
        # RandomState and not default_rng: numpy promises never to change this generator's stream
        order = torch.from_numpy(np.random.RandomState(0).permutation(total))
        train, test = order[:-n], order[-n:]
        return Images(
            self.train_images[train],
            self.train_labels[train],
            self.train_images[test],
            self.train_labels[test],
            self.num_classes,
        )
