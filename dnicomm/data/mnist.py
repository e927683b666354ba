"""MNIST from its four idx files: found on disk, else downloaded once with checked hashes."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.data.images import Images
from dnicomm.errors import UserError

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
VARIABLE = "DNICOMM_DATA"


class Md5(NamedTuple):
    """Of one file: as published, and of its uncompressed content."""

    archive: str
    content: str  # a copy compressed by someone else has other archive bytes, but this content


FILES = {
    "train-images-idx3-ubyte": Md5(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"
    ),
    "train-labels-idx1-ubyte": Md5(
        "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"
    ),
    "t10k-images-idx3-ubyte": Md5(
        "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"
    ),
    "t10k-labels-idx1-ubyte": Md5(
        "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"
    ),
}


def load_mnist() -> Images:
    """60,000 digits to train on and 10,000 to test on, ``[n, 1, 28, 28]``.

    Each file is looked for in ``$DNICOMM_DATA/mnist``, ``$DNICOMM_DATA`` and the cache, gzipped
    or not, and is downloaded into the cache where it is in none of them.

    Raises:
        UserError: ``DNICOMM_DATA`` is no folder; a file is truncated or is another file; a file is
            neither here nor can be downloaded.
    """
    train_images, train_labels, test_images, test_labels = (_read(name) for name in FILES)
    return Images(
        _to_images(train_images),
        _to_labels(train_labels),
        _to_images(test_images),
        _to_labels(test_labels),
        num_classes=10,
    )


def cache_folder() -> Path:
    """Where downloads are kept: the platform's own folder for caches."""
    return Path(pooch.os_cache("dnicomm")) / "mnist"


def find_local(name: str) -> Path | None:
    """The first copy of the file ``name`` of :data:`FILES` on this machine.

    Raises:
        UserError: ``DNICOMM_DATA`` is set, but is no folder.
    """
    folders = [cache_folder()]
    if setting := os.environ.get(VARIABLE):
        root = Path(setting).expanduser()
        if not root.is_dir():
            raise UserError(f"{VARIABLE} is set to {setting}, which is not a folder.")
        folders = [root / "mnist", root, *folders]
    candidates = (folder / (name + suffix) for folder in folders for suffix in (".gz", ""))
    return next((path for path in candidates if path.is_file()), None)


def _download(name: str) -> Path:
    # pooch downloads to a temporary name and renames it once the hash is right
    try:
        return Path(
            pooch.retrieve(
                f"{URL}{name}.gz",
                known_hash=f"md5:{FILES[name].archive}",
                fname=f"{name}.gz",
                path=cache_folder(),
            )
        )
    except (OSError, ValueError) as error:  # the network's and the disk's; a wrong hash
        raise UserError(
            f"MNIST is not on this machine, and {URL}{name}.gz could not be downloaded to "
            f"{cache_folder()} ({error}). Put the files {', '.join(FILES)} (gzipped or not) into "
            f"a folder and set {VARIABLE} to it."
        ) from error


def _read(name: str) -> NDArray[np.uint8]:
    path = find_local(name) or _download(name)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":  # gzip's mark; an idx file starts with two zeros
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({error}): it is truncated or damaged. Replace or delete it."
        ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != FILES[name].content:
        raise UserError(
            f"{path} is truncated, damaged or not MNIST's {name}: the MD5 of its uncompressed "
            f"content is {found}, expected {FILES[name].content}. Replace or delete it."
        )
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
