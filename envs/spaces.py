"""Gymnasium's spaces as arrays that agents can see, and as actions they can take."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dnicomm.errors import UserError


class Encoder:
    """Turns observations of one space into float32 arrays of ``shape``."""

    def __init__(self, space: gymnasium.Space, what: str) -> None:
        self._space = space
        self._what = what
        if isinstance(space, spaces.Discrete):
            self.shape: tuple[int, ...] = (int(space.n),)
        elif isinstance(space, spaces.Box | spaces.MultiBinary):
            self.shape = tuple(space.shape) or (1,)
        else:
            raise UserError(
                f"{what}: {space} does not fit; allowed: Box, Discrete and MultiBinary. Wrap the "
                "environment in something that flattens it"
            )

    def __call__(self, value: Any) -> NDArray[np.float32]:
        """One observation; None, where there has been none yet, gives zeros."""
        if value is None:
            return np.zeros(self.shape, dtype=np.float32)
        if isinstance(self._space, spaces.Discrete):
            one_hot = np.zeros(self.shape, dtype=np.float32)
            one_hot[int(value) - int(self._space.start)] = 1
            return one_hot
        array = np.asarray(value, dtype=np.float32)
        if isinstance(self._space, spaces.Box) and self._space.dtype == np.uint8:
            low, high = self._space.low.astype(np.float32), self._space.high.astype(np.float32)
            array = (array - low) / np.maximum(high - low, 1).astype(np.float32)
        if array.size != math.prod(self.shape):
            raise UserError(
                f"{self._what} has shape {array.shape}; its space says {self._space.shape}"
            )
        return array.reshape(self.shape)


class ActionSpace:
    """What one agent may do: an index, or a vector of numbers within bounds."""

    def __init__(self, space: gymnasium.Space, agent: str) -> None:
        self._space = space
        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
        elif (
            isinstance(space, spaces.Box)
            and len(space.shape) == 1
            and np.issubdtype(space.dtype, np.floating)
        ):
            self.size = int(space.shape[0])
        else:
            raise UserError(
                f"action of {agent}: {space} does not fit; allowed: Discrete, and a Box of floats "
                "with one dimension"
            )

    def zeros(self, num_worlds: int) -> NDArray[Any]:
        """``[B]`` int64 (discrete) or ``[B, size]`` float32."""
        if self.discrete:
            return np.zeros(num_worlds, dtype=np.int64)
        return np.zeros((num_worlds, self.size), dtype=np.float32)

    def native(self, value: Any) -> Any:
        """What the environment's ``step`` takes; a new object, which it may write to."""
        if isinstance(self._space, spaces.Discrete):
            return int(self._space.start) + int(value)
        assert isinstance(self._space, spaces.Box)
        return np.clip(value, self._space.low, self._space.high).astype(self._space.dtype)
