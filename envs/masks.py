"""Masks of what an agent may do now, in Gymnasium's own format, as one mask of joint choices.

The format is what ``space.sample(mask=…)`` takes: an array of 0 and 1 for a ``Discrete``, a tuple
of such arrays for a ``MultiDiscrete``, 0, 1 or 2 (free) for each entry of a ``MultiBinary``, and a
dict or tuple of masks for a ``Dict`` or ``Tuple``, where None leaves a part free.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def joint_mask(space: gymnasium.Space, mask: Any, size: int) -> Mask:
    """Return which of ``size`` joint choices of a discrete space a mask allows, ``[size]``.

    A joint choice is allowed where each of its parts is. An array of ``size`` numbers is the joint
    mask itself.

    Raises:
        ValueError: the mask does not fit the space; says how.
    """
    if not isinstance(space, spaces.Discrete) and _is_flat(mask, size):
        return _binary(mask, (size,))
    parts = _parts(space, mask)
    joint = functools.reduce(np.logical_and.outer, parts, np.ones((), dtype=bool))
    return np.asarray(joint, dtype=bool).reshape(size)


def _is_flat(mask: Any, size: int) -> bool:
    return isinstance(mask, np.ndarray) and mask.dtype != object and mask.shape == (size,)


def _parts(space: gymnasium.Space, mask: Any) -> list[Mask]:
    """The mask of each elementary choice, in the order of the joint choice."""
    if isinstance(space, spaces.Discrete):
        free = np.ones(int(space.n), dtype=bool)
        return [free if mask is None else _binary(mask, (int(space.n),))]
    if isinstance(space, spaces.MultiDiscrete):
        if mask is None:
            return [np.ones(int(n), dtype=bool) for n in space.nvec.ravel()]
        return _of_choices(mask, space.nvec)
    if isinstance(space, spaces.MultiBinary):
        return _of_bits(mask, space)
    if isinstance(space, spaces.Dict):
        return _of_dict(mask, space)
    assert isinstance(space, spaces.Tuple)
    own = [None] * len(space.spaces) if mask is None else _sequence(mask, len(space.spaces))
    return [part for s, m in zip(space.spaces, own, strict=True) for part in _parts(s, m)]


def _of_choices(mask: Any, sizes: NDArray[Any]) -> list[Mask]:
    """Masks of a ``MultiDiscrete``, nested as its ``nvec`` is."""
    own = _sequence(mask, len(sizes))
    if sizes.ndim > 1:
        pairs = zip(own, sizes, strict=True)
        return [part for m, inner in pairs for part in _of_choices(m, inner)]
    pairs = zip(own, sizes, strict=True)
    return [np.ones(int(n), bool) if m is None else _binary(m, (int(n),)) for m, n in pairs]


def _of_bits(mask: Any, space: spaces.MultiBinary) -> list[Mask]:
    if mask is None:
        return [np.ones(2, dtype=bool) for _ in range(math.prod(space.shape))]
    values = _numbers(mask, tuple(space.shape), (0, 1, 2)).ravel()
    return [np.array([value != 1, value != 0]) for value in values]


def _of_dict(mask: Any, space: spaces.Dict) -> list[Mask]:
    if mask is not None and not isinstance(mask, Mapping):
        raise ValueError(f"is a {type(mask).__name__}; it must be a dict")
    own: Mapping[Any, Any] = {} if mask is None else mask
    for key in own:
        if key not in space.spaces:
            raise ValueError(f"has a part {key!r} that is not in the space")
    return [part for key, s in space.spaces.items() for part in _parts(s, own.get(key))]


def _sequence(mask: Any, length: int) -> Any:
    if not isinstance(mask, Sequence | np.ndarray) or isinstance(mask, str | bytes):
        raise ValueError(f"is a {type(mask).__name__}; it must be a tuple of {length} masks")
    if len(mask) != length or (isinstance(mask, np.ndarray) and mask.ndim < 2):
        found = f"has shape {mask.shape}" if isinstance(mask, np.ndarray) else f"has {len(mask)}"
        raise ValueError(f"{found}; it must be a tuple of {length} masks")
    return mask


def _binary(mask: Any, shape: tuple[int, ...]) -> Mask:
    return _numbers(mask, shape, (0, 1)).astype(bool)


def _numbers(mask: Any, shape: tuple[int, ...], known: tuple[int, ...]) -> NDArray[Any]:
    try:
        values = np.asarray(mask)
    except ValueError:
        raise ValueError(f"is no array of shape {shape}") from None
    if values.dtype == object or not (
        np.issubdtype(values.dtype, np.number) or values.dtype == bool
    ):
        raise ValueError(f"is no array of numbers of shape {shape}")
    if values.shape != shape:
        raise ValueError(f"has shape {values.shape}; it must have {shape}")
    if not np.isin(values, known).all():
        wrong = values[~np.isin(values, known)].ravel()[0]
        raise ValueError(f"has {wrong} in it; allowed: {', '.join(map(str, known))}")
    return values
