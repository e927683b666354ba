"""Data sets: files to tensors."""

from __future__ import annotations

from dnicomm.data.digits import load_digits
from dnicomm.data.images import Images
from dnicomm.data.mnist import load_mnist
from dnicomm.errors import UserError, nearest

__all__ = ["Images", "load_digits", "load_images", "load_mnist"]

LOADERS = {"digits": load_digits, "mnist": load_mnist}


def load_images(name: str) -> Images:
    """The data set ``name``: ``digits`` or ``mnist``.

    Raises:
        UserError: there is none of that name, or its files are missing or damaged.
    """
    if name not in LOADERS:
        raise UserError(f"Unknown data set {name!r}.{nearest(name, LOADERS)}")
    return LOADERS[name]()
