"""CIFAR-10 (Krizhevsky 2009) from the six files of its binary version."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dnicomm.data.files import Collection, Download, File
from dnicomm.data.images import Images

ARCHIVE = Download("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530")
TRAIN = {
    "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
}
TEST = "test_batch.bin"
OFFICIAL = "sha1:67eb016db431130d61cd03c7ad570b013799c88c"
# a copy in circulation: the official images in the official order, but 20 went through JPEG
LOSSY = "sha256:123ca0dad8f960344d9149742165d4215093c84c8c4bdc5922af93b614bdb501"

CIFAR10 = Collection(
    title="CIFAR-10",
    folder="cifar10",
    url="https://www.cs.toronto.edu/~kriz/",
    files={
        **{name: File((content,), ARCHIVE) for name, content in TRAIN.items()},
        TEST: File((OFFICIAL, LOSSY), ARCHIVE),
    },
    other_folders=("cifar-10-batches-bin",),
)
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # the label; then the red, the green and the blue values, row by row


def load_cifar10() -> Images:
    """50,000 photographs to train on and 10,000 to test on, ``[n, 3, 32, 32]``.

    Each file is looked for in ``$DNICOMM_DATA/cifar10``, ``$DNICOMM_DATA``,
    ``$DNICOMM_DATA/cifar-10-batches-bin`` and the cache. Where one is in none of them, the archive
    of all six (170 MB) is downloaded and unpacked into the cache.

    Warns where ``test_batch.bin`` is a known copy with 20 images that are not exact.

    Raises:
        UserError: ``DNICOMM_DATA`` is no folder; a file is truncated or is another file; a file is
            neither here nor can be downloaded.
    """
    train = [CIFAR10.read(name).content for name in CIFAR10.files if name != TEST]
    test = CIFAR10.read(TEST)
    if test.hash == LOSSY:
        warnings.warn(
            f"{CIFAR10.find(TEST)} is not the official file: 20 of its 10,000 images went through "
            "JPEG, which may move accuracy by at most 0.2 points.",
            stacklevel=2,
        )
    return Images(*_to_tensors(train), *_to_tensors([test.content]), num_classes=10)


def _to_tensors(contents: Sequence[bytes]) -> tuple[Tensor, Tensor]:
    """Images ``[n, 3, 32, 32]`` and labels ``[n]`` of some files' records, one after the other."""
    batches = [np.frombuffer(content, np.uint8).reshape(-1, RECORD) for content in contents]
    labels = np.concatenate([batch[:, 0] for batch in batches]).astype(np.int64)
    # written in place, because the training images are 600 MB
    images = np.empty((len(labels), RECORD - 1), np.float32)
    np.concatenate([batch[:, 1:] for batch in batches], out=images)
    images /= 255
    return torch.from_numpy(images).unflatten(1, SHAPE), torch.from_numpy(labels)
