"""Gymnasium's spaces as arrays that agents can see, and as actions they can take."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from dnicomm.envs.masks import joint_mask
from dnicomm.errors import UserError

MOST_JOINT_ACTIONS = 1024  # combinations of several discrete choices that are one choice here
MOST_ONE_HOT = 2**16  # values of a discrete choice, each of which is a number to an agent


class Encoder:
    """Turns observations of one space into float32 arrays of ``shape``.

    A ``Box`` keeps its shape (pictures of ``uint8`` are scaled to [0, 1] by their bounds),
    ``MultiBinary`` too; ``Discrete`` and ``MultiDiscrete`` become one-hot; ``Dict`` and ``Tuple``
    one vector of their parts, a ``Dict`` in the order of its keys.

    Args:
        space: of the observations.
        what: what messages call them, ``observation of agent_0``.

    Raises:
        UserError: the space has no fixed number of numbers (``Text``, ``Sequence``, ``Graph``, …).
    """

    def __init__(self, space: gymnasium.Space, what: str) -> None:
        self._space, self._what = space, what
        self._parts: dict[Any, Encoder] = {}
        self.shape: tuple[int, ...]
        self._compound = isinstance(space, spaces.Dict | spaces.Tuple)
        self._bounds = _bounds(space)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            most = max(_choices(space) or [0], default=0)
            if most > MOST_ONE_HOT:
                raise UserError(
                    f"{what}: {space} has {most} values, each of which would be a number to the "
                    f"agent; allowed: {MOST_ONE_HOT}. Wrap the environment in something that "
                    "gives fewer, or numbers instead"
                )
        if isinstance(space, spaces.Discrete):
            self.shape = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete):
            self.shape = (int(space.nvec.sum()),)
        elif isinstance(space, spaces.Box | spaces.MultiBinary):
            self.shape = tuple(space.shape) or (1,)
        elif isinstance(space, spaces.Dict | spaces.Tuple):
            named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space)
            self._parts = {key: Encoder(part, f"{what}, {key!r}") for key, part in named}
            self.shape = (sum(math.prod(part.shape) for part in self._parts.values()),)
        else:
            raise UserError(
                f"{what}: {space} does not fit; allowed: Box, Discrete, MultiDiscrete, "
                "MultiBinary, and Dict and Tuple of these. Wrap the environment in something that "
                "turns it into one of them"
            )

    def __call__(self, value: Any) -> NDArray[np.float32]:
        """One observation; None, where there has been none yet, gives zeros.

        Raises:
            UserError: it does not lie in the space.
        """
        if value is None:
            return np.zeros(self.shape, dtype=np.float32)
        try:
            return self._encode(value)
        except (TypeError, ValueError, KeyError, IndexError, OverflowError, RuntimeError) as error:
            shown = repr(value)
            shown = shown if len(shown) < 80 else f"a {type(value).__name__}"
            raise UserError(f"{self._what} is {shown}; its space says {self._space}") from error

    def _encode(self, value: Any) -> NDArray[np.float32]:
        space = self._space
        if self._compound:
            if len(value) < len(self._parts):
                raise ValueError(len(value))
            parts = [part(value[key]).ravel() for key, part in self._parts.items()]
            return np.concatenate([np.zeros(0, np.float32), *parts])
        if isinstance(space, spaces.Discrete):
            return _one_hot(np.array([value]), np.array([space.start]), np.array([space.n]))
        if isinstance(space, spaces.MultiDiscrete):
            given = as_array(value)
            if given.shape != space.shape:
                raise ValueError(given.shape)
            return _one_hot(given.ravel(), space.start.ravel(), space.nvec.ravel())
        with np.errstate(over="ignore"):  # what is infinite then is told
            array = as_array(value).astype(np.float32)
        if isinstance(space, spaces.Box) and space.dtype == np.uint8:
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
            array = (array - low) / np.maximum(high - low, 1).astype(np.float32)
        if _core(array.shape) != _core(self.shape):
            raise UserError(f"{self._what} has shape {array.shape}; its space says {space.shape}")
        return array.reshape(self.shape)

    def outside(
        self, seen: NDArray[np.float32]
    ) -> tuple[int, tuple[int, ...], float, float, float] | None:
        """What of ``seen`` ``[B, *shape]`` lies outside the bounds of a ``Box``; None: nothing.

        Returns:
            How many observations, and of the first number that does its place, itself and its
            bounds.
        """
        if self._bounds is None:
            return None
        low, high = self._bounds
        wrong = (seen < low) | (seen > high)
        if not wrong.any():
            return None
        count = int(wrong.reshape(len(seen), -1).any(1).sum())
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        entry = place[1:]
        scale = (float(low[entry]), float(high[entry]))
        return count, entry, float(seen[place]), *scale


def _bounds(space: gymnasium.Space) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Bounds of a ``Box`` of numbers, a little wider than they are; None: there are none."""
    if not isinstance(space, spaces.Box) or space.dtype == np.uint8:
        return None
    shape = tuple(space.shape) or (1,)
    with np.errstate(over="ignore"):
        low, high = (b.astype(np.float32).reshape(shape) for b in (space.low, space.high))
    if not (np.isfinite(low) | np.isfinite(high)).any():
        return None
    slack = np.float32(1e-5)  # of rounding to single precision
    low = np.where(np.isfinite(low), low - slack * (1 + np.abs(low)), -np.inf)
    high = np.where(np.isfinite(high), high + slack * (1 + np.abs(high)), np.inf)
    return low.astype(np.float32), high.astype(np.float32)


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of size 1."""
    return tuple(n for n in shape if n != 1)


def as_array(value: Any) -> NDArray[Any]:
    """``value`` as an array; a tensor without its gradient, wherever it lies."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _one_hot(
    values: NDArray[Any], starts: NDArray[Any], sizes: NDArray[Any]
) -> NDArray[np.float32]:
    """One choice after another, ``[sum of sizes]``."""
    index = values.astype(np.int64) - starts
    if (index != values - starts).any() or (index < 0).any() or (index >= sizes).any():
        raise ValueError(values)
    found: NDArray[np.float32] = np.zeros(int(sizes.sum()), dtype=np.float32)
    found[index + np.cumsum(sizes) - sizes] = 1
    return found


class ActionSpace:
    """What one agent may do: an index, or a vector of numbers within bounds.

    Several discrete choices at once (``MultiDiscrete``, ``MultiBinary``, ``Dict`` and ``Tuple`` of
    such and of ``Discrete``) are one choice among all their combinations, where these are no more
    than 1024.

    Raises:
        UserError: the space is another, or has more combinations.
    """

    def __init__(self, space: gymnasium.Space, agent: str) -> None:
        self._space = space
        self._choices = _choices(space)
        self.discrete = self._choices is not None
        if self._choices is not None:
            self.size = math.prod(self._choices)
            if self.size > MOST_ONE_HOT and isinstance(space, spaces.Discrete):
                raise UserError(
                    f"action of {agent}: {space} has {self.size} values; allowed: {MOST_ONE_HOT}. "
                    "Wrap the environment in something that gives fewer"
                )
            if self.size > MOST_JOINT_ACTIONS and not isinstance(space, spaces.Discrete):
                raise UserError(
                    f"action of {agent}: {space} has {self.size} combinations; allowed: "
                    f"{MOST_JOINT_ACTIONS}. Wrap the environment in something that gives fewer"
                )
        elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
            self.size = math.prod(space.shape)
        else:
            raise UserError(
                f"action of {agent}: {space} does not fit; allowed: Discrete, MultiDiscrete, "
                "MultiBinary, Dict and Tuple of these, and a Box of floats"
            )

    def zeros(self, num_worlds: int) -> NDArray[Any]:
        """``[B]`` int64 (discrete) or ``[B, size]`` float32."""
        if self.discrete:
            return np.zeros(num_worlds, dtype=np.int64)
        return np.zeros((num_worlds, self.size), dtype=np.float32)

    def mask(self, given: Any) -> NDArray[np.bool_] | None:
        """Which choices a mask in Gymnasium's format allows, ``[size]``; None: there is no mask.

        Raises:
            ValueError: it does not fit the space, or allows nothing; says how.
        """
        if given is None:
            return None
        if not self.discrete:
            raise ValueError("stands beside continuous actions, of which none can be left out")
        allowed = joint_mask(self._space, given, self.size)
        if not allowed.any():
            raise ValueError("allows nothing")
        return allowed

    def allowed(self, value: Any, mask: NDArray[np.bool_] | None) -> Any:
        """``value``, or the next choice that ``mask`` ``[size]`` allows, after the last the first.

        So a forbidden action is another name for an allowed one, which is fair game for a learner.
        """
        if mask is None:
            return value
        actions = np.flatnonzero(mask)
        return actions[np.searchsorted(actions, value) % len(actions)]

    def __str__(self) -> str:
        return str(self._space)

    def native(self, value: Any) -> Any:
        """What the environment's ``step`` takes; a new object, which it may write to."""
        if self._choices is not None:
            digits = [int(n) for n in np.unravel_index(int(value), self._choices)]
            return _chosen(self._space, digits)
        box = self._space
        assert isinstance(box, spaces.Box)
        return np.clip(value.reshape(box.shape), box.low, box.high).astype(box.dtype)


def _choices(space: gymnasium.Space) -> list[int] | None:
    """How many there are of each of a space's choices; None: it has others than discrete ones."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.ravel()]
    if isinstance(space, spaces.MultiBinary):
        return [2] * math.prod(space.shape)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = [_choices(part) for part in _parts(space)]
        return None if None in parts else [n for part in parts if part for n in part]
    return None


def _chosen(space: gymnasium.Space, digits: list[int]) -> Any:
    """The element of a space that these choices make; takes them off the list's front."""
    if isinstance(space, spaces.Discrete):
        return int(space.start) + digits.pop(0)
    if isinstance(space, spaces.Dict):
        return {key: _chosen(part, digits) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_chosen(part, digits) for part in space.spaces)
    assert isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary)
    count = math.prod(space.shape)
    own, digits[:count] = np.array(digits[:count]).reshape(space.shape), []
    if isinstance(space, spaces.MultiDiscrete):
        own = own + space.start
    return own.astype(space.dtype)


def _parts(space: spaces.Dict | spaces.Tuple) -> list[gymnasium.Space]:
    return list(space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces)
