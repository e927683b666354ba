"""Messages as a part of an agent's action, and what it heard as a part of its observation."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from numpy.typing import NDArray

from dnicomm.errors import UserError


class Messages:
    """What is said: a vector of numbers in [-1, 1], or one of some symbols.

    Args:
        size: numbers in a vector; None: symbols.
        symbols: how many there are; None: vectors.

    Raises:
        UserError: not exactly one of them is given, or it is no number that it may be.
    """

    def __init__(self, size: int | None, symbols: int | None) -> None:
        if (size is None) == (symbols is None):
            raise UserError(
                "channelled: give either size= (numbers in a message) or symbols= (of which a "
                "message is one)"
            )
        for key, value, least in (("size", size, 1), ("symbols", symbols, 2)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and (not whole or value < least):
                raise UserError(f"{key}={value}: must be a whole number of at least {least}")
        self.width: int = size or symbols or 0  # numbers in what arrives: a symbol is one-hot
        self.space: spaces.Box | spaces.Discrete
        if size is None:
            self.space = spaces.Discrete(self.width)
        else:
            self.space = spaces.Box(-1, 1, (size,), np.float32)

    def encode(self, message: Any, where: str) -> NDArray[np.float32]:
        """A message as it travels, ``[width]``; vectors are clipped to [-1, 1]."""
        if isinstance(self.space, spaces.Discrete):
            symbol = int(message)
            if not 0 <= symbol < self.width:
                raise UserError(f"{where} is {message!r}; allowed: {self.space}")
            one_hot: NDArray[np.float32] = np.zeros(self.width, dtype=np.float32)
            one_hot[symbol] = 1
            return one_hot
        vector = np.asarray(message, dtype=np.float32)
        if vector.shape != (self.width,) or not np.isfinite(vector).all():
            raise UserError(f"{where} is {message!r}; allowed: {self.space}")
        clipped: NDArray[np.float32] = np.clip(vector, -1, 1)
        return clipped


class Speech:
    """The actions of an agent that also speaks.

    Flat actions are one space that most learners know: ``MultiDiscrete`` of discrete actions and
    symbols, a ``Box`` of continuous actions and vectors. Else they are ``{"action", "message"}``.

    Raises:
        UserError: flat actions are asked for, and there is no such space.
    """

    def __init__(self, own: gymnasium.Space, messages: Messages, flat: bool, agent: Any) -> None:
        self._own, self._messages, self._flat, self._agent = own, messages, flat, agent
        if not flat:
            self.space: gymnasium.Space = spaces.Dict({"action": own, "message": messages.space})
        elif isinstance(messages.space, spaces.Discrete):
            self.space = self._discrete()
        else:
            self.space = self._continuous()

    def _discrete(self) -> gymnasium.Space:
        own, symbols = self._own, self._messages.width
        if isinstance(own, spaces.Discrete):
            return spaces.MultiDiscrete([own.n, symbols])
        if isinstance(own, spaces.MultiDiscrete):
            return spaces.MultiDiscrete([*own.nvec.ravel(), symbols])
        if isinstance(own, spaces.MultiBinary):
            return spaces.MultiDiscrete([*[2] * int(np.prod(own.shape)), symbols])
        raise self._refusal("Discrete, MultiDiscrete and MultiBinary join symbols", "size=")

    def _continuous(self) -> gymnasium.Space:
        own, message = self._own, self._messages.space
        assert isinstance(message, spaces.Box)
        if not isinstance(own, spaces.Box) or not np.issubdtype(own.dtype, np.floating):
            raise self._refusal("a Box of floats joins vectors", "symbols=")
        low = np.concatenate([own.low.ravel(), message.low]).astype(np.float32)
        high = np.concatenate([own.high.ravel(), message.high]).astype(np.float32)
        return spaces.Box(low, high)

    def _refusal(self, allowed: str, other: str) -> UserError:
        return UserError(
            f"channelled: actions of agent {self._agent!r} are {self._own}: only {allowed}; "
            f"use {other} or flat=False"
        )

    def split(self, action: Any, time: int) -> tuple[Any, NDArray[np.float32]]:
        """The environment's part of an action, and the message ``[width]``.

        Raises:
            UserError: it has no such parts, or the message is none.
        """
        try:
            own, message = self._parts(action)
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"action of {self._agent} at world time {time} is {action!r}; allowed: {self.space}"
            ) from error
        where = f"message of {self._agent} at world time {time}"
        return own, self._messages.encode(message, where)

    def _parts(self, action: Any) -> tuple[Any, Any]:
        if not self._flat:
            return action["action"], action["message"]
        given = np.asarray(action)
        if given.shape != self.space.shape:
            raise ValueError(given.shape)
        own = self._own
        if isinstance(own, spaces.Discrete):
            return int(own.start) + int(given[0]), given[1]
        if isinstance(self._messages.space, spaces.Discrete):
            values = given[:-1].reshape(own.shape)
            if isinstance(own, spaces.MultiDiscrete):
                values = values + own.start
            return values.astype(own.dtype), given[-1]
        cut = len(given) - self._messages.width
        return given[:cut].reshape(own.shape).astype(own.dtype), given[cut:]

    def mask(self, own: Any) -> Any:
        """What ``space.sample`` takes where the environment's part of actions has this mask."""
        if not self._flat:
            return {"action": own, "message": None}
        return (np.asarray(own), np.ones(self._messages.width, dtype=np.int8))


class Hearing:
    """The observations of an agent that also hears: its own, the messages, and which are there.

    Flat observations are one vector of float32: the environment's part, flattened as Gymnasium
    does it, the messages ``[K * width]`` and a 1 for each that is there ``[K]``. Else they are
    ``{"observation", "messages" [K, width], "heard" [K]}``.

    Raises:
        UserError: flat observations are asked for, and the environment's cannot be flattened.
    """

    def __init__(
        self, own: gymnasium.Space, senders: int, messages: Messages, bounded: bool, flat: bool,
        agent: Any,
    ) -> None:  # fmt: skip
        self._own, self._flat = own, flat
        low, high = (-1.0, 1.0) if isinstance(messages.space, spaces.Box) else (0.0, 1.0)
        if not bounded:  # noise has no bounds
            low, high = -np.inf, np.inf
        mail = spaces.Box(low, high, (senders, messages.width), np.float32)
        if not flat:
            self.space: gymnasium.Space = spaces.Dict(
                {"observation": own, "messages": mail, "heard": spaces.MultiBinary(senders)}
            )
            return
        vector = flatten_space(own) if own.is_np_flattenable else None
        if not isinstance(vector, spaces.Box):
            raise UserError(
                f"channelled: observations of agent {agent!r} are {own}, which has no fixed number "
                "of numbers; use flat=False"
            )
        ones = np.ones(senders)
        self.space = spaces.Box(
            np.concatenate([vector.low, mail.low.ravel(), 0 * ones]).astype(np.float32),
            np.concatenate([vector.high, mail.high.ravel(), ones]).astype(np.float32),
        )

    def join(self, own: Any, messages: NDArray[np.float32], heard: NDArray[np.bool_]) -> Any:
        """What the agent observes."""
        if not self._flat:
            return {"observation": own, "messages": messages, "heard": heard.astype(np.int8)}
        parts = [np.asarray(flatten(self._own, own)), messages.ravel(), heard]
        return np.concatenate([part.astype(np.float32) for part in parts])
