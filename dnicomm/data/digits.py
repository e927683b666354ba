"""The 1,797 handwritten digits that scikit-learn carries: 8×8, no download."""

from __future__ import annotations

import numpy as np
import torch

from dnicomm.data.images import Images

NUM_TEST = 360
MAX_GREY = 16  # the data set's grey levels are 0..16


def load_digits() -> Images:
    """1,437 digits to train on and 360 to test on, ``[n, 1, 8, 8]``.

    The split is the same everywhere: of the permutation ``RandomState(0).permutation(1797)`` the
    first 360 are the test digits. It is not a split by writer: the 13 writers are in both parts.
    """
    # slow to import, and only this loader needs it
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = torch.from_numpy((bunch.images / MAX_GREY).astype(np.float32)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    # RandomState and not default_rng: numpy promises never to change this generator's stream
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(labels)))
    test, train = order[:NUM_TEST], order[NUM_TEST:]
    return Images(images[train], labels[train], images[test], labels[test], num_classes=10)
