"""MNIST from its four idx files."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.data.files import Collection, Download, File
from dnicomm.data.images import Images


def _file(name: str, download: str, content: str) -> File:
    return File((f"md5:{content}",), Download(f"{name}.gz", f"md5:{download}"))


HASHES = {  # MD5 of the gzipped file as published, and of its content
    "train-images-idx3-ubyte": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "6bbc9ace898e44ae57da46a324031adb",
    ),
    "train-labels-idx1-ubyte": (
        "d53e105ee54ea40749a09fcbcd1e9432",
        "a25bea736e30d166cdddb491f175f624",
    ),
    "t10k-images-idx3-ubyte": (
        "9fb629c4189551a2d022fa330f9573f3",
        "2646ac647ad5339dbf082846283269ea",
    ),
    "t10k-labels-idx1-ubyte": (
        "ec29112dd5afa0611ce80d1b7f02629c",
        "27ae3e4e09519cfbb04c329615203637",
    ),
}
MNIST = Collection(
    title="MNIST",
    folder="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    files={name: _file(name, *hashes) for name, hashes in HASHES.items()},
)


def load_mnist() -> Images:
    """60,000 digits to train on and 10,000 to test on, ``[n, 1, 28, 28]``.

    Each file is looked for in ``$DNICOMM_DATA/mnist``, ``$DNICOMM_DATA`` and the cache, gzipped
    or not, and is downloaded into the cache where it is in none of them.

    Raises:
        UserError: ``DNICOMM_DATA`` is no folder; a file is truncated or is another file; a file is
            neither here nor can be downloaded.
    """
    train_images, train_labels, test_images, test_labels = (_read(name) for name in MNIST.files)
    return Images(
        _to_images(train_images),
        _to_labels(train_labels),
        _to_images(test_images),
        _to_labels(test_labels),
        num_classes=10,
    )


def _read(name: str) -> NDArray[np.uint8]:
    content = MNIST.read(name).content
    # idx: two zeros, the type of the numbers, how many axes; the axes' lengths, big-endian; data
    num_axes = content[3]
    shape = np.frombuffer(content, ">i4", count=num_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)


def _to_images(pixels: NDArray[np.uint8]) -> Tensor:
    images = pixels.astype(np.float32)
    images /= 255
    return torch.from_numpy(images).unsqueeze(1)


def _to_labels(labels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))
