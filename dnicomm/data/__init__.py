"""Data sets: files to tensors."""

from __future__ import annotations

from dnicomm.data.cifar10 import load_cifar10
from dnicomm.data.digits import load_digits
from dnicomm.data.images import Images
from dnicomm.data.mnist import load_mnist
from dnicomm.data.ptb import load_ptb
from dnicomm.data.text import Text
from dnicomm.errors import UserError, nearest

__all__ = [
    "Images",
    "Text",
    "load_cifar10",
    "load_digits",
    "load_images",
    "load_mnist",
    "load_ptb",
]

LOADERS = {"cifar10": load_cifar10, "digits": load_digits, "mnist": load_mnist}


def load_images(name: str) -> Images:
    """The data set ``name``: ``cifar10``, ``digits`` or ``mnist``.

    Raises:
        UserError: there is none of that name, or its files are missing or damaged.
    """
    if name not in LOADERS:
        raise UserError(f"Unknown data set {name!r}.{nearest(name, LOADERS)}")
    return LOADERS[name]()
